/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory: one budget for everything that the filter allocates.
 *
 * Frames, descriptors, tables, buffers and connections are all taken from one
 * number, wtcache-size.  Address space is mapped in large pieces and costs
 * nothing until it is touched; the budget counts what may be touched.
 *
 * A call to the backend needs one contiguous buffer, pages are scattered: so a
 * part of the budget is set aside at start for buffers.  Those of write-back
 * are apart from those of misses: dirty data can always leave, however many
 * reads are under way.  A thread that waits for a buffer holds no page and no
 * other buffer; a thread that has one waits for the backend only.  So each
 * buffer is returned.
 *
 * For example, of wtcache-size=256M 16 MiB are buffers: 8 MiB for batches of
 * write-back of at most 1 MiB each, and 8 MiB for misses.
 *
 * May not know pages, exports or nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "pagecache/frames.h"

/* The share of the budget that becomes buffers: 1/16, at most 32 MiB, half of
 * it for write-back.  However small the budget, half of either holds the
 * largest block that a backend may have.
 */
#define BUFFERS_SHARE 16
#define BUFFERS_MOST  (32 * MiB)
#define BLOCK_MOST    (64 * KiB)
#define BATCH_MOST    (1 * MiB)
#define SCRATCH_MOST  (64 * KiB)
#define SCRATCH_LEAST (4 * KiB)

/* Whether nbdkit has forked to go into the background, which must take along
 * what was mapped before. Set while there is one thread, and for good.
 */
static bool forked;

void
memory_keep_from_children (void *p, size_t bytes)
{
  madvise (p, bytes, MADV_DONTFORK);
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
  if (forked)
    memory_keep_from_children (p, bytes);
  /* Keeps the disk's contents out of core files.  Advice only: a kernel without
   * it does no harm.
   */
  madvise (p, bytes, MADV_DONTDUMP);
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
  /* Cannot fail for a range of ours; a kernel that ignored it would cost
   * memory, not data.
   */
  madvise (p, bytes, MADV_DONTNEED);
}

static int
buffers_init (struct buffers *b, size_t bytes, size_t unit)
{
  const size_t most = 64 * ARRAY_LEN (b->taken);

  memset (b, 0, sizeof *b);
  b->unit = unit;
  b->units = min_u64 (max_u64 (bytes / unit, 2), most);
  b->base = memory_map (b->units, b->unit);
  return b->base ? 0 : ENOMEM;
}

int
memory_init (struct memory *m, uint64_t limit)
{
  const uint64_t half = max_u64 (
      min_u64 (limit / BUFFERS_SHARE, BUFFERS_MOST) / 2, 2 * BLOCK_MOST);
  int err;

  memset (m, 0, sizeof *m);
  atomic_init (&m->limit, limit);
  m->most = limit;
  lock_init (&m->lock, RANK_MEMORY);
  condition_init (&m->buffer_returned);

  /* Powers of two, so that batches stay aligned to any block. */
  m->batch_most = UINT64_C (1)
                  << log2_u64 (clamp_u64 (half / 8, BLOCK_MOST, BATCH_MOST));
  err = buffers_init (&m->batches, half, BLOCK_MOST);
  if (err == 0)
    err = buffers_init (&m->scratch, half,
                        UINT64_C (1) << log2_u64 (clamp_u64 (
                            half / 256, SCRATCH_LEAST, SCRATCH_MOST)));
  if (err != 0) {
    memory_destroy (m);
    return err;
  }
  m->used = memory_buffers (m);
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
memory_may_grow (struct memory *m, uint64_t most)
{
  LOCK_FOR_SCOPE (&m->lock);

  m->most = max_u64 (most, memory_limit (m));
}

uint64_t
memory_most (struct memory *m)
{
  LOCK_FOR_SCOPE (&m->lock);

  return m->most;
}

void
memory_set_limit (struct memory *m, uint64_t limit)
{
  LOCK_FOR_SCOPE (&m->lock);

  assert (limit <= m->most);
  atomic_store_explicit (&m->limit, limit, memory_order_relaxed);
}

bool
memory_take (struct memory *m, uint64_t bytes)
{
  LOCK_FOR_SCOPE (&m->lock);

  if (m->used + bytes > memory_limit (m))
    return false;
  m->used += bytes;
  return true;
}

void
memory_give (struct memory *m, uint64_t bytes)
{
  LOCK_FOR_SCOPE (&m->lock);

  assert (m->used >= bytes);
  m->used -= bytes;
}

uint64_t
memory_used (struct memory *m)
{
  LOCK_FOR_SCOPE (&m->lock);

  return m->used;
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

/* Takes COUNT units for a borrower that has *HAS of them. */
static void *
borrow (struct memory *m, struct buffers *b, size_t *has, size_t count,
        bool wait)
{
  LOCK_FOR_SCOPE (&m->lock);
  const size_t share = max_u64 (b->units / 2, 1);
  void *p = NULL;

  assert (count <= share);
  for (;;) {
    if (*has + count <= share)
      p = take_units (b, count);
    if (p || !wait)
      break;
    condition_wait (&m->buffer_returned, &m->lock);
  }
  if (p)
    *has += count;
  return p;
}

static void
give_back (struct memory *m, struct buffers *b, size_t *has, void *buffer,
           size_t count)
{
  LOCK_FOR_SCOPE (&m->lock);
  const size_t first = ((uint8_t *) buffer - b->base) / b->unit;

  assert (first + count <= b->units && *has >= count);
  mark_units (b, first, count, false);
  *has -= count;
  condition_wake_all (&m->buffer_returned);
}

static size_t
units_of (const struct buffers *b, size_t bytes)
{
  return (bytes + b->unit - 1) / b->unit;
}

void *
batch_buffer_get (struct memory *m, struct borrower *borrower, size_t bytes)
{
  lock_check_none_held ();
  return borrow (m, &m->batches, &borrower->batch_units,
                 units_of (&m->batches, bytes), true);
}

void *
batch_buffer_try (struct memory *m, struct borrower *borrower, size_t bytes)
{
  return borrow (m, &m->batches, &borrower->batch_units,
                 units_of (&m->batches, bytes), false);
}

void
batch_buffer_put (struct memory *m, struct borrower *borrower, void *buffer,
                  size_t bytes)
{
  give_back (m, &m->batches, &borrower->batch_units, buffer,
             units_of (&m->batches, bytes));
}

void *
scratch_get (struct memory *m, struct borrower *borrower, size_t bytes)
{
  lock_check_none_held ();
  return borrow (m, &m->scratch, &borrower->scratch_units,
                 units_of (&m->scratch, bytes), true);
}

void *
scratch_try (struct memory *m, struct borrower *borrower, size_t bytes)
{
  return borrow (m, &m->scratch, &borrower->scratch_units,
                 units_of (&m->scratch, bytes), false);
}

void
scratch_put (struct memory *m, struct borrower *borrower, void *buffer,
             size_t bytes)
{
  give_back (m, &m->scratch, &borrower->scratch_units, buffer,
             units_of (&m->scratch, bytes));
}
