/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export.  See connections.c. */

#ifndef WTCACHE_CONNECTIONS_H
#define WTCACHE_CONNECTIONS_H

#include "export/types.h"

/* The life of a connection: it moves down this list, and never back.  Each
 * change has one function.
 */
enum connection_state {
  CONNECTION_JOINING, /* connections_join: it has sent no data request */
  CONNECTION_LENDING, /* connections_lend: helpers may call its backend */
  CONNECTION_LEAVING, /* connections_leave: only flushes still reach it */
  CONNECTION_GONE,    /* and after the last of them */
};

struct connection {
  /* The calls of its own client's requests: they go to BELOW, and are noted
   * here.
   */
  struct backend backend;
  struct backend *below;
  struct export *export;

  /* Guarded by the export's connections lock. */
  enum connection_state state;
  struct connection *next;
  unsigned borrowers;  /* loans that are out */
  uint64_t number;     /* see held_connect; UINT64_MAX while it joins */
  uint64_t last_flush; /* the last flush of all connections that took it … */
  uint64_t failed_flush; /* … and that one, if it failed or was late; else 0 */
  struct {               /* for another connection's client */
    struct task task;
    bool runs;
    int error;
  } flush;

  /* It owes a flush: it wrote since its last good flush began.  Release in
   * call_below, after a write, pairs with acquire in connection_flush.
   */
  _Atomic bool owes;

  /* A call by it failed, or was late, where another connection did better: it
   * lends nothing while others can, until a call of its own client succeeds.
   * Relaxed: a stale value costs one more attempt.
   */
  _Atomic bool suspect;
};

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
