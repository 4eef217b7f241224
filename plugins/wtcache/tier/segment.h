/* SPDX-License-Identifier: BSD-3-Clause */

/* Segments of a tier: the summary, the checksum of a slot.  See segment.c. */

#ifndef WTCACHE_TIER_SEGMENT_H
#define WTCACHE_TIER_SEGMENT_H

#include <stdint.h>

#include "tier/medium.h"
#include "tier/superblock.h"

/* The contents of a slot. */
struct tier_slot {
  uint32_t export; /* its id; 0: nothing */
  uint32_t checksum;
  uint64_t page;
};

struct tier_summary {
  uint32_t segment;
  uint64_t sequence;
  struct tier_slot *slots; /* the caller's, as many as the geometry says */
};

/* The checksum of a page's bytes in a slot of the tier: what it is of is
 * covered too.
 */
extern uint32_t segment_checksum (const struct superblock *s,
                                  const struct tier_summary *summary,
                                  uint32_t slot, const void *page);
extern uint64_t segment_slot_offset (const struct superblock *s,
                                     uint32_t segment, uint32_t slot);

/* 0, or -1 with errno.  Does not sync. */
extern int segment_write_summary (const struct superblock *s, struct medium *m,
                                  const struct tier_summary *summary);
/* Of the summary only SEGMENT and SLOTS are set before.  1: it was read; 0: the
 * segment has none, or none that is whole; -1 with errno.
 */
extern int segment_read_summary (const struct superblock *s, struct medium *m,
                                 struct tier_summary *summary);

#endif /* WTCACHE_TIER_SEGMENT_H */
