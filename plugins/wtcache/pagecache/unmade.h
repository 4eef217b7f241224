/* SPDX-License-Identifier: BSD-3-Clause */

/* How often something acknowledged ceased to be on its way to durable: a write
 * of it failed, or the flush that should have covered it.
 *
 * A flush reads the count when it begins and when it ends.  If both are equal,
 * nothing that it covers was undone meanwhile.
 */

#ifndef WTCACHE_UNMADE_H
#define WTCACHE_UNMADE_H

#include "pagecache/types.h"

static inline uint64_t
unmade_total (struct pagecache *pc)
{
  return atomic_load_explicit (&pc->unmade, memory_order_acquire);
}

/* The blocks that were undone are marked by now to be done again.  Called by
 * states_end and the ledger, nowhere else.
 */
static inline void
unmade_count (struct pagecache *pc)
{
  atomic_fetch_add_explicit (&pc->unmade, 1, memory_order_release);
}

#endif /* WTCACHE_UNMADE_H */
