/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export.  See connections.c. */

#ifndef WTCACHE_CONNECTIONS_H
#define WTCACHE_CONNECTIONS_H

#include "export/types.h"

extern void connections_init (struct export *e, bool multi_conn);
extern void connections_destroy (struct export *e);

/* One more connection, the first since the export was without one or not, that
 * says MULTI_CONN or not.  The registry lock is held.
 */
extern void connections_agree (struct export *e, bool first, bool multi_conn);

/* C becomes a connection of E, by the layer BELOW, which outlives it. */
extern void connections_join (struct connection *c, struct export *e,
                              struct backend *below);
/* Helpers may call its backend: from its first data request on. */
extern void connections_lend (struct connection *c);
/* It lends no more, every borrower returns it, it flushes what it owes, and
 * then flushes pass it over.
 */
extern void connections_leave (struct connection *c);

/* For submit.flush: one flush that covers the writes of all connections. */
extern int connections_flush (void *e, struct backend *own);

#endif /* WTCACHE_CONNECTIONS_H */
