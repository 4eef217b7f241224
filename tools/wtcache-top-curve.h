/* SPDX-License-Identifier: BSD-3-Clause */

/* Miss-ratio curves as a picture.  See wtcache-top-curve.c. */

#ifndef WTCACHE_TOP_CURVE_H
#define WTCACHE_TOP_CURVE_H

#include <stddef.h>

#include "wtcache-top-model.h"

/* A curve and what it is called in the picture. */
struct named_curve {
  const char *name;
  struct curve curve;
};

/* Draws the curves, of which there is at least one, each with at least one
 * point, to a file that is replaced at once if it is an earlier picture.  0; or
 * -1 and why not in WHY, one line.
 */
extern int curve_draw (const char *path, const struct named_curve *curves,
                       size_t nr_curves, char *why, size_t size);

#endif /* WTCACHE_TOP_CURVE_H */
