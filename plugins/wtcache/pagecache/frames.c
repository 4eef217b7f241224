/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory: one budget for everything that the filter allocates.
 *
 * Frames, descriptors, tables, buffers and connections are all taken from one
 * number, wtcache-size.  Address space is mapped in large pieces and costs
 * nothing until it is touched; the budget counts what may be touched.  Where
 * all memory is locked ("nbdkit --swap") the system populates what is mapped,
 * because a fault may have to wait for the very disk that the server serves.
 * There nothing is mapped in reserve.
 *
 * A call to the backend needs one contiguous buffer, pages are scattered: so a
 * part of the budget is set aside at start for buffers.  Those of write-back
 * are apart from those of misses: dirty data can always leave, however many
 * reads are under way.  A thread that waits for a buffer holds no page and no
 * other buffer; a thread that has one waits for the backend only.  A backend
 * that hangs keeps its buffers.  So each export that is in use has a small one
 * of each purpose for itself, and of the others it takes no more than
 * base/share.h says.
 *
 * For example, of wtcache-size=256M 16 MiB are buffers: 8 MiB for batches of
 * write-back of at most 1 MiB each, and 8 MiB for misses.  An export has two of
 * 64 KiB for itself.
 *
 * May not know pages, exports or nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/thread.h"
#include "base/util.h"
#include "pagecache/frames.h"

/* The share of the budget that becomes buffers: 1/16, at most 32 MiB, half of
 * it for write-back.  However small the budget, half of either holds the
 * largest block that a backend may have.
 */
#define BUFFERS_SHARE 16
#define BUFFERS_MAX   (32 * MiB)
#define BLOCK_MAX     (64 * KiB)
#define BATCH_MAX     (1 * MiB)
#define SCRATCH_MAX   (64 * KiB)
#define SCRATCH_MIN   (4 * KiB)

/* A buffer for one export alone is this share of the budget, between these
 * limits, and not smaller than a block.  All of them are at most an eighth.
 */
#define OWN_SHARE     4096
#define OWN_MIN       (16 * KiB)
#define OWN_MAX       (64 * KiB)
#define OWN_ALL_SHARE 8

/* Helpers of large requests pin at most this share of the budget. */
#define BESIDE_SHARE 4

/* Whether nbdkit has forked to go into the background, which must take along
 * what was mapped before, and whether all memory is locked: nbdkit does that
 * before, and a fork undoes it. Set while there is one thread, and for good.
 */
static bool forked, locked;

void
memory_keep_from_children (void *p, size_t bytes)
{
  madvise (p, bytes, MADV_DONTFORK);
}

/* Keeps the disk's contents out of core files, and from children.  Advice only:
 * a kernel without it does no harm.
 */
static void
advise (void *p, size_t bytes)
{
  if (forked)
    memory_keep_from_children (p, bytes);
  madvise (p, bytes, MADV_DONTDUMP);
}

void *
memory_map (uint64_t count, uint64_t each)
{
  size_t bytes;
  void *p;

  if (__builtin_mul_overflow (count, each, &bytes) || bytes > PTRDIFF_MAX)
    return NULL;
  p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return NULL;
  advise (p, bytes);
  return p;
}

void *
memory_map_sparse (uint64_t count, uint64_t each)
{
  size_t bytes;
  void *p;

  if (!locked)
    return memory_map (count, each);
  if (__builtin_mul_overflow (count, each, &bytes) || bytes > PTRDIFF_MAX)
    return NULL;
  /* Memory without access is not populated, and later only the pages that are
   * touched.
   */
  p = mmap (NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1, 0);
  if (p == MAP_FAILED)
    return NULL;
  if (mlock2 (p, bytes, MLOCK_ONFAULT) != 0 ||
      mprotect (p, bytes, PROT_READ | PROT_WRITE) != 0) {
    munmap (p, bytes);
    return NULL;
  }
  advise (p, bytes);
  return p;
}

