/* SPDX-License-Identifier: BSD-3-Clause */

/* The interfaces for people and monitors: the control socket, the metrics,
 * requests that are recorded as they come (watch/trace.h), and the file that
 * names lost data (watch/lost.h).
 */

#ifndef WTCACHE_WATCH_H
#define WTCACHE_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "watch/lost.h"
#include "watch/trace.h"

/* Binds the control socket: before the server has other threads.  LOG logs what
 * a command discards for good.  0; or -1, and why in WHY, one line.
 */
extern int watch_bind (const char *path, void (*log) (const char *text),
                       char *why, size_t size);
/* Begins to listen.  0 or an errno. */
extern int watch_start (void);
/* Ends all conversations. */
extern void watch_stop (void);
/* Removes the socket. */
extern void watch_unbind (void);

/* The label "server" of the metrics; NAME stays allocated. */
extern void watch_name (const char *name);

/* From now on the metrics say that the server has ended, and that LOST bytes
 * that were acknowledged are lost.
 */
extern void watch_end (uint64_t lost);

/* All metrics of all exports as text for Prometheus, which the caller frees.
 * 0 or ENOMEM.
 */
extern int watch_text (char **text, size_t *len);

#endif /* WTCACHE_WATCH_H */
