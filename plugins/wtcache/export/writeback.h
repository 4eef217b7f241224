/* SPDX-License-Identifier: BSD-3-Clause */

/* When dirty blocks go to the backend.  See writeback.c. */

#ifndef WTCACHE_WRITEBACK_H
#define WTCACHE_WRITEBACK_H

#include "export.h"

/* A client's flush: all that was replied to before it is durable when it
 * returns 0.
 */
extern int writeback_flush (struct export *e, struct backend *own);

/* Whether LEN bytes may become dirty now.  If so they are reserved until
 * writeback_admitted.
 */
extern bool writeback_admit (struct export *e, uint64_t len);
extern void writeback_admitted (struct export *e, uint64_t len);

/* Begins work in the background if there is any to do; over a serial stack
 * does it now, with the caller's own backend.
 */
extern void writeback_poke (struct export *e, struct backend *own);
/* From time to time: age, retries.  For exports_for_each. */
extern void writeback_tick (struct export *e, void *opaque);

/* Writes and flushes everything, and tries again until that succeeds or
 * settings.drain is over.  0 or the last error.  Where threads of ours may
 * call the backend one of them does, because the connection that OWN belongs
 * to has no client any more.
 */
extern int writeback_drain (struct export *e, struct backend *own);

/* Begins to drain in the background.  For exports_for_each. */
extern void writeback_begin_drain (struct export *e, void *opaque);

/* Whether the backend refused write-back, and what it refused is still there.
 */
extern bool writeback_is_refused (struct export *e);

/* The bytes that may be held, now. */
extern uint64_t writeback_bound (struct export *e);

#endif /* WTCACHE_WRITEBACK_H */
