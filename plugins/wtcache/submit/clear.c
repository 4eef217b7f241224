/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations that have their range exclusively: zero, trim, writes past the
 * cache, discard.
 *
 * They wait until no block of the range is in writeback, call the backend, and
 * then change the blocks of the range that are cached.  No write happens there
 * meanwhile, so all marks of these blocks are older than the operation.  A zero
 * that is not durable is remembered, see zeroes.c, and repeated after a
 * failure.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "submit/clear.h"
#include "submit/durable.h"

/* Zero and trim go in parts of at most this, as nbdkit 1.32 demands. */
#define CLEAR_PART (64 * MiB)

static int
zero_once (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  return meter_zero (&s->meter, b, op->len, op->offset,
                     (op->flags & ~ZERO_FUA) | (fua ? ZERO_FUA : 0));
}

/* Instead of zeroing, by a connection that cannot. */
static int
write_zeroes (struct submit *s, struct backend *b, const struct operation *op,
              bool fua)
{
  const uint64_t most =
      min_u64 (memory_batch_size (s->memory), b->traits.maximum);
  uint8_t *zeroes = batch_buffer_get (s->memory, &s->pc->borrower, most);
  uint64_t done;
  uint32_t n;
  int err = 0;

  memset (zeroes, 0, most);
  for (done = 0; done < op->len && err == 0; done += n) {
    n = min_u64 (op->len - done, most);
    err = meter_write (&s->meter, b, zeroes, n, op->offset + done, fua);
  }
  batch_buffer_put (s->memory, &s->pc->borrower, zeroes, most);
  return err;
}

static int
trim_once (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  return meter_trim (&s->meter, b, op->len, op->offset, fua);
}

/* How often an operation makes room to forget zeroes, while others use it up.
 */
#define MAX_ROOM 8

/* Settles remembered zeroes.  The caller has no range exclusively. */
static int
make_room (struct submit *s, struct backend *b)
{
  int err = clear_redo_zeroes (s, b);

  if (err == 0)
    err = durable_flush (s, b);
  return err == EAGAIN ? 0 : err;
}

int
clear_begin_forgetting (struct submit *s, struct backend *b,
                        struct exclusive *x, uint64_t offset, uint64_t len)
{
  unsigned i;
  int err;

  for (i = 0; i < MAX_ROOM; ++i) {
    exclusive_begin (&s->pc->zeroes, x, offset, len);
    if (exclusive_reserve (&s->pc->zeroes, x))
      return 0;
    exclusive_end (&s->pc->zeroes, x);
    err = make_room (s, b);
    if (err != 0)
      return err;
  }
  return EIO;
}

/* An operation over a range that may be remembered as zero has ended: the
 * backend has something else there now; or, if ERR, it may have anything, and
 * the range has to be zeroed again.  The caller has it exclusively.
 */
static void
forget_zeroes (struct submit *s, uint64_t offset, uint64_t len, int err)
{
  if (err != 0)
    pagecache_lose_zeroes (s->pc, offset, len);
  else
    zeroes_forget (&s->pc->zeroes, offset, len);
}

int
clear_write_past (struct submit *s, struct backend *b, const void *bytes,
                  uint64_t offset, uint64_t len)
{
  const struct operation op = { .call = durable_write,
                                .offset = offset,
                                .len = len,
                                .bytes = bytes,
                                .durable = true,
                                .uncached = true };
  uint32_t epoch;
  bool stable;
  int err;

  err = durable_perform (s, b, &op, &epoch, &stable);
  forget_zeroes (s, offset, len, err);
  pagecache_clear (s->pc, offset, len, err ? CLEAR_FAILED : CLEAR_UNKNOWN);
  return err;
}

static int
clear_part (struct submit *s, struct backend *b, struct operation *op,
            enum clear how)
{
  uint32_t epoch;
  bool stable;
  int err;

  err = durable_perform (s, b, op, &epoch, &stable);
  if (err == 0 && !stable && how == CLEAR_ZEROED &&
      !zeroes_remember (&s->pc->zeroes, op->offset, op->len,
                        held_flushes (&s->pc->held), epoch)) {
    op->durable = true;
    op->flags &= ~ZERO_FAST; /* it was fast */
    err = durable_perform (s, b, op, &epoch, &stable);
  }
  if (err == ENOTSUP && (op->flags & ZERO_FAST))
    return err; /* nothing was tried */
  if (how == CLEAR_UNKNOWN || err != 0)
    forget_zeroes (s, op->offset, op->len, err);
  pagecache_clear (s->pc, op->offset, op->len, err ? CLEAR_FAILED : how);
  return err;
}

int
clear_zero (struct submit *s, struct backend *b, uint64_t offset, uint64_t len,
            unsigned flags)
{
  struct operation op = { .call = zero_once };
  uint64_t n;
  int err = 0;

  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, min_u64 (CLEAR_PART, b->traits.maximum));
    op.offset = offset;
    op.len = n;
    op.flags = flags & ~ZERO_FUA;
    op.durable = flags & ZERO_FUA;
    err = clear_part (s, b, &op, CLEAR_ZEROED);
    flags &= ~ZERO_FAST; /* it is fast, or the first part had said so */
  }
  return err;
}

