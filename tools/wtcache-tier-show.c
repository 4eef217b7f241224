/* SPDX-License-Identifier: BSD-3-Clause */

/* The output of wtcache-tier: a tier's kind (info), whether all of it is good
 * (check), and its whole contents (dump); as text, or as JSON.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/name.h"
#include "base/util.h"
#include "base/value.h"
#include "die.h"
#include "wtcache-tier-show.h"

#define UUID_TEXT  37
#define TIME_TEXT  32
#define MAX_REASON 200

static const struct superblock *
super_of (const struct show *s)
{
  return &s->tier->super;
}

static void
print_json (json_t *j)
{
  json_dumpf (checked (j), stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
  json_decref (j);
}

/* ---- what a tier is ---- */

static void
uuid_text (const uint8_t *uuid, char *text)
{
  unsigned i;

  for (i = 0; i < TIER_UUID_BYTES; ++i)
    text += sprintf (text, "%s%02x",
                     i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void
time_text (uint64_t seconds, char *text)
{
  const time_t t = seconds;
  struct tm tm;

  if (seconds > INT32_MAX * UINT64_C (1000) || gmtime_r (&t, &tm) == NULL ||
      strftime (text, TIME_TEXT, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
    snprintf (text, TIME_TEXT, "at an unknown time");
}

static const char *
copy_text (const struct tier_copy *copy)
{
  return copy->fault != TIER_GOOD ? "damaged"
         : copy->current          ? "good"
                                  : "older";
}

static const char *const identities[NR_TIER_IDENTITIES] = {
  [TIER_IDENTITY_NONE] = "none",
  [TIER_IDENTITY_TEXT] = "text",
  [TIER_IDENTITY_STAT] = "stat",
};

/* A text that a client or the user chose; one that is not UTF-8 as it is
 * printed, with a hash.
 */
static json_t *
json_text (const char *text)
{
  json_t *j = json_string (text);

  return j ? j : json_string (name_quoted (text).text);
}

static json_t *
json_exports (const struct tier_state *state)
{
  json_t *list = json_array ();
  const struct tier_export *e = state->exports, *end = e + state->nr_exports;

  for (; e < end; ++e)
    json_array_append_new (
        list,
        json_pack ("{s:I, s:o, s:b, s:I, s:I, s:s, s:o}", "id",
                   (json_int_t) e->id, "name", json_text (e->name), "tls",
                   e->tls, "size", (json_int_t) e->size, "since",
                   (json_int_t) e->since, "identity_kind", identities[e->kind],
                   "identity", json_text (e->identity)));
  return list;
}

static void
print_info_json (const struct show *s, const char *uuid)
{
  const struct superblock *super = super_of (s);
  const struct geometry *g = &super->geometry;
  const struct tier_state *state = &s->tier->state;

  print_json (json_pack (
      "{s:o, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, "
      "s:o, s:[s, s]}",
      "path", json_text (s->path), "version", (int) super->version, "uuid",
      uuid, "size", (json_int_t) g->size, "page_size",
      (json_int_t) g->page_size, "segment_size", (json_int_t) g->segment_size,
      "segments", (json_int_t) g->segments, "slots", (json_int_t) g->slots,
      "region_size", (json_int_t) g->region_size, "generation",
      (json_int_t) super->generation, "clean", super->clean, "starts",
      (json_int_t) state->starts, "written_seconds", (json_int_t) state->time,
      "intents", (json_int_t) state->nr_intents, "exports",
      json_exports (state), "superblocks", copy_text (&s->tier->copies[0]),
      copy_text (&s->tier->copies[1])));
  putchar ('\n');
}

static void
print_export (const struct tier_export *e)
{
  printf ("export %" PRIu32 "  %s%s, %s", e->id, name_quoted (e->name).text,
          e->tls ? " (TLS)" : "", value_size (e->size).s);
  if (e->kind != TIER_IDENTITY_NONE)
    printf (", %s %s", identities[e->kind], name_quoted (e->identity).text);
  if (e->since > 0)
    printf (", since sequence %#" PRIx64, e->since);
  putchar ('\n');
}

static void
print_info_text (const struct show *s, const char *uuid)
{
  const struct superblock *super = super_of (s);
  const struct geometry *g = &super->geometry;
  const struct tier_state *state = &s->tier->state;
  char written[TIME_TEXT];
  uint32_t i;

  time_text (state->time, written);
  printf ("uuid         %s\n", uuid);
  printf ("version      %" PRIu32 "\n", super->version);
  printf ("size         %s: %" PRIu32 " segments of %s\n",
          value_size (g->size).s, g->segments, value_size (g->segment_size).s);
  printf ("pages        %" PRIu64 " of %s\n", geometry_nr_slots (g),
          value_size (g->page_size).s);
  printf ("condition    %s\n", super->clean ? "clean" : "open: not closed");
  printf ("generation   %" PRIu64 ", written %s\n", super->generation, written);
  printf ("superblocks  %s, %s\n", copy_text (&s->tier->copies[0]),
          copy_text (&s->tier->copies[1]));
  printf ("starts       %" PRIu32 "\n", state->starts);
  printf ("intents      %zu\n", state->nr_intents);
  for (i = 0; i < state->nr_exports; ++i)
    print_export (&state->exports[i]);
}

int
show_info (const struct show *s)
{
  char uuid[UUID_TEXT];

  uuid_text (super_of (s)->uuid, uuid);
  if (s->json)
    print_info_json (s, uuid);
  else
    print_info_text (s, uuid);
  return EXIT_SUCCESS;
}

/* ---- its segments ---- */

static struct tier_slot *
slots_alloc (const struct show *s)
{
  return checked (
      calloc (super_of (s)->geometry.slots, sizeof (struct tier_slot)));
}

/* The findings of a check. */
struct findings {
  json_t *problems; /* NULL: they are printed as they are found */
  uint64_t nr_problems;
  uint64_t segments, without_summary;
  uint64_t used, counting; /* slots */
  uint64_t pages, unfinished;
};

static void __attribute__ ((format (printf, 2, 3)))
add_problem (struct findings *f, const char *format, ...)
{
  char text[MAX_REASON];
  va_list args;

  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  f->nr_problems++;
  if (f->problems)
    json_array_append_new (f->problems, json_string (text));
  else
    puts (text);
}

/* Reads a page that counts.  A page in a segment that a checkpoint has settled
 * was synced before, so its checksum must be right; one in a younger segment
 * may have been cut off by a crash.
 */
static void
check_page (const struct show *s, struct findings *f,
            const struct tier_summary *summary, uint32_t slot, void *page)
{
  const struct superblock *super = super_of (s);
  struct medium *m = s->tier->m;

  f->pages++;
  if (m->ops->read (m, page, super->geometry.page_size,
                    segment_slot_offset (super, summary->segment, slot)) == -1)
    add_problem (f, "segment %" PRIu32 ", slot %" PRIu32 ": %s",
                 summary->segment, slot, strerror (errno));
  else if (segment_checksum (super, summary, slot, page) ==
           summary->slots[slot].checksum)
    return;
  else if (summary->sequence >= s->tier->state.settled)
    f->unfinished++;
  else
    add_problem (f, "segment %" PRIu32 ", slot %" PRIu32 ": wrong checksum",
                 summary->segment, slot);
}

static void
check_segment (const struct show *s, struct findings *f,
               struct tier_summary *summary, void *page)
{
  const struct superblock *super = super_of (s);
  const int r = segment_read_summary (super, s->tier->m, summary);
  uint32_t slot;

  f->segments++;
  if (r == -1)
    add_problem (f, "segment %" PRIu32 ": the summary cannot be read: %s",
                 summary->segment, strerror (errno));
  if (r != 1) {
    f->without_summary++;
    return;
  }
  for (slot = 0; slot < super->geometry.slots; ++slot) {
    f->used += summary->slots[slot].export != 0;
    if (tier_slot_counts (s->tier, summary, slot)) {
      f->counting++;
      if (s->data)
        check_page (s, f, summary, slot, page);
    }
  }
}

static void
check_superblocks (const struct show *s, struct findings *f)
{
  unsigned copy;

  for (copy = 0; copy < SUPERBLOCK_COPIES; ++copy)
    if (s->tier->copies[copy].fault != TIER_GOOD)
      add_problem (f,
                   "superblock %u is damaged; the other one is used, and the "
                   "next server writes this one again",
                   copy);
}

static void
print_findings_json (const struct show *s, const struct findings *f)
{
  json_t *j = json_pack (
      "{s:b, s:O, s:I, s:I, s:I, s:I}", "good", f->nr_problems == 0, "problems",
      f->problems, "segments", (json_int_t) f->segments, "without_summary",
      (json_int_t) f->without_summary, "used_slots", (json_int_t) f->used,
      "counting_slots", (json_int_t) f->counting);

  if (s->data) {
    json_object_set_new (j, "pages_read", json_integer (f->pages));
    json_object_set_new (j, "pages_unfinished", json_integer (f->unfinished));
  }
  print_json (j);
  putchar ('\n');
}

static void
print_findings_text (const struct show *s, const struct findings *f)
{
  printf ("%" PRIu64 " segments, %" PRIu64
          " of them without a summary; %" PRIu64 " slots are used, %" PRIu64
          " count\n",
          f->segments, f->without_summary, f->used, f->counting);
  if (s->data)
    printf ("%" PRIu64 " pages were read, %" PRIu64
            " of them were being written when the server ended\n",
            f->pages, f->unfinished);
  if (f->nr_problems > 0)
    printf ("problems: %" PRIu64 "\n", f->nr_problems);
  else
    puts ("good");
}

int
show_check (const struct show *s)
{
  struct findings f = {
    .problems = s->json ? checked (json_array ()) : NULL,
  };
  struct tier_summary summary = { .slots = slots_alloc (s) };
  void *page =
      checked (aligned_alloc (TIER_UNIT, super_of (s)->geometry.page_size));

  check_superblocks (s, &f);
  for (; summary.segment < super_of (s)->geometry.segments; ++summary.segment)
    check_segment (s, &f, &summary, page);
  free (page);
  free (summary.slots);
  if (s->json)
    print_findings_json (s, &f);
  else
    print_findings_text (s, &f);
  json_decref (f.problems);
  return f.nr_problems == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}

/* ---- all that it says ---- */

/* "all", or the number of a region. */
static void
print_intent (const struct show *s, const struct tier_intent *i, bool first)
{
  const bool all = i->region == TIER_REGION_ALL;

  if (s->json) {
    if (!first)
      putchar (',');
    print_json (
        json_pack ("{s:I, s:o}", "export", (json_int_t) i->export, "region",
                   all ? json_null () : json_integer ((json_int_t) i->region)));
  }
  else if (all)
    printf ("intent of export %" PRIu32 ": all\n", i->export);
  else
    printf ("intent of export %" PRIu32 ": region %" PRIu64 "\n", i->export,
            i->region);
}

static void
print_slot (const struct show *s, const struct tier_summary *summary,
            uint32_t slot, bool first)
{
  const struct tier_slot *e = &summary->slots[slot];
  const bool counts = tier_slot_counts (s->tier, summary, slot);

  if (s->json) {
    if (!first)
      putchar (',');
    print_json (json_pack ("{s:I, s:I, s:I, s:I, s:b}", "slot",
                           (json_int_t) slot, "export", (json_int_t) e->export,
                           "page", (json_int_t) e->page, "checksum",
                           (json_int_t) e->checksum, "counts", counts));
  }
  else
    printf ("  slot %" PRIu32 ": export %" PRIu32 ", page %" PRIu64
            ", checksum %08" PRIx32 "%s\n",
            slot, e->export, e->page, e->checksum,
            counts ? "" : ", does not count");
}

static void
print_segment (const struct show *s, const struct tier_summary *summary,
               bool first)
{
  bool first_slot = true;
  uint32_t slot;

  printf (s->json ? "%s{\"segment\":%" PRIu32 ",\"sequence\":%" PRIu64
                    ",\"slots\":["
                  : "%ssegment %" PRIu32 ": sequence %" PRIu64 "\n",
          s->json && !first ? "," : "", summary->segment, summary->sequence);
  for (slot = 0; slot < super_of (s)->geometry.slots; ++slot)
    if (summary->slots[slot].export != 0) {
      print_slot (s, summary, slot, first_slot);
      first_slot = false;
    }
  if (s->json)
    fputs ("]}", stdout);
}

static void
dump_segments (const struct show *s)
{
  struct tier_summary summary = { .slots = slots_alloc (s) };
  bool first = true;
  int r;

  for (; summary.segment < super_of (s)->geometry.segments; ++summary.segment) {
    r = segment_read_summary (super_of (s), s->tier->m, &summary);
    if (r == -1)
      die (EXIT_FAILED, "%s: segment %" PRIu32 " cannot be read: %s", s->path,
           summary.segment, strerror (errno));
    if (r == 1) {
      print_segment (s, &summary, first);
      first = false;
    }
  }
  free (summary.slots);
}

/* A tier may have millions of slots, so JSON is printed piece by piece. */
int
show_dump (const struct show *s)
{
  const struct tier_state *state = &s->tier->state;
  size_t i;

  if (s->json)
    fputs ("{\"tier\":", stdout);
  show_info (s);
  if (s->json)
    fputs (",\"intents\":[", stdout);
  for (i = 0; i < state->nr_intents; ++i)
    print_intent (s, &state->intents[i], i == 0);
  if (s->json)
    fputs ("],\"segments\":[", stdout);
  dump_segments (s);
  if (s->json)
    puts ("]}");
  return EXIT_SUCCESS;
}
