/* SPDX-License-Identifier: BSD-3-Clause */

/* Where the parts of a tier are.  See geometry.c. */

#ifndef WTCACHE_TIER_GEOMETRY_H
#define WTCACHE_TIER_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

#define TIER_UNIT           4096 /* bytes */
#define TIER_UUID_BYTES     16
#define TIER_MIN_PAGE       4096
#define TIER_MAX_PAGE       (1 << 20)
#define TIER_BITMAP_BITS    32512 /* in a unit */
#define TIER_INTENT_ENTRIES 254   /* in a unit */
#define TIER_SLOT_ENTRIES   254   /* in a unit */
/* Of a group of intents: even A, even B, odd A, odd B. */
#define TIER_GROUP_UNITS 4

struct geometry {
  /* Chosen when a tier is formatted. */
  uint64_t size; /* bytes */
  uint32_t page_size, segment_size;
  uint32_t exports;       /* places of the export table */
  uint32_t intent_groups; /* of four units each */
  uint64_t region_size;

  /* These follow from them. */
  uint32_t segments;
  uint32_t slots;         /* of a segment */
  uint32_t summary_units; /* of a segment */
  uint32_t bitmap_units;
  uint64_t state[2]; /* offsets */
  uint64_t segments_offset;
};

/* The choice of `wtcache-tier format` for pages of that size. */
extern void geometry_choose (struct geometry *g, uint64_t size,
                             uint32_t page_size);
/* Computes all that follows; false: there is no such tier. */
extern bool geometry_derive (struct geometry *g);
/* The least size with which geometry_derive succeeds. */
extern uint64_t geometry_min_size (const struct geometry *g);

/* Units of a state: the head, then the parts that begin there. */
static inline uint64_t
geometry_exports_at (void)
{
  return 1;
}

static inline uint64_t
geometry_intents_at (const struct geometry *g)
{
  return 1 + (uint64_t) g->exports;
}

static inline uint64_t
geometry_bitmap_at (const struct geometry *g)
{
  return geometry_intents_at (g) +
         (uint64_t) TIER_GROUP_UNITS * g->intent_groups;
}

static inline uint64_t
geometry_segment (const struct geometry *g, uint32_t segment)
{
  return g->segments_offset + (uint64_t) segment * g->segment_size;
}

/* Less than 2^32. */
static inline uint64_t
geometry_nr_slots (const struct geometry *g)
{
  return (uint64_t) g->segments * g->slots;
}

#endif /* WTCACHE_TIER_GEOMETRY_H */
