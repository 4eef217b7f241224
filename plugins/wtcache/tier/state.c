/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of a tier: which exports it has pages of, in which regions the
 * backend may have changed since, and which slots were live.
 *
 *     unit 0                head
 *     1 …                   export table
 *     1 + exports …         intents, in groups of even A, even B, odd A, odd B
 *     behind the intents    live bitmap
 *
 * Generation G is in copy G mod 2, so a new one never overwrites the current
 * one.  Only intents are added to a generation that is current.  A group of
 * them is written to its even and its odd units in turn: a write that is torn
 * leaves the last one.  Each write goes to two units, A and B: one that decays
 * leaves the other, and an intent that was durable is not forgotten.
 *
 * state.c keeps the state in memory and on the medium.  It does not know when
 * to sync, nor the segments.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "base/why.h"
#include "tier/bytes.h"
#include "tier/state.h"
#include "tier/unit.h"

/* Units that are read or written by one call. */
#define RUN_UNITS 64

enum {
  HEAD_SETTLED = UNIT_HEAD_BYTES,
  HEAD_STARTS = 40,
  HEAD_NEXT_EXPORT = 44,
  HEAD_TIME = 48,

  EXPORT_ID = UNIT_HEAD_BYTES,
  EXPORT_FLAGS = 36,
  EXPORT_SIZE = 40,
  EXPORT_SINCE = 48,
  EXPORT_KIND = 56,
  EXPORT_NAME_LENGTH = 60,
  EXPORT_IDENTITY_LENGTH = 64,
  EXPORT_TEXT = 72,

  INTENT_EXPORT = 0, /* in an entry */
  INTENT_REGION = 8,
  INTENT_BYTES = 16,
};

#define FLAG_TLS 1

_Static_assert(EXPORT_TEXT + TIER_EXPORT_TEXT == TIER_UNIT,
               "the texts of an export fill its unit");
_Static_assert(UNIT_HEAD_BYTES + TIER_INTENT_ENTRIES * INTENT_BYTES <=
                   TIER_UNIT,
               "the intents of a unit fit");
_Static_assert(UNIT_HEAD_BYTES + TIER_BITMAP_BITS / 8 == TIER_UNIT,
               "the bits of a unit fill it");

static size_t
live_bytes_of (const struct geometry *g)
{
  return (geometry_nr_slots (g) + 7) / 8;
}

int
state_init (struct tier_state *state, const struct geometry *g)
{
  *state = (struct tier_state){
    .next_export = 1,
    .live_bytes = live_bytes_of (g),
  };
  state->live = calloc (1, state->live_bytes);
  return state->live ? 0 : -1;
}

void
state_free (struct tier_state *state)
{
  uint32_t i;

  for (i = 0; i < state->nr_exports; ++i) {
    free (state->exports[i].name);
    free (state->exports[i].identity);
  }
  free (state->exports);
  free (state->intents);
  free (state->live);
  memset (state, 0, sizeof *state);
}

const struct tier_export *
state_export (const struct tier_state *state, uint32_t id)
{
  uint32_t i;

  for (i = 0; i < state->nr_exports; ++i)
    if (state->exports[i].id == id)
      return &state->exports[i];
  return NULL;
}

bool
state_has_intent (const struct tier_state *state, uint32_t id, uint64_t region)
{
  const struct tier_intent *i = state->intents, *end = i + state->nr_intents;

  for (; i < end; ++i)
    if (i->export == id &&
        (i->region == region || i->region == TIER_REGION_ALL))
      return true;
  return false;
}

/* ---- encoding ---- */

static void
encode_head (const struct tier_state *state, const struct superblock *s,
             uint8_t *unit)
{
  bytes_put64 (unit, HEAD_SETTLED, state->settled);
  bytes_put32 (unit, HEAD_STARTS, state->starts);
  bytes_put32 (unit, HEAD_NEXT_EXPORT, state->next_export);
  bytes_put64 (unit, HEAD_TIME, state->time);
  unit_seal (unit, s->uuid,
             &(struct unit_head){ .kind = UNIT_STATE,
                                  .generation = s->generation,
                                  .count = state->nr_exports });
}

