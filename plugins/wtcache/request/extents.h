/* SPDX-License-Identifier: BSD-3-Clause */

/* Block status.  See extents.c. */

#ifndef WTCACHE_EXTENTS_H
#define WTCACHE_EXTENTS_H

#include "request/types.h"

struct nbdkit_extents;

/* Adds the extents of a range, or of its beginning.  0 or an errno. */
extern int extents_get (struct client *c, uint32_t len, uint64_t offset,
                        uint32_t flags, struct nbdkit_extents *extents);

#endif /* WTCACHE_EXTENTS_H */
