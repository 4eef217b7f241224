/* SPDX-License-Identifier: BSD-3-Clause */

/* How much of an export the backend may lack.  See dirty.c. */

#ifndef WTCACHE_DIRTY_H
#define WTCACHE_DIRTY_H

#include "export/types.h"

/* Whether the backend lacks some of it, or may yet forget some of it. */
extern bool dirty_is_held (struct export *e);
/* Whether the backend may yet forget some of it. */
extern bool dirty_is_unstable (struct export *e);

/* Whether write-back failed last, and the bytes concerned are still dirty. */
extern bool dirty_is_refused (struct export *e);

/* How long the oldest dirty block has been dirty, in ns; 0: none is. */
extern uint64_t dirty_age (struct export *e);

/* The bytes that this export may hold now. */
extern uint64_t dirty_bound (struct export *e);

/* Reserves LEN bytes that are going to become dirty; false: they may not,
 * because the bound is reached or the export does not hold data back.
 * dirty_release ends the reservation once they are counted as dirty.
 */
extern bool dirty_reserve (struct export *e, uint64_t len);
/* The same for bytes that go to the backend at once, and are unstable then;
 * false: only because the bound is reached.
 */
extern bool dirty_reserve_unstable (struct export *e, uint64_t len);
static inline void
dirty_release (struct export *e, uint64_t len)
{
  atomic_fetch_sub_explicit (&e->pc.reserved, len, memory_order_relaxed);
}

#endif /* WTCACHE_DIRTY_H */
