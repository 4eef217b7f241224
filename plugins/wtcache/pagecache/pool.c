/* SPDX-License-Identifier: BSD-3-Clause */

/* Pages of one size: descriptors, frames, and the index from key to page.
 *
 *       key ── hash ──> bucket ──> page ──> page      (chains by number)
 *                                   │
 *                                 frame               (same number)
 *
 * One pool serves all exports with this page size; a key is an export's number
 * and a page's number in it.  The tables are as large as the budget could ever
 * need, in address space that costs nothing until touched, so nothing is
 * resized or freed while it runs.
 *
 * A hit takes no lock but the page's own: it walks the chain without one.  The
 * walk may meet a page that is just leaving and follow it into another chain;
 * then it finds nothing, or a page with another key, and the slow way, under
 * the bucket's lock, decides.  Descriptors are never freed, so the walk cannot
 * fall off.
 *
 * May know which states keep a page from being evicted, and nothing else about
 * blocks.
 */

#include <config.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "base/probes.h"
#include "base/util.h"
#include "pagecache/pool.h"

/* A walk without lock ends after so many pages: it may have been led from chain
 * to chain.
 */
#define MAX_STEPS 64

/* Mappings at least this large ask for huge pages. */
#define HUGE_FROM (64 * MiB)

static unsigned
bucket_of (const struct pool *pool, uint64_t key)
{
  return hash_u64 (key) & ((UINT64_C (1) << pool->bucket_bits) - 1);
}

static struct word_lock *
bucket_lock_of (struct pool *pool, unsigned bucket)
{
  return &pool->bucket_locks[bucket % BUCKET_LOCKS];
}

static size_t
bucket_bytes (const struct pool *pool)
{
  return sizeof pool->buckets[0] << pool->bucket_bits;
}

void
pool_free (struct pool *pool)
{
  memory_unmap (pool->frames, (size_t) pool->max * pool->page_size);
  memory_unmap (pool->pages, (size_t) pool->max * pool->stride);
  memory_unmap (pool->buckets, bucket_bytes (pool));
  curve_free (pool->curve); /* it guides the policy */
  evict_free (pool->evict);
  lock_destroy (&pool->evict_lock);
  free (pool);
}

struct pool *
pool_new (struct memory *m, struct page_counts *counts, uint32_t page_size,
          uint64_t budget, bool sparse)
{
  void *(*map) (uint64_t count, uint64_t each) =
      sparse ? memory_map_sparse : memory_map;
  struct pool *pool = calloc (1, sizeof *pool);
  size_t bytes;

  if (pool == NULL)
    return NULL;
  lock_init (&pool->evict_lock, RANK_EVICT);
  pool->memory = m;
  pool->counts = counts;
  pool->page_size = page_size;
  pool->map_bytes = page_size / 512 / 8;
  assert (pool->map_bytes <= MAX_MAP_BYTES);
  pool->stride = round_up (
      offsetof (struct page, states) + BLOCK_MAPS * pool->map_bytes, 8);
  pool->max = min_u64 (budget / pool_page_cost (pool), UINT32_MAX / 2);
  pool->bucket_bits = log2_u64 (pool->max) + 1;

  pool->frames = map (pool->max, page_size);
  pool->pages = map (pool->max, pool->stride);
  pool->buckets =
      memory_map (UINT64_C (1) << pool->bucket_bits, sizeof pool->buckets[0]);
  if (pool->pages)
    pool->evict = evict_new (pool->max, pool->max, &pool_page (pool, 1)->evict,
                             pool->stride);
  pool->curve =
      curve_new (min_u64 (memory_limit (m) / pool_page_cost (pool), pool->max));
  if (!pool->frames || !pool->pages || !pool->buckets || !pool->evict ||
      !pool->curve) {
    pool_free (pool);
    return NULL;
  }
  curve_guide (pool->curve, pool->evict);
  /* Advice: fewer misses of the address translation.  A kernel without huge
   * pages goes on without.
   */
  bytes = (size_t) pool->max * page_size;
  if (bytes >= HUGE_FROM)
    madvise (pool->frames, bytes, MADV_HUGEPAGE);
  pool->table_bytes = bucket_bytes (pool) + evict_memory (pool->evict) +
                      curve_memory (pool->curve);
  return pool;
}

void
pool_set_capacity (struct pool *pool, uint64_t pages)
{
  assert_held (&pool->evict_lock);
  pool->capacity = clamp_u64 (pages, POOL_MIN_PAGES, pool->max);
  evict_resize (pool->evict, pool->capacity);
  curve_resize (pool->curve, pool->capacity);
}

