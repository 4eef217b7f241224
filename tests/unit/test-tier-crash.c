/* SPDX-License-Identifier: BSD-3-Clause */

/* Power cuts under a tier: whatever a disk has of what was not synced, the tier
 * that is found is the one before the change or the one after it, and an intent
 * that was durable is there.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "base/util.h"
#include "model.h"

/* States of the disk that are tried for each place at which the power fails. */
#define STATES 12

static const uint8_t old_uuid[TIER_UUID_BYTES] = "an older tier!!";
static const uint8_t uuid[TIER_UUID_BYTES] = "the newer tier!";

static unsigned
percent_of (unsigned state)
{
  return state == 0 ? 0 : state == 1 ? 100 : 10 * state % 100;
}

static enum tier_fault
open_model (struct tier *t, struct model *m)
{
  char why[300];

  return tier_open (t, &m->medium, why, sizeof why);
}

static void
format_model (struct model *m, const uint8_t *id)
{
  struct geometry g;

  model_geometry (&g);
  must (tier_format (&m->medium, &g, id) == 0);
}

static void
copy_model (struct model *to, const struct model *from)
{
  memcpy (to->now, from->now, from->medium.size);
  memcpy (to->durable, from->now, from->medium.size);
}

/* A tier that is formatted over another one is that one, none, or a new one;
 * never a mixture.
 */
static void
test_format (void **state)
{
  struct model before, m;
  struct random r;
  struct geometry g;
  struct tier t;
  unsigned long stop, acts;
  unsigned i, olds = 0, nones = 0, news = 0;
  enum tier_fault fault;

  random_seed (&r, 1);
  model_init (&before, 5 * MiB);
  format_model (&before, old_uuid);
  must (open_model (&t, &before) == TIER_GOOD);
  model_change_state (&t.state, &r);
  must (tier_checkpoint (&t, false) == 0);
  tier_close (&t);
  model_geometry (&g);
  model_init (&m, 5 * MiB);
  for (stop = 1, acts = stop; stop <= acts + 1; ++stop)
    for (i = 0; i < STATES; ++i) {
      copy_model (&m, &before);
      m.acts = 0;
      m.stop = stop;
      if (tier_format (&m.medium, &g, uuid) == 0)
        acts = m.acts;
      else
        acts = stop;
      model_crash (&m, &r, percent_of (i));
      fault = open_model (&t, &m);
      must (fault == TIER_GOOD || fault == TIER_NONE || fault == TIER_DAMAGED);
      must (fault == TIER_GOOD || stop <= acts);
      if (fault != TIER_GOOD) {
        nones++;
        continue;
      }
      if (memcmp (t.super.uuid, old_uuid, sizeof old_uuid) == 0) {
        must (stop <= 2 && t.super.generation == 2);
        olds++;
      }
      else {
        must (t.super.generation == 1 && t.state.nr_exports == 0);
        news++;
      }
      tier_close (&t);
    }
  assert_true (olds > 0 && nones > 0 && news > 0);
  model_free (&m);
  model_free (&before);
}

/* A tier after some changes, as it is on the disk. */
static void
make_before (struct model *m, struct random *r, struct tier_state *was)
{
  const struct tier_intent intents[] = { { 1, 3 }, { 1, 4 } };
  struct tier t;

  format_model (m, uuid);
  must (open_model (&t, m) == TIER_GOOD);
  model_change_state (&t.state, r);
  must (tier_checkpoint (&t, false) == 0);
  must (tier_add_intents (&t, intents, 2) == 0);
  model_copy_state (was, &t.state);
  tier_close (&t);
}

/* A checkpoint that fails at any act, and is found after a power cut, left the
 * last generation or the next one whole; and so does the next checkpoint.
 */
