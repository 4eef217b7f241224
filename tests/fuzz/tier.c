/* SPDX-License-Identifier: BSD-3-Clause */

/* A fuzzer of what a tier finds on its disk.
 *
 * A tier is made once: generation 2 in one state, generation 3, which is
 * current, in the other, and a segment.  An input changes it, by acts of five
 * bytes (what, which unit, where or which other unit, value): a byte, a unit
 * that takes the place of another, a unit of zeroes, or four bytes with a
 * checksum that is right again.
 *
 * Then it is opened.  Without forged checksums it is refused, or is as one
 * generation was: after a single change the current one.  Forged or not, all
 * that can be read is read, and a checkpoint is written and found again.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/util.h"
#include "model.h"
#include "tier/bytes.h"
#include "tier/unit.h"

#define ACT_BYTES         5
#define MAX_ACTS          32
#define SEGMENT           1
#define MAX_UNITS         64
#define MAX_SEGMENT_SLOTS 300

extern int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len);

static const uint8_t uuid[TIER_UUID_BYTES] = "a tier to change";

/* The tier as it was made. */
static struct {
  bool made;
  struct model disk;
  struct superblock super;
  struct tier_state older, current;
  struct tier_slot slots[MAX_SEGMENT_SLOTS];
  uint8_t old_superblocks[SUPERBLOCK_COPIES][TIER_UNIT];
  uint64_t units[MAX_UNITS]; /* offsets of what can be changed */
  unsigned nr_units;
} made;

static struct model disk; /* that of an input */

static enum tier_fault
open_disk (struct tier *t, struct model *m)
{
  char why[300];

  return tier_open (t, &m->medium, why, sizeof why);
}

/* ---- the tier that is changed ---- */

static void
list_unit (uint64_t offset)
{
  must (made.nr_units < MAX_UNITS);
  made.units[made.nr_units++] = offset;
}

static void
list_units (const struct geometry *g)
{
  unsigned copy, i;

  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    list_unit (superblock_offset (copy));
  for (copy = 0; copy < 2; ++copy) {
    for (i = 0; i < 3; ++i) /* head, two exports */
      list_unit (g->state[copy] + i * TIER_UNIT);
    for (i = 0; i < 2 * TIER_GROUP_UNITS; ++i)
      list_unit (g->state[copy] + (geometry_intents_at (g) + i) * TIER_UNIT);
    list_unit (g->state[copy] + geometry_bitmap_at (g) * TIER_UNIT);
  }
  for (i = 1; i <= g->summary_units; ++i)
    list_unit (geometry_segment (g, SEGMENT + 1) - i * TIER_UNIT);
}

static void
add_intents (struct tier *t, unsigned from, unsigned nr)
{
  struct tier_intent intents[TIER_INTENT_ENTRIES];
  unsigned i;

  for (i = 0; i < nr; ++i)
    intents[i] = (struct tier_intent){ 1, from + i };
  must (tier_add_intents (t, intents, nr) == 0);
}

static void
make_tier (void)
{
  struct tier_summary summary = { .segment = SEGMENT,
                                  .sequence = 5,
                                  .slots = made.slots };
  struct geometry g;
  struct tier t;
  unsigned i;

  model_geometry (&g);
  model_init (&made.disk, g.size);
  model_init (&disk, g.size);
  must (tier_format (&made.disk.medium, &g, uuid) == 0);
  must (open_disk (&t, &made.disk) == TIER_GOOD);
  model_add_export (&t.state, "disk", GiB);
  t.state.live[3] = 0x55;
  must (tier_checkpoint (&t, false) == 0);
  add_intents (&t, 0, 3);
  model_copy_state (&made.older, &t.state);
  memcpy (made.old_superblocks, made.disk.now, sizeof made.old_superblocks);

  model_add_export (&t.state, "another", 5000);
  t.state.settled = 4;
  must (tier_checkpoint (&t, false) == 0);
  add_intents (&t, 3, 200);
  add_intents (&t, 203, 200);
  must (g.slots <= MAX_SEGMENT_SLOTS);
  for (i = 0; i < g.slots; ++i)
    made.slots[i] = (struct tier_slot){ .export = 1 + i % 2, .page = i };
  must (segment_write_summary (&t.super, &made.disk.medium, &summary) == 0);
  must (made.disk.medium.ops->sync (&made.disk.medium) == 0);
  model_copy_state (&made.current, &t.state);
  made.super = t.super;
  tier_close (&t);
  list_units (&g);
  memcpy (disk.now, made.disk.now, g.size);
  memcpy (disk.durable, made.disk.now, g.size);
  made.made = true;
}

/* ---- its changes ---- */

static uint8_t *
unit_of (unsigned number)
{
  return disk.now + made.units[number % made.nr_units];
}

