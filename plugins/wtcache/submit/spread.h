/* SPDX-License-Identifier: BSD-3-Clause */

/* The parts of one operation, side by side.  See spread.c. */

#ifndef WTCACHE_SPREAD_H
#define WTCACHE_SPREAD_H

#include "base/workers.h"
#include "submit/completion.h"

/* The most threads that join the caller's own. */
#define SPREAD_HELPERS 31

struct spread {
  /* The caller sets these.  RUN does the part OFFSET … OFFSET + LEN - 1, and
   * returns 0 or an errno.
   */
  int (*run) (struct spread *s, uint64_t offset, uint64_t len);
  uint64_t part;   /* bytes: parts end at multiples of this, … */
  uint64_t origin; /* … counted from here, … */
  uint64_t cut[2]; /* … and at these offsets */
  /* The most threads that may join, at most SPREAD_HELPERS. */
  unsigned max_helpers;
  unsigned crew; /* theirs, see base/workers.h */
  /* Called by the first thread that finds no part left, while others may be in
   * progress; or NULL.
   */
  void (*rest) (struct spread *s);

  struct completion completion;
  /* Guarded by the completion's lock. */
  uint64_t next, end;   /* what no thread has taken, bytes */
  unsigned in_progress; /* parts */
  bool rests;           /* a thread has called REST */
  unsigned nr_helpers;
  struct spread_helper {
    struct task task;
    struct spread *spread;
  } helpers[SPREAD_HELPERS];
};

/* Does the parts of OFFSET … OFFSET + LEN - 1.  After an error none is begun,
 * and those in progress are waited for; returns the first error, or 0.
 */
extern int spread_run (struct spread *s, uint64_t offset, uint64_t len);

/* For RUN, before it calls the backend: if a part is left and a thread is free,
 * that thread begins the next part meanwhile.
 */
extern void spread_invite (struct spread *s);

/* For REST: waits until no part is in progress, or until DEADLINE (ns). */
extern void spread_wait (struct spread *s, uint64_t deadline);

#endif /* WTCACHE_SPREAD_H */
