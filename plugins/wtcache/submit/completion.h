/* SPDX-License-Identifier: BSD-3-Clause */

/* The parts of a request in progress.  See completion.c. */

#ifndef WTCACHE_COMPLETION_H
#define WTCACHE_COMPLETION_H

#include "base/lock.h"

/* The parts of one request that are under way, and its first error. */
struct completion {
  struct lock lock; /* RANK_SUBMIT */
  struct condition ended;
  unsigned outstanding; /* guarded by lock */

  /* The first error wins: compare-and-swap from 0.  Relaxed: it is read for
   * good after `outstanding` has fallen to 0 under the lock.
   */
  _Atomic int error;
};

extern void completion_init (struct completion *c);
extern void completion_destroy (struct completion *c);
extern void completion_fail (struct completion *c, int error);
extern int completion_error (struct completion *c);
extern void completion_begin (struct completion *c);
extern void completion_end (struct completion *c, int error);
/* Waits until all that was begun has ended; the first error. */
extern int completion_wait (struct completion *c);

#endif /* WTCACHE_COMPLETION_H */
