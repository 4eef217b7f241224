/* SPDX-License-Identifier: BSD-3-Clause */

/* A model of a disk under a tier.
 *
 * A real disk has a cache of its own: until it is told to sync, it writes
 * sectors in the order that it likes, and a power cut ends that anywhere.  So
 * after a crash each sector of 512 bytes has what the last sync left, or what
 * any write since then put there, whatever became of the other sectors of the
 * same write.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "base/util.h"
#include "model.h"

static struct model *
model_of (struct medium *m)
{
  return container_of (m, struct model, medium);
}

/* Whether the next act fails. */
static bool
fails (struct model *m)
{
  m->acts++;
  if (m->stop == 0 || m->acts < m->stop)
    return false;
  errno = EIO;
  return true;
}

static void
check_range (const struct medium *m, const void *buffer, size_t len,
             uint64_t offset)
{
  must (len > 0 && len % TIER_UNIT == 0 && offset % TIER_UNIT == 0);
  must ((uintptr_t) buffer % TIER_UNIT == 0);
  must (offset + len <= m->size);
}

static int
model_read (struct medium *medium, void *buffer, size_t len, uint64_t offset)
{
  check_range (medium, buffer, len, offset);
  memcpy (buffer, model_of (medium)->now + offset, len);
  return 0;
}

static int
model_write (struct medium *medium, const void *buffer, size_t len,
             uint64_t offset)
{
  struct model *m = model_of (medium);
  const bool failed = fails (m);

  check_range (medium, buffer, len, offset);
  /* One that fails may have been done, in part. */
  must (m->nr_writes < MODEL_MAX_WRITES);
  m->writes[m->nr_writes].bytes = malloc (len);
  must (m->writes[m->nr_writes].bytes != NULL);
  memcpy (m->writes[m->nr_writes].bytes, buffer, len);
  m->writes[m->nr_writes].len = len;
  m->writes[m->nr_writes++].offset = offset;
  if (failed)
    return -1;
  memcpy (m->now + offset, buffer, len);
  return 0;
}

static void
forget_writes (struct model *m)
{
  while (m->nr_writes > 0)
    free (m->writes[--m->nr_writes].bytes);
}

static int
model_sync (struct medium *medium)
{
  struct model *m = model_of (medium);
  unsigned i;

  if (fails (m))
    return -1;
  for (i = 0; i < m->nr_writes; ++i)
    memcpy (m->durable + m->writes[i].offset, m->writes[i].bytes,
            m->writes[i].len);
  forget_writes (m);
  return 0;
}

static int
model_discard (struct medium *medium, uint64_t offset, uint64_t len)
{
  return 0;
}

static void
model_close (struct medium *medium)
{
}

static const struct medium_ops model_ops = {
  .read = model_read,
  .write = model_write,
  .sync = model_sync,
  .discard = model_discard,
  .close = model_close,
};

void
model_init (struct model *m, uint64_t size)
{
  *m = (struct model){ .medium = { .ops = &model_ops, .size = size } };
  m->now = calloc (1, size);
  m->durable = calloc (1, size);
  must (m->now != NULL && m->durable != NULL);
}

void
model_free (struct model *m)
{
  forget_writes (m);
  free (m->now);
  free (m->durable);
}

void
model_crash (struct model *m, struct random *r, unsigned keep)
{
  uint64_t at;
  unsigned i;

  for (i = 0; i < m->nr_writes; ++i)
    memcpy (m->now + m->writes[i].offset, m->durable + m->writes[i].offset,
            m->writes[i].len);
  for (i = 0; i < m->nr_writes; ++i)
    for (at = 0; at < m->writes[i].len; at += MODEL_SECTOR)
      if (random_chance (r, keep))
        memcpy (m->now + m->writes[i].offset + at, m->writes[i].bytes + at,
                MODEL_SECTOR);
  for (i = 0; i < m->nr_writes; ++i)
    memcpy (m->durable + m->writes[i].offset, m->now + m->writes[i].offset,
            m->writes[i].len);
  forget_writes (m);
  m->stop = 0;
}

/* ---- states ---- */

