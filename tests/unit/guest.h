/* SPDX-License-Identifier: BSD-3-Clause */

/* More connections to the array of a stack, each with a client.  For example,
 * a test lets two join, one of them die, and asks the other for a flush.
 */

#ifndef GUEST_H
#define GUEST_H

#include "stack.h"

struct guest {
  struct backend backend; /* of the array */
  struct connection connection;
  struct client client;
};

/* A connection of E: its backend is there, the export open for it. */
extern void guest_come (struct guest *g, struct export *e);

/* Opens the export of the stack with these traits.  0 or an errno. */
extern int guest_open (struct guest *g, struct stack *s,
                       const struct backend_traits *traits, bool share,
                       struct open_result *result);
/* The same; it is expected to join the cache of the stack. */
extern void guest_join (struct guest *g, struct stack *s,
                        const struct backend_traits *traits);
/* Leaves without a drain. */
extern void guest_leave (struct guest *g);

/* The remote that a backend is connected to is gone: each call fails. */
extern void guest_die (struct backend *b);

/* Bytes of one value.  0 or an errno. */
extern int guest_put (struct client *c, uint64_t offset, uint32_t len,
                      int value, bool durable);
/* The value of the first byte. */
extern int guest_get (struct client *c, uint64_t offset);

#endif /* GUEST_H */
