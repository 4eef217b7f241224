/* SPDX-License-Identifier: BSD-3-Clause */

/* The pages of one export and the states of their blocks.  See pagecache.c. */

#ifndef WTCACHE_PAGECACHE_H
#define WTCACHE_PAGECACHE_H

#include "pagecache/fill.h"
#include "pagecache/ledger.h"
#include "pagecache/move.h"
#include "pagecache/open.h"
#include "pagecache/page.h"
#include "pagecache/types.h"
#include "pagecache/unmade.h"

/* NUMBER is 1 … MAX_CACHES and no other cache's; BLOCK and the pool's page
 * size are powers of two, in bytes.
 */
extern void pagecache_init (struct pagecache *pc, struct pools *ps,
                            struct pool *pool, unsigned number, uint64_t size,
                            uint32_t block, bool around);
/* Every page is dropped before, nothing is held. */
extern void pagecache_destroy (struct pagecache *pc);

enum outcome {
  OUTCOME_FAILED,   /* or never begun */
  OUTCOME_UNSTABLE, /* the backend took it */
  OUTCOME_STABLE,
};

/* A write over whole blocks has ended, which began when the epoch was EPOCH;
 * all of them are in writeback.
 */
extern void pagecache_end_write (struct pagecache *pc, uint64_t offset,
                                 uint64_t len, enum outcome outcome,
                                 uint32_t epoch);

/* Waits until no block of the range is in writeback.  The wait ends: either the
 * caller has the range exclusively, or it retries.
 */
extern void pagecache_wait_writeback (struct pagecache *pc, uint64_t offset,
                                      uint64_t len);

enum clear {
  CLEAR_ZEROED,  /* the range reads as zero */
  CLEAR_UNKNOWN, /* the backend knows: trimmed, or written past the cache */
  CLEAR_FAILED,
};

/* An exclusive operation over whole blocks has ended.  CLEAR_UNKNOWN: the
 * caller has exclusive_reserve.
 */
extern void pagecache_clear (struct pagecache *pc, uint64_t offset,
                             uint64_t len, enum clear how);

/* The index of the first page at or after INDEX that is held. */
extern bool pagecache_next_held (struct pagecache *pc, uint64_t *index);

/* Changes the size of a cache that no connection uses, and discards all clean
 * blocks.  Returns the bytes that are held past the new end: they are kept, and
 * never written.
 */
extern int64_t pagecache_resize (struct pagecache *pc, uint64_t size);

/* Discards all clean blocks; returns the bytes. */
extern uint64_t pagecache_drop (struct pagecache *pc);

/* How many bytes of a range are in each state. */
extern struct amounts pagecache_range_amounts (struct pagecache *pc,
                                               uint64_t offset, uint64_t len);

extern struct amounts pagecache_amounts (struct pagecache *pc);
/* Whether more is held than may be. */
extern bool pagecache_is_beyond_bound (struct pagecache *pc);

#endif /* WTCACHE_PAGECACHE_H */
