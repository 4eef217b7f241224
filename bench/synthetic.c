/* SPDX-License-Identifier: BSD-3-Clause */

/* Made loads on which an eviction policy can go wrong: one that gives new pages
 * a small part of the cache has to find out that pages come back late, one that
 * keeps what was used often that it is used no more.
 *
 *   again        each page once more, 20,000 to 28,000 new pages later
 *   again-twice  once more after 10,000 new pages, and after 10,000 more
 *   again-hot    as again after 20,000, beside pages that are used all the time
 *   left         a skewed set that is left after a third, then again after
 * 6,000 bursts       runs of 40 pages used three times; a part comes back much
 * later phases       in turn a loop, again, and a skewed set, 80,000 accesses
 * each
 */

#include "synthetic.h"

#include <string.h>

#define PHASE 80000

struct load {
  uint64_t state;
  uint64_t next; /* the next page that is new */
  size_t done, count;
  void (*put) (void *, uint64_t);
  void *opaque;
};

/* Below N; xorshift (Marsaglia, 2003). */
static uint64_t
any (struct load *l, uint64_t n)
{
  l->state ^= l->state << 13;
  l->state ^= l->state >> 7;
  l->state ^= l->state << 17;
  return (l->state >> 32) * n >> 32;
}

static bool
goes_on (const struct load *l)
{
  return l->done < l->count;
}

static void
use (struct load *l, uint64_t page)
{
  if (goes_on (l)) {
    l->put (l->opaque, page);
    l->done++;
  }
}

/* One of N pages from FIRST on: half of the uses go to 1/16 of them. */
static void
use_skewed (struct load *l, uint64_t first, uint64_t n)
{
  const uint64_t one = UINT64_C (1) << 20, u = any (l, one);

  use (l, first + (u * u / one * u / one * u / one * n >> 20));
}

/* A new page, and the one that was new so long ago. */
static void
use_again (struct load *l, uint64_t distance)
{
  use (l, l->next);
  if (l->next % (UINT64_C (1) << 32) >= distance)
    use (l, l->next - distance);
  l->next++;
}

static void
again (struct load *l)
{
  while (goes_on (l))
    use_again (l, 20000 + any (l, 8000));
}

static void
again_twice (struct load *l)
{
  while (goes_on (l)) {
    if (l->next >= 20000)
      use (l, l->next - 20000);
    use_again (l, 10000);
  }
}

static void
again_hot (struct load *l)
{
  const uint64_t hot = UINT64_C (1) << 40;

  while (goes_on (l)) {
    use_again (l, 20000);
    use_skewed (l, hot, 30000);
  }
}

static void
left (struct load *l)
{
  const uint64_t hot = UINT64_C (1) << 40;

  while (l->done < l->count / 3)
    use_skewed (l, hot, 100000);
  while (goes_on (l))
    use_again (l, 6000);
}

static void
bursts (struct load *l)
{
  unsigned i;

  while (goes_on (l)) {
    for (i = 0; i < 120; ++i)
      if (any (l, 5) < 3)
        use (l, l->next + i % 40);
    l->next += 40;
    for (i = 0; i < 20 && l->next > 14000; ++i)
      use (l, l->next - 9000 - any (l, 5000));
  }
}

static void
phases (struct load *l)
{
  size_t ends = 0, i;

  while (goes_on (l)) {
    for (i = 0, ends += PHASE; l->done < ends && goes_on (l); ++i)
      use (l, (UINT64_C (1) << 40) + i % 40000);
    /* All of it is new, so that nothing is known of it. */
    l->next = ((l->next >> 32) + 1) << 32;
    for (ends += PHASE; l->done < ends && goes_on (l);)
      use_again (l, 6000);
    for (ends += PHASE; l->done < ends && goes_on (l);)
      use_skewed (l, UINT64_C (1) << 41, 200000);
  }
}

static const struct {
  const char *name;
  void (*run) (struct load *l);
  unsigned changes; /* ~0u: one a phase */
} loads[] = {
  { "again", again, 0 },         { "again-twice", again_twice, 0 },
  { "again-hot", again_hot, 0 }, { "left", left, 1 },
  { "bursts", bursts, 0 },       { "phases", phases, ~0u },
};

int
synthetic_load (const char *name, size_t count, void (*put) (void *, uint64_t),
                void *opaque)
{
  struct load l = {
    .state = 88172645463325252u, .count = count, .put = put, .opaque = opaque
  };

  for (size_t i = 0; i < sizeof loads / sizeof loads[0]; ++i)
    if (strcmp (loads[i].name, name) == 0) {
      loads[i].run (&l);
      return (int) (loads[i].changes == ~0u ? count / PHASE : loads[i].changes);
    }
  return -1;
}
