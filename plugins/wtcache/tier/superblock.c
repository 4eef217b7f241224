/* SPDX-License-Identifier: BSD-3-Clause */

/* The superblock of a tier: which version, which tier, which generation of the
 * state is the current one, and how large all parts are.  There are two copies,
 * written in turn with a sync after each, so that one is whole whenever the
 * power fails.
 *
 *   0      8         16         40     56           64      72 … 144   160
 *   │ magic │ version │ features │ uuid │ generation │ clean │ sizes │ zero │
 *           │ checksum│                               │ copy  │
 *
 * docs/tier-format.md describes each field.
 */

#include <config.h>

#include <string.h>

#include "base/crc32c.h"
#include "tier/bytes.h"
#include "tier/superblock.h"

#define CONDITION_CLEAN 1
#define CONDITION_OPEN  2

/* Features of version 1. */
#define KNOWN_RO       0
#define KNOWN_INCOMPAT 0

static const uint8_t magic[8] = "WTCTIER";

/* Where each field is. */
enum {
  AT_MAGIC = 0,
  AT_VERSION = 8,
  AT_CHECKSUM = 12,
  AT_COMPAT = 16,
  AT_RO = 24,
  AT_INCOMPAT = 32,
  AT_UUID = 40,
  AT_GENERATION = 56,
  AT_CONDITION = 64,
  AT_COPY = 68,
  AT_SIZE = 72,
  AT_PAGE_SIZE = 80,
  AT_SEGMENT_SIZE = 84,
  AT_SEGMENTS = 88,
  AT_SLOTS = 92,
  AT_SUMMARY_UNITS = 96,
  AT_EXPORTS = 100,
  AT_INTENT_GROUPS = 104,
  AT_BITMAP_UNITS = 108,
  AT_REGION_SIZE = 112,
  AT_STATE_0 = 120,
  AT_STATE_1 = 128,
  AT_SEGMENTS_OFFSET = 136,
};

uint64_t
superblock_offset (unsigned copy)
{
  return (uint64_t) copy * TIER_UNIT;
}

/* Of the whole unit, with zero in place of the checksum. */
static uint32_t
superblock_checksum (const uint8_t *unit)
{
  static const uint8_t zero[4];
  const size_t after = AT_CHECKSUM + sizeof zero;

  return crc32c (crc32c (crc32c (0, unit, AT_CHECKSUM), zero, sizeof zero),
                 unit + after, TIER_UNIT - after);
}

static void
encode_geometry (const struct geometry *g, uint8_t *unit)
{
  bytes_put64 (unit, AT_SIZE, g->size);
  bytes_put32 (unit, AT_PAGE_SIZE, g->page_size);
  bytes_put32 (unit, AT_SEGMENT_SIZE, g->segment_size);
  bytes_put32 (unit, AT_SEGMENTS, g->segments);
  bytes_put32 (unit, AT_SLOTS, g->slots);
  bytes_put32 (unit, AT_SUMMARY_UNITS, g->summary_units);
  bytes_put32 (unit, AT_EXPORTS, g->exports);
  bytes_put32 (unit, AT_INTENT_GROUPS, g->intent_groups);
  bytes_put32 (unit, AT_BITMAP_UNITS, g->bitmap_units);
  bytes_put64 (unit, AT_REGION_SIZE, g->region_size);
  bytes_put64 (unit, AT_STATE_0, g->state[0]);
  bytes_put64 (unit, AT_STATE_1, g->state[1]);
  bytes_put64 (unit, AT_SEGMENTS_OFFSET, g->segments_offset);
}

void
superblock_encode (const struct superblock *s, unsigned copy, uint8_t *unit)
{
  memset (unit, 0, TIER_UNIT);
  memcpy (unit + AT_MAGIC, magic, sizeof magic);
  bytes_put32 (unit, AT_VERSION, SUPERBLOCK_VERSION);
  bytes_put64 (unit, AT_COMPAT, s->compat);
  bytes_put64 (unit, AT_RO, s->ro);
  bytes_put64 (unit, AT_INCOMPAT, s->incompat);
  memcpy (unit + AT_UUID, s->uuid, sizeof s->uuid);
  bytes_put64 (unit, AT_GENERATION, s->generation);
  bytes_put32 (unit, AT_CONDITION, s->clean ? CONDITION_CLEAN : CONDITION_OPEN);
  bytes_put32 (unit, AT_COPY, copy);
  encode_geometry (&s->geometry, unit);
  bytes_put32 (unit, AT_CHECKSUM, superblock_checksum (unit));
}

/* The sizes, computed again from those that were chosen: all must be equal. */
static bool
decode_geometry (struct geometry *g, const uint8_t *unit)
{
  uint8_t derived[TIER_UNIT];

  *g = (struct geometry){
    .size = bytes_get64 (unit, AT_SIZE),
    .page_size = bytes_get32 (unit, AT_PAGE_SIZE),
    .segment_size = bytes_get32 (unit, AT_SEGMENT_SIZE),
    .exports = bytes_get32 (unit, AT_EXPORTS),
    .intent_groups = bytes_get32 (unit, AT_INTENT_GROUPS),
    .region_size = bytes_get64 (unit, AT_REGION_SIZE),
  };
  if (!geometry_derive (g))
    return false;
  encode_geometry (g, derived);
  return memcmp (derived + AT_SIZE, unit + AT_SIZE,
                 AT_SEGMENTS_OFFSET + sizeof (uint64_t) - AT_SIZE) == 0;
}

enum tier_fault
superblock_decode (struct superblock *s, unsigned copy, const uint8_t *unit)
{
  const uint32_t condition = bytes_get32 (unit, AT_CONDITION);

  if (memcmp (unit + AT_MAGIC, magic, sizeof magic) != 0)
    return TIER_NONE;
  if (bytes_get32 (unit, AT_CHECKSUM) != superblock_checksum (unit))
    return TIER_DAMAGED;
  s->version = bytes_get32 (unit, AT_VERSION);
  if (s->version != SUPERBLOCK_VERSION)
    return TIER_OTHER;
  s->compat = bytes_get64 (unit, AT_COMPAT);
  s->ro = bytes_get64 (unit, AT_RO);
  s->incompat = bytes_get64 (unit, AT_INCOMPAT);
  if (s->incompat & ~(uint64_t) KNOWN_INCOMPAT)
    return TIER_FEATURE;
  memcpy (s->uuid, unit + AT_UUID, sizeof s->uuid);
  s->generation = bytes_get64 (unit, AT_GENERATION);
  s->clean = condition == CONDITION_CLEAN;
  if (bytes_get32 (unit, AT_COPY) != copy || s->generation == 0 ||
      (condition != CONDITION_CLEAN && condition != CONDITION_OPEN) ||
      !decode_geometry (&s->geometry, unit))
    return TIER_DAMAGED;
  return TIER_GOOD;
}

bool
superblock_may_write (const struct superblock *s)
{
  return (s->ro & ~(uint64_t) KNOWN_RO) == 0;
}

bool
superblock_agree (const struct superblock *a, const struct superblock *b)
{
  uint8_t x[TIER_UNIT], y[TIER_UNIT];

  if (memcmp (a->uuid, b->uuid, sizeof a->uuid) != 0)
    return false;
  superblock_encode (a, 0, x);
  superblock_encode (b, 0, y);
  return a->generation != b->generation || memcmp (x, y, TIER_UNIT) == 0;
}
