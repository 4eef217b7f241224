/* SPDX-License-Identifier: BSD-3-Clause */

/* The output of wtcache-tier.  See wtcache-tier-show.c. */

#ifndef WTCACHE_TIER_SHOW_H
#define WTCACHE_TIER_SHOW_H

#include <stdbool.h>

#include "tier.h"

/* The path that the user gave, and a tier that is open, for all below. */
struct show {
  const char *path;
  struct tier *tier;
  bool json;
  bool data; /* check the pages, too */
};

/* All return the exit status. */

extern int show_info (const struct show *s);
extern int show_check (const struct show *s);
extern int show_dump (const struct show *s);

#endif /* WTCACHE_TIER_SHOW_H */