void
memory_unmap (void *p, size_t bytes)
{
  if (p)
    munmap (p, bytes);
}

void
memory_release (void *p, size_t bytes)
{
  /* Fails for a range of ours only if it is locked.  A kernel that ignored it
   * would cost memory, not data.
   */
  if (madvise (p, bytes, MADV_DONTNEED) == 0 || munlock (p, bytes) != 0)
    return;
  madvise (p, bytes, MADV_DONTNEED);
  mlock2 (p, bytes, MLOCK_ONFAULT);
}

static int
buffers_init (struct buffers *b, size_t bytes, size_t unit)
{
  const size_t max = 64 * ARRAY_LEN (b->taken);

  memset (b, 0, sizeof *b);
  b->unit = unit;
  b->units = min_u64 (max_u64 (bytes / unit, 2), max);
  b->free = b->units;
  b->base = memory_map (b->units, b->unit);
  return b->base ? 0 : ENOMEM;
}

static uint64_t
shared_bytes (const struct memory *m)
{
  return m->batches.unit * m->batches.units +
         m->scratch.unit * m->scratch.units;
}

int
memory_init (struct memory *m, uint64_t limit)
{
  const uint64_t half =
      max_u64 (min_u64 (limit / BUFFERS_SHARE, BUFFERS_MAX) / 2, 2 * BLOCK_MAX);
  int err;

  memset (m, 0, sizeof *m);
  atomic_init (&m->limit, limit);
  m->max = limit;
  lock_init (&m->lock, RANK_MEMORY);
  condition_init (&m->buffer_returned);

  /* Powers of two, so that batches stay aligned to any block. */
  m->batch_max = UINT64_C (1)
                 << log2_u64 (clamp_u64 (half / 8, BLOCK_MAX, BATCH_MAX));
  err = buffers_init (&m->batches, half, BLOCK_MAX);
  if (err == 0)
    err = buffers_init (&m->scratch, half,
                        UINT64_C (1) << log2_u64 (
                            clamp_u64 (half / 256, SCRATCH_MIN, SCRATCH_MAX)));
  if (err != 0) {
    memory_destroy (m);
    return err;
  }
  atomic_init (&m->used, shared_bytes (m));
  return 0;
}

static void
keep_buffers_from_children (const struct buffers *b)
{
  memory_keep_from_children (b->base, b->unit * b->units);
}

void
memory_after_fork (struct memory *m)
{
  forked = true;
  locked = thread_memory_is_locked ();
  if (locked)
    memory_may_grow (m, 0);
  keep_buffers_from_children (&m->batches);
  keep_buffers_from_children (&m->scratch);
}

void
memory_destroy (struct memory *m)
{
  memory_unmap (m->batches.base, m->batches.unit * m->batches.units);
  memory_unmap (m->scratch.base, m->scratch.unit * m->scratch.units);
  condition_destroy (&m->buffer_returned);
  lock_destroy (&m->lock);
}

void
memory_may_grow (struct memory *m, uint64_t max)
{
  LOCK_FOR_SCOPE (&m->lock);

  m->max = max_u64 (max, memory_limit (m));
}

bool
memory_is_locked (void)
{
  return locked;
}

uint64_t
memory_max (struct memory *m)
{
  LOCK_FOR_SCOPE (&m->lock);

  return m->max;
}

void
memory_set_limit (struct memory *m, uint64_t limit)
{
  LOCK_FOR_SCOPE (&m->lock);

  assert (limit <= m->max);
  atomic_store_explicit (&m->limit, limit, memory_order_relaxed);
}

static bool
budget_allows (struct memory *m, uint64_t bytes)
{
  return atomic_load_explicit (&m->used, memory_order_relaxed) + bytes <=
         memory_limit (m);
}

bool
memory_take (struct memory *m, uint64_t bytes)
{
  if (!budget_allows (m, bytes))
    return false;

  LOCK_FOR_SCOPE (&m->lock);

  if (!budget_allows (m, bytes))
    return false;
  atomic_fetch_add_explicit (&m->used, bytes, memory_order_relaxed);
  return true;
}

