/* SPDX-License-Identifier: BSD-3-Clause */

/* Counts of values by size: bucket I counts the values above bound I - 1 and up
 * to bound I.  With the bounds 100 us, 300 us and 1 ms, a call of 250 us counts
 * in the second of four buckets; the last has all above 1 ms.
 *
 * The total is not stored, but computed as the sum of the buckets.  So the
 * total and the buckets of a snapshot agree even if threads add values while it
 * is taken.
 *
 * All threads write the same words, so use this for one event per backend call,
 * not for one per hit.
 */

#include <config.h>

#include "base/histogram.h"

#define US UINT64_C (1000)
#define MS UINT64_C (1000000)
#define S  UINT64_C (1000000000)

const struct scale latency_scale = {
  .count = 13,
  .bounds = { 100 * US, 300 * US, 1 * MS, 3 * MS, 10 * MS, 30 * MS, 100 * MS,
              300 * MS, 1 * S, 3 * S, 10 * S, 30 * S, 60 * S },
};

const struct scale number_scale = {
  .count = 8,
  .bounds = { 1, 2, 4, 8, 16, 32, 64, 128 },
};

void
histogram_note (struct histogram *h, const struct scale *s, uint64_t value)
{
  unsigned i;

  for (i = 0; i < s->count && value > s->bounds[i]; ++i)
    ;
  atomic_fetch_add_explicit (&h->buckets[i], 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&h->sum, value, memory_order_relaxed);
}

struct histogram_view
histogram_view (struct histogram *h, const struct scale *s)
{
  struct histogram_view v = { 0 };
  uint64_t n = 0;
  unsigned i;

  for (i = 0; i <= s->count; ++i) {
    n += atomic_load_explicit (&h->buckets[i], memory_order_relaxed);
    v.up_to[i] = n;
  }
  v.sum = atomic_load_explicit (&h->sum, memory_order_relaxed);
  return v;
}
