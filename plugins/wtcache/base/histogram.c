/* SPDX-License-Identifier: BSD-3-Clause */

/* Counts of values by size: bucket I counts the values above bound I - 1 and up
 * to bound I.  With the bounds 100 us, 300 us and 1 ms, a call of 250 us counts
 * in the second of four buckets; the last has all above 1 ms.
 *
 * The total is not stored, but computed as the sum of the buckets.  So the
 * total and the buckets of a snapshot agree even if threads add values while it
 * is taken.
 *
 * All threads write the same words, so use histogram_note for one event per
 * backend call, not for one per hit.
 */

#include <config.h>

#include "base/histogram.h"

#define US UINT64_C (1000)
#define MS UINT64_C (1000000)
#define S  UINT64_C (1000000000)

const struct scale request_scale = {
  .count = 13,
  .bounds = { 1 * US, 3 * US, 10 * US, 30 * US, 100 * US, 300 * US, 1 * MS,
              3 * MS, 10 * MS, 30 * MS, 100 * MS, 1 * S, 10 * S },
};

const struct scale latency_scale = {
  .count = 13,
  .bounds = { 100 * US, 300 * US, 1 * MS, 3 * MS, 10 * MS, 30 * MS, 100 * MS,
              300 * MS, 1 * S, 3 * S, 10 * S, 30 * S, 60 * S },
};

const struct scale number_scale = {
  .count = 8,
  .bounds = { 1, 2, 4, 8, 16, 32, 64, 128 },
};

static unsigned
bucket_for (const struct scale *s, uint64_t value)
{
  unsigned i;

  for (i = 0; i < s->count && value > s->bounds[i]; ++i)
    ;
  return i;
}

void
histogram_note (struct histogram *h, const struct scale *s, uint64_t value)
{
  const unsigned i = bucket_for (s, value);

  atomic_fetch_add_explicit (&h->buckets[i], 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&h->sum, value, memory_order_relaxed);
}

static void
add_own (_Atomic uint64_t *word, uint64_t n)
{
  atomic_store_explicit (word,
                         atomic_load_explicit (word, memory_order_relaxed) + n,
                         memory_order_relaxed);
}

void
histogram_note_own (struct histogram *h, const struct scale *s, uint64_t value,
                    uint64_t weight)
{
  add_own (&h->buckets[bucket_for (s, value)], weight);
  add_own (&h->sum, value * weight);
}

void
histogram_add (struct histogram_view *v, struct histogram *h,
               const struct scale *s)
{
  uint64_t n = 0;
  unsigned i;

  for (i = 0; i <= s->count; ++i) {
    n += atomic_load_explicit (&h->buckets[i], memory_order_relaxed);
    v->up_to[i] += n;
  }
  v->sum += atomic_load_explicit (&h->sum, memory_order_relaxed);
}

struct histogram_view
histogram_view (struct histogram *h, const struct scale *s)
{
  struct histogram_view v = { 0 };

  histogram_add (&v, h, s);
  return v;
}
