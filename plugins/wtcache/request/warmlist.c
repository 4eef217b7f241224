/* SPDX-License-Identifier: BSD-3-Clause */

/* The text of a warm list: which pages clients used most, by heat.
 *
 *   version 1
 *   export plain 1073741824 4096 =disk
 *   export tls 52428800 4096 =a%20name
 *   4 0 16+8 2 100+4
 *   4 1 0
 *   3 0 7+9
 *   end 5f3c1b20
 *
 * Exports come first: with TLS or without, its size and its page size in bytes,
 * and its name, in which each byte that is not a letter, a digit or one of
 * "-./_" is written as %XX.  Exports are numbered from 0 in this order.
 *
 * Then come lines of runs: heat, export, and pages in ascending order, each run
 * as the gap since the last one and its length, where that is not 1.  The first
 * line above is of pages 16 … 23, 26, and 127 … 130.  For each export, lines of
 * greater heat come first.  So a page takes two or three bytes as a rule.
 *
 * The last line is the CRC-32C of all before it.  A list that breaks a rule is
 * not used.
 *
 * May not know caches or files.
 */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/why.h"
#include "request/warmlist.h"

#define LIST_VERSION 1
#define LINE_RUNS    64 /* in a line, at most */
#define MAX_EXPORTS  10000
#define END_BYTES    13 /* "end ", eight digits, newline */

/* ---- reading ---- */

/* The rest of a text. */
struct input {
  const char *p, *end;
};

static bool
take_text (struct input *in, const char *text)
{
  const size_t len = strlen (text);

  if ((size_t) (in->end - in->p) < len || memcmp (in->p, text, len) != 0)
    return false;
  in->p += len;
  return true;
}

/* Digits without a leading zero, at most MAX. */
static bool
take_number (struct input *in, uint64_t max, uint64_t *n)
{
  const char *first = in->p;

  *n = 0;
  for (; in->p < in->end && *in->p >= '0' && *in->p <= '9'; ++in->p) {
    if (*n > max / 10 || *n * 10 > max - (*in->p - '0'))
      return false;
    *n = *n * 10 + (*in->p - '0');
  }
  return in->p > first && (*first != '0' || in->p == first + 1);
}

static int
name_digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
is_bare (char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '/' || c == '_';
}

/* Up to the end of the line.  NULL: it is no name, or ENOMEM. */
static char *
take_name (struct input *in)
{
  const char *line_end = memchr (in->p, '\n', in->end - in->p);
  char *name = line_end ? malloc (line_end - in->p + 1) : NULL;
  int high = 0, low = 0;
  size_t len = 0;

  if (name == NULL)
    return NULL;
  for (; in->p < line_end; ++in->p) {
    if (is_bare (*in->p)) {
      name[len++] = *in->p;
      continue;
    }
    if (*in->p == '%' && line_end - in->p > 2) {
      high = name_digit (in->p[1]);
      low = name_digit (in->p[2]);
    }
    if (*in->p != '%' || line_end - in->p <= 2 || high < 0 || low < 0 ||
        high + low == 0) {
      free (name);
      return NULL;
    }
    name[len++] = high * 16 + low;
    in->p += 2;
  }
  name[len] = '\0';
  return name;
}

/* After "export ". */
static bool
take_export (struct input *in, struct warmlist_export *e)
{
  uint64_t page_size;

  memset (e, 0, sizeof *e);
  e->tls = take_text (in, "tls ");
  if ((!e->tls && !take_text (in, "plain ")) ||
      !take_number (in, INT64_MAX, &e->size) || !take_text (in, " ") ||
      !take_number (in, 1 * MiB, &page_size) || !is_power_of_2 (page_size) ||
      !take_text (in, " ="))
    return false;
  e->page_size = page_size;
  e->name = take_name (in);
  return e->name && take_text (in, "\n");
}

/* One run, and the space or the end of line after it; MAX: pages there are. */
static bool
take_run (struct input *in, uint64_t max, uint64_t *next,
          struct warmlist_run *run)
{
  uint64_t gap;

  run->count = 1;
  if (!take_number (in, max, &gap) || gap > max - *next)
    return false;
  run->first = *next + gap;
  if (take_text (in, "+") && !take_number (in, max, &run->count))
    return false;
  if (run->count == 0 || run->count > max - run->first)
    return false;
  *next = run->first + run->count;
  return true;
}