struct page *
pool_find (struct pool *pool, uint64_t key)
{
  page_number n = atomic_load_explicit (&pool->buckets[bucket_of (pool, key)],
                                        memory_order_acquire);
  struct page *p;
  unsigned steps;

  for (steps = 0; n != 0 && steps < MAX_STEPS; ++steps) {
    p = pool_page (pool, n);
    if (page_key (p) == key)
      return p;
    n = atomic_load_explicit (&p->chain, memory_order_acquire);
  }
  return NULL;
}

/* The counts of the export to which a key belongs. */
static struct page_counts *
counts_of (struct pool *pool, uint64_t key)
{
  return &pool->counts[key >> KEY_INDEX_BITS];
}

/* The page with this key in a bucket whose lock is held, or NULL. */
static struct page *
find_in_bucket (struct pool *pool, unsigned bucket, uint64_t key)
{
  page_number n;
  struct page *p;

  assert_held (bucket_lock_of (pool, bucket));
  for (n = atomic_load_explicit (&pool->buckets[bucket], memory_order_relaxed);
       n != 0; n = atomic_load_explicit (&p->chain, memory_order_relaxed)) {
    p = pool_page (pool, n);
    if (page_key (p) == key)
      return p;
  }
  return NULL;
}

static struct page *
find_surely (struct pool *pool, uint64_t key)
{
  const unsigned bucket = bucket_of (pool, key);
  struct word_lock *lock = bucket_lock_of (pool, bucket);
  struct page *p;

  word_lock_take (lock, RANK_BUCKET);
  p = find_in_bucket (pool, bucket, key);
  word_lock_drop (lock);
  return p;
}

struct page *
pool_lock_page (struct pool *pool, uint64_t key)
{
  struct page *p = pool_find (pool, key);

  for (;;) {
    if (p) {
      word_lock_take (&p->lock, RANK_PAGE);
      if (pool_page_has_key (p, key))
        return p;
      word_lock_drop (&p->lock); /* it is leaving, or not yet there */
    }
    p = find_surely (pool, key);
    if (p == NULL)
      return NULL;
  }
}

/* Puts a page whose key is set and which is locked into its bucket, unless
 * that key is there already.
 */
static bool
insert (struct pool *pool, struct page *p)
{
  const unsigned bucket = bucket_of (pool, page_key (p));
  struct word_lock *lock = bucket_lock_of (pool, bucket);
  bool inserted = false;

  assert_held (&p->lock);
  word_lock_take (lock, RANK_BUCKET);
  if (find_in_bucket (pool, bucket, page_key (p)) == NULL) {
    atomic_store_explicit (
        &p->chain,
        atomic_load_explicit (&pool->buckets[bucket], memory_order_relaxed),
        memory_order_relaxed);
    atomic_store_explicit (&pool->buckets[bucket], pool_number (pool, p),
                           memory_order_release);
    p->flags |= PAGE_INDEXED;
    atomic_fetch_add_explicit (&counts_of (pool, page_key (p))->cached, 1,
                               memory_order_relaxed);
    inserted = true;
  }
  word_lock_drop (lock);
  return inserted;
}

/* Takes a locked page out of its bucket and takes its identity away. */
static void
unlink_page (struct pool *pool, struct page *p)
{
  const unsigned bucket = bucket_of (pool, page_key (p));
  struct word_lock *lock = bucket_lock_of (pool, bucket);
  const page_number n = pool_number (pool, p);
  _Atomic page_number *link = &pool->buckets[bucket];
  page_number next;

  assert_held (&p->lock);
  word_lock_take (lock, RANK_BUCKET);
  while ((next = atomic_load_explicit (link, memory_order_relaxed)) != n) {
    assert (next != 0);
    link = &pool_page (pool, next)->chain;
  }
  atomic_store_explicit (link,
                         atomic_load_explicit (&p->chain, memory_order_relaxed),
                         memory_order_release);
  atomic_fetch_sub_explicit (&counts_of (pool, page_key (p))->cached, 1,
                             memory_order_relaxed);
  __atomic_store_n (&p->evict.key, 0, __ATOMIC_RELAXED);
  p->flags &= ~PAGE_INDEXED;
  word_lock_drop (lock);
}

/* Whether a page may be evicted: no block is held, no thread has it pinned, no
 * fill is in progress.
 */
static bool
pool_page_is_idle (const struct page *p)
{
  assert_held (&p->lock);
  return p->pins == 0 && !(p->flags & (PAGE_HELD | PAGE_FILLING));
}

/* For evict_victim: on true the page is locked, and *OPAQUE says whether it
 * leaves without having been used.
 */
