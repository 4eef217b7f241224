/* SPDX-License-Identifier: BSD-3-Clause */

/* The backend below this filter in nbdkit.  See backend.c. */

#ifndef WTCACHE_BACKEND_NBDKIT_H
#define WTCACHE_BACKEND_NBDKIT_H

#include <nbdkit-filter.h>

#include "backend.h"

/* Asks the layer below for its traits: in .prepare, because nbdkit demands
 * that each was asked for before it is relied on.  -1: it told why.
 */
extern int backend_init (struct backend *b, nbdkit_next *next);

/* Block status from the layer below, into EXTENTS.  0 or an errno. */
extern int backend_extents (struct backend *b, uint32_t len, uint64_t offset,
                            uint32_t flags, struct nbdkit_extents *extents);

#endif /* WTCACHE_BACKEND_NBDKIT_H */
