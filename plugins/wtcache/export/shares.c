/* SPDX-License-Identifier: BSD-3-Clause */

/* The reserves of each export, so that none waits for another.
 *
 * A backend that hangs keeps what its requests have: buffers and
 * threads, for as long as it hangs.  So an export that is in use has of
 * everything as much as it needs to go on alone, slowly:
 *
 *     for itself              a buffer for write-back, a buffer for requests,
 *                             two helpers
 *     shared, see share.h     all other buffers and helpers
 *
 * For example, with wtcache-size=256M and 40 exports, 39 of which hang in
 * writes, the shared buffers and helpers are all taken.  The last export still
 * writes back, in batches of 64 KiB.
 *
 * A share is reserved at the first data request and counted in the budget.  An
 * export that is refused one is served as over a serial stack: by the threads
 * of its clients alone, and its ordinary writes go through at once.
 */

#include <config.h>

#include "base/workers.h"
#include "export/shares.h"

static_assert (MAX_CACHES < MAX_CREWS, "an export's number is its crew's");

static void
set_state (struct export *e, enum share_state state)
{
  atomic_store_explicit (&e->share, state, memory_order_relaxed);
}

static bool
reserve_buffers (struct export *e)
{
  const uint64_t cost = borrower_cost (e->memory, block_size (&e->pc));

  if (!pools_make_room (&registry.pools, cost))
    return false;
  if (borrower_reserve (e->memory, &e->pc.borrower, block_size (&e->pc)) == 0)
    return true;
  memory_give (e->memory, cost);
  return false;
}

static bool
reserve_threads (struct export *e)
{
  if (!pools_make_room (&registry.pools, workers_cost ()))
    return false;
  if (workers_reserve (e->number))
    return true;
  memory_give (e->memory, workers_cost ());
  return false;
}

static void
release_threads (struct export *e)
{
  workers_release (e->number);
  memory_give (e->memory, workers_cost ());
}

/* All of it, or nothing. */
static bool
reserve (struct export *e)
{
  if (!reserve_threads (e))
    return false;
  if (reserve_buffers (e))
    return true;
  release_threads (e);
  return false;
}

bool
shares_reserve (struct export *e)
{
  LOCK_FOR_SCOPE (&registry.lock);
  const enum share_state before = shares_state (e);

  if (!registry.parallel || before == SHARE_RESERVED)
    return true;
  if (reserve (e)) {
    set_state (e, SHARE_RESERVED);
    return true;
  }
  set_state (e, SHARE_REFUSED);
  return before == SHARE_REFUSED;
}

void
shares_release (struct export *e)
{
  assert_held (&registry.lock);
  if (shares_state (e) == SHARE_RESERVED) {
    borrower_release (e->memory, &e->pc.borrower);
    release_threads (e);
  }
  set_state (e, SHARE_NONE);
}