static void
encode_export (const struct tier_export *e, const struct superblock *s,
               uint32_t index, uint8_t *unit)
{
  const size_t name = strlen (e->name), identity = strlen (e->identity);

  bytes_put32 (unit, EXPORT_ID, e->id);
  bytes_put32 (unit, EXPORT_FLAGS, e->tls ? FLAG_TLS : 0);
  bytes_put64 (unit, EXPORT_SIZE, e->size);
  bytes_put64 (unit, EXPORT_SINCE, e->since);
  bytes_put32 (unit, EXPORT_KIND, e->kind);
  bytes_put32 (unit, EXPORT_NAME_LENGTH, name);
  bytes_put32 (unit, EXPORT_IDENTITY_LENGTH, identity);
  memcpy (unit + EXPORT_TEXT, e->name, name);
  memcpy (unit + EXPORT_TEXT + name, e->identity, identity);
  unit_seal (unit, s->uuid,
             &(struct unit_head){ .kind = UNIT_EXPORT,
                                  .generation = s->generation,
                                  .index = index,
                                  .count = 1 });
}

/* One unit of the last group. */
static void
encode_intents (const struct tier_state *state, const struct superblock *s,
                uint8_t *unit)
{
  const size_t count = state->nr_intents - state->tail;
  uint8_t *entry = unit + UNIT_HEAD_BYTES;
  size_t i;

  for (i = 0; i < count; ++i, entry += INTENT_BYTES) {
    bytes_put32 (entry, INTENT_EXPORT, state->intents[state->tail + i].export);
    bytes_put64 (entry, INTENT_REGION, state->intents[state->tail + i].region);
  }
  unit_seal (unit, s->uuid,
             &(struct unit_head){ .kind = UNIT_INTENTS,
                                  .generation = s->generation,
                                  .index = state->group,
                                  .count = count,
                                  .number = state->number });
}

/* The number of bits in a unit of the bitmap. */
static uint32_t
live_bits (const struct geometry *g, uint32_t index)
{
  return min_u64 (TIER_BITMAP_BITS,
                  geometry_nr_slots (g) - (uint64_t) index * TIER_BITMAP_BITS);
}

static void
encode_live (const struct tier_state *state, const struct superblock *s,
             uint32_t index, uint8_t *unit)
{
  const uint32_t bits = live_bits (&s->geometry, index);

  memcpy (unit + UNIT_HEAD_BYTES,
          state->live + (size_t) index * (TIER_BITMAP_BITS / 8),
          (bits + 7) / 8);
  unit_seal (
      unit, s->uuid,
      &(struct unit_head){ .kind = UNIT_LIVE,
                           .generation = s->generation,
                           .index = index,
                           .count = bits,
                           .number = (uint64_t) index * TIER_BITMAP_BITS });
}

/* ---- writing ---- */

static uint8_t *
run_alloc (void)
{
  return aligned_alloc (TIER_UNIT, RUN_UNITS * TIER_UNIT);
}

static uint64_t
area_offset (const struct superblock *s, uint64_t unit)
{
  return s->geometry.state[s->generation % 2] + unit * TIER_UNIT;
}

/* Makes one unit, which is zeroed, of those that a call writes. */
typedef void encode_unit (const struct tier_state *state,
                          const struct superblock *s, uint32_t index,
                          uint8_t *unit);

/* Writes COUNT units from unit AT of the copy on; ENCODE makes each but where
 * it is NULL: then they are zeroes.
 */
static int
write_units (const struct tier_state *state, const struct superblock *s,
             struct medium *m, uint8_t *run, uint64_t at, uint64_t count,
             encode_unit *encode)
{
  uint64_t done = 0, n, i;

  for (; done < count; done += n) {
    n = min_u64 (count - done, RUN_UNITS);
    memset (run, 0, n * TIER_UNIT);
    for (i = 0; encode && i < n; ++i)
      encode (state, s, done + i, run + i * TIER_UNIT);
    if (m->ops->write (m, run, n * TIER_UNIT, area_offset (s, at + done)) == -1)
      return -1;
  }
  return 0;
}

/* The head, then the exports. */
static void
encode_table (const struct tier_state *state, const struct superblock *s,
              uint32_t index, uint8_t *unit)
{
  if (index == 0)
    encode_head (state, s, unit);
  else
    encode_export (&state->exports[index - 1], s, index - 1, unit);
}

