/* SPDX-License-Identifier: BSD-3-Clause */

/* The writes of one durable request.  See series.c. */

#ifndef WTCACHE_SERIES_H
#define WTCACHE_SERIES_H

#include "submit/spread.h"
#include "submit/types.h"

#define SERIES_MAX 32

struct series_write {
  /* The caller sets its range and bytes, which stay as they are until
   * series_end.
   */
  struct write w;
  struct open_write open;
  struct series_write *next; /* in one of the lists below */
};

struct series {
  struct submit *s;
  struct backend *b;
  struct completion *request;
  enum way way; /* of all its writes, where the backend can do both */

  struct lock lock; /* RANK_SUBMIT */
  /* Guarded by lock. */
  bool together; /* writes wait for each other */
  struct series_write *unused, *waiting;
  struct series_write writes[SERIES_MAX];
};

/* Whether the durable writes of a request by this connection may be taken back
 * until a flush has covered them.
 */
extern bool series_is_due (const struct backend *b);

extern void series_init (struct series *r, struct submit *s, struct backend *b,
                         struct completion *request);
extern void series_destroy (struct series *r);

/* A write whose blocks the caller has claimed; NULL: it is to be made durable
 * by itself.
 */
extern struct series_write *series_take (struct series *r);
/* The write has ended, with ERR; its blocks are still in writeback.  They end
 * now or with the others; 0 or an errno.
 */
extern int series_put (struct series *r, struct series_write *w, int err);

/* Settles the writes that wait, and from now on each write by itself; 0 or an
 * errno.  A thread of the request calls this before it waits for blocks, ranges
 * or memory.
 */
extern int series_part (struct series *r);

/* No piece of the request is left to be begun: waits for those in progress, or
 * until one hangs, and settles them.  The error is in the request's completion.
 */
extern void series_rest (struct series *r, struct spread *spread);

#endif /* WTCACHE_SERIES_H */
