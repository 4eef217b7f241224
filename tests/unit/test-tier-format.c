/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of a tier's format: where things are, what is written is read
 * again, and what was changed is refused or harmless.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/util.h"
#include "model.h"
#include "tier/bytes.h"

static const uint8_t uuid[TIER_UUID_BYTES] = "a tier of tests";

static enum tier_fault
open_model (struct tier *t, struct model *m, const char *word)
{
  char why[300] = "";
  const enum tier_fault fault = tier_open (t, &m->medium, why, sizeof why);

  must (fault == TIER_GOOD || strstr (why, word) != NULL);
  return fault;
}

static void
format_model (struct model *m)
{
  struct geometry g;

  model_geometry (&g);
  model_init (m, g.size);
  must (tier_format (&m->medium, &g, uuid) == 0);
}

/* With two exports, intents, and bits in the bitmap. */
static void
make_tier (struct model *m, struct tier_state *is)
{
  const struct tier_intent intents[] = { { 1, 2 }, { 2, TIER_REGION_ALL } };
  struct random r;
  struct tier t;

  random_seed (&r, 9);
  format_model (m);
  must (open_model (&t, m, "") == TIER_GOOD);
  model_add_export (&t.state, "disk", GiB);
  model_change_state (&t.state, &r);
  must (tier_checkpoint (&t, false) == 0);
  must (tier_add_intents (&t, intents, 2) == 0);
  model_copy_state (is, &t.state);
  tier_close (&t);
}

/* ---- the checksum ---- */

static void
test_checksum (void **state)
{
  static const uint8_t zeroes[32], ones[32] = { [0 ... 31] = 0xff };
  uint8_t bytes[300];
  size_t from, len, i;

  /* RFC 3720, B.4 */
  assert_int_equal (crc32c (0, zeroes, 32), 0x8a9136aa);
  assert_int_equal (crc32c (0, ones, 32), 0x62a8ab43);
  for (i = 0; i < sizeof bytes; ++i)
    bytes[i] = i * 37;
  for (from = 0; from < 16; ++from)
    for (len = 0; len <= 200; ++len) {
      must (crc32c (5, bytes + from, len) ==
            crc32c_by_table (5, bytes + from, len));
      must (crc32c (crc32c (0, bytes, from), bytes + from, len) ==
            crc32c_by_table (0, bytes, from + len));
    }
}

/* ---- the geometry ---- */

static void
test_geometry (void **state)
{
  struct geometry g, less;
  uint64_t size;
  uint32_t page;

  /* The example of docs/tier-format.md. */
  geometry_choose (&g, 64 * MiB, 4096);
  assert_true (geometry_derive (&g));
  assert_int_equal (g.slots, 1019);
  assert_int_equal (g.summary_units, 5);
  assert_int_equal (g.segments, 14);

  for (page = TIER_MIN_PAGE; page <= TIER_MAX_PAGE; page *= 2)
    for (size = GiB - 12345; size <= (UINT64_C (1) << 45); size *= 3) {
      geometry_choose (&g, size, page);
      must (geometry_derive (&g));
      must (g.state[0] >= 2 * TIER_UNIT);
      must (g.state[1] - g.state[0] ==
            (geometry_bitmap_at (&g) + g.bitmap_units) * TIER_UNIT);
      must (g.segments_offset >= g.state[1] + (g.state[1] - g.state[0]));
      must (geometry_segment (&g, g.segments) <= size);
      must (geometry_nr_slots (&g) <=
            (uint64_t) g.bitmap_units * TIER_BITMAP_BITS);
      must (geometry_nr_slots (&g) <= UINT32_MAX);
      must ((uint64_t) g.slots * page + g.summary_units * TIER_UNIT <=
            g.segment_size);
    }

  geometry_choose (&g, 0, 4096);
  size = geometry_min_size (&g);
  geometry_choose (&g, size, 4096);
  assert_true (geometry_derive (&g));
  geometry_choose (&less, size - 1, 4096);
  assert_false (geometry_derive (&less));
}

