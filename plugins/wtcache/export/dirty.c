/* SPDX-License-Identifier: BSD-3-Clause */

/* How much of an export the backend may lack, and the bound of that.
 *
 * The bound is shared evenly by the exports that hold data or are open for
 * writing: with a bound of 64 MiB and four of them, 16 MiB each.  A backend
 * that refuses its writes fills its own share only.
 */

#include <config.h>

#include "export/dirty.h"

bool
dirty_is_held (struct export *e)
{
  return held_bytes (&e->pc) > 0 || zeroes_bytes (&e->pc.zeroes) > 0;
}

bool
dirty_is_unstable (struct export *e)
{
  return pagecache_amounts (&e->pc).unstable > 0 ||
         zeroes_bytes (&e->pc.zeroes) > 0;
}

bool
dirty_is_refused (struct export *e)
{
  return atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed) &&
         pagecache_amounts (&e->pc).dirty > 0;
}

uint64_t
dirty_age (struct export *e)
{
  const uint64_t since =
      atomic_load_explicit (&e->pc.dirty_since, memory_order_relaxed);
  const uint64_t now = now_ns ();

  if (pagecache_amounts (&e->pc).dirty <= 0 || since == 0 || since > now)
    return 0;
  return now - since;
}

/* The bound of all exports where the settings leave it open: what is written
 * back in five seconds, at most a quarter of the cache.
 */
static uint64_t
bound_by_speed (const struct export *e, uint64_t size)
{
  const uint64_t speed =
      atomic_load_explicit (&e->submit.write_speed, memory_order_relaxed);
  uint64_t bound = size / 4;

  if (speed > 0)
    bound = min_u64 (bound, speed * 5);
  return max_u64 (bound, min_u64 (4 * MiB, size / 2));
}

uint64_t
dirty_bound (struct export *e)
{
  const uint64_t size = memory_limit (e->memory);
  const unsigned sharers =
      atomic_load_explicit (&registry.holding, memory_order_relaxed);
  uint64_t bound = settings_bytes (SETTING (dirty_max), size);

  if (bound == 0)
    bound = bound_by_speed (e, size);
  if (sharers > 1)
    bound /= sharers;
  atomic_store_explicit (&e->pc.bound, bound, memory_order_relaxed);
  return bound;
}

static inline bool
reserve_within_bound (struct export *e, uint64_t len)
{
  const int64_t bound = dirty_bound (e);
  const int64_t reserved =
      atomic_fetch_add_explicit (&e->pc.reserved, len, memory_order_relaxed);

  if (held_bytes (&e->pc) + reserved + (int64_t) len <= bound)
    return true;
  dirty_release (e, len);
  return false;
}

bool
dirty_reserve (struct export *e, uint64_t len)
{
  return !dirty_is_refused (e) &&
         !atomic_load_explicit (&registry.stopping, memory_order_relaxed) &&
         atomic_load_explicit (&e->holds, memory_order_relaxed) &&
         reserve_within_bound (e, len);
}

bool
dirty_reserve_unstable (struct export *e, uint64_t len)
{
  return reserve_within_bound (e, len);
}
