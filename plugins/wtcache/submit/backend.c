/* SPDX-License-Identifier: BSD-3-Clause */

/* The only file that calls `next`: nbdkit's rules for that are kept here.
 *
 * nbdkit aborts on -1 with no error set, on a call that the traits do not
 * allow, and on some errors of some calls; a plugin's errno may be stale, or
 * lost where the thread is not the server's; and a client understands few
 * errors.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/util.h"
#include "submit/backend.h"

/* An errno as NBD has it: anything else would reach the client as EINVAL. */
static int
nbd_errno (int err)
{
  switch (err) {
  case EPERM:
  case EIO:
  case ENOMEM:
  case EINVAL:
  case ENOSPC:
  case ENOTSUP:
  case ESHUTDOWN:
    return err;
  case EROFS:
    return EPERM;
  case EDQUOT:
  case EFBIG:
    return ENOSPC;
#if EOPNOTSUPP != ENOTSUP
  case EOPNOTSUPP:
    return ENOTSUP;
#endif
  default:
    return EIO;
  }
}

/* The errno of a call to the layer below, 0 if it succeeded. */
static int
result (int r, int err)
{
  return r == -1 ? nbd_errno (err) : 0;
}

static int
call_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  nbdkit_next *next = b->next;
  int err = 0, r;

  errno = 0;
  r = next->pread (next, buf, len, offset, 0, &err);
  return result (r, err);
}

static int
call_write (struct backend *b, const void *buf, uint32_t len, uint64_t offset,
            bool fua)
{
  nbdkit_next *next = b->next;
  int err = 0, r;

  errno = 0;
  r = next->pwrite (next, buf, len, offset, fua ? NBDKIT_FLAG_FUA : 0, &err);
  return result (r, err);
}

static int
call_zero (struct backend *b, uint32_t len, uint64_t offset, unsigned flags)
{
  nbdkit_next *next = b->next;
  uint32_t f = 0;
  int err = 0, r;

  if (flags & ZERO_MAY_TRIM)
    f |= NBDKIT_FLAG_MAY_TRIM;
  if (flags & ZERO_FUA)
    f |= NBDKIT_FLAG_FUA;
  if ((flags & ZERO_FAST) && b->traits.can_fast_zero)
    f |= NBDKIT_FLAG_FAST_ZERO;
  errno = 0;
  r = next->zero (next, len, offset, f, &err);
  return result (r, err);
}

static int
call_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  nbdkit_next *next = b->next;
  int err = 0, r;

  errno = 0;
  r = next->trim (next, len, offset, fua ? NBDKIT_FLAG_FUA : 0, &err);
  return result (r, err);
}

static int
call_flush (struct backend *b)
{
  nbdkit_next *next = b->next;
  int err = 0, r;

  errno = 0;
  r = next->flush (next, 0, &err);
  return result (r, err);
}

uint32_t
backend_minimum (struct backend *b)
{
  nbdkit_next *next = b->next;
  uint32_t minimum, preferred, maximum;

  /* nbdkit has the answer since backend_init asked, and so no error. */
  if (next->block_size (next, &minimum, &preferred, &maximum) == -1)
    return b->traits.block;
  return max_u64 (minimum, 1);
}

int
backend_extents (struct backend *b, uint32_t len, uint64_t offset,
                 uint32_t flags, struct nbdkit_extents *extents)
{
  nbdkit_next *next = b->next;
  int err = 0, r;

  errno = 0;
  r = next->extents (next, len, offset, flags, extents, &err);
  return result (r, err);
}

static int
init_sizes (struct backend_traits *t, nbdkit_next *next)
{
  const int64_t size = next->get_size (next);
  uint32_t minimum, preferred, maximum;

  if (size == -1 ||
      next->block_size (next, &minimum, &preferred, &maximum) == -1)
    return -1;
  t->size = size;
  /* Blocks of at least 512 bytes: finer states are worth nothing. */
  t->block = max_u64 (minimum, 512);
  if (!is_power_of_2 (t->block)) {
    nbdkit_error ("wtcache: the minimum block size of the layer below, "
                  "%" PRIu32 ", is not a power of two",
                  minimum);
    return -1;
  }
  /* Bytes behind the last whole block could neither be read nor written. */
  if (minimum > 1 && size % minimum != 0) {
    nbdkit_error ("wtcache: the size of the layer below, %" PRIi64 ", is no "
                  "multiple of its minimum block size, %" PRIu32 ": round it "
                  "with the truncate filter",
                  size, minimum);
    return -1;
  }
  t->preferred = round_up (max_u64 (preferred, t->block), t->block);
  t->maximum = round_down (
      maximum == 0 ? MAX_TRANSFER : min_u64 (maximum, MAX_TRANSFER), t->block);
  t->maximum = max_u64 (t->maximum, t->block);
  return 0;
}

/* Asks a question with the answers -1, no, yes. */
static int
ask (int (*question) (nbdkit_next *), nbdkit_next *next, bool *answer)
{
  const int r = question (next);

  *answer = r > 0;
  return r == -1 ? -1 : 0;
}

int
backend_init (struct backend *b, nbdkit_next *next)
{
  struct backend_traits *t = &b->traits;
  bool can_cache;
  int fua;

  memset (b, 0, sizeof *b);
  if (init_sizes (t, next) == -1 ||
      ask (next->can_write, next, &t->can_write) == -1 ||
      ask (next->can_flush, next, &t->can_flush) == -1 ||
      ask (next->can_zero, next, &t->can_zero) == -1 ||
      ask (next->can_fast_zero, next, &t->can_fast_zero) == -1 ||
      ask (next->can_trim, next, &t->can_trim) == -1 ||
      ask (next->can_extents, next, &t->can_extents) == -1 ||
      ask (next->can_multi_conn, next, &t->can_multi_conn) == -1 ||
      ask (next->can_cache, next, &can_cache) == -1 ||
      ask (next->is_rotational, next, &t->is_rotational) == -1)
    return -1;
  fua = next->can_fua (next);
  if (fua == -1)
    return -1;
  t->fua = fua == NBDKIT_FUA_NATIVE    ? FUA_NATIVE
           : fua == NBDKIT_FUA_EMULATE ? FUA_EMULATED
                                       : FUA_NONE;

  b->next = next;
  b->read = call_read;
  b->write = call_write;
  b->zero = call_zero;
  b->trim = call_trim;
  b->flush = call_flush;
  return 0;
}
