/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls by connections, and loans of them to helpers.  See loans.c. */

#ifndef WTCACHE_LOANS_H
#define WTCACHE_LOANS_H

#include "export/types.h"

/* A connection that a thread may call for one act; on its stack.  A call that
 * fails by it is tried once by another.
 */
struct loan {
  struct backend backend; /* to call, by several threads as well */
  struct connection *connection;
  enum need need;
  bool borrowed; /* it is not the caller's own */
};

/* A backend to call, until loans_return; NULL if no connection lends one
 * that can do what is needed.  To write, preferably one whose writes can be
 * made durable.
 */
extern struct backend *loans_borrow (struct loan *l, struct export *e,
                                     enum need need);
/* The caller's OWN backend; or, if that cannot do what is needed or is NULL,
 * one that is borrowed: a connection that leaves waits for no more than that.
 * NULL: there is none.
 */
extern struct backend *loans_take (struct loan *l, struct export *e,
                                   struct backend *own, enum need need);
/* Also where there was none. */
extern void loans_return (struct loan *l);

/* For connections.c. */

/* Lets B call by connection C: block status takes `next` from it. */
extern void loans_set_backend (struct backend *b, struct connection *c);
/* Whether a connection can do what is needed. */
extern bool loans_fit (const struct connection *c, enum need need);
extern bool loans_is_suspect (const struct connection *c);
extern void loans_suspect (struct connection *c);
extern void loans_trust (struct connection *c);
/* One borrower less. */
extern void loans_give_back (struct connection *c);

#endif /* WTCACHE_LOANS_H */
