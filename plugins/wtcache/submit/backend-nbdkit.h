/* SPDX-License-Identifier: BSD-3-Clause */

/* The backend below this filter in nbdkit.  See backend.c. */

#ifndef WTCACHE_BACKEND_NBDKIT_H
#define WTCACHE_BACKEND_NBDKIT_H

#include <nbdkit-filter.h>

#include "submit/backend.h"

/* Asks the layer below for its traits: in .prepare, because nbdkit demands
 * that each was asked for before it is relied on.  -1: it told why.
 */
extern int backend_init (struct backend *b, nbdkit_next *next);

/* The minimum block of the layer below: 1 if it takes any request.  A power of
 * two, unlike traits.block also below 512.
 */
extern uint32_t backend_minimum (struct backend *b);

/* Block status from the layer below, into EXTENTS.  0 or an errno. */
extern int backend_extents (struct backend *b, uint32_t len, uint64_t offset,
                            uint32_t flags, struct nbdkit_extents *extents);

#endif /* WTCACHE_BACKEND_NBDKIT_H */
