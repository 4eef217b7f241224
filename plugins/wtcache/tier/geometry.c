/* SPDX-License-Identifier: BSD-3-Clause */

/* Where the parts of a tier are: all follows from six numbers, so a superblock
 * whose numbers do not fit together is known to be damaged.
 *
 *   0           64 KiB     + S                   segments_offset
 *   │ superblocks │ state 0  │ state 1  │ unused │ segment 0 │ segment 1 │ …
 *
 * Each state has a bit for each slot.  So it grows with the number of segments,
 * and leaves less room for them.
 */

#include <config.h>

#include "base/util.h"
#include "tier/geometry.h"

#define STATE_OFFSET      (64 * KiB)
#define SEGMENTS_ALIGN    (1 * MiB)
#define MIN_SEGMENT       (1 * MiB)
#define MAX_SEGMENT       (64 * MiB)
#define MIN_SEGMENTS      4
#define MAX_EXPORTS       4096
#define MAX_INTENT_GROUPS 4096
#define MAX_SIZE          (UINT64_MAX >> 1)

/* Chosen by default.  A segment has at least that many pages. */
#define CHOSEN_SEGMENT       (4 * MiB)
#define CHOSEN_SEGMENT_PAGES 64
#define CHOSEN_EXPORTS       256
#define CHOSEN_INTENT_GROUPS 64
#define CHOSEN_REGION        (16 * MiB)

static uint64_t
divide_up (uint64_t n, uint64_t by)
{
  return (n + by - 1) / by;
}

void
geometry_choose (struct geometry *g, uint64_t size, uint32_t page_size)
{
  *g = (struct geometry){
    .size = size,
    .page_size = page_size,
    .segment_size =
        max_u64 (CHOSEN_SEGMENT, (uint64_t) CHOSEN_SEGMENT_PAGES * page_size),
    .exports = CHOSEN_EXPORTS,
    .intent_groups = CHOSEN_INTENT_GROUPS,
    .region_size = CHOSEN_REGION,
  };
}

/* Whether the numbers that are chosen are within their ranges. */
static bool
is_in_range (const struct geometry *g)
{
  return g->size <= MAX_SIZE && is_power_of_2 (g->page_size) &&
         g->page_size >= TIER_MIN_PAGE && g->page_size <= TIER_MAX_PAGE &&
         is_power_of_2 (g->segment_size) && g->segment_size >= MIN_SEGMENT &&
         g->segment_size <= MAX_SEGMENT && g->exports >= 1 &&
         g->exports <= MAX_EXPORTS && g->intent_groups >= 1 &&
         g->intent_groups <= MAX_INTENT_GROUPS &&
         is_power_of_2 (g->region_size) && g->region_size >= g->page_size;
}

/* Slots and summary of one segment; false: it has room for none. */
static bool
divide_segment (struct geometry *g)
{
  g->slots = g->segment_size / g->page_size;
  do {
    g->summary_units = divide_up (g->slots, TIER_SLOT_ENTRIES);
    if ((uint64_t) g->slots * g->page_size +
            (uint64_t) g->summary_units * TIER_UNIT <=
        g->segment_size)
      return g->slots > 0;
  } while (g->slots-- > 0);
  return false;
}

/* Places the states of a tier with so many segments.  Returns its size. */
static uint64_t
place (struct geometry *g, uint64_t segments)
{
  uint64_t state;

  g->segments = segments;
  g->bitmap_units = divide_up (segments * g->slots, TIER_BITMAP_BITS);
  state = (geometry_bitmap_at (g) + g->bitmap_units) * TIER_UNIT;
  g->state[0] = STATE_OFFSET;
  g->state[1] = STATE_OFFSET + state;
  g->segments_offset = round_up (STATE_OFFSET + 2 * state, SEGMENTS_ALIGN);
  return g->segments_offset + segments * g->segment_size;
}

bool
geometry_derive (struct geometry *g)
{
  uint64_t segments;

  if (!is_in_range (g) || !divide_segment (g))
    return false;
  segments = min_u64 (g->size / g->segment_size, UINT32_MAX / g->slots);
  while (segments >= MIN_SEGMENTS && place (g, segments) > g->size)
    segments--;
  return segments >= MIN_SEGMENTS;
}

uint64_t
geometry_min_size (const struct geometry *g)
{
  struct geometry min = *g;

  divide_segment (&min);
  return place (&min, MIN_SEGMENTS);
}
