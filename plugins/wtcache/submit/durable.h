/* SPDX-License-Identifier: BSD-3-Clause */

/* What makes an operation durable.  See durable.c; submit.h has the flush. */

#ifndef WTCACHE_DURABLE_H
#define WTCACHE_DURABLE_H

#include "submit.h"

/* An operation on the backend that may have to be repeated. */
struct operation {
  int (*call) (struct submit *s, struct backend *b, const struct operation *op,
               bool fua);
  /* The call has ended, not yet the flush that may follow; under the lock; or
   * NULL.
   */
  void (*ended) (struct submit *s, const struct operation *op);
  uint64_t offset, len;
  const uint8_t *bytes;
  unsigned flags;
  bool durable;
  bool uncached; /* durable, and nothing of it stays to be written again */
  enum way way;  /* if it is durable and B can do both */
};

/* Whether its durability asks for a flush after the call. */
extern bool ends_with_flush (const struct backend *b,
                             const struct operation *op);

/* One operation with all that its durability asks for.  *EPOCH is the epoch
 * when it began, *STABLE whether nothing can take it back.
 */
extern int perform (struct submit *s, struct backend *b,
                    const struct operation *op, uint32_t *epoch, bool *stable);

/* For operation.call: a write in calls of at most the backend's maximum. */
extern int call_write (struct submit *s, struct backend *b,
                       const struct operation *op, bool fua);

#endif /* WTCACHE_DURABLE_H */
