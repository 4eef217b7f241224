/* SPDX-License-Identifier: BSD-3-Clause */

/* Which pages of a cache are held: they have a block that is dirty, in
 * writeback or unstable, and may not leave.  See held.c.
 */

#ifndef WTCACHE_HELD_H
#define WTCACHE_HELD_H

#include "pagecache/pool.h"

struct held {
  struct pool *pool;

  struct lock lock; /* RANK_HELD */
  /* Guarded by lock. */
  page_number root;           /* the tree, by key */
  page_number oldest, newest; /* the unstable pages, by generation */
  uint32_t flushes;           /* flushes begun at the backend */

  /* Failed flushes and FUA operations.  Written under the lock, since blocks
   * become unstable only in the epoch in which they were written.  Release in
   * held_fail pairs with acquire in held_epoch.
   */
  _Atomic uint32_t epoch;

  /* Connections are numbered as they come.  All that is unstable ended after
   * number COVERING had come, and so a flush by that one, or by one that came
   * before it, covers it all: see held_connect.
   */
  uint64_t newest_connection, covering;
  uint64_t newest_at_flush; /* when the last flush began */

  /* Write-back passes begun.  Relaxed: a write that was answered before a pass
   * began has read an older number, and any other may have either.
   */
  _Atomic uint32_t pass;
};

extern void held_init (struct held *h, struct pool *pool);
extern void held_destroy (struct held *h);

/* The page is locked, and becomes held or ceases to be. */
extern void held_add (struct held *h, struct page *p);
extern void held_remove (struct held *h, struct page *p);

/* The key of the first held page whose key is at least KEY; 0: none. */
extern uint64_t held_next (struct held *h, uint64_t key);

/* A block of a locked page was written and is unstable.  False, and nothing
 * changes: a flush or a FUA operation failed since EPOCH.
 */
extern bool held_list_unstable (struct held *h, struct page *p, uint32_t epoch);
/* A locked page has no unstable block any more. */
extern void held_unlist_unstable (struct held *h, struct page *p);
/* The key of the page that has been unstable longest; 0: none. */
extern uint64_t held_oldest_unstable (struct held *h);

/* How often a flush or a FUA operation has failed. */
static inline uint32_t
held_epoch (struct held *h)
{
  return atomic_load_explicit (&h->epoch, memory_order_acquire);
}
extern void held_fail (struct held *h);

/* Flushes begun; _begin_ counts one more and returns its number. */
extern uint32_t held_flushes (struct held *h);
extern uint32_t held_begin_flush (struct held *h);
/* The last of them settles nothing: the next gets its number. */
extern void held_disregard_flush (struct held *h);

/* One more connection has come; its number.  If its flush succeeds, the remote
 * has been the same since: so the flush covers what ended after it had come,
 * and not what another connection wrote to a remote that may have died before.
 */
extern uint64_t held_connect (struct held *h);
/* No range is remembered as zero.  If no page is unstable either, a flush by
 * connection NUMBER covers all that is unstable from now on.
 */
extern void held_cover (struct held *h, uint64_t number);
/* The last flush has settled what ended before it began. */
extern void held_note_settled (struct held *h);
/* The number of the last connection whose flush covers all that is unstable. */
extern uint64_t held_covering (struct held *h);

/* A pass begins: what is dirty by now became so in an earlier one.  Returns
 * the number of that earlier pass.
 */
extern uint32_t held_begin_pass (struct held *h);
static inline uint32_t
held_pass (struct held *h)
{
  return atomic_load_explicit (&h->pass, memory_order_relaxed);
}

#endif /* WTCACHE_HELD_H */