static uint64_t
max_pages (const struct warmlist_export *e)
{
  return INT64_MAX / e->page_size;
}

/* The heat and the export with which a line begins. */
static bool
take_line_start (struct input *in, unsigned nr_exports, unsigned *heat,
                 unsigned *export)
{
  uint64_t h, e;

  if (!take_number (in, WARMLIST_HEATS - 1, &h) || !take_text (in, " ") ||
      !take_number (in, MAX_EXPORTS, &e) || e >= nr_exports ||
      !take_text (in, " "))
    return false;
  *heat = h;
  *export = e;
  return true;
}

/* Checks all lines of runs, and counts the pages. */
static bool
check_runs (struct warmlist *l, struct input *in, unsigned *heats)
{
  struct warmlist_export *e;
  struct warmlist_run run;
  unsigned heat, export;
  uint64_t next;

  while (in->p < in->end) {
    if (!take_line_start (in, l->nr_exports, &heat, &export) ||
        heat > heats[export])
      return false;
    heats[export] = heat;
    e = &l->exports[export];
    next = 0;
    do {
      if (!take_run (in, max_pages (e), &next, &run))
        return false;
      e->pages += run.count;
    } while (take_text (in, " "));
    if (!take_text (in, "\n"))
      return false;
  }
  return true;
}

static bool
take_exports (struct warmlist *l, struct input *in)
{
  struct warmlist_export *more;

  while (take_text (in, "export ")) {
    if (l->nr_exports == MAX_EXPORTS)
      return false;
    more = realloc (l->exports, (l->nr_exports + 1) * sizeof *more);
    if (more == NULL)
      return false;
    l->exports = more;
    if (!take_export (in, &l->exports[l->nr_exports++]))
      return false;
  }
  return true;
}

static bool
check_lines (struct warmlist *l, struct input *in)
{
  unsigned *heats, i;
  bool good;

  if (!take_exports (l, in))
    return false;
  heats = malloc ((l->nr_exports + 1) * sizeof *heats);
  if (heats == NULL)
    return false;
  for (i = 0; i < l->nr_exports; ++i)
    heats[i] = WARMLIST_HEATS - 1;
  l->first_run = in->p - l->text;
  good = check_runs (l, in, heats);
  free (heats);
  return good;
}

/* Takes the last line off, if it has the checksum of the rest. */
static bool
check_sum (struct warmlist *l)
{
  char end[END_BYTES + 1];

  if (l->len < END_BYTES)
    return false;
  l->len -= END_BYTES;
  snprintf (end, sizeof end, "end %08" PRIx32 "\n",
            crc32c (0, l->text, l->len));
  return memcmp (l->text + l->len, end, END_BYTES) == 0;
}

int
warmlist_parse (struct warmlist *l, char *text, size_t len, char *why,
                size_t size)
{
  struct input in;
  uint64_t version = 0;
  int r = 0;

  *l = (struct warmlist){ .text = text, .len = len };
  in = (struct input){ .p = text, .end = text + len };
  if (!take_text (&in, "version ") || !take_number (&in, 1000, &version) ||
      !take_text (&in, "\n"))
    r = why_refuse (why, size, "it is damaged: it has no version");
  else if (version != LIST_VERSION)
    r = why_refuse (why, size, "it has version %" PRIu64 ", not %d", version,
                    LIST_VERSION);
  else if (!check_sum (l))
    r = why_refuse (why, size, "it is damaged: its checksum is wrong");
  else {
    in.end = text + l->len;
    if (!check_lines (l, &in))
      r = why_refuse (why, size, "it is damaged at byte %zu",
                      (size_t) (in.p - text));
  }
  if (r != 0)
    warmlist_free (l);
  return r;
}

void
warmlist_free (struct warmlist *l)
{
  unsigned i;

  for (i = 0; i < l->nr_exports; ++i)
    free (l->exports[i].name);
  free (l->exports);
  free (l->text);
  memset (l, 0, sizeof *l);
}

void
warmlist_walk_begin (const struct warmlist *l, struct warmlist_walk *w,
                     unsigned export)
{
  *w =
      (struct warmlist_walk){ .list = l, .export = export, .at = l->first_run };
}

