/* SPDX-License-Identifier: BSD-3-Clause */

/* Estimates the miss ratio with another size.  See curve.c. */

#ifndef WTCACHE_CURVE_H
#define WTCACHE_CURVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagecache/rings.h"

/* Size I is 2^I quarters of the size that the cache has. */
#define CURVE_SIZES 6

struct curve;
struct evict;

/* For a cache of PAGES pages, until curve_resize sets another size.  NULL:
 * ENOMEM.
 */
extern struct curve *curve_new (size_t pages);
/* From now on it also measures which mode of eviction (evict.h) misses less,
 * and sets it.  EV must stay as long as the curve.
 */
extern void curve_guide (struct curve *c, struct evict *ev);
/* No worker runs its task any more. */
extern void curve_free (struct curve *c);

/* Whether a worker runs its task, or will. */
extern bool curve_runs (const struct curve *c);

/* The number of pages that are cached has changed.  If it grows, the sample
 * becomes smaller; it does not become larger again.
 */
extern void curve_resize (struct curve *c, size_t pages);

/* Bytes of memory that it has allocated. */
extern size_t curve_memory (const struct curve *c);

/* Whether a page is in the sample: only then need its uses be reported. */
extern bool curve_samples (const struct curve *c, uint64_t key);

/* A client used a page of the sample.  Takes no lock that it would have to wait
 * for, so it may be called under any, and writes what is the thread's own, but
 * once in many uses, when it hands them over.
 */
extern void curve_note (struct curve *c, uint64_t key, enum curve_use use);

struct curve_counts {
  uint64_t sampled_reads; /* pages of the sample that were read */
  uint64_t dropped;       /* uses that found a ring full */

  /* Reads that would have missed, of all pages: the sample's scaled up. */
  double misses[CURVE_SIZES];
};

/* The counts since the beginning. */
extern void curve_get (struct curve *c, struct curve_counts *counts);

/* So many pages were read through an export that is gone. */
extern void curve_add_reads (struct curve *c, uint64_t pages);

/* The latest hour or two, or less if there was not that much yet. */
struct curve_estimate {
  uint64_t reads;                 /* of pages */
  double miss_ratio[CURVE_SIZES]; /* 0 without a read */
};

/* READS: pages read since the beginning through the exports there are; in the
 * sample or not.  NOW: ns.
 */
extern void curve_estimate (struct curve *c, uint64_t reads, uint64_t now,
                            struct curve_estimate *estimate);

#endif /* WTCACHE_CURVE_H */