/* Writes the last group to the pair of its units that is not current. */
static int
write_group (struct tier_state *state, const struct superblock *s,
             struct medium *m, uint8_t *run)
{
  uint64_t unit;

  state->number++;
  unit = geometry_intents_at (&s->geometry) +
         (uint64_t) TIER_GROUP_UNITS * state->group + 2 * (state->number % 2);
  memset (run, 0, TIER_UNIT);
  encode_intents (state, s, run);
  memcpy (run + TIER_UNIT, run, TIER_UNIT);
  return m->ops->write (m, run, 2 * TIER_UNIT, area_offset (s, unit));
}

/* Writes what was added to the last group, and as many groups more as it takes.
 * ALL: those that are not in the last group yet.
 */
static int
write_added (struct tier_state *state, const struct superblock *s,
             struct medium *m, uint8_t *run, size_t all)
{
  size_t group_end;

  for (;;) {
    group_end = min_u64 (all, state->tail + TIER_INTENT_ENTRIES);
    state->nr_intents = group_end;
    if (write_group (state, s, m, run) == -1)
      return -1;
    if (group_end == all)
      return 0;
    state->group++;
    state->number = 0;
    state->tail = group_end;
  }
}

/* The intents are the first ALL.  All groups are zeroed before: there may be
 * some of a checkpoint that was to be this generation and did not end, or of a
 * medium that was put back to an older one.
 */
static int
write_parts (struct tier_state *state, const struct superblock *s,
             struct medium *m, uint8_t *run, size_t all)
{
  const uint64_t exports = geometry_exports_at ();
  const uint64_t intents = geometry_intents_at (&s->geometry);
  const uint64_t live = geometry_bitmap_at (&s->geometry);

  if (write_units (state, s, m, run, 0, exports + state->nr_exports,
                   encode_table) == -1 ||
      write_units (state, s, m, run, intents, live - intents, NULL) == -1 ||
      write_added (state, s, m, run, all) == -1)
    return -1;
  return write_units (state, s, m, run, live, s->geometry.bitmap_units,
                      encode_live);
}

int
state_write (struct tier_state *state, const struct superblock *s,
             struct medium *m)
{
  const size_t all = state->nr_intents;
  uint8_t *run;
  int r;

  if (all > (size_t) s->geometry.intent_groups * TIER_INTENT_ENTRIES ||
      state->nr_exports > s->geometry.exports) {
    errno = ENOSPC;
    return -1;
  }
  run = run_alloc ();
  if (run == NULL)
    return -1;
  state->tail = 0;
  state->group = 0;
  state->number = 0;
  r = write_parts (state, s, m, run, all);
  state->nr_intents = all;
  free (run);
  return r;
}

int
state_add_intents (struct tier_state *state, const struct superblock *s,
                   struct medium *m, const struct tier_intent *intents,
                   size_t nr)
{
  const size_t all = state->nr_intents + nr;
  const size_t room =
      (size_t) (s->geometry.intent_groups - state->group) * TIER_INTENT_ENTRIES;
  struct tier_intent *more;
  uint8_t *run;
  int r;

  if (all - state->tail > room) {
    errno = ENOSPC;
    return -1;
  }
  more = realloc (state->intents, (all + 1) * sizeof *more);
  if (more == NULL)
    return -1;
  state->intents = more;
  run = run_alloc ();
  if (run == NULL)
    return -1;
  memcpy (more + state->nr_intents, intents, nr * sizeof *more);
  r = write_added (state, s, m, run, all);
  state->nr_intents = all;
  free (run);
  return r;
}

/* ---- reading ---- */

/* A state that is being read. */
struct reading {
  struct tier_state *state;
  const struct superblock *s;
  struct medium *m;
  uint8_t *run;
  char *why;
  size_t size;
};

/* "live bitmap, unit 3, is damaged". */
static enum tier_fault
damaged (const struct reading *r, const char *part, uint64_t index)
{
  why_refuse (r->why, r->size,
              "generation %" PRIu64 ": %s %" PRIu64 " is damaged",
              r->s->generation, part, index);
  return TIER_DAMAGED;
}

static enum tier_fault
no_memory (const struct reading *r)
{
  why_refuse (r->why, r->size, "%s", strerror (ENOMEM));
  return TIER_IN_TROUBLE;
}