void
memory_give (struct memory *m, uint64_t bytes)
{
  LOCK_FOR_SCOPE (&m->lock);
  const uint64_t used =
      atomic_fetch_sub_explicit (&m->used, bytes, memory_order_relaxed);

  (void) used;
  assert (used >= bytes);
}

uint64_t
memory_used (struct memory *m)
{
  LOCK_FOR_SCOPE (&m->lock);

  return atomic_load_explicit (&m->used, memory_order_relaxed);
}

static bool
unit_is_taken (const struct buffers *b, size_t i)
{
  return b->taken[i / 64] >> (i % 64) & 1;
}

static void
mark_units (struct buffers *b, size_t first, size_t count, bool taken)
{
  size_t i;

  for (i = first; i < first + count; ++i)
    if (taken)
      b->taken[i / 64] |= UINT64_C (1) << (i % 64);
    else
      b->taken[i / 64] &= ~(UINT64_C (1) << (i % 64));
}

/* First fit: a run of COUNT free units, or NULL. */
static void *
take_units (struct buffers *b, size_t count)
{
  size_t i, run = 0;

  for (i = 0; i < b->units; ++i) {
    run = unit_is_taken (b, i) ? 0 : run + 1;
    if (run == count) {
      mark_units (b, i + 1 - count, count, true);
      return b->base + (i + 1 - count) * b->unit;
    }
  }
  return NULL;
}

uint64_t
memory_buffers (struct memory *m)
{
  LOCK_FOR_SCOPE (&m->lock);

  return shared_bytes (m) + m->own;
}

static size_t
own_size (const struct memory *m, uint32_t block)
{
  const uint64_t size =
      clamp_u64 (memory_limit (m) / OWN_SHARE, OWN_MIN, OWN_MAX);

  return max_u64 (UINT64_C (1) << log2_u64 (size), block);
}

uint64_t
borrower_cost (const struct memory *m, uint32_t block)
{
  return 2 * own_size (m, block);
}

static void
set_own (struct loans *l, uint8_t *own, size_t size)
{
  assert (!l->own_is_lent);
  l->own = own;
  l->own_size = size;
}

int
borrower_reserve (struct memory *m, struct borrower *borrower, uint32_t block)
{
  const size_t size = own_size (m, block);
  uint8_t *own = memory_map (2, size);

  if (own == NULL)
    return ENOMEM;
  lock_take (&m->lock);
  if (m->own + 2 * size > memory_limit (m) / OWN_ALL_SHARE) {
    lock_drop (&m->lock);
    memory_unmap (own, 2 * size);
    return ENOMEM;
  }
  m->own += 2 * size;
  set_own (&borrower->batches, own, size);
  set_own (&borrower->scratch, own + size, size);
  condition_wake_all (&m->buffer_returned);
  lock_drop (&m->lock);
  return 0;
}

void
borrower_release (struct memory *m, struct borrower *borrower)
{
  const size_t bytes = 2 * borrower->batches.own_size;
  uint8_t *own;

  lock_take (&m->lock);
  own = borrower->batches.own;
  set_own (&borrower->batches, NULL, 0);
  set_own (&borrower->scratch, NULL, 0);
  m->own -= bytes;
  lock_drop (&m->lock);
  memory_unmap (own, bytes);
  memory_give (m, bytes);
}

static size_t
units_of (const struct buffers *b, size_t bytes)
{
  return (bytes + b->unit - 1) / b->unit;
}

/* The largest of the shared buffers that may be had, as far as *SIZE bytes, and
 * at least MIN.
 */
static void *
lend_shared (struct buffers *b, struct loans *l, size_t min, size_t *size,
             enum urgency urgency)
{
  const size_t low = units_of (b, min);
  size_t n = units_of (b, *size);
  void *p = NULL;