static void
test_wrong_geometry (void **state)
{
  struct geometry g;

  model_geometry (&g);
#define REFUSED(change)                                                        \
  do {                                                                         \
    struct geometry wrong = g;                                                 \
    wrong.change;                                                              \
    assert_false (geometry_derive (&wrong));                                   \
  } while (0)
  REFUSED (size = 0);
  REFUSED (size = UINT64_MAX);
  REFUSED (page_size = 2048);
  REFUSED (page_size = 5000);
  REFUSED (page_size = 2 << 20);
  REFUSED (page_size = 1 << 20); /* a summary does not fit beside it */
  REFUSED (segment_size = 0);
  REFUSED (segment_size = 3 << 20);
  REFUSED (segment_size = 128 << 20);
  REFUSED (exports = 0);
  REFUSED (exports = 4097);
  REFUSED (intent_groups = 0);
  REFUSED (intent_groups = 4097);
  REFUSED (region_size = 0);
  REFUSED (region_size = 2048);
  REFUSED (region_size = 3 << 20);
}

/* ---- what is written is read ---- */

static void
test_written_is_read (void **state)
{
  struct tier_state is;
  struct model m;
  struct tier t;

  make_tier (&m, &is);
  must (open_model (&t, &m, "") == TIER_GOOD);
  must (model_same_state (&t.state, &is));
  must (memcmp (t.super.uuid, uuid, sizeof uuid) == 0);
  assert_int_equal (t.super.generation, 2);
  assert_false (t.super.clean);
  assert_int_equal (t.state.nr_intents, 2);
  must (tier_checkpoint (&t, true) == 0);
  tier_close (&t);
  must (open_model (&t, &m, "") == TIER_GOOD);
  assert_true (t.super.clean);
  must (model_same_state (&t.state, &is));
  tier_close (&t);
  state_free (&is);
  model_free (&m);
}