static void
test_checkpoint (void **state)
{
  struct model before, m;
  struct tier_state was, is, found;
  struct random r;
  struct tier t;
  unsigned long stop;
  unsigned i, seed, olds = 0, news = 0;
  bool done = false;

  for (stop = 1; !done; ++stop)
    for (i = 0; i < STATES; ++i) {
      seed = 100 * stop + i;
      random_seed (&r, seed);
      model_init (&before, 5 * MiB);
      make_before (&before, &r, &was);
      model_init (&m, 5 * MiB);
      copy_model (&m, &before);
      must (open_model (&t, &m) == TIER_GOOD);
      must (model_same_state (&t.state, &was));
      model_change_state (&t.state, &r);
      model_copy_state (&is, &t.state);
      m.acts = 0;
      m.stop = stop;
      done = tier_checkpoint (&t, false) == 0;
      must (done || t.failed);
      tier_close (&t);
      model_crash (&m, &r, percent_of (i));

      must (open_model (&t, &m) == TIER_GOOD);
      must (model_same_state (&t.state, &is) ||
            (!done && model_same_state (&t.state, &was)));
      *(model_same_state (&t.state, &is) ? &news : &olds) += 1;

      /* And again, from what was found. */
      model_copy_state (&found, &t.state);
      model_change_state (&t.state, &r);
      state_free (&is);
      model_copy_state (&is, &t.state);
      m.acts = 0;
      m.stop = 1 + random_below (&r, 8);
      tier_checkpoint (&t, false);
      tier_close (&t);
      model_crash (&m, &r, random_below (&r, 101));
      must (open_model (&t, &m) == TIER_GOOD);
      must (model_same_state (&t.state, &is) ||
            model_same_state (&t.state, &found));
      tier_close (&t);
      state_free (&found);
      state_free (&was);
      state_free (&is);
      model_free (&m);
      model_free (&before);
    }
  assert_true (olds > 0 && news > 0);
}

static bool
has_intent (const struct tier_state *state, unsigned number)
{
  return state_has_intent (state, 1 + number % 7, number);
}

/* Intents are added, in one group and across groups, until the power fails: all
 * that were durable are found, and none that was not asked for.
 */
static void
test_intents (void **state)
{
  struct tier_intent intents[400];
  struct tier_state was;
  struct random r;
  struct model m;
  struct tier t;
  unsigned durable, asked, n, i, round;
  size_t found;

  for (round = 0; round < 300; ++round) {
    random_seed (&r, round);
    model_init (&m, 5 * MiB);
    make_before (&m, &r, &was);
    must (open_model (&t, &m) == TIER_GOOD);
    durable = asked = 0;
    m.acts = 0;
    m.stop = 1 + random_below (&r, 24);
    while (asked < 700) {
      n = 1 + random_below (&r, random_chance (&r, 20) ? 300 : 4);
      n = min_u64 (n, 700 - asked);
      for (i = 0; i < n; ++i, ++asked)
        intents[i] = (struct tier_intent){ 1 + asked % 7, asked };
      if (tier_add_intents (&t, intents, n) == -1)
        break;
      durable = asked;
    }
    tier_close (&t);
    model_crash (&m, &r, random_below (&r, 101));

    must (open_model (&t, &m) == TIER_GOOD);
    for (i = 0; i < durable; ++i)
      must (has_intent (&t.state, i));
    must (state_has_intent (&t.state, 1, 3) &&
          state_has_intent (&t.state, 1, 4));
    for (found = 0; found < t.state.nr_intents; ++found)
      must (t.state.intents[found].region < asked ||
            t.state.intents[found].region <= 4);

    /* The next ones come after them. */
    intents[0] = (struct tier_intent){ 9, 9999 };
    if (tier_add_intents (&t, intents, 1) == 0) {
      tier_close (&t);
      must (open_model (&t, &m) == TIER_GOOD);
      must (state_has_intent (&t.state, 9, 9999));
      for (i = 0; i < durable; ++i)
        must (has_intent (&t.state, i));
    }
    tier_close (&t);
    state_free (&was);
    model_free (&m);
  }
}

