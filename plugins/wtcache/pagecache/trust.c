/* SPDX-License-Identifier: BSD-3-Clause */

/* Which pages that come back enter the main queue at once.
 *
 * How long ago a page left says how likely it is to be used in the main queue,
 * and that differs from load to load.  So of each class of ghost hits it is
 * counted how many of their pages were used there by the time the CLOCK came
 * by. A class that does much worse than the other pages there is no longer
 * trusted, except for a few pages that show whether that has changed.  For
 * example, if half of the other pages are used, a class is trusted while a
 * tenth of its own are.
 *
 * May not know pages, queues or locks: the caller has its eviction lock.
 */

#include "pagecache/trust.h"

#define CERTAIN (1 << 16) /* a probability of 1 */
#define NUM     1         /* a class is trusted if its pages are used */
#define DEN     5         /* 1/5 as often as others */
#define TRIAL   16        /* of pages not to be trusted, one in 16 is */

void
trust_init (struct trust *t)
{
  unsigned i;

  t->used_of_others = CERTAIN / 2;
  for (i = 0; i < TRUST_CLASSES; ++i)
    t->used_of_class[i] = CERTAIN;
  t->distrusted = 0;
}

unsigned
trust_class (const struct ghost *g, uint32_t slot, size_t expires)
{
  if (ghost_from_main (slot))
    return TRUST_CLASSES;
  return 1 + (unsigned) (ghost_age (g, slot) * TRUST_AGES / (expires + 1));
}

bool
trust_given (struct trust *t, unsigned class)
{
  return (int64_t) t->used_of_class[class - 1] * DEN >=
             (int64_t) t->used_of_others * NUM ||
         ++t->distrusted % TRIAL == 0;
}

void
trust_learn (struct trust *t, unsigned class, bool used, unsigned gain)
{
  int *estimate = class > 0 ? &t->used_of_class[class - 1] : &t->used_of_others;

  *estimate += ((used ? CERTAIN : 0) - *estimate) / (int) gain;
}
