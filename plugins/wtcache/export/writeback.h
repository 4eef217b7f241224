/* SPDX-License-Identifier: BSD-3-Clause */

/* When dirty blocks go to the backend.  See writeback.c. */

#ifndef WTCACHE_WRITEBACK_H
#define WTCACHE_WRITEBACK_H

#include "export/types.h"

/* A client's flush: when it returns 0, everything that was acknowledged before
 * the call is durable.
 */
extern int writeback_flush (struct export *e, struct backend *own);

/* Begins write-back in the background if any is due; over a serial stack does
 * it now, with the caller's own backend.
 */
extern void writeback_poke (struct export *e, struct backend *own);
/* Called by the clock: age, retries.  For export_for_each. */
extern void writeback_tick (struct export *e, void *opaque);

/* Writes and flushes everything, and tries again until that succeeds or
 * wtcache-drain is over.  0 or the last error.  Where helpers may call the
 * backend, one of them does, because the connection that OWN belongs to has no
 * client any more.
 */
extern int writeback_drain (struct export *e, struct backend *own);

/* Begins to drain in the background.  For export_for_each. */
extern void writeback_begin_drain (struct export *e, void *opaque);

#endif /* WTCACHE_WRITEBACK_H */
