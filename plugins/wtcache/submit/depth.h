/* SPDX-License-Identifier: BSD-3-Clause */

/* How many batches may be in flight at a backend.  See depth.c. */

#ifndef WTCACHE_DEPTH_H
#define WTCACHE_DEPTH_H

#include <stdbool.h>
#include <stdint.h>

#define DEPTH_MAX     64
#define DEPTH_CLASSES 16

struct depth {
  bool automatic;
  double limit; /* outside of a probe */

  /* The mean latency of a batch alone, for each class, plain and with FUA, ns;
   * 0: not known.
   */
  double alone[2 * DEPTH_CLASSES];
  uint64_t probe_began, probe_ends;
  double limit_probed; /* the limit when it began */
  bool probing;
  bool surprised; /* what was measured alone seems to be true no more */

  unsigned floor; /* so many in flight proved to move more than the limit */
  bool untried;   /* nothing above the limit was tried yet */

  /* A trial: whether more in flight move more. */
  unsigned phase; /* 0: none */
  unsigned low, high;
  bool tries_floor; /* else, something above what is in use */
  bool leaps;       /* the next trial above it is of DEPTH_MAX */
  bool is_quick;    /* a batch alone takes less than QUICK_NS */
  unsigned phase_skips, phase_batches, phase_max;
  uint64_t phase_began, phase_bytes;
  double rate_low; /* of the low phase before, bytes a ns */
  bool doubted;    /* the last trial was lost, and is to be repeated */
  uint64_t trial_began, trial_due, trial_interval;

  /* The window of samples that is being gathered. */
  double ratio_sum;
  unsigned samples, in_flight_sum, in_flight_max;
  unsigned unknown; /* batches of classes that were never seen alone */
};

/* FIXED batches, or found by measuring if that is 0. */
extern void depth_init (struct depth *d, unsigned fixed);

/* How many may be in flight now, at least 1. */
extern unsigned depth_limit (const struct depth *d);
/* Whether the backend gains nothing from more than one at a time. */
extern bool depth_serves_one (const struct depth *d);

/* A batch of BYTES, with FUA or not, began when IN_FLIGHT batches (itself
 * included) were on their way, took LATENCY ns, and ended at NOW.
 */
extern void depth_sample (struct depth *d, uint64_t bytes, bool fua,
                          uint64_t latency, unsigned in_flight, uint64_t now);

#endif /* WTCACHE_DEPTH_H */