/* An intent that was durable is not forgotten when a unit decays: neither one
 * of the state, nor a superblock.
 */
static void
test_decay (void **state)
{
  const struct tier_intent late = { 1, 77 };
  struct tier_state was;
  struct random r;
  struct model m;
  struct tier t;
  uint64_t at, end;
  unsigned lost = 0, kept = 0;

  random_seed (&r, 5);
  model_init (&m, 5 * MiB);
  make_before (&m, &r, &was);
  must (open_model (&t, &m) == TIER_GOOD);
  must (tier_add_intents (&t, &late, 1) == 0);
  end = t.super.geometry.segments_offset;
  tier_close (&t);
  for (at = 0; at < end; at += TIER_UNIT) {
    m.now[at + 50] ^= 0x10;
    if (open_model (&t, &m) == TIER_GOOD) {
      must (state_has_intent (&t.state, 1, 77));
      must (state_has_intent (&t.state, 1, 3));
      tier_close (&t);
      kept++;
    }
    else
      lost++;
    m.now[at + 50] ^= 0x10;
  }
  /* Damaged: the head, its exports and the bitmap, of which there is one. */
  assert_int_equal (lost, 1 + was.nr_exports + 1);
  assert_true (kept > lost);
  state_free (&was);
  model_free (&m);
}

/* A power cut between the two superblocks, then one of them decays before the
 * next owner has written an intent: both are of the newer generation by then.
 */
static void
test_superblocks_are_repaired (void **state)
{
  const struct tier_intent late = { 1, 88 };
  struct tier_state was;
  struct random r;
  struct model m;
  struct tier t;
  unsigned long acts;

  random_seed (&r, 6);
  model_init (&m, 5 * MiB);
  make_before (&m, &r, &was);
  must (open_model (&t, &m) == TIER_GOOD);
  m.acts = 0;
  must (tier_checkpoint (&t, false) == 0);
  acts = m.acts;
  m.stop = m.acts + acts - 1; /* the write of superblock 1 */
  must (tier_checkpoint (&t, false) == -1);
  tier_close (&t);
  model_crash (&m, &r, 0);

  must (open_model (&t, &m) == TIER_GOOD);
  must (t.copies[0].current && !t.copies[1].current);
  must (tier_add_intents (&t, &late, 1) == 0);
  must (t.copies[1].current);
  tier_close (&t);
  m.now[superblock_offset (0) + 60] ^= 1;
  must (open_model (&t, &m) == TIER_GOOD);
  must (state_has_intent (&t.state, 1, 88));
  tier_close (&t);
  state_free (&was);
  model_free (&m);
}

/* A medium is put back to an older generation, and begins the newer one anew:
 * intents of its first life do not count, nor do they hide those of the second.
 */
static void
test_generation_again (void **state)
{
  const struct tier_intent first[] = { { 1, 5 }, { 1, 6 } };
  const struct tier_intent second = { 1, 7 };
  uint8_t superblocks[SUPERBLOCK_COPIES * TIER_UNIT];
  struct tier_state was;
  struct random r;
  struct model m;
  struct tier t;

  random_seed (&r, 8);
  model_init (&m, 5 * MiB);
  make_before (&m, &r, &was);
  memcpy (superblocks, m.now, sizeof superblocks);
  must (open_model (&t, &m) == TIER_GOOD);
  must (tier_checkpoint (&t, false) == 0);
  must (tier_add_intents (&t, &first[0], 1) == 0);
  must (tier_add_intents (&t, &first[1], 1) == 0);
  tier_close (&t);

  memcpy (m.now, superblocks, sizeof superblocks);
  must (open_model (&t, &m) == TIER_GOOD);
  must (tier_checkpoint (&t, false) == 0);
  tier_close (&t);
  must (open_model (&t, &m) == TIER_GOOD);
  must (model_same_state (&t.state, &was));
  must (tier_add_intents (&t, &second, 1) == 0);
  tier_close (&t);
  must (open_model (&t, &m) == TIER_GOOD);
  must (state_has_intent (&t.state, 1, 3) && state_has_intent (&t.state, 1, 7));
  must (!state_has_intent (&t.state, 1, 5));
  tier_close (&t);
  state_free (&was);
  model_free (&m);
}

