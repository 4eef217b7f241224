/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of the division: a connection's client. */

#ifndef WTCACHE_REQUEST_TYPES_H
#define WTCACHE_REQUEST_TYPES_H

#include "export.h"

struct readahead;

/* One connection. */
struct client {
  struct export *export;
  struct backend *own;
  struct readahead *ahead; /* NULL: none */
  /* The next request needs nothing beside itself: its backend is lent already,
   * and it is not to be timed.  Relaxed: a request more or less is timed.
   */
  _Atomic bool plain;
};

static inline void
request_time_next (struct client *c)
{
  atomic_store_explicit (&c->plain, false, memory_order_relaxed);
}

#endif /* WTCACHE_REQUEST_TYPES_H */