void
model_geometry (struct geometry *g)
{
  *g = (struct geometry){
    .size = 5 * MiB,
    .page_size = 4 * KiB,
    .segment_size = 1 * MiB,
    .exports = 4,
    .intent_groups = 3,
    .region_size = 16 * MiB,
  };
  must (geometry_derive (g));
  must (g->segments == 4);
}

static bool
same_export (const struct tier_export *a, const struct tier_export *b)
{
  return a->id == b->id && a->tls == b->tls && a->size == b->size &&
         a->since == b->since && a->kind == b->kind &&
         strcmp (a->name, b->name) == 0 &&
         strcmp (a->identity, b->identity) == 0;
}

static bool
has_all_intents (const struct tier_state *a, const struct tier_state *b)
{
  size_t i, j;

  for (i = 0; i < b->nr_intents; ++i) {
    for (j = 0; j < a->nr_intents; ++j)
      if (a->intents[j].export == b->intents[i].export &&
          a->intents[j].region == b->intents[i].region)
        break;
    if (j == a->nr_intents)
      return false;
  }
  return true;
}

bool
model_same_state (const struct tier_state *a, const struct tier_state *b)
{
  uint32_t i;

  if (a->settled != b->settled || a->starts != b->starts ||
      a->next_export != b->next_export || a->nr_exports != b->nr_exports ||
      a->live_bytes != b->live_bytes ||
      memcmp (a->live, b->live, a->live_bytes) != 0)
    return false;
  for (i = 0; i < a->nr_exports; ++i)
    if (!same_export (&a->exports[i], &b->exports[i]))
      return false;
  return has_all_intents (a, b) && has_all_intents (b, a);
}

static void *
copy_of (const void *bytes, size_t len)
{
  void *copy = malloc (len + 1);

  must (copy != NULL);
  memcpy (copy, bytes, len);
  return copy;
}

void
model_copy_state (struct tier_state *to, const struct tier_state *from)
{
  uint32_t i;

  *to = *from;
  to->live = copy_of (from->live, from->live_bytes);
  to->exports =
      from->nr_exports == 0
          ? NULL
          : copy_of (from->exports, from->nr_exports * sizeof *from->exports);
  to->intents =
      from->nr_intents == 0
          ? NULL
          : copy_of (from->intents, from->nr_intents * sizeof *from->intents);
  for (i = 0; i < from->nr_exports; ++i) {
    to->exports[i].name = strdup (from->exports[i].name);
    to->exports[i].identity = strdup (from->exports[i].identity);
    must (to->exports[i].name != NULL && to->exports[i].identity != NULL);
  }
}

void
model_add_export (struct tier_state *state, const char *name, uint64_t size)
{
  struct tier_export *e;

  state->exports =
      realloc (state->exports, (state->nr_exports + 1) * sizeof *e);
  must (state->exports != NULL);
  e = &state->exports[state->nr_exports++];
  *e = (struct tier_export){
    .id = state->next_export++,
    .size = size,
    .name = strdup (name),
    .identity = strdup (""),
  };
  must (e->name != NULL && e->identity != NULL);
}

void
model_change_state (struct tier_state *state, struct random *r)
{
  struct tier_export *e;
  char name[40];
  size_t i;

  if (state->nr_exports == 4) {
    e = &state->exports[--state->nr_exports];
    free (e->name);
    free (e->identity);
  }
  else {
    snprintf (name, sizeof name, "disk%u", (unsigned) random_below (r, 1000));
    model_add_export (state, name, 1 + random_below (r, GiB));
  }
  e = &state->exports[random_below (r, state->nr_exports)];
  e->since = random_below (r, 1000);
  e->tls = random_chance (r, 50);
  free (e->identity);
  e->kind = random_below (r, NR_TIER_IDENTITIES);
  e->identity = strdup (e->kind == TIER_IDENTITY_NONE ? "" : "an image");
  must (e->identity != NULL);
  for (i = 0; i < state->live_bytes; ++i)
    state->live[i] = random_below (r, 256);
  state->live[state->live_bytes - 1] = 0; /* some bits are of no slot */
  state->settled = random_below (r, UINT64_MAX);
  state->starts++;
  state->nr_intents = 0;
}
