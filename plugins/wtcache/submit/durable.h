/* SPDX-License-Identifier: BSD-3-Clause */

/* Makes operations durable.  See durable.c. */

#ifndef WTCACHE_DURABLE_H
#define WTCACHE_DURABLE_H

#include "submit/types.h"

/* An operation on the backend that may have to be repeated. */
struct operation {
  int (*call) (struct submit *s, struct backend *b, const struct operation *op,
               bool fua);
  /* The call has succeeded and begins to wait for a flush; under the lock; or
   * NULL.
   */
  void (*before_flush) (struct submit *s, const struct operation *op);
  /* The caller's, between durable_begin_fua and durable_end_fua, or NULL. */
  struct fua_op *fua;
  uint64_t offset, len;
  const uint8_t *bytes;
  unsigned flags;
  bool durable;
  bool uncached;   /* durable, and nothing of it stays to be written again */
  bool unpromised; /* no client is promised what it leaves: a trim */
  enum way way;    /* if it is durable and B can do both */
};

/* One operation with all that its durability asks for.  *EPOCH is the epoch
 * when it began, *STABLE whether nothing can take it back.
 */
extern int durable_perform (struct submit *s, struct backend *b,
                            const struct operation *op, uint32_t *epoch,
                            bool *stable);

/* How often failures of others have undone an operation.  Zeroed at first. */
struct repeats {
  unsigned undone;
  bool alone;
};

/* One that is undone again and again runs alone: until it has ended, no other
 * durable operation begins, so those in progress are the last that can undo it.
 * Operations no longer wait for one that takes as long as a call that hangs.
 */

/* An operation was undone; false: it has failed.  One that has no BLOCKS may
 * have to wait for its turn to run alone.
 */
extern bool durable_again (struct submit *s, struct repeats *r, bool blocks);
/* It has ended. */
extern void durable_end_repeats (struct submit *s, struct repeats *r);
/* Waits until no operation of another thread runs alone.  A durable operation
 * calls it before it has any block or range.
 */
extern void durable_enter (struct submit *s);

/* For operation.call: a write in calls of at most the backend's maximum. */
extern int durable_write (struct submit *s, struct backend *b,
                          const struct operation *op, bool fua);

/* A flush that begins after this call, shared with all that wait.  EAGAIN:
 * it succeeded, but a FUA operation beside it failed, so it does not count.
 * 0 beside a FUA operation that hangs: what it covered may stay unstable.
 */
extern int durable_flush (struct submit *s, struct backend *b);

/* An operation makes calls with the FUA flag; under the lock.  NOW: ns. */
extern void durable_begin_fua (struct submit *s, struct fua_op *op,
                               uint64_t now);
extern void durable_end_fua (struct submit *s, struct fua_op *op);

#endif /* WTCACHE_DURABLE_H */