static enum tier_fault
read_units (const struct reading *r, uint64_t at, uint64_t units)
{
  if (r->m->ops->read (r->m, r->run, units * TIER_UNIT,
                       area_offset (r->s, at)) == 0)
    return TIER_GOOD;
  why_refuse (r->why, r->size, "cannot be read: %s", strerror (errno));
  return TIER_DAMAGED;
}

/* Whether a unit is the one of this kind and index of the generation. */
static bool
is_expected (const struct reading *r, const uint8_t *unit, enum unit_kind kind,
             uint32_t index, struct unit_head *head)
{
  return unit_open (unit, r->s->uuid, kind, head) &&
         head->generation == r->s->generation && head->index == index;
}

static enum tier_fault
read_head (const struct reading *r)
{
  struct tier_state *state = r->state;
  enum tier_fault fault = read_units (r, 0, 1);
  struct unit_head head;

  if (fault != TIER_GOOD)
    return fault;
  state->settled = bytes_get64 (r->run, HEAD_SETTLED);
  state->starts = bytes_get32 (r->run, HEAD_STARTS);
  state->next_export = bytes_get32 (r->run, HEAD_NEXT_EXPORT);
  state->time = bytes_get64 (r->run, HEAD_TIME);
  if (!is_expected (r, r->run, UNIT_STATE, 0, &head) ||
      head.count > r->s->geometry.exports || state->next_export == 0)
    return damaged (r, "head", 0);
  state->exports = calloc (head.count + 1, sizeof *state->exports);
  if (state->exports == NULL)
    return no_memory (r);
  /* An export without texts can be freed. */
  state->nr_exports = head.count;
  return TIER_GOOD;
}

static enum tier_fault
decode_export (const struct reading *r, const uint8_t *unit, uint32_t index)
{
  struct tier_state *state = r->state;
  struct tier_export *e = &state->exports[index];
  const uint64_t name = bytes_get32 (unit, EXPORT_NAME_LENGTH);
  const uint64_t identity = bytes_get32 (unit, EXPORT_IDENTITY_LENGTH);
  const uint32_t id = bytes_get32 (unit, EXPORT_ID);
  const uint32_t kind = bytes_get32 (unit, EXPORT_KIND);
  const char *text = (const char *) unit + EXPORT_TEXT;
  struct unit_head head;

  if (!is_expected (r, unit, UNIT_EXPORT, index, &head) || head.count != 1 ||
      id == 0 || id >= state->next_export || state_export (state, id) ||
      kind >= NR_TIER_IDENTITIES || name + identity > TIER_EXPORT_TEXT ||
      memchr (text, 0, name + identity) ||
      (kind == TIER_IDENTITY_NONE) != (identity == 0))
    return damaged (r, "export", index);
  e->id = id;
  e->tls = bytes_get32 (unit, EXPORT_FLAGS) & FLAG_TLS;
  e->size = bytes_get64 (unit, EXPORT_SIZE);
  e->since = bytes_get64 (unit, EXPORT_SINCE);
  e->kind = kind;
  e->name = strndup (text, name);
  e->identity = strndup (text + name, identity);
  return e->name && e->identity ? TIER_GOOD : no_memory (r);
}

static enum tier_fault
read_exports (const struct reading *r)
{
  enum tier_fault fault = TIER_GOOD;
  uint64_t at, n, i;

  for (at = 0; at < r->state->nr_exports; at += n) {
    n = min_u64 (r->state->nr_exports - at, RUN_UNITS);
    fault = read_units (r, geometry_exports_at () + at, n);
    for (i = 0; i < n && fault == TIER_GOOD; ++i)
      fault = decode_export (r, r->run + i * TIER_UNIT, at + i);
    if (fault != TIER_GOOD)
      break;
  }
  return fault;
}

/* The unit of a group that counts, or NULL. */
static const uint8_t *
current_of_group (const struct reading *r, const uint8_t *group, uint32_t index,
                  struct unit_head *head)
{
  const uint8_t *found = NULL, *unit = group;
  struct unit_head h;
  unsigned i;

  for (i = 0; i < TIER_GROUP_UNITS; ++i, unit += TIER_UNIT)
    if (is_expected (r, unit, UNIT_INTENTS, index, &h) &&
        h.count <= TIER_INTENT_ENTRIES && h.number % 2 == i / 2 &&
        (found == NULL || h.number > head->number)) {
      found = unit;
      *head = h;
    }
  return found;
}

