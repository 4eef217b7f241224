/* SPDX-License-Identifier: BSD-3-Clause */

/* Ranges in which the backend may have anything.  See doubts.c. */

#ifndef WTCACHE_DOUBTS_H
#define WTCACHE_DOUBTS_H

#include <stdint.h>

#include "base/lock.h"

/* The most ranges that are kept; beyond that the two nearest become one. */
#define DOUBTS_MAX 64

struct doubt {
  uint64_t offset, end; /* bytes */
  uint16_t generation;  /* flushes begun when it arose */
  uint32_t epoch;       /* failures by then */
};

struct doubts {
  struct lock lock; /* RANK_DOUBTS */
  /* Guarded by lock. */
  unsigned count;
  struct doubt doubt[DOUBTS_MAX]; /* in no order; they may overlap */
};

extern void doubts_init (struct doubts *d);
extern void doubts_destroy (struct doubts *d);

/* An operation over a range left it in doubt, after GENERATION flushes had
 * begun and EPOCH flushes and FUA operations had failed.
 */
extern void doubts_add (struct doubts *d, uint64_t offset, uint64_t len,
                        uint16_t generation, uint32_t epoch);
/* Flush number FLUSH succeeded: what arose before it began is durable. */
extern void doubts_settle (struct doubts *d, uint16_t flush);
/* A flush or FUA operation failed that began after EPOCH others had.  Copies
 * out all there are, and returns how many; those that arose before it began
 * end.
 */
extern unsigned doubts_fail (struct doubts *d, uint32_t epoch,
                             struct doubt to[DOUBTS_MAX]);

#endif /* WTCACHE_DOUBTS_H */
