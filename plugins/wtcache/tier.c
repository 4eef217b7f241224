/* SPDX-License-Identifier: BSD-3-Clause */

/* The tier: clean pages on a local disk, in a log of segments.
 *
 *   superblock, two copies       which generation of the state is current
 *   state, two copies            exports, intents, live slots
 *   segments                     pages, and summaries that say which they are
 *
 * A change of the state never overwrites what is current:
 *
 *   generation 7        state 1 ◄── superblock 0, superblock 1
 *   write state 0       state 1 ◄── superblock 0, superblock 1     sync
 *   write superblock 0  state 0 ◄── superblock 0                   sync
 *   write superblock 1  state 0 ◄── superblock 0, superblock 1     sync
 *   generation 8
 *
 * A power cut leaves 7 or 8.  Both superblocks name 8 before an intent is added
 * to it: otherwise a superblock that decays would lead back to 7, which does
 * not know that intent.
 *
 * docs/tier-format.md describes what is on the disk.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "base/why.h"
#include "tier.h"

/* Zeroed first: the superblocks, and the reserved bytes, in which other
 * programs may have left their marks.
 */
#define FORMAT_ZERO_BYTES (64 * KiB)

/* ---- writing ---- */

/* Remembers a failure: what is on the medium now is not known. */
static int
noted (struct tier *t, int r)
{
  if (r == -1)
    t->failed = true;
  return r;
}

static int
write_superblock (struct tier *t, const struct superblock *s, unsigned copy)
{
  uint8_t *unit = aligned_alloc (TIER_UNIT, TIER_UNIT);
  int r;

  if (unit == NULL)
    return -1;
  superblock_encode (s, copy, unit);
  r = t->m->ops->write (t->m, unit, TIER_UNIT, superblock_offset (copy));
  free (unit);
  if (r == 0)
    r = t->m->ops->sync (t->m);
  if (r == 0)
    t->copies[copy] = (struct tier_copy){ .fault = TIER_GOOD, .current = true };
  return r;
}

/* Writes superblocks that are not of the current generation again.  Otherwise a
 * power cut while the next one is written could leave none of it.
 */
static int
repair_superblocks (struct tier *t)
{
  unsigned copy;

  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    if (!t->copies[copy].current && write_superblock (t, &t->super, copy) == -1)
      return -1;
  return 0;
}

static bool
may_write (const struct tier *t)
{
  if (superblock_may_write (&t->super) && !t->failed)
    return true;
  errno = t->failed ? EIO : EROFS;
  return false;
}

/* Writes the state as that of S, then the superblocks. */
static int
write_generation (struct tier *t, const struct superblock *s)
{
  unsigned copy;

  if (state_write (&t->state, s, t->m) == -1 || t->m->ops->sync (t->m) == -1)
    return -1;
  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    t->copies[copy].current = false;
  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    if (write_superblock (t, s, copy) == -1)
      return -1;
  return 0;
}

int
tier_checkpoint (struct tier *t, bool clean)
{
  struct superblock next = t->super;

  if (!may_write (t))
    return -1;
  next.generation++;
  next.clean = clean;
  t->state.time = time (NULL);
  if (noted (t, repair_superblocks (t)) == -1 ||
      noted (t, write_generation (t, &next)) == -1)
    return -1;
  t->super = next;
  return 0;
}

int
tier_add_intents (struct tier *t, const struct tier_intent *intents, size_t nr)
{
  if (!may_write (t) || noted (t, repair_superblocks (t)) == -1)
    return -1;
  if (state_add_intents (&t->state, &t->super, t->m, intents, nr) == -1)
    return errno == ENOSPC || errno == ENOMEM ? -1 : noted (t, -1);
  return noted (t, t->m->ops->sync (t->m));
}

static int
zero_start (struct medium *m)
{
  void *zeroes = aligned_alloc (TIER_UNIT, FORMAT_ZERO_BYTES);
  int r;

  if (zeroes == NULL)
    return -1;
  memset (zeroes, 0, FORMAT_ZERO_BYTES);
  r = m->ops->write (m, zeroes, FORMAT_ZERO_BYTES, 0);
  free (zeroes);
  return r == 0 ? m->ops->sync (m) : -1;
}

int
tier_format (struct medium *m, const struct geometry *g, const uint8_t *uuid)
{
  struct tier t = { .m = m, .super = { .geometry = *g } };
  unsigned copy;
  int r;

  memcpy (t.super.uuid, uuid, sizeof t.super.uuid);
  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    t.copies[copy].current = true; /* there is none to be repaired */
  if (zero_start (m) == -1 || state_init (&t.state, g) == -1)
    return -1;
  r = tier_checkpoint (&t, true);
  state_free (&t.state);
  return r;
}

