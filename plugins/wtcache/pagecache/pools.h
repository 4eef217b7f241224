/* SPDX-License-Identifier: BSD-3-Clause */

/* All pools, which share one budget.  See pools.c. */

#ifndef WTCACHE_POOLS_H
#define WTCACHE_POOLS_H

#include "pagecache/pool.h"

/* All pools of a budget. */
struct pools {
  struct memory *memory;
  struct page_counts *counts; /* by an export's number */
  struct pool *first;         /* guarded by the memory lock */
  /* Relaxed: written under the memory lock; a recent value is enough. */
  _Atomic unsigned count;
};

/* 0, or ENOMEM. */
extern int pools_init (struct pools *ps, struct memory *m);
/* See memory_after_fork. */
extern void pools_after_fork (struct pools *ps);
extern void pools_destroy (struct pools *ps);
/* The pool for this page size, made at the first call; NULL: ENOMEM. */
extern struct pool *pools_get (struct pools *ps, uint32_t page_size);
/* The budget becomes LIMIT: clean pages leave until it fits, and their memory
 * goes back to the system.  EBUSY: so much is held or in use that it does not
 * fit; EFBIG: the tables are too small; then it is what it was.  One caller at
 * a time.
 */
extern int pools_resize (struct pools *ps, uint64_t limit);
/* The smallest possible budget: all that is taken from it but pages, and a few
 * pages.
 */
extern uint64_t pools_min (struct pools *ps);
/* The first of all pools there are now; NEXT of each is constant. */
extern struct pool *pools_first (struct pools *ps);
/* Takes BYTES from the budget, at the cost of clean pages if need be. */
extern bool pools_make_room (struct pools *ps, uint64_t bytes);

/* How many pages a pool can take without evicting one. */
extern uint64_t pools_free_pages (struct pools *ps, struct pool *pool);

/* The used parts of the budget, bytes. */
struct memory_use {
  uint64_t frames, descriptors, tables, buffers, other;
};

extern struct memory_use pools_memory_use (struct pools *ps);

/* The page with this key, pinned and locked; made if there is none.  NULL: no
 * frame can be had.
 */
extern struct page *pools_lock_page (struct pools *ps, struct pool *pool,
                                     uint64_t key, enum admission why);
/* The same, unlocked. */
extern struct page *pools_pin_page (struct pools *ps, struct pool *pool,
                                    uint64_t key, enum admission why);

#endif /* WTCACHE_POOLS_H */