/* A unit that may take the place of another. */
static const uint8_t *
source_of (unsigned number)
{
  number %= made.nr_units + SUPERBLOCK_COPIES;
  return number < made.nr_units ? made.disk.now + made.units[number]
                                : made.old_superblocks[number - made.nr_units];
}

/* Sets four bytes, and the checksum of a superblock or another unit. */
static void
forge (unsigned number, unsigned at, uint32_t value)
{
  uint8_t *unit = unit_of (number);

  bytes_put32 (unit, at % 1024 * 4, value);
  if (number % made.nr_units < SUPERBLOCK_COPIES) {
    bytes_put32 (unit, 12, 0);
    bytes_put32 (unit, 12, crc32c (0, unit, TIER_UNIT));
  }
  else {
    struct unit_head head;

    unit_open (unit, uuid, 0, &head);
    unit_seal (unit, uuid, &head);
  }
}

/* Returns whether a checksum was forged. */
static bool
change (const uint8_t *act)
{
  const unsigned at = act[2] | act[3] << 8;

  switch (act[0] % 4) {
  case 0:
    unit_of (act[1])[at % TIER_UNIT] ^= act[4];
    return false;
  case 1:
    memcpy (unit_of (act[1]), source_of (at), TIER_UNIT);
    return false;
  case 2:
    memset (unit_of (act[1]), 0, TIER_UNIT);
    return false;
  default:
    forge (act[1], at, act[4] >= 0xf0 ? UINT32_MAX - (act[4] & 15) : act[4]);
    return true;
  }
}

/* A checkpoint of a tier with forged sizes may have written anywhere. */
static void
restore (bool forged)
{
  const uint64_t start =
      forged ? disk.medium.size : made.super.geometry.segments_offset;
  unsigned i;

  memcpy (disk.now, made.disk.now, start);
  memcpy (disk.durable, made.disk.now, start);
  for (i = 0; i < made.nr_units; ++i)
    memcpy (disk.now + made.units[i], made.disk.now + made.units[i], TIER_UNIT);
}

/* ---- what must hold ---- */

/* As IS, with intents that were asked for. */
static bool
is_generation (const struct tier_state *found, const struct tier_state *is)
{
  struct tier_state same = *found;
  size_t i;

  for (i = 0; i < found->nr_intents; ++i)
    if (!state_has_intent (is, found->intents[i].export,
                           found->intents[i].region))
      return false;
  same.intents = is->intents;
  same.nr_intents = is->nr_intents;
  return model_same_state (&same, is);
}

static void
check_state (const struct tier *t, unsigned changes)
{
  must (memcmp (t->super.uuid, uuid, sizeof uuid) == 0);
  if (changes <= 1)
    must (model_same_state (&t->state, &made.current));
  else
    must (is_generation (&t->state, &made.current) ||
          is_generation (&t->state, &made.older));
}

/* Reads all summaries; one that was not forged is as it was written. */
static void
check_segments (const struct tier *t, bool forged)
{
  const struct geometry *g = &t->super.geometry;
  struct tier_summary s = { .slots = calloc (g->slots, sizeof *s.slots) };
  uint32_t slot;

  must (s.slots != NULL);
  for (; s.segment < g->segments; ++s.segment) {
    if (segment_read_summary (&t->super, t->m, &s) != 1)
      continue;
    for (slot = 0; slot < g->slots; ++slot)
      tier_slot_counts (t, &s, slot);
    if (!forged) {
      must (s.segment == SEGMENT && s.sequence == 5);
      must (memcmp (s.slots, made.slots, g->slots * sizeof *s.slots) == 0);
    }
  }
  free (s.slots);
}

/* A state that was found can be written again. */
static void
check_checkpoint (struct tier *t)
{
  struct tier_state is;
  struct tier again;

  if (tier_checkpoint (t, true) == -1) {
    must (errno == EROFS);
    return;
  }
  model_copy_state (&is, &t->state);
  must (open_disk (&again, &disk) == TIER_GOOD);
  must (again.super.clean && model_same_state (&again.state, &is));
  tier_close (&again);
  state_free (&is);
}

int
LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len)
{
  unsigned changes = 0;
  bool forged = false;
  struct tier t;

  if (!made.made)
    make_tier ();
  for (; len >= ACT_BYTES && changes < MAX_ACTS; ++changes) {
    forged |= change (bytes);
    bytes += ACT_BYTES;
    len -= ACT_BYTES;
  }
  if (open_disk (&t, &disk) == TIER_GOOD) {
    if (!forged)
      check_state (&t, changes);
    check_segments (&t, forged);
    if (t.super.generation < UINT64_MAX)
      check_checkpoint (&t);
    tier_close (&t);
  }
  else
    must (changes > 0);
  restore (forged);
  return 0;
}