static enum tier_fault
decode_intents (const struct reading *r, const uint8_t *unit,
                const struct unit_head *head)
{
  struct tier_state *state = r->state;
  const uint8_t *entry = unit + UNIT_HEAD_BYTES;
  struct tier_intent *i;
  uint32_t n;

  i = realloc (state->intents,
               (state->nr_intents + head->count + 1) * sizeof *i);
  if (i == NULL)
    return no_memory (r);
  state->intents = i;
  state->tail = state->nr_intents;
  state->group = head->index;
  state->number = head->number;
  for (n = 0; n < head->count; ++n, entry += INTENT_BYTES)
    i[state->nr_intents++] = (struct tier_intent){
      .export = bytes_get32 (entry, INTENT_EXPORT),
      .region = bytes_get64 (entry, INTENT_REGION),
    };
  return TIER_GOOD;
}

/* All groups are read: a good one after one that is not tells damage. */
static enum tier_fault
read_intents (const struct reading *r)
{
  const struct geometry *g = &r->s->geometry;
  const uint32_t groups_of_run = RUN_UNITS / TIER_GROUP_UNITS;
  enum tier_fault fault = TIER_GOOD;
  uint32_t index, in_run, good = 0;
  const uint8_t *unit;
  struct unit_head head;

  for (index = 0; index < g->intent_groups && fault == TIER_GOOD; ++index) {
    in_run = index % groups_of_run;
    if (in_run == 0)
      fault = read_units (
          r, geometry_intents_at (g) + (uint64_t) TIER_GROUP_UNITS * index,
          TIER_GROUP_UNITS * min_u64 (g->intent_groups - index, groups_of_run));
    if (fault != TIER_GOOD)
      break;
    unit = current_of_group (
        r, r->run + (size_t) in_run * TIER_GROUP_UNITS * TIER_UNIT, index,
        &head);
    if (unit && good < index)
      fault = damaged (r, "group of intents", good);
    else if (unit) {
      fault = decode_intents (r, unit, &head);
      good++;
    }
  }
  return fault == TIER_GOOD && good == 0 ? damaged (r, "group of intents", 0)
                                         : fault;
}

static enum tier_fault
decode_live (const struct reading *r, const uint8_t *unit, uint32_t index)
{
  const uint32_t bits = live_bits (&r->s->geometry, index);
  struct unit_head head;

  if (!is_expected (r, unit, UNIT_LIVE, index, &head) || head.count != bits ||
      head.number != (uint64_t) index * TIER_BITMAP_BITS)
    return damaged (r, "live bitmap", index);
  memcpy (r->state->live + (size_t) index * (TIER_BITMAP_BITS / 8),
          unit + UNIT_HEAD_BYTES, (bits + 7) / 8);
  return TIER_GOOD;
}

static enum tier_fault
read_live (const struct reading *r)
{
  const struct geometry *g = &r->s->geometry;
  enum tier_fault fault = TIER_GOOD;
  uint64_t at, n, i;

  for (at = 0; at < g->bitmap_units && fault == TIER_GOOD; at += n) {
    n = min_u64 (g->bitmap_units - at, RUN_UNITS);
    fault = read_units (r, geometry_bitmap_at (g) + at, n);
    for (i = 0; i < n && fault == TIER_GOOD; ++i)
      fault = decode_live (r, r->run + i * TIER_UNIT, at + i);
  }
  return fault;
}

enum tier_fault
state_read (struct tier_state *state, const struct superblock *s,
            struct medium *m, char *why, size_t size)
{
  struct reading r = {
    .state = state, .s = s, .m = m, .why = why, .size = size
  };
  enum tier_fault fault;

  if (state_init (state, &s->geometry) == -1)
    return no_memory (&r);
  r.run = run_alloc ();
  fault = r.run ? read_head (&r) : no_memory (&r);
  if (fault == TIER_GOOD)
    fault = read_exports (&r);
  if (fault == TIER_GOOD)
    fault = read_intents (&r);
  if (fault == TIER_GOOD)
    fault = read_live (&r);
  free (r.run);
  if (fault != TIER_GOOD)
    state_free (state);
  return fault;
}