static bool
lock_if_idle (struct evict_entry *entry, void *opaque)
{
  struct page *p = container_of (entry, struct page, evict);
  bool *wasted = opaque;

  if (!word_lock_try (&p->lock, RANK_PAGE))
    return false;
  if (pool_page_is_idle (p)) {
    *wasted = evict_is_unused (entry);
    return true;
  }
  word_lock_drop (&p->lock);
  return false;
}

static page_number
pool_pop_frame (struct pool *pool, page_number *list)
{
  const page_number n = *list;

  assert_held (&pool->evict_lock);
  if (n != 0)
    *list = atomic_load_explicit (&pool_page (pool, n)->chain,
                                  memory_order_relaxed);
  return n;
}

static void
pool_push_frame (struct pool *pool, page_number *list, page_number n)
{
  assert_held (&pool->evict_lock);
  atomic_store_explicit (&pool_page (pool, n)->chain, *list,
                         memory_order_relaxed);
  *list = n;
}

/* One call of the policy looks at some candidates only.  After so many calls
 * without a victim the eviction fails: hardly any page can be evicted.
 */
#define MAX_ASKED 8

/* Evicts one page and keeps it locked; NULL: none may go. */
static struct page *
evict_one (struct pool *pool)
{
  struct evict_entry *entry = NULL;
  struct page_counts *counts;
  struct page *p;
  bool wasted;
  unsigned i;

  assert_held (&pool->evict_lock);
  for (i = 0; entry == NULL && i < MAX_ASKED; ++i)
    entry = evict_victim (pool->evict, lock_if_idle, &wasted);
  if (entry == NULL)
    return NULL;
  p = container_of (entry, struct page, evict);
  counts = counts_of (pool, page_key (p));
  atomic_fetch_add_explicit (&counts->evicted, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&counts->wasted, wasted, memory_order_relaxed);
  PROBE3 (eviction, page_key (p) >> KEY_INDEX_BITS,
          page_key (p) & ((UINT64_C (1) << KEY_INDEX_BITS) - 1), wasted);
  unlink_page (pool, p);
  return p;
}

/* Counts frames with memory, and adapts the capacity of the policy. */
static void
change_owned (struct pool *pool, int by)
{
  assert_held (&pool->evict_lock);
  pool->owned += by;
  if (pool->owned > pool->capacity)
    pool_set_capacity (pool, pool->owned + (uint64_t) pool->owned / 8);
  else if (by < 0 && pool->owned < pool->capacity / 8 * 7)
    pool_set_capacity (pool, pool->owned);
}

/* A frame that belongs to no page, or 0. */
static page_number
take_unused_frame (struct pool *pool)
{
  page_number n = pool_pop_frame (pool, &pool->free);

  if (n == 0 && (pool->empty != 0 || pool->fresh < pool->max) &&
      memory_take (pool->memory, pool_page_cost (pool))) {
    change_owned (pool, 1);
    n = pool_pop_frame (pool, &pool->empty);
    if (n == 0)
      n = ++pool->fresh;
  }
  return n;
}

/* The descriptor of such a frame, locked; NULL: there is none.  MAY_EVICT: at
 * the cost of a page of this pool.
 */
static struct page *
take_frame (struct pool *pool, bool may_evict)
{
  const page_number n = take_unused_frame (pool);
  struct page *p;

  if (n == 0)
    return may_evict ? evict_one (pool) : NULL;
  p = pool_page (pool, n);
  word_lock_take (&p->lock, RANK_PAGE);
  return p;
}

bool
pool_shed (struct pool *pool)
{
  LOCK_FOR_SCOPE (&pool->evict_lock);
  page_number n = pool_pop_frame (pool, &pool->free);
  struct page *p;

  if (n == 0) {
    p = evict_one (pool);
    if (p == NULL)
      return false;
    word_lock_drop (&p->lock);
    n = pool_number (pool, p);
  }
  /* The kernel must not fill the huge page again round what is released. */
  if (!pool->scattered)
    madvise (pool->frames, (size_t) pool->max * pool->page_size,
             MADV_NOHUGEPAGE);
  pool->scattered = true;
  memory_release (pool_frame (pool, pool_page (pool, n)), pool->page_size);
  memory_give (pool->memory, pool_page_cost (pool));
  pool_push_frame (pool, &pool->empty, n);
  change_owned (pool, -1);
  return true;
}

/* Gives a frame the identity KEY, pinned once, all states clear, and admits
 * it.  It is not in the index yet; it is locked.
 */