/* After a failure nothing more is written. */
static void
test_failure_ends_writing (void **state)
{
  const struct tier_intent i = { 1, 1 };
  struct random r;
  struct tier_state was;
  struct model m;
  struct tier t;
  unsigned long acts;

  random_seed (&r, 7);
  model_init (&m, 5 * MiB);
  make_before (&m, &r, &was);
  must (open_model (&t, &m) == TIER_GOOD);
  m.stop = m.acts + 2; /* the sync */
  must (tier_add_intents (&t, &i, 1) == -1 && errno == EIO);
  m.stop = 0;
  acts = m.acts;
  must (tier_add_intents (&t, &i, 1) == -1 && errno == EIO);
  must (tier_checkpoint (&t, true) == -1 && errno == EIO);
  must (m.acts == acts);
  tier_close (&t);
  state_free (&was);
  model_free (&m);
}

/* A segment that is used again, with a power cut: whichever summary is there, a
 * slot whose checksum is right has the page that this summary's use put there.
 */
static void
test_segment (void **state)
{
  static uint8_t run[256 * TIER_UNIT] __attribute__ ((aligned (TIER_UNIT)));
  static struct tier_slot slots[2][300], read[300];
  struct tier_summary use[2], found = { .segment = 1, .slots = read };
  unsigned round, n, slot, right = 0, wrong = 0, none = 0;
  struct random r;
  struct geometry g;
  struct model m;
  struct tier t;

  model_geometry (&g);
  for (round = 0; round < 40; ++round) {
    random_seed (&r, round);
    model_init (&m, g.size);
    must (tier_format (&m.medium, &g, uuid) == 0);
    must (open_model (&t, &m) == TIER_GOOD);
    for (n = 0; n < 2; ++n) {
      use[n] = (struct tier_summary){ .segment = 1,
                                      .sequence = 5 + n,
                                      .slots = slots[n] };
      for (slot = 0; slot < g.slots; ++slot) {
        slots[n][slot] = (struct tier_slot){ .export = 1, .page = slot };
        memset (run + slot * TIER_UNIT, 1 + n, TIER_UNIT);
        slots[n][slot].checksum =
            segment_checksum (&t.super, &use[n], slot, run + slot * TIER_UNIT);
      }
      must (m.medium.ops->write (&m.medium, run, g.slots * TIER_UNIT,
                                 segment_slot_offset (&t.super, 1, 0)) == 0);
      must (segment_write_summary (&t.super, &m.medium, &use[n]) == 0);
      if (n == 0)
        must (m.medium.ops->sync (&m.medium) == 0);
    }
    model_crash (&m, &r, round % 2 == 0 ? 90 : 99);
    if (segment_read_summary (&t.super, &m.medium, &found) == 0)
      none++;
    else
      for (slot = 0; slot < g.slots; ++slot) {
        const uint8_t *page = m.now + segment_slot_offset (&t.super, 1, slot);

        if (segment_checksum (&t.super, &found, slot, page) !=
            read[slot].checksum) {
          wrong++;
          continue;
        }
        right++;
        for (n = 0; n < TIER_UNIT; ++n)
          must (page[n] == found.sequence - 4);
      }
    tier_close (&t);
    model_free (&m);
  }
  assert_true (right > 0 && wrong > 0 && none > 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_format),
    cmocka_unit_test (test_checkpoint),
    cmocka_unit_test (test_intents),
    cmocka_unit_test (test_decay),
    cmocka_unit_test (test_superblocks_are_repaired),
    cmocka_unit_test (test_generation_again),
    cmocka_unit_test (test_failure_ends_writing),
    cmocka_unit_test (test_segment),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