int
clear_trim (struct submit *s, struct backend *b, uint64_t offset, uint64_t len,
            bool fua)
{
  struct operation op = { .call = trim_once, .durable = fua };
  uint64_t n;
  int err = 0;

  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, min_u64 (CLEAR_PART, b->traits.maximum));
    op.offset = offset;
    op.len = n;
    err = clear_part (s, b, &op, CLEAR_UNKNOWN);
  }
  return err;
}

static uint64_t
count_zeroed (struct zeroes *z, uint64_t offset, uint64_t len)
{
  uint64_t n, sum = 0;
  bool zeroed;

  for (; len > 0; offset += n, len -= n) {
    n = zeroes_prefix (z, offset, len, &zeroed);
    sum += zeroed ? n : 0;
  }
  return sum;
}

/* No write of the range begins meanwhile and none is in flight, so no other
 * thread ends what is held there.  The backend is not called: a discard works
 * without a connection.
 */
int
clear_discard (struct submit *s, uint64_t offset, uint64_t len, uint64_t *held,
               uint64_t *zeroed)
{
  struct pagecache *pc = s->pc;
  struct exclusive x;
  int err = 0;

  exclusive_begin (&pc->zeroes, &x, offset, len);
  pagecache_wait_writeback (pc, offset, len);
  *held = pagecache_range_amounts (pc, offset, len).held;
  *zeroed = count_zeroed (&pc->zeroes, offset, len);
  if (exclusive_reserve (&pc->zeroes, &x)) {
    zeroes_forget (&pc->zeroes, offset, len);
    pagecache_clear (pc, offset, len, CLEAR_UNKNOWN);
  }
  else
    err = ENOSPC;
  exclusive_end (&pc->zeroes, &x);
  return err;
}

/* The first run of held blocks from OFFSET on: where it begins, and its length
 * in *LEN; UINT64_MAX: none.
 */
static uint64_t
find_held_run (struct pagecache *pc, uint64_t offset, uint64_t *len)
{
  uint64_t index = offset >> pc->page_shift;
  struct span run = page_held_run (
      pc, index, (offset & (page_size (pc) - 1)) >> pc->block_shift);
  struct part part;

  while (run.count == 0) {
    index++;
    if (!pagecache_next_held (pc, &index))
      return UINT64_MAX;
    run = page_held_run (pc, index, 0);
  }
  part = span_part (pc, index, run);
  *len = part.len;
  return (index << pc->page_shift) + part.offset;
}

/* The first blocks of a range that are remembered as zero and not held: *OFFSET
 * moves up to them.  Their length, 0 if there are none.
 */
static uint64_t
next_gap (struct pagecache *pc, uint64_t *offset, uint64_t end)
{
  uint64_t n, held, len;
  bool zeroed;

  while (*offset < end) {
    n = zeroes_prefix (&pc->zeroes, *offset, end - *offset, &zeroed);
    if (!zeroed)
      *offset += n;
    else {
      held = find_held_run (pc, *offset, &len);
      if (held > *offset)
        return min_u64 (n, held - *offset);
      *offset = held + len;
    }
  }
  return 0;
}

/* Zeroes what of a range is still remembered and not held; the caller has the
 * range exclusively, so that none becomes held meanwhile.  *STABLE: that is on
 * stable storage.
 */
static int
zero_gaps (struct submit *s, struct backend *b, uint64_t offset, uint64_t end,
           bool *stable)
{
  const uint64_t most = min_u64 (CLEAR_PART, b->traits.maximum);
  struct operation op = { .call = b->traits.can_zero ? zero_once : write_zeroes,
                          .flags = ZERO_MAY_TRIM };
  uint64_t len;
  uint32_t epoch;
  bool this_is;
  int err = 0;

  *stable = true;
  while (err == 0 && (len = next_gap (s->pc, &offset, end)) > 0) {
    op.offset = offset;
    op.len = min_u64 (len, most);
    err = durable_perform (s, b, &op, &epoch, &this_is);
    *stable = *stable && this_is;
    offset += op.len;
  }
  return err;
}

/* Goes over the ranges once, by offset: one that is lost again meanwhile is
 * seen by a flush, as any failure that overlaps it.  A range is zeroed a second
 * time only if it grew, which a disk bounds.
 */
int
clear_redo_zeroes (struct submit *s, struct backend *b)
{
  struct exclusive x;
  uint64_t offset = 0, len;
  uint32_t epoch;
  bool stable;
  int err = 0;

  while (err == 0 && zeroes_next_lost (&s->pc->zeroes, &offset, &len)) {
    exclusive_begin (&s->pc->zeroes, &x, offset, len);
    pagecache_wait_writeback (s->pc, offset, len);
    epoch = held_epoch (&s->pc->held);
    err = zero_gaps (s, b, offset, offset + len, &stable);
    /* By a connection that cannot flush: no flush will settle it. */
    if (err == 0 && stable && exclusive_reserve (&s->pc->zeroes, &x)) {
      zeroes_forget (&s->pc->zeroes, offset, len);
      offset += len;
    }
    else if (err == 0 && zeroes_redone (&s->pc->zeroes, offset, len,
                                        held_flushes (&s->pc->held), epoch))
      offset += len;
    exclusive_end (&s->pc->zeroes, &x);
  }
  return err;
}
