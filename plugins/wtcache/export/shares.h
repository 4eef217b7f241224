/* SPDX-License-Identifier: BSD-3-Clause */

/* The reserves of each export.  See shares.c. */

#ifndef WTCACHE_SHARES_H
#define WTCACHE_SHARES_H

#include "export/types.h"

/* Reserves the share of an export, unless it has one.  A connection of it calls
 * this at its first data request.  False: there is none to be had, which is so
 * for the first time since the export was without a connection; a later
 * connection tries again.
 */
extern bool shares_reserve (struct export *e);

/* The last connection has ended.  The registry lock is held. */
extern void shares_release (struct export *e);

/* Relaxed: a thread that misses the change acts as a moment before. */
static inline enum share_state
shares_state (const struct export *e)
{
  return atomic_load_explicit (&e->share, memory_order_relaxed);
}

/* The mode as it is now: without a share nothing is held back.  When the server
 * stops, all that is acknowledged is durable: no later drain saves it. Relaxed:
 * a request that misses the stop acts as one that came before.
 */
static inline enum mode
shares_mode (const struct export *e)
{
  const enum mode mode = SETTING (mode);

  if (mode < MODE_WRITETHROUGH &&
      atomic_load_explicit (&registry.stopping, memory_order_relaxed))
    return MODE_WRITETHROUGH;
  return mode == MODE_WRITEBACK && shares_state (e) == SHARE_REFUSED
             ? MODE_PROMPT
             : mode;
}

/* Whether helpers may serve the export: the stack is parallel, and the export
 * was not refused a share.
 */
static inline bool
shares_allow_helpers (const struct export *e)
{
  return registry.parallel && shares_state (e) != SHARE_REFUSED;
}

#endif /* WTCACHE_SHARES_H */
