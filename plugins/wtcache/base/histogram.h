/* SPDX-License-Identifier: BSD-3-Clause */

/* Counts of values by size, such as latencies.  See histogram.c. */

#ifndef WTCACHE_HISTOGRAM_H
#define WTCACHE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 13 /* at most */

/* Upper bounds, each of which belongs to its bucket, rising. */
struct scale {
  unsigned count;
  uint64_t bounds[HISTOGRAM_BOUNDS];
};

extern const struct scale request_scale; /* ns, 1 us to 10 s */
extern const struct scale latency_scale; /* ns, 100 us to 60 s */
extern const struct scale number_scale;  /* 1 to 128 */

/* Zeroed memory is an empty one.  Relaxed: a reader may miss the latest value.
 */
struct histogram {
  _Atomic uint64_t buckets[HISTOGRAM_BOUNDS + 1]; /* the last: above all */
  _Atomic uint64_t sum;
};

extern void histogram_note (struct histogram *h, const struct scale *s,
                            uint64_t value);

/* Adds a value that stands for WEIGHT of its kind to a histogram that only the
 * calling thread writes.
 */
extern void histogram_note_own (struct histogram *h, const struct scale *s,
                                uint64_t value, uint64_t weight);

/* A snapshot of a histogram, or of several. */
struct histogram_view {
  uint64_t up_to[HISTOGRAM_BOUNDS + 1]; /* values up to each bound; all */
  uint64_t sum;
};

extern struct histogram_view histogram_view (struct histogram *h,
                                             const struct scale *s);
/* Adds another one to it. */
extern void histogram_add (struct histogram_view *v, struct histogram *h,
                           const struct scale *s);

/* How many values there were. */
static inline uint64_t
histogram_count (const struct histogram_view *v, const struct scale *s)
{
  return v->up_to[s->count];
}

#endif /* WTCACHE_HISTOGRAM_H */
