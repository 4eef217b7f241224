/* SPDX-License-Identifier: BSD-3-Clause */

/* One connection, from its .open to its .close.  See connection.c. */

#ifndef WTCACHE_CONNECTION_H
#define WTCACHE_CONNECTION_H

#include <nbdkit-filter.h>

#include "export.h"
#include "request.h"

struct handle {
  char *name;
  bool tls;
  bool joined;
  bool shared;
  /* Helpers may borrow the backend.  Relaxed: the first data requests set it,
   * each after connections_lend, which takes the lock.
   */
  _Atomic bool lent;
  struct backend backend; /* the layer below */
  struct connection connection;
  struct client client;
};

/* NULL: ENOMEM. */
extern struct handle *connection_new (const char *name, bool tls);
/* Joins the cache of its export.  0; or -1, after logging why not. */
extern int connection_join (struct handle *h, nbdkit_next *next);
/* From now on helpers may borrow its backend. */
extern void connection_lend (struct handle *h);
/* Leaves the cache, if it has joined one. */
extern void connection_leave (struct handle *h);
extern void connection_free (struct handle *h);

#endif /* WTCACHE_CONNECTION_H */
