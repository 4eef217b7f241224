/* SPDX-License-Identifier: BSD-3-Clause */

/* The keys of pages that left the cache.  See ghost.c. */

#ifndef WTCACHE_GHOST_H
#define WTCACHE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bucket;

struct ghost {
  struct bucket *buckets; /* in allocated, at a cache line */
  void *allocated;
  size_t bucket_count;
  size_t sweep;      /* the next bucket to clear of expired slots */
  size_t sweeps;     /* buckets that are cleared at each eviction */
  uint32_t stamp;    /* now, in units of evictions */
  size_t stamp_unit; /* evictions in a unit */
  size_t stamp_part; /* evictions since stamp changed */
  uint32_t small_expires, main_expires; /* units after which a slot does */
};

/* For a cache of at most MAX pages.  -1: there is no memory. */
extern int ghost_init (struct ghost *g, size_t max);
extern void ghost_destroy (struct ghost *g);
/* Bytes that it has allocated. */
extern size_t ghost_memory (const struct ghost *g);

/* The cache has CAPACITY pages: keys are remembered for so many evictions, from
 * the small queue and from the main queue.  Call it before the first key.
 */
extern void ghost_resize (struct ghost *g, size_t capacity, size_t small,
                          size_t main);

/* A page was evicted. */
extern void ghost_remember (struct ghost *g, uint64_t key, bool from_main);

/* Takes a key out of the ghost.  Returns its newest slot, or 0 if it is not
 * there.
 */
extern uint32_t ghost_recall (struct ghost *g, uint64_t key);

/* Of a slot: how many evictions ago the page left, rounded to units, and
 * whether it left the main queue.
 */
extern size_t ghost_age (const struct ghost *g, uint32_t slot);
extern bool ghost_from_main (uint32_t slot);

#endif /* WTCACHE_GHOST_H */
