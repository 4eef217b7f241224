/* SPDX-License-Identifier: BSD-3-Clause */

/* Pages of one size: descriptors, frames, and the index.  See pool.c. */

#ifndef WTCACHE_POOL_H
#define WTCACHE_POOL_H

#include "base/lock.h"
#include "pagecache/curve.h"
#include "pagecache/evict.h"
#include "pagecache/frames.h"
#include "pagecache/descriptor.h"

/* Keys hold an export's number above a page's index: pages are at least 4 KiB
 * of at most 2^63 bytes, so 51 bits are enough.
 */
#define KEY_INDEX_BITS 51
#define MAX_CACHES     ((1 << (64 - KEY_INDEX_BITS)) - 1)

#define BUCKET_LOCKS 256

/* Pages of one export.  Relaxed, only for display: changed as pages are added
 * and evicted, under the locks of different pages.
 */
struct page_counts {
  _Atomic uint64_t cached;
  _Atomic uint64_t evicted;
  _Atomic uint64_t wasted; /* of those: read ahead, and never used */
};

struct pool {
  struct memory *memory;
  struct pool *next; /* of all pools; guarded by the memory lock */

  /* Constant. */
  uint32_t page_size;
  uint32_t map_bytes; /* of one bitmap of a page */
  uint32_t stride;    /* bytes from one descriptor to the next */
  uint32_t max;       /* descriptors */
  unsigned bucket_bits;
  uint8_t *frames;
  uint8_t *pages;
  uint64_t table_bytes; /* of the index, the policy and the curve */
  struct curve *curve;

  /* Heads of the chains: written under a bucket lock, read without; release
   * pairs with acquire in pool_find.
   */
  _Atomic page_number *buckets;
  struct word_lock bucket_locks[BUCKET_LOCKS]; /* RANK_BUCKET */

  struct page_counts *counts; /* by an export's number; the pools' */

  struct lock evict_lock; /* RANK_EVICT */
  /* Guarded by evict_lock. */
  struct evict *evict;
  page_number free;  /* frames with memory, of no page */
  page_number empty; /* frames whose memory was given back */
  page_number fresh; /* frames never used begin after this number */
  uint32_t owned;    /* frames with memory */
  uint32_t capacity; /* pages that fit, as the policy was told */
  bool scattered;    /* frames were released: no more huge pages */
};

/* The smallest capacity that the policy is given. */
#define POOL_MIN_PAGES 16

/* The bytes of the budget that one page takes. */
static inline uint64_t
pool_page_cost (const struct pool *pool)
{
  return (uint64_t) pool->page_size + pool->stride;
}

/* A pool of pages of this size, its tables large enough for BUDGET.  SPARSE: it
 * costs no memory until it is touched, even if all memory is locked.  NULL:
 * ENOMEM.
 */
extern struct pool *pool_new (struct memory *m, struct page_counts *counts,
                              uint32_t page_size, uint64_t budget, bool sparse);
extern void pool_free (struct pool *pool);
/* So many pages fit.  The caller holds evict_lock. */
extern void pool_set_capacity (struct pool *pool, uint64_t pages);
/* Gives the memory of one frame back to the budget; false: no page may leave.
 */
extern bool pool_shed (struct pool *pool);

static inline struct page *
pool_page (const struct pool *pool, page_number n)
{
  return (struct page *) (pool->pages + (uint64_t) (n - 1) * pool->stride);
}

static inline page_number
pool_number (const struct pool *pool, const struct page *p)
{
  return ((const uint8_t *) p - pool->pages) / pool->stride + 1;
}

/* The bytes of a page. */
static inline uint8_t *
pool_frame (const struct pool *pool, const struct page *p)
{
  return pool->frames +
         (uint64_t) (pool_number (pool, p) - 1) * pool->page_size;
}

static inline uint8_t *
pool_map (const struct pool *pool, struct page *p, enum block_state state)
{
  return p->states + state * pool->map_bytes;
}

/* The page that most likely has this key, not locked, or NULL, which means
 * nothing certain: for hits, which take its lock and compare.
 */
extern struct page *pool_find (struct pool *pool, uint64_t key);

/* Whether a locked page, found without a lock, is the one with this key. */
static inline bool
pool_page_has_key (const struct page *p, uint64_t key)
{
  return page_key (p) == key && (p->flags & PAGE_INDEXED);
}

/* The page with this key, locked; NULL: certainly none at that moment. */
extern struct page *pool_lock_page (struct pool *pool, uint64_t key);

/* The page with this key that pool_find finds, pinned and locked, or NULL. */
extern struct page *pool_pin_found (struct pool *pool, uint64_t key);
/* The page with this key, pinned and locked, made if there is none yet: a frame
 * is taken first.  NULL: there is neither a page nor a frame for it, unless
 * another page of the pool is evicted, which MAY_EVICT allows.
 */
extern struct page *pool_pin_new (struct pool *pool, uint64_t key,
                                  enum admission why, bool may_evict);

/* Frees a locked page in which no block is cached or held, without pins or
 * fill; its frame becomes free.
 */
extern void pool_discard (struct pool *pool, struct page *p);

/* The keys of pages of one heat (evict.h), MAX at most, in no order; or,
 * without KEYS, only their number.
 */
extern size_t pool_collect (struct pool *pool, int heat, uint64_t *keys,
                            size_t max);

/* A walk over the pages with keys FIRST … LAST that exist, in no order: by key
 * where these are few, else by descriptor.
 */
struct pool_walk {
  uint64_t first, last, next;
  bool by_key;
};

extern void pool_walk_begin (struct pool *pool, struct pool_walk *w,
                             uint64_t first, uint64_t last);
/* The next page, locked; NULL: no more. */
extern struct page *pool_walk_next (struct pool *pool, struct pool_walk *w);

#endif /* WTCACHE_POOL_H */
