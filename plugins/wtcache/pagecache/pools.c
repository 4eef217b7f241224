/* SPDX-License-Identifier: BSD-3-Clause */

/* All pools, which share one budget: there is one for each page size in use.
 *
 * A page that needs a frame gets it, in this order,
 *
 *   1. from the free frames of its pool
 *   2. from what is left of the budget
 *   3. from a page of its own pool, or, if that has less than half of an even
 *      share, from another pool
 *
 * For example, with a budget of 1 GiB and pools of 4 KiB and of 1 MiB pages,
 * one that has less than 256 MiB takes from the other.
 *
 * May not know what is in a page, nor how a pool finds its pages.
 */

#include <config.h>

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "base/util.h"
#include "pagecache/pools.h"

/* Address space that costs little: what one export touches of it. */
static size_t
counts_bytes (const struct pools *ps)
{
  return (MAX_CACHES + 1) * sizeof ps->counts[0];
}

int
pools_init (struct pools *ps, struct memory *m)
{
  ps->memory = m;
  ps->first = NULL;
  atomic_init (&ps->count, 0);
  ps->counts = memory_map (1, counts_bytes (ps));
  return ps->counts ? 0 : ENOMEM;
}

void
pools_after_fork (struct pools *ps)
{
  memory_keep_from_children (ps->counts, counts_bytes (ps));
}

void
pools_destroy (struct pools *ps)
{
  struct pool *pool, *next;

  for (pool = ps->first; pool; pool = next) {
    next = pool->next;
    pool_free (pool);
  }
  ps->first = NULL;
  memory_unmap (ps->counts, counts_bytes (ps));
}

struct pool *
pools_first (struct pools *ps)
{
  LOCK_FOR_SCOPE (&ps->memory->lock);

  return ps->first;
}

/* The unused part of the budget; 0 if more is used than it allows, as while it
 * shrinks.
 */
static uint64_t
free_budget (struct memory *m)
{
  const uint64_t used = memory_used (m), limit = memory_limit (m);

  return limit > used ? limit - used : 0;
}

/* For how large a budget the tables of a new pool are.  The first one, which
 * may be populated at once, has what is left; a page takes at most
 * LOCKED_TABLES bytes of tables.  Others are sparse.
 */
#define LOCKED_TABLES 64

static uint64_t
max_for (struct pools *ps, uint32_t page_size)
{
  const uint64_t max = memory_max (ps->memory);

  if (!memory_is_locked () || pools_first (ps) != NULL)
    return max;
  return max - memory_used (ps->memory) - (max / page_size) * LOCKED_TABLES;
}

/* The caller holds the registry lock, so no other thread makes a pool. */
struct pool *
pools_get (struct pools *ps, uint32_t page_size)
{
  const uint64_t max = max_for (ps, page_size);
  const bool sparse = pools_first (ps) != NULL;
  struct pool *pool;
  uint64_t room;

  for (pool = pools_first (ps); pool; pool = pool->next)
    if (pool->page_size == page_size)
      return pool;

  pool = pool_new (ps->memory, ps->counts, page_size, max, sparse);
  if (pool == NULL && max > memory_limit (ps->memory)) {
    /* Address space is scarce here: then the budget cannot grow. */
    memory_may_grow (ps->memory, 0);
    pool = pool_new (ps->memory, ps->counts, page_size, memory_max (ps->memory),
                     sparse);
  }
  if (pool == NULL)
    return NULL;
  if (!pools_make_room (ps, pool->table_bytes)) {
    pool_free (pool);
    return NULL;
  }
  lock_take (&ps->memory->lock);
  pool->next = ps->first;
  ps->first = pool;
  atomic_fetch_add_explicit (&ps->count, 1, memory_order_relaxed);
  lock_drop (&ps->memory->lock);

  room = free_budget (ps->memory);
  lock_take (&pool->evict_lock);
  pool_set_capacity (pool, room / pool_page_cost (pool));
  lock_drop (&pool->evict_lock);
  return pool;
}

static bool
shed_from_others (struct pools *ps, const struct pool *than)
{
  struct pool *pool;

  for (pool = pools_first (ps); pool; pool = pool->next)
    if (pool != than && pool_shed (pool))
      return true;
  return false;
}

bool
pools_make_room (struct pools *ps, uint64_t bytes)
{
  while (!memory_take (ps->memory, bytes))
    if (!shed_from_others (ps, NULL))
      return false;
  return true;
}

/* How often it is tried again to shed a page where none could leave. */
#define MAX_TRIES 100