  for (;;) {
    if (share_allows (l->units, n, b->free, urgency))
      p = take_units (b, n);
    if (p || n <= low)
      break;
    n = max_u64 (n / 2, low);
  }
  if (p) {
    *size = min_u64 (*size, n * b->unit);
    b->free -= n;
    l->units += n;
  }
  return p;
}

static void *
lend_own (struct loans *l, size_t *size)
{
  if (l->own == NULL || l->own_is_lent)
    return NULL;
  l->own_is_lent = true;
  *size = min_u64 (*size, l->own_size);
  return l->own;
}

static void *
lend (struct memory *m, struct buffers *b, struct loans *l, size_t min,
      size_t *size, bool wait)
{
  LOCK_FOR_SCOPE (&m->lock);
  void *p;

  assert (units_of (b, min) <= b->units / 2);
  for (;;) {
    p = lend_shared (b, l, min, size, URGENCY_NEEDED);
    if (p == NULL)
      p = lend_own (l, size);
    if (p || !wait)
      return p;
    condition_wait (&m->buffer_returned, &m->lock);
  }
}

static void *
lend_if_free (struct memory *m, struct buffers *b, struct loans *l, size_t size,
              enum urgency urgency)
{
  LOCK_FOR_SCOPE (&m->lock);

  return lend_shared (b, l, size, &size, urgency);
}

static void
give_back (struct memory *m, struct buffers *b, struct loans *l, void *buffer,
           size_t size)
{
  LOCK_FOR_SCOPE (&m->lock);
  const size_t first = ((uint8_t *) buffer - b->base) / b->unit;
  const size_t count = units_of (b, size);

  if (buffer == l->own) {
    assert (l->own_is_lent);
    l->own_is_lent = false;
  }
  else {
    assert (first + count <= b->units && l->units >= count);
    mark_units (b, first, count, false);
    b->free += count;
    l->units -= count;
  }
  condition_wake_all (&m->buffer_returned);
}

void *
batch_buffer_get (struct memory *m, struct borrower *borrower, size_t min,
                  size_t *size)
{
  lock_check_none_held ();
  return lend (m, &m->batches, &borrower->batches, min, size, true);
}

void *
batch_buffer_try (struct memory *m, struct borrower *borrower, size_t bytes)
{
  return lend_if_free (m, &m->batches, &borrower->batches, bytes,
                       URGENCY_BESIDE);
}

void
batch_buffer_put (struct memory *m, struct borrower *borrower, void *buffer,
                  size_t bytes)
{
  give_back (m, &m->batches, &borrower->batches, buffer, bytes);
}

void *
scratch_get (struct memory *m, struct borrower *borrower, size_t min,
             size_t *size, bool wait)
{
  lock_check_none_held ();
  return lend (m, &m->scratch, &borrower->scratch, min, size, wait);
}

void *
scratch_try (struct memory *m, struct borrower *borrower, size_t bytes,
             enum urgency urgency)
{
  return lend_if_free (m, &m->scratch, &borrower->scratch, bytes, urgency);
}

void
scratch_put (struct memory *m, struct borrower *borrower, void *buffer,
             size_t bytes)
{
  give_back (m, &m->scratch, &borrower->scratch, buffer, bytes);
}

unsigned
memory_pin_beside (struct memory *m, struct borrower *borrower, uint64_t each,
                   unsigned count)
{
  LOCK_FOR_SCOPE (&m->lock);
  const uint64_t max = memory_limit (m) / BESIDE_SHARE;
  const uint64_t free = max - min_u64 (max, m->beside);

  while (count > 0 &&
         !share_allows (borrower->beside, count * each, free, URGENCY_BESIDE))
    count /= 2;
  m->beside += count * each;
  borrower->beside += count * each;
  return count;
}

void
memory_unpin_beside (struct memory *m, struct borrower *borrower, uint64_t each,
                     unsigned count)
{
  LOCK_FOR_SCOPE (&m->lock);

  m->beside -= count * each;
  borrower->beside -= count * each;
}