/* Longest texts; more than the tables have room for. */
static void
test_limits (void **state)
{
  static struct tier_intent intents[TIER_INTENT_ENTRIES * 3];
  char name[TIER_EXPORT_TEXT];
  struct model m;
  struct tier t;
  size_t i;

  format_model (&m);
  must (open_model (&t, &m, "") == TIER_GOOD);
  memset (name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  for (i = 0; i < 4; ++i)
    model_add_export (&t.state, name, UINT64_MAX);
  must (tier_checkpoint (&t, false) == 0);

  for (i = 0; i < ARRAY_LEN (intents); ++i)
    intents[i] = (struct tier_intent){ 1, i };
  must (tier_add_intents (&t, intents, ARRAY_LEN (intents)) == 0);
  must (tier_add_intents (&t, intents, 1) == -1 && errno == ENOSPC);
  assert_false (t.failed);
  tier_close (&t);
  must (open_model (&t, &m, "") == TIER_GOOD);
  assert_int_equal (t.state.nr_exports, 4);
  assert_string_equal (t.state.exports[3].name, name);
  assert_int_equal (t.state.nr_intents, ARRAY_LEN (intents));
  must (tier_add_intents (&t, intents, 1) == -1 && errno == ENOSPC);
  must (tier_checkpoint (&t, false) == 0);
  t.state.nr_intents = 0;
  must (tier_checkpoint (&t, false) == 0);
  must (tier_add_intents (&t, intents, 1) == 0);
  tier_close (&t);
  model_free (&m);
}

/* ---- segments ---- */

static void
test_segment (void **state)
{
  static uint8_t page[4096] __attribute__ ((aligned (4096)));
  static struct tier_slot slots[300], read[300];
  struct tier_summary out = { .segment = 2, .sequence = 7, .slots = slots };
  struct tier_summary in = { .segment = 2, .slots = read };
  struct model m;
  struct tier t;
  uint32_t i, crc;

  format_model (&m);
  must (open_model (&t, &m, "") == TIER_GOOD);
  must (t.super.geometry.slots <= ARRAY_LEN (slots));
  must (segment_read_summary (&t.super, &m.medium, &in) == 0);
  for (i = 0; i < t.super.geometry.slots; ++i)
    slots[i] = (struct tier_slot){ .export = i % 3,
                                   .checksum = i * 7,
                                   .page = i * 1000 };
  must (segment_write_summary (&t.super, &m.medium, &out) == 0);
  must (segment_read_summary (&t.super, &m.medium, &in) == 1);
  assert_int_equal (in.sequence, 7);
  must (memcmp (slots, read, t.super.geometry.slots * sizeof *slots) == 0);

  /* Of another segment, or with the checksum of another tier: none. */
  in.segment = 1;
  memcpy (m.now + geometry_segment (&t.super.geometry, 1),
          m.now + geometry_segment (&t.super.geometry, 2), MiB);
  must (segment_read_summary (&t.super, &m.medium, &in) == 0);
  in.segment = 2;
  t.super.uuid[3]++;
  must (segment_read_summary (&t.super, &m.medium, &in) == 0);
  t.super.uuid[3]--;

  /* Each thing that the checksum of a slot covers. */
  crc = segment_checksum (&t.super, &out, 5, page);
  must (crc == segment_checksum (&t.super, &out, 5, page));
  page[4095] ^= 1;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  page[4095] ^= 1;
  slots[5].page++;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  slots[5].page--;
  slots[5].export ++;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  slots[5].export --;
  slots[6] = slots[5];
  must (crc != segment_checksum (&t.super, &out, 6, page));
  out.sequence++;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  out.sequence--;
  out.segment++;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  out.segment--;
  t.super.uuid[15]++;
  must (crc != segment_checksum (&t.super, &out, 5, page));
  tier_close (&t);
  model_free (&m);
}

/* A summary of which a unit is of another use of the segment is none. */
static void
test_mixed_summary (void **state)
{
  struct tier_slot *slots;
  struct tier_summary s = { .segment = 3, .sequence = 1 };
  struct geometry g;
  struct model m;
  struct tier t;
  uint64_t last;
  uint8_t old[TIER_UNIT];

  geometry_choose (&g, 64 * MiB, 4096);
  must (geometry_derive (&g));
  model_init (&m, g.size);
  must (tier_format (&m.medium, &g, uuid) == 0);
  must (open_model (&t, &m, "") == TIER_GOOD);
  s.slots = slots = calloc (g.slots, sizeof *slots);
  must (slots != NULL);
  must (segment_write_summary (&t.super, &m.medium, &s) == 0);
  last = geometry_segment (&g, 4) - TIER_UNIT;
  memcpy (old, m.now + last, sizeof old);
  s.sequence = 2;
  must (segment_write_summary (&t.super, &m.medium, &s) == 0);
  must (segment_read_summary (&t.super, &m.medium, &s) == 1);
  memcpy (m.now + last, old, sizeof old);
  must (segment_read_summary (&t.super, &m.medium, &s) == 0);
  free (slots);
  tier_close (&t);
  model_free (&m);
}

/* Each reason for which a slot does not count. */
static void
test_which_slots_count (void **state)
{
  const struct tier_intent one = { 1, 2 };
  const struct tier_intent all = { 1, TIER_REGION_ALL };
  struct tier_slot slots[300] = { 0 };
  struct tier_summary s = { .segment = 1, .sequence = 10, .slots = slots };
  struct model m;
  struct tier t;
  uint32_t number;

  format_model (&m);
  must (open_model (&t, &m, "") == TIER_GOOD);
  model_add_export (&t.state, "disk", 100 * MiB + 1);
  number = t.super.geometry.slots + 4;
  slots[4] = (struct tier_slot){ .export = 1, .page = 100 };
  must (tier_slot_counts (&t, &s, 4));

  must (!tier_slot_counts (&t, &s, 3)); /* it is empty */
  slots[4].export = 2;                  /* there is no such export */
  must (!tier_slot_counts (&t, &s, 4));
  slots[4].export = 1;
  slots[4].page = 25600; /* the last one has a byte */
  must (tier_slot_counts (&t, &s, 4));
  slots[4].page = 25601;
  must (!tier_slot_counts (&t, &s, 4));
  slots[4].page = UINT64_MAX;
  must (!tier_slot_counts (&t, &s, 4));
  slots[4].page = 100;

  t.state.exports[0].since = 10;
  must (tier_slot_counts (&t, &s, 4));
  t.state.exports[0].since = 11;
  must (!tier_slot_counts (&t, &s, 4));
  t.state.exports[0].since = 0;

  t.state.settled = 10; /* it is newer than the bitmap */
  must (tier_slot_counts (&t, &s, 4));
  t.state.settled = 11;
  must (!tier_slot_counts (&t, &s, 4));
  t.state.live[number / 8] |= 1 << number % 8;
  must (tier_slot_counts (&t, &s, 4));

  must (tier_add_intents (&t, &one, 1) == 0);
  must (tier_slot_counts (&t, &s, 4));
  slots[4].page = 2 * 4096; /* region 2 begins at 32 MiB */
  must (!tier_slot_counts (&t, &s, 4));
  slots[4].page = 3 * 4096;
  must (tier_slot_counts (&t, &s, 4));
  must (tier_add_intents (&t, &all, 1) == 0);
  must (!tier_slot_counts (&t, &s, 4));
  tier_close (&t);
  model_free (&m);
}

/* ---- what was changed ---- */

/* Changes a byte of what is current: the tier is refused, or is as it was. */
static void
test_flipped_bytes (void **state)
{
  struct tier_state is;
  struct random r;
  struct model m;
  struct tier t;
  unsigned refused = 0, i;
  uint64_t at, end;

  make_tier (&m, &is);
  must (open_model (&t, &m, "") == TIER_GOOD);
  end = t.super.geometry.segments_offset;
  tier_close (&t);
  random_seed (&r, 3);
  for (at = 0; at < end; at += at % TIER_UNIT < 160 ? 1 : 97)
    for (i = 0; i < 2; ++i) {
      const uint8_t was = m.now[at];

      m.now[at] ^= 1 + random_below (&r, 255);
      if (open_model (&t, &m, "") == TIER_GOOD) {
        must (model_same_state (&t.state, &is));
        must (t.super.generation == 2);
        tier_close (&t);
      }
      else
        refused++;
      m.now[at] = was;
    }
  assert_true (refused > 1000);
  state_free (&is);
  model_free (&m);
}

/* Fields of both superblocks that are changed, with a checksum that is right:
 * each is refused for what it is.
 */
static void
set_field (struct model *m, size_t at, unsigned bytes, uint64_t value)
{
  static const uint8_t zero[4];
  uint8_t *unit;
  unsigned copy;

  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy) {
    unit = m->now + superblock_offset (copy);
    if (bytes == 4)
      bytes_put32 (unit, at, value);
    else
      bytes_put64 (unit, at, value);
    memcpy (unit + 12, zero, sizeof zero);
    bytes_put32 (unit, 12, crc32c (0, unit, TIER_UNIT));
  }
}