/* Goes to the next line of the export; false: there is none. */
static bool
walk_to_line (struct warmlist_walk *w, struct input *in)
{
  unsigned export;

  while (in->p < in->end) {
    take_line_start (in, w->list->nr_exports, &w->heat, &export);
    if (export == w->export)
      return true;
    in->p = (const char *) memchr (in->p, '\n', in->end - in->p) + 1;
  }
  return false;
}

/* The text was checked. */
bool
warmlist_walk_next (struct warmlist_walk *w, struct warmlist_run *run)
{
  const struct warmlist *l = w->list;
  struct input in = { .p = l->text + w->at, .end = l->text + l->len };
  bool found = true;

  if (!w->in_line) {
    found = walk_to_line (w, &in);
    w->next = 0;
  }
  if (found) {
    take_run (&in, max_pages (&l->exports[w->export]), &w->next, run);
    run->heat = w->heat;
    w->in_line = *in.p++ == ' ';
  }
  w->at = in.p - l->text;
  return found;
}

/* ---- writing ---- */

static void text_add (struct warmlist_text *t, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

/* At most 99 bytes. */
static void
text_add (struct warmlist_text *t, const char *format, ...)
{
  const size_t more = 100;
  va_list args;
  char *bytes;

  if (t->failed)
    return;
  if (t->room - t->len < more) {
    bytes = realloc (t->bytes, 2 * t->room + more);
    if (bytes == NULL) {
      t->failed = true;
      return;
    }
    t->bytes = bytes;
    t->room = 2 * t->room + more;
  }
  va_start (args, format);
  t->len += vsnprintf (t->bytes + t->len, more, format, args);
  va_end (args);
}

void
warmlist_text_begin (struct warmlist_text *t)
{
  memset (t, 0, sizeof *t);
  text_add (t, "version %d\n", LIST_VERSION);
}

unsigned
warmlist_text_export (struct warmlist_text *t, const char *name, bool tls,
                      uint64_t size, uint32_t page_size)
{
  text_add (t, "export %s %" PRIu64 " %" PRIu32 " =", tls ? "tls" : "plain",
            size, page_size);
  for (; *name; ++name)
    text_add (t, is_bare (*name) ? "%c" : "%%%02X", (unsigned char) *name);
  text_add (t, "\n");
  return t->nr_exports++;
}

/* One run of a line of which COUNT have been written. */
static void
text_run (struct warmlist_text *t, const struct warmlist_run *run,
          unsigned export, unsigned count, uint64_t next)
{
  if (count == 0)
    text_add (t, "%u %u", run->heat, export);
  text_add (t, " %" PRIu64, run->first - next);
  if (run->count > 1)
    text_add (t, "+%" PRIu64, run->count);
}

void
warmlist_text_pages (struct warmlist_text *t, unsigned heat, unsigned export,
                     const uint64_t *pages, size_t n)
{
  struct warmlist_run run = { .heat = heat };
  uint64_t next = 0;
  unsigned count = 0;
  size_t i, j;

  for (i = 0; i < n; i = j) {
    for (j = i + 1; j < n && pages[j] - pages[i] == j - i; ++j)
      ;
    run.first = pages[i];
    run.count = j - i;
    text_run (t, &run, export, count, next);
    next = run.first + run.count;
    if (++count == LINE_RUNS || j == n) {
      text_add (t, "\n");
      count = 0;
      next = 0;
    }
  }
}

void
warmlist_text_copy (struct warmlist_text *t, unsigned export,
                    const struct warmlist *l, unsigned from)
{
  struct warmlist_walk w;
  struct warmlist_run run;
  uint64_t next = 0;
  unsigned count = 0;

  warmlist_walk_begin (l, &w, from);
  while (warmlist_walk_next (&w, &run)) {
    text_run (t, &run, export, count++, next);
    next = run.first + run.count;
    if (!w.in_line) {
      text_add (t, "\n");
      count = 0;
      next = 0;
    }
  }
}

char *
warmlist_text_end (struct warmlist_text *t)
{
  if (!t->failed)
    text_add (t, "end %08" PRIx32 "\n", crc32c (0, t->bytes, t->len));
  if (!t->failed)
    return t->bytes;
  free (t->bytes);
  return NULL;
}
