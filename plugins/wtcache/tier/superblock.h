/* SPDX-License-Identifier: BSD-3-Clause */

/* The superblock of a tier.  See superblock.c. */

#ifndef WTCACHE_TIER_SUPERBLOCK_H
#define WTCACHE_TIER_SUPERBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "tier/geometry.h"

#define SUPERBLOCK_VERSION 1 /* of the format */
#define SUPERBLOCK_COPIES  2

/* Why something on a medium cannot be used. */
enum tier_fault {
  TIER_GOOD,
  TIER_NONE,       /* there is no tier */
  TIER_DAMAGED,    /* it is damaged, truncated, or cannot be read */
  TIER_OTHER,      /* it has another version */
  TIER_FEATURE,    /* it has a feature that this program does not know */
  TIER_IN_TROUBLE, /* no memory */
};

struct superblock {
  uint32_t version;
  uint64_t compat, ro, incompat; /* features */
  uint8_t uuid[TIER_UUID_BYTES];
  uint64_t generation;
  bool clean;
  struct geometry geometry;
};

extern uint64_t superblock_offset (unsigned copy);
extern void superblock_encode (const struct superblock *s, unsigned copy,
                               uint8_t *unit);
/* Whether a unit, which was read where COPY is, is that copy.  Of TIER_OTHER
 * only the version is set, of TIER_FEATURE the features too.
 */
extern enum tier_fault superblock_decode (struct superblock *s, unsigned copy,
                                          const uint8_t *unit);
/* Whether a program that knows the features of this version may write. */
extern bool superblock_may_write (const struct superblock *s);
/* Whether two copies can be of one tier. */
extern bool superblock_agree (const struct superblock *a,
                              const struct superblock *b);

#endif /* WTCACHE_TIER_SUPERBLOCK_H */
