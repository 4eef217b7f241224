/* SPDX-License-Identifier: BSD-3-Clause */

/* Which pages that come back enter the main queue at once.  See trust.c. */

#ifndef WTCACHE_TRUST_H
#define WTCACHE_TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagecache/ghost.h"

/* Ghost hits are classed by how long ago the page left the small queue; those
 * of pages that left the main queue are one class more.
 */
#define TRUST_AGES    8
#define TRUST_CLASSES (TRUST_AGES + 1)

#define TRUST_GAIN     256 /* a page changes an estimate by 1/256 */
#define TRUST_GAIN_MIN 64  /* in a sample, by at most 1/64 */

struct trust {
  /* How likely a page of the main queue is to be used while the CLOCK goes
   * round: of those that the ghost admitted, by class, and of all others.
   */
  int used_of_class[TRUST_CLASSES], used_of_others;
  unsigned distrusted; /* ghost hits of classes that are not trusted */
};

extern void trust_init (struct trust *t);

/* The class of a ghost hit, from 1 on.  EXPIRES: after so many evictions the
 * ghost forgets a page that left the small queue.
 */
extern unsigned trust_class (const struct ghost *g, uint32_t slot,
                             size_t expires);

/* Whether a page of this class enters the main queue at once.  It also does if
 * the class is not trusted, as one of a few that show whether that has changed.
 */
extern bool trust_given (struct trust *t, unsigned class);

/* A page that was admitted for its class, or 0 for another, has been in the
 * main queue for a round of the CLOCK, and was USED or not.  It changes the
 * estimate by 1 / GAIN.
 */
extern void trust_learn (struct trust *t, unsigned class, bool used,
                         unsigned gain);

#endif /* WTCACHE_TRUST_H */