/* Sheds a frame of the pool that has most memory, or of any. */
static bool
shed_from_richest (struct pools *ps)
{
  struct pool *pool, *richest = NULL;
  uint64_t owned, max = 0;

  for (pool = pools_first (ps); pool; pool = pool->next) {
    lock_take (&pool->evict_lock);
    owned = pool->owned * pool_page_cost (pool);
    lock_drop (&pool->evict_lock);
    if (owned > max) {
      max = owned;
      richest = pool;
    }
  }
  return (richest && pool_shed (richest)) || shed_from_others (ps, richest);
}

/* Pages that are pinned for a moment are waited for; false: others are in the
 * way.
 */
static bool
shrink (struct pools *ps, uint64_t limit)
{
  const struct timespec pause = { .tv_nsec = 1000000 };
  unsigned tries = 0;

  while (memory_used (ps->memory) > limit)
    if (shed_from_richest (ps))
      tries = 0;
    else if (++tries == MAX_TRIES)
      return false;
    else
      nanosleep (&pause, NULL);
  return true;
}

/* Sets the capacity of the policy to the pages that fit now. */
static void
fit_to_budget (struct pool *pool)
{
  const uint64_t room = free_budget (pool->memory) / pool_page_cost (pool);

  LOCK_FOR_SCOPE (&pool->evict_lock);
  pool_set_capacity (pool, pool->owned + room);
}

uint64_t
pools_min (struct pools *ps)
{
  uint64_t min = memory_used (ps->memory), pages;
  struct pool *pool;

  for (pool = pools_first (ps); pool; pool = pool->next) {
    lock_take (&pool->evict_lock);
    pages = min_u64 (pool->owned * pool_page_cost (pool), min);
    lock_drop (&pool->evict_lock);
    min += POOL_MIN_PAGES * pool_page_cost (pool) - pages;
  }
  return min;
}

int
pools_resize (struct pools *ps, uint64_t limit)
{
  const uint64_t old = memory_limit (ps->memory);
  struct pool *pool;
  bool fits;

  if (limit > memory_max (ps->memory))
    return EFBIG;
  if (limit < pools_min (ps))
    return EBUSY;
  /* First, so that no other thread takes the frames that are shed. */
  memory_set_limit (ps->memory, limit);
  fits = shrink (ps, limit);
  if (!fits)
    memory_set_limit (ps->memory, old);
  for (pool = pools_first (ps); pool; pool = pool->next)
    fit_to_budget (pool);
  return fits ? 0 : EBUSY;
}

uint64_t
pools_free_pages (struct pools *ps, struct pool *pool)
{
  const uint64_t room = free_budget (ps->memory) / pool_page_cost (pool);

  LOCK_FOR_SCOPE (&pool->evict_lock);
  return pool->owned - min_u64 (evict_count (pool->evict), pool->owned) + room;
}

struct memory_use
pools_memory_use (struct pools *ps)
{
  struct memory_use u = { .buffers = memory_buffers (ps->memory) };
  uint64_t known, used;
  struct pool *pool;

  for (pool = pools_first (ps); pool; pool = pool->next) {
    LOCK_FOR_SCOPE (&pool->evict_lock);

    u.frames += (uint64_t) pool->owned * pool->page_size;
    u.descriptors += (uint64_t) pool->owned * pool->stride;
    u.tables += pool->table_bytes;
  }
  known = u.frames + u.descriptors + u.tables + u.buffers;
  used = memory_used (ps->memory);
  /* Frames may have come or gone between the looks. */
  u.other = used > known ? used - known : 0;
  return u;
}

/* A pool that has less than half of an even share takes from others before it
 * evicts a page of its own.
 */
static bool
is_poor (const struct pools *ps, struct pool *pool)
{
  const unsigned count =
      atomic_load_explicit (&ps->count, memory_order_relaxed);

  if (count < 2)
    return false;

  LOCK_FOR_SCOPE (&pool->evict_lock);
  return pool->owned * pool_page_cost (pool) <
         memory_limit (pool->memory) / count / 2;
}

struct page *
pools_lock_page (struct pools *ps, struct pool *pool, uint64_t key,
                 enum admission why)
{
  struct page *p = pool_pin_found (pool, key);

  if (p == NULL)
    p = pool_pin_new (pool, key, why, !is_poor (ps, pool));
  while (p == NULL && shed_from_others (ps, pool))
    p = pool_pin_new (pool, key, why, false);
  return p ? p : pool_pin_new (pool, key, why, true);
}

struct page *
pools_pin_page (struct pools *ps, struct pool *pool, uint64_t key,
                enum admission why)
{
  struct page *p = pools_lock_page (ps, pool, key, why);

  if (p)
    word_lock_drop (&p->lock);
  return p;
}