static void
test_wrong_fields (void **state)
{
  static const struct {
    size_t at;
    unsigned bytes;
    uint64_t value;
    enum tier_fault fault;
    const char *word;
  } fields[] = {
    { 8, 4, 2, TIER_OTHER, "version 2" },
    { 8, 4, 0, TIER_OTHER, "version 0" },
    { 16, 8, 1, TIER_GOOD, "" },
    { 24, 8, 1, TIER_GOOD, "" },
    { 32, 8, 4, TIER_FEATURE, "0x4" },
    { 40, 8, 1, TIER_DAMAGED, "head 0" },
    { 56, 8, 0, TIER_DAMAGED, "no superblock" },
    { 56, 8, 9, TIER_DAMAGED, "generation 9" },
    { 64, 4, 3, TIER_DAMAGED, "no superblock" },
    { 72, 8, 64 << 20, TIER_DAMAGED, "no superblock" },
    { 80, 4, 8192, TIER_DAMAGED, "no superblock" },
    { 84, 4, 2 << 20, TIER_DAMAGED, "no superblock" },
    { 88, 4, 3, TIER_DAMAGED, "no superblock" },
    { 92, 4, 1, TIER_DAMAGED, "no superblock" },
    { 96, 4, 2, TIER_DAMAGED, "no superblock" },
    { 100, 4, 5, TIER_DAMAGED, "no superblock" },
    { 104, 4, 2, TIER_DAMAGED, "no superblock" },
    { 108, 4, 2, TIER_DAMAGED, "no superblock" },
    { 112, 8, 5, TIER_DAMAGED, "no superblock" },
    { 120, 8, 0, TIER_DAMAGED, "no superblock" },
    { 128, 8, 0, TIER_DAMAGED, "no superblock" },
    { 136, 8, 0, TIER_DAMAGED, "no superblock" },
    { 200, 8, 1, TIER_GOOD, "" }, /* not named by this version */
  };
  struct tier_state is;
  struct model m;
  struct tier t;
  size_t i;

  for (i = 0; i < ARRAY_LEN (fields); ++i) {
    make_tier (&m, &is);
    set_field (&m, fields[i].at, fields[i].bytes, fields[i].value);
    must (open_model (&t, &m, fields[i].word) == fields[i].fault);
    if (fields[i].fault == TIER_GOOD) {
      must (model_same_state (&t.state, &is));
      /* With an unknown ro feature nothing is written. */
      if (fields[i].at == 24)
        must (tier_checkpoint (&t, true) == -1 && errno == EROFS);
      else
        must (tier_checkpoint (&t, true) == 0);
      tier_close (&t);
    }
    state_free (&is);
    model_free (&m);
  }
}

