/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory: the budget, large mappings, and buffers that are borrowed.  See
 * frames.c.
 */

#ifndef WTCACHE_FRAMES_H
#define WTCACHE_FRAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "base/share.h"

/* Buffers of one purpose that all exports share: an arena cut into units,
 * handed out in runs.
 */
struct buffers {
  uint8_t *base;
  size_t unit;  /* bytes */
  size_t units; /* at most 64 * ARRAY_LEN (taken) */

  /* Guarded by the memory lock. */
  size_t free;       /* units */
  uint64_t taken[8]; /* a bit for each unit that is lent */
};

/* The part that one export has of the buffers of one purpose.  Guarded by the
 * memory lock.
 */
struct loans {
  size_t units; /* of the shared ones */
  uint8_t *own; /* a buffer that no other export gets; NULL: none */
  size_t own_size;
  bool own_is_lent;
};

struct borrower {
  struct loans batches, scratch;
  uint64_t beside; /* bytes, see memory_pin_beside */
};

struct memory {
  size_t batch_max; /* bytes: the largest batch */

  /* Bytes, for everything.  Relaxed: written under `lock`, where it decides;
   * readers without the lock only scale by it.
   */
  _Atomic uint64_t limit;

  /* Bytes taken from the budget.  The same: a miss in a full cache takes no
   * lock to find that nothing is left.
   */
  _Atomic uint64_t used;

  /* Guarded by `lock`. */
  struct lock lock;
  uint64_t max;    /* bytes: the largest that limit may become */
  uint64_t own;    /* bytes of the buffers that belong to one export each */
  uint64_t beside; /* bytes, see memory_pin_beside */
  struct condition buffer_returned;
  struct buffers batches; /* for write-back alone */
  struct buffers scratch; /* for misses and partial blocks */
};

/* LIMIT is wtcache-size.  0, or ENOMEM. */
extern int memory_init (struct memory *m, uint64_t limit);
/* To be called once nbdkit has gone into the background, before there are
 * threads: what is mapped from now on, and the buffers, are kept from children
 * as plugins such as sh make one for each call. Until then nothing is, since
 * the background is a child too.  If all memory is locked the budget cannot
 * grow.
 */
extern void memory_after_fork (struct memory *m);
extern void memory_keep_from_children (void *p, size_t bytes);
extern void memory_destroy (struct memory *m);

static inline uint64_t
memory_limit (const struct memory *m)
{
  return atomic_load_explicit (&m->limit, memory_order_relaxed);
}

/* The budget may grow up to MAX while it is used: tables that are made from
 * now on are large enough for that.
 */
extern void memory_may_grow (struct memory *m, uint64_t max);
extern uint64_t memory_max (struct memory *m);
/* Whether all memory of the process is locked, so that memory_map populates. */
extern bool memory_is_locked (void);
extern void memory_set_limit (struct memory *m, uint64_t limit);

/* Takes BYTES from the budget; returns false, and takes nothing, if it has
 * less.
 */
extern bool memory_take (struct memory *m, uint64_t bytes);
extern void memory_give (struct memory *m, uint64_t bytes);
/* The bytes taken now, buffers included. */
extern uint64_t memory_used (struct memory *m);

/* Zeroed address space that costs no memory until it is touched, kept out of
 * core dumps and, see above, of forked children: COUNT times EACH bytes.  NULL:
 * ENOMEM.  Sizes are multiplied here first, so one that a size_t cannot hold,
 * such as 4200M on a 32-bit system, is never mapped smaller than it is.
 */
extern void *memory_map (uint64_t count, uint64_t each);
/* The same, and it costs no memory until it is touched although all memory is
 * locked.
 */
extern void *memory_map_sparse (uint64_t count, uint64_t each);
extern void memory_unmap (void *p, size_t bytes);
/* Gives the memory of whole pages back to the system; they read as zero. */
extern void memory_release (void *p, size_t bytes);

/* The bytes set aside for buffers, those of single exports included. */
extern uint64_t memory_buffers (struct memory *m);

/* The largest batch of write-back, bytes. */
static inline size_t
memory_batch_size (const struct memory *m)
{
  return m->batch_max;
}

/* The most that a scratch buffer may hold, bytes. */
static inline size_t
memory_scratch_max (const struct memory *m)
{
  return m->scratch.unit * (m->scratch.units / 2);
}

/* Gives a borrower a buffer of each purpose that no other gets, large enough
 * for a block, until borrower_release.  The caller has taken borrower_cost from
 * the budget.  ENOMEM: all borrowers have too much of the budget already.
 */
extern uint64_t borrower_cost (const struct memory *m, uint32_t block);
extern int borrower_reserve (struct memory *m, struct borrower *borrower,
                             uint32_t block);
/* None of its buffers is lent; gives borrower_cost back to the budget. */
extern void borrower_release (struct memory *m, struct borrower *borrower);

/* A buffer for a batch of write-back: of *SIZE <= memory_batch_size bytes if
 * that can be had, else of fewer, which *SIZE then says, and at least MIN.
 * Waits, for no other export if the borrower has a buffer of its own; the
 * caller holds no lock and no other buffer.
 */
extern void *batch_buffer_get (struct memory *m, struct borrower *borrower,
                               size_t min, size_t *size);
/* One of BYTES, of the shared ones; NULL: there is none now. */
extern void *batch_buffer_try (struct memory *m, struct borrower *borrower,
                               size_t bytes);
/* BYTES: its size. */
extern void batch_buffer_put (struct memory *m, struct borrower *borrower,
                              void *buffer, size_t bytes);

/* The same for misses and partial blocks, *SIZE <= memory_scratch_max.  NULL:
 * there is none now; only if WAIT is false.
 */
extern void *scratch_get (struct memory *m, struct borrower *borrower,
                          size_t min, size_t *size, bool wait);
extern void *scratch_try (struct memory *m, struct borrower *borrower,
                          size_t bytes, enum urgency urgency);
extern void scratch_put (struct memory *m, struct borrower *borrower,
                         void *buffer, size_t bytes);

/* Helpers of a large request may pin pages of EACH bytes: returns how many of
 * COUNT helpers may, as the borrower's share of a quarter of the budget allows.
 */
extern unsigned memory_pin_beside (struct memory *m, struct borrower *borrower,
                                   uint64_t each, unsigned count);
extern void memory_unpin_beside (struct memory *m, struct borrower *borrower,
                                 uint64_t each, unsigned count);

#endif /* WTCACHE_FRAMES_H */
