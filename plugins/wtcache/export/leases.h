/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export, and loans of them to helpers.  See leases.c. */

#ifndef WTCACHE_LEASES_H
#define WTCACHE_LEASES_H

#include "export/types.h"

extern void leases_init (struct export *e, bool multi_conn);
extern void leases_destroy (struct export *e);

/* One more connection, the first since the export was without one or not, that
 * says MULTI_CONN or not.  The registry lock is held.
 */
extern void leases_agree (struct export *e, bool first, bool multi_conn);

/* The backend of a connection may be called by helpers from its first data
 * request on, until it is withdrawn.  That stops the lending, waits for all
 * borrowers, flushes the backend if no later flush would cover its writes, and
 * only then lets flushes pass it over.
 */
extern void leases_attach (struct export *e, struct backend *b);
extern void leases_lend (struct export *e, struct backend *b);
extern void leases_withdraw (struct export *e, struct backend *b);

/* A backend to call; NULL if no connection lends one that can do what is
 * needed.  To write, preferably one whose writes can be made durable.
 */
extern struct backend *leases_borrow (struct export *e, enum need need);
extern void leases_return (struct export *e, struct backend *b);

/* The caller's OWN backend; or, if that cannot do what is needed or is NULL,
 * one that is borrowed for one act: a connection that ends waits for no more
 * than that.  NULL: there is none.
 */
extern struct backend *leases_take (struct export *e, struct backend *own,
                                    enum need need);
extern void leases_put (struct export *e, struct backend *own,
                        struct backend *b);

/* For submit.flush: one flush that covers the writes of all connections. */
extern int leases_flush (void *e, struct backend *own);

#endif /* WTCACHE_LEASES_H */