static struct page *
new_page (struct pool *pool, uint64_t key, enum admission why, bool may_evict)
{
  LOCK_FOR_SCOPE (&pool->evict_lock);
  struct page *p = take_frame (pool, may_evict);

  if (p == NULL)
    return NULL;
  __atomic_store_n (&p->evict.key, key, __ATOMIC_RELAXED);
  p->pins = 1; /* before it can be chosen as victim */
  p->flags = 0;
  memset (p->states, 0, BLOCK_MAPS * pool->map_bytes);
  evict_watch (&p->evict, curve_samples (pool->curve, key));
  evict_admit (pool->evict, &p->evict, why);
  return p;
}

/* Puts the frame of a page that has left the index among the free ones. */
static void
free_page (struct pool *pool, struct page *p)
{
  LOCK_FOR_SCOPE (&pool->evict_lock);

  evict_forget (pool->evict, &p->evict);
  pool_push_frame (pool, &pool->free, pool_number (pool, p));
}

void
pool_discard (struct pool *pool, struct page *p)
{
  assert (pool_page_is_idle (p));
  p->pins = 1; /* keeps it from being evicted before we free it */
  unlink_page (pool, p);
  word_lock_drop (&p->lock);
  free_page (pool, p);
}

/* A locked page, pinned once more. */
static struct page *
pin_locked (struct page *p)
{
  if (p) {
    assert_held (&p->lock);
    p->pins++;
  }
  return p;
}

struct page *
pool_pin_found (struct pool *pool, uint64_t key)
{
  struct page *p = pool_find (pool, key);

  if (p == NULL)
    return NULL;
  word_lock_take (&p->lock, RANK_PAGE);
  if (pool_page_has_key (p, key))
    return pin_locked (p);
  word_lock_drop (&p->lock);
  return NULL;
}

struct page *
pool_pin_new (struct pool *pool, uint64_t key, enum admission why,
              bool may_evict)
{
  struct page *p, *other;

  while ((p = new_page (pool, key, why, may_evict)) != NULL) {
    if (insert (pool, p))
      return p;
    /* The page is there: pool_find had missed it, or it is that new. */
    __atomic_store_n (&p->evict.key, 0, __ATOMIC_RELAXED);
    word_lock_drop (&p->lock);
    free_page (pool, p);
    other = pin_locked (pool_lock_page (pool, key));
    if (other)
      return other;
  }
  return pin_locked (pool_lock_page (pool, key));
}

static uint32_t
frames_used (struct pool *pool)
{
  LOCK_FOR_SCOPE (&pool->evict_lock);

  return pool->fresh;
}

/* Entries looked at while the eviction lock is held. */
#define COLLECT_STEP 1024

/* A part of pool_collect, from descriptor N on. */
static size_t
collect_some (struct pool *pool, page_number n, int heat, uint64_t *keys,
              size_t max)
{
  LOCK_FOR_SCOPE (&pool->evict_lock);
  const page_number end = min_u64 (n + COLLECT_STEP, pool->fresh + 1);
  size_t found = 0;
  struct page *p;

  for (; n < end && found < max; ++n) {
    p = pool_page (pool, n);
    if (evict_heat (&p->evict) != heat)
      continue;
    if (keys)
      keys[found] = page_key (p);
    found++;
  }
  return found;
}

size_t
pool_collect (struct pool *pool, int heat, uint64_t *keys, size_t max)
{
  const page_number last = frames_used (pool);
  size_t found = 0;
  page_number n;

  for (n = 1; n <= last && found < max; n += COLLECT_STEP)
    found +=
        collect_some (pool, n, heat, keys ? keys + found : NULL, max - found);
  return found;
}

void
pool_walk_begin (struct pool *pool, struct pool_walk *w, uint64_t first,
                 uint64_t last)
{
  w->first = first;
  w->last = last;
  w->by_key = last - first <= frames_used (pool);
  w->next = w->by_key ? first : 1;
}

/* Frames that come into use during the walk are seen too, or their pages were
 * made after it had passed their buckets, which is all that callers need.
 */
struct page *
pool_walk_next (struct pool *pool, struct pool_walk *w)
{
  struct page *p;

  if (w->by_key) {
    while (w->next <= w->last)
      if ((p = pool_lock_page (pool, w->next++)) != NULL)
        return p;
    return NULL;
  }
  while (w->next <= frames_used (pool)) {
    p = pool_page (pool, w->next++);
    word_lock_take (&p->lock, RANK_PAGE);
    if ((p->flags & PAGE_INDEXED) && page_key (p) >= w->first &&
        page_key (p) <= w->last)
      return p;
    word_lock_drop (&p->lock);
  }
  return NULL;
}