/* A superblock of another tier beside one of this; one copy in place of the
 * other; one of another version beside a good one; a truncated medium.
 */
static void
test_wrong_superblocks (void **state)
{
  struct tier_state is;
  struct model m, other;
  struct geometry g;
  struct tier t;
  uint8_t good[TIER_UNIT];

  make_tier (&m, &is);
  memcpy (good, m.now, sizeof good);
  model_geometry (&g);
  model_init (&other, g.size);
  must (tier_format (&other.medium, &g, (const uint8_t *) "another tier!!!!") ==
        0);
  memcpy (m.now, other.now, TIER_UNIT);
  must (open_model (&t, &m, "of two tiers") == TIER_DAMAGED);

  memcpy (m.now, m.now + TIER_UNIT, TIER_UNIT); /* its copy says 1 */
  must (open_model (&t, &m, "") == TIER_GOOD);
  must (t.copies[0].fault == TIER_DAMAGED && !t.copies[0].current);
  must (tier_checkpoint (&t, true) == 0 && t.copies[0].current);
  tier_close (&t);

  memcpy (m.now, good, sizeof good);
  set_field (&m, 8, 4, 2);
  memcpy (m.now + TIER_UNIT, good, sizeof good);
  must (open_model (&t, &m, "version 2") == TIER_OTHER);

  memset (m.now, 0, 2 * TIER_UNIT);
  must (open_model (&t, &m, "is no tier") == TIER_NONE);
  m.medium.size = 100;
  must (open_model (&t, &m, "is no tier") == TIER_NONE);
  other.medium.size -= TIER_UNIT;
  must (open_model (&t, &other, "is truncated") == TIER_DAMAGED);
  state_free (&is);
  model_free (&m);
  model_free (&other);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_checksum),
    cmocka_unit_test (test_geometry),
    cmocka_unit_test (test_wrong_geometry),
    cmocka_unit_test (test_written_is_read),
    cmocka_unit_test (test_limits),
    cmocka_unit_test (test_segment),
    cmocka_unit_test (test_mixed_summary),
    cmocka_unit_test (test_which_slots_count),
    cmocka_unit_test (test_flipped_bytes),
    cmocka_unit_test (test_wrong_fields),
    cmocka_unit_test (test_wrong_superblocks),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