/* ---- opening ---- */

static enum tier_fault
read_superblock (struct superblock *s, struct medium *m, unsigned copy)
{
  uint8_t *unit;
  enum tier_fault fault = TIER_DAMAGED;

  if (superblock_offset (copy) + TIER_UNIT > m->size)
    return TIER_NONE;
  unit = aligned_alloc (TIER_UNIT, TIER_UNIT);
  if (unit == NULL)
    return TIER_IN_TROUBLE;
  if (m->ops->read (m, unit, TIER_UNIT, superblock_offset (copy)) == 0)
    fault = superblock_decode (s, copy, unit);
  free (unit);
  return fault;
}

/* Why there is no usable superblock, where the worst copy has this fault. */
static enum tier_fault
refuse_superblock (const struct superblock *s, enum tier_fault fault, char *why,
                   size_t size)
{
  switch (fault) {
  case TIER_NONE:
    why_refuse (why, size, "is no tier");
    break;
  case TIER_OTHER:
    why_refuse (why, size,
                "has version %" PRIu32 " of the format, which this "
                "program does not know",
                s->version);
    break;
  case TIER_FEATURE:
    why_refuse (why, size,
                "has features that this program does not know "
                "(%#" PRIx64 ")",
                s->incompat);
    break;
  case TIER_IN_TROUBLE:
    why_refuse (why, size, "%s", strerror (ENOMEM));
    break;
  default:
    why_refuse (why, size, "is damaged: no superblock is good");
  }
  return fault;
}

/* Finds the superblock that counts.  A good one beside one of another version
 * is not used: a program that knows that version may have changed what it is
 * of.
 */
static enum tier_fault
choose_superblock (struct tier *t, char *why, size_t size)
{
  struct superblock s[SUPERBLOCK_COPIES] = { 0 };
  enum tier_fault worst = TIER_NONE;
  unsigned copy, best = SUPERBLOCK_COPIES;

  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy) {
    t->copies[copy].fault = read_superblock (&s[copy], t->m, copy);
    if (t->copies[copy].fault > worst) {
      worst = t->copies[copy].fault;
      t->super = s[copy];
    }
    if (t->copies[copy].fault == TIER_GOOD &&
        (best == SUPERBLOCK_COPIES || s[copy].generation > s[best].generation))
      best = copy;
  }
  if (best == SUPERBLOCK_COPIES || worst > TIER_DAMAGED)
    return refuse_superblock (&t->super, worst, why, size);
  if (t->copies[!best].fault == TIER_GOOD && !superblock_agree (&s[0], &s[1])) {
    why_refuse (why, size, "is damaged: its superblocks are of two tiers");
    return TIER_DAMAGED;
  }
  t->super = s[best];
  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    t->copies[copy].current = t->copies[copy].fault == TIER_GOOD &&
                              s[copy].generation == s[best].generation;
  return TIER_GOOD;
}

enum tier_fault
tier_open (struct tier *t, struct medium *m, char *why, size_t size)
{
  enum tier_fault fault;
  char part[200];

  *t = (struct tier){ .m = m };
  fault = choose_superblock (t, why, size);
  if (fault != TIER_GOOD)
    return fault;
  if (t->super.geometry.size > m->size) {
    why_refuse (why, size,
                "is truncated: %" PRIu64 " of %" PRIu64 " bytes are there",
                m->size, t->super.geometry.size);
    return TIER_DAMAGED;
  }
  fault = state_read (&t->state, &t->super, m, part, sizeof part);
  if (fault != TIER_GOOD)
    why_refuse (why, size, "is damaged: %s", part);
  return fault;
}

void
tier_close (struct tier *t)
{
  state_free (&t->state);
}

/* ---- which slots count ---- */

bool
tier_slot_counts (const struct tier *t, const struct tier_summary *summary,
                  uint32_t slot)
{
  const struct geometry *g = &t->super.geometry;
  const struct tier_slot *e = &summary->slots[slot];
  const struct tier_export *export = state_export (&t->state, e->export);
  const uint32_t number = summary->segment * g->slots + slot;
  uint64_t pages;

  if (export == NULL || summary->sequence < export->since)
    return false;
  pages = export->size / g->page_size + (export->size % g->page_size != 0);
  if (e->page >= pages ||
      state_has_intent (&t->state, e->export,
                        e->page / (g->region_size / g->page_size)))
    return false;
  return summary->sequence >= t->state.settled ||
         (t->state.live[number / 8] >> number % 8 & 1);
}
