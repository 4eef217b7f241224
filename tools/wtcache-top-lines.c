/* SPDX-License-Identifier: BSD-3-Clause */

/* The display, as lines of text: the same ones on a terminal, in full colour,
 * and on paper.  The attributes of a line, and which lines are in sight, are
 * not known here.
 */

#include <config.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "wtcache-top-lines.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-units.h"
#include "wtcache-top-words.h"

/* Columns: where numbers end, where remarks and drawings begin. */
#define COUNTS_END 25
#define BYTES_END  37
#define REMARKS    39
#define DRAWINGS   64
#define MIN_DRAWN  8

/* Columns of brief lines. */
#define BRIEF_NAME   18
#define BRIEF_READS  26
#define BRIEF_HITS   34
#define BRIEF_WRITES 42
#define BRIEF_STATE  44

/*----------------------------------------------------------------------
 * Columns of text
 */

/* A line that grows to the right. */
static void
put_at (char **line, size_t column, const char *text)
{
  const size_t used = text_columns (*line);
  /* The text before may have taken more than its columns. */
  const size_t gap = used < column ? column - used : used > 0 && *text;
  char *longer = must_format ("%s%*s%s", *line, (int) gap, "", text);

  free (*line);
  *line = longer;
}

/* The same, with the column where the text ends. */
static void
put_until (char **line, size_t column, const char *text)
{
  const size_t columns = text_columns (text);

  put_at (line, columns < column ? column - columns : 0, text);
}

static struct line *
add_line (struct lines *l, enum style style, char *text)
{
  struct line *line;

  l->lines = must_resize (l->lines, l->nr_lines + 1, sizeof *l->lines);
  line = &l->lines[l->nr_lines++];
  *line = (struct line){ .text = text, .style = style };
  return line;
}

void
lines_add_text (struct lines *l, enum style style, const char *text)
{
  add_line (l, style, must_copy (text));
}

void
lines_free (struct lines *l)
{
  size_t i;

  for (i = 0; i < l->nr_lines; ++i) {
    free (l->lines[i].text);
    free (l->lines[i].tail);
  }
  free (l->lines);
  l->lines = NULL;
  l->nr_lines = 0;
}

/*----------------------------------------------------------------------
 * Sparklines
 */

static const char *const blocks[] = {
  "\342\226\201", "\342\226\202", "\342\226\203", "\342\226\204",
  "\342\226\205", "\342\226\206", "\342\226\207", "\342\226\210",
};
static const char *const marks[] = { "_", ".", "-", "~", "=", "+", "*", "#" };

static double
history_value (const struct history *h, size_t back)
{
  return h->values[(h->next - 1 - back) % HISTORY];
}

/* The latest values, the newest at the right, the highest as the full height.
 * Nothing and a little look different.
 */
static char *
spark (const struct history *h, size_t columns)
{
  const size_t n = min_u64 (min_u64 (h->next, HISTORY), columns);
  char *text = must_resize (NULL, n * strlen (blocks[0]) + 1, 1), *to = text;
  double max = 0;
  size_t i;

  for (i = 0; i < n; ++i)
    max = fmax (max, history_value (h, i));
  for (i = n; i-- > 0;) {
    const double v = history_value (h, i);
    size_t height = 0;

    if (isnan (v)) {
      *to++ = ' ';
      continue;
    }
    if (v > 0)
      height = (size_t) clamp_u64 (lrint (v / max * 7), 1, 7);
    to = stpcpy (to, use_unicode ? blocks[height] : marks[height]);
  }
  *to = '\0';
  return text;
}

/* Draws at the end of a line, if there is room. */
static void
add_spark (struct lines *l, struct line *line, const struct history *h)
{
  const size_t used = text_columns (line->text);
  const size_t from = used < DRAWINGS ? DRAWINGS : used + 1;

  if (!l->drawn || l->width < from + MIN_DRAWN)
    return;
  line->tail = spark (h, l->width - from);
  put_at (&line->text, l->width - text_columns (line->tail), "");
  line->tail_style = DRAWING;
}

/*----------------------------------------------------------------------
 * An export
 */

/* A rate, "12.3k/s"; without two files the whole count.  TEXT_OF says
 * numbers or bytes.
 */
static struct text
counted_as (struct text (*text_of) (double), const struct source *s,
            const struct export *e, enum value v)
{
  struct text rate, t;

  if (isnan (model_seconds (s)))
    return text_of (e->now.v[v]);
  rate = text_of (model_rate (s, e, v));
  snprintf (t.s, sizeof t.s, "%.28s/s", rate.s);
  return t;
}

static struct text
counted (const struct source *s, const struct export *e, enum value v)
{
  return counted_as (count_text, s, e, v);
}

static struct text
bytes_counted (const struct source *s, const struct export *e, enum value v)
{
  return counted_as (bytes_text, s, e, v);
}

/* Whether a counter has counted anything that is worth a word. */
static bool
has_counted (const struct export *e, enum value v)
{
  return e->now.v[v] > (e->in_before ? e->before.v[v] : 0);
}

static char *
durations (const struct export *e, enum distribution d)
{
  if (!(model_count (e, d) > 0))
    return must_copy ("");
  return must_format ("p50 %s, p99 %s",
                      duration_text (model_quantile (e, d, 0.5)).s,
                      duration_text (model_quantile (e, d, 0.99)).s);
}

/* One row of the table; REMARK is freed.  A value of NR_VALUES is left out. */
static void
add_row (struct lines *l, const struct source *s, const struct export *e,
         const char *what, enum value requests, enum value bytes, char *remark,
         enum series series)
{
  char *text = must_format ("  %s", what);

  put_until (&text, COUNTS_END, counted (s, e, requests).s);
  if (bytes != NR_VALUES)
    put_until (&text, BYTES_END, bytes_counted (s, e, bytes).s);
  if (*remark)
    put_at (&text, REMARKS, remark);
  free (remark);
  add_spark (l, add_line (l, PLAIN, text), &e->history[series]);
}

static char *
hit_words (const struct export *e)
{
  if (isnan (model_hit_ratio (e)))
    return must_copy ("");
  return must_format ("%s hits", percent_text (model_hit_ratio (e)).s);
}

static char *
fua_words (const struct source *s, const struct export *e)
{
  return must_format ("%s FUA, %s flush", counted (s, e, FUA_REQUESTS).s,
                      counted (s, e, FLUSH_REQUESTS).s);
}

/* How long clients waited for their requests, those that there were. */
static void
add_waits (struct lines *l, const struct export *e)
{
  static const struct {
    enum distribution d;
    const char *what;
  } waits[] = { { HIT_DURATIONS, "a hit" },
                { MISS_DURATIONS, "a miss" },
                { ORDINARY_WRITE_DURATIONS, "an ordinary write" },
                { FUA_WRITE_DURATIONS, "a FUA write" },
                { CLIENT_FLUSH_DURATIONS, "a flush" } };
  char *text, *words;
  size_t i;

  for (i = 0; i < ARRAY_LEN (waits); ++i)
    if (model_count (e, waits[i].d) > 0) {
      text = must_format ("    %s takes", waits[i].what);
      words = durations (e, waits[i].d);
      put_at (&text, REMARKS, words);
      free (words);
      add_line (l, PLAIN, text);
    }
}

static void
add_held (struct lines *l, const struct export *e)
{
  char *text = must_copy ("  not durable yet");

  put_until (&text, BYTES_END, bytes_text (model_held (e)).s);
  if (!isnan (e->now.v[DIRTY_BOUND])) {
    char *bound =
        must_format ("of at most %s", bytes_text (e->now.v[DIRTY_BOUND]).s);

    put_at (&text, REMARKS, bound);
    free (bound);
  }
  add_spark (l, add_line (l, PLAIN, text), &e->history[HELD_BYTES]);
}

/* Adds words to what is said already. */
static void
add_words (char **text, char *words)
{
  char *longer = must_format ("%s, %s", *text, words);

  free (words);
  free (*text);
  *text = longer;
}

/* How the backend is used, and what else comes and goes. */
static void
add_details (struct lines *l, const struct source *s, const struct export *e)
{
  const double batch = model_mean (e, BATCH_REQUESTS);
  const double used = e->now.v[READAHEAD_USED_PAGES],
               ahead = e->now.v[READAHEAD_PAGES],
               cached = e->now.v[CACHED_PAGES] * e->now.v[PAGE_SIZE];
  char *text;

  text =
      must_format ("  depth %s, %s in flight", count_text (e->now.v[DEPTH]).s,
                   count_text (e->now.v[IN_FLIGHT]).s);
  if (!isnan (batch))
    add_words (&text, must_format ("%s writes a batch", count_text (batch).s));
  add_line (l, FAINT, text);
  text = must_format ("  %s of pages, %s evicted", bytes_text (cached).s,
                      counted (s, e, EVICTED_PAGES).s);
  if (ahead > 0)
    add_words (&text, must_format ("%s read ahead, %s of all those used",
                                   counted (s, e, READAHEAD_PAGES).s,
                                   percent_text (used / ahead).s));
  add_line (l, FAINT, text);
}

/* Warnings of conditions that should not happen. */
static void
add_warnings (struct lines *l, const struct source *s, const struct export *e)
{
  static const struct {
    enum value v;
    const char *what;
  } warnings[] = { { THROTTLED_WRITES, "writes waited at the bound" },
                   { BACKEND_ERRORS, "calls of the backend failed" },
                   { FAILED_REQUESTS, "requests failed" } };
  size_t i;

  for (i = 0; i < ARRAY_LEN (warnings); ++i)
    if (has_counted (e, warnings[i].v))
      add_line (l, BAD,
                must_format ("  %s %s", counted (s, e, warnings[i].v).s,
                             warnings[i].what));
}

static enum style
style_of (enum condition c)
{
  switch (c) {
  case CONDITION_CLEAN:
    return GOOD;
  case CONDITION_HELD:
    return BUSY;
  case CONDITION_REFUSING:
    return BAD;
  case CONDITION_UNKNOWN:
    break;
  }
  return FAINT;
}

/* Adds a text in as many lines as it takes, each a little to the right. */
static void
add_wrapped (struct lines *l, enum style style, const char *text)
{
  const size_t room = l->width > 4 ? l->width - 2 : 2;
  size_t length, end;

  while (*text) {
    length = end = text_fitting (text, room);
    if (text[end] != '\0')
      while (end > 0 && text[end] != ' ')
        --end;
    if (end > 0)
      length = end;
    add_line (l, style, must_format ("  %.*s", (int) length, text));
    text += length;
    text += strspn (text, " ");
  }
}

/* The name of an export, its connections, and its state: in one line, or the
 * state below.
 */
static void
add_title (struct lines *l, const struct source *s, const struct export *e)
{
  char *name = words_name (e), *title, *state = words_state (s, e);
  const double clients = e->now.v[CONNECTIONS];
  const enum style style = style_of (words_condition (s, e));
  struct line *line;

  if (isnan (clients))
    title = must_copy (name);
  else
    title = must_format ("%s  %s client%s", name, count_text (clients).s,
                         clients == 1 ? "" : "s");
  free (name);
  if (text_columns (title) + 2 + text_columns (state) <= l->width) {
    put_at (&title, text_columns (title) + 2, "");
    line = add_line (l, TITLE, title);
    line->tail = state;
    line->tail_style = style;
  }
  else {
    add_line (l, TITLE, title);
    add_wrapped (l, style, state);
    free (state);
  }
}

static void
add_export (struct lines *l, const struct source *s, const struct export *e)
{
  add_title (l, s, e);
  add_row (l, s, e, "read", READ_REQUESTS, READ_BYTES, hit_words (e),
           READ_SPEED);
  add_row (l, s, e, "write", WRITE_REQUESTS, WRITE_BYTES, fua_words (s, e),
           WRITE_SPEED);
  add_waits (l, e);
  add_row (l, s, e, "backend read", BACKEND_READS, BACKEND_READ_BYTES,
           durations (e, READ_DURATIONS), BACKEND_READ_SPEED);
  add_row (l, s, e, "backend write", BACKEND_WRITES, BACKEND_WRITTEN_BYTES,
           durations (e, WRITE_DURATIONS), BACKEND_WRITE_SPEED);
  add_row (l, s, e, "backend flush", BACKEND_FLUSHES, NR_VALUES,
           durations (e, FLUSH_DURATIONS), FLUSH_SPEED);
  add_held (l, e);
  add_details (l, s, e);
  add_warnings (l, s, e);
  add_line (l, PLAIN, must_copy (""));
}

/*----------------------------------------------------------------------
 * Brief lines
 */

static void
add_brief_head (struct lines *l)
{
  char *text = must_copy ("export");

  put_until (&text, BRIEF_READS, "reads");
  put_until (&text, BRIEF_HITS, "hits");
  put_until (&text, BRIEF_WRITES, "writes");
  put_at (&text, BRIEF_STATE, "state");
  add_line (l, FAINT, text);
}

static void
add_brief (struct lines *l, const struct source *s, const struct export *e)
{
  char *text = words_name (e);
  struct line *line;

  /* The name gives way to the columns. */
  text[text_fitting (text, BRIEF_NAME)] = '\0';
  put_until (&text, BRIEF_READS, counted (s, e, READ_REQUESTS).s);
  put_until (&text, BRIEF_HITS, percent_text (model_hit_ratio (e)).s);
  put_until (&text, BRIEF_WRITES, counted (s, e, WRITE_REQUESTS).s);
  put_at (&text, BRIEF_STATE, "");
  line = add_line (l, PLAIN, text);
  line->tail = words_state (s, e);
  line->tail_style = style_of (words_condition (s, e));
}

/*----------------------------------------------------------------------
 * A server
 */

static void
add_memory (struct lines *l, const struct source *s)
{
  char *text = must_format ("memory %s of %s", bytes_text (model_memory (s)).s,
                            bytes_text (s->size).s),
       *kinds = must_copy (""), *more;
  size_t i;

  for (i = 0; i < s->nr_kinds; ++i) {
    char *name = text_printable (s->memory[i].name);

    more = must_format ("%s%s%s %s", kinds, i == 0 ? "" : ", ", name,
                        bytes_text (s->memory[i].bytes).s);
    free (name);
    free (kinds);
    kinds = more;
  }
  if (text_columns (text) + 2 + text_columns (kinds) <= l->width) {
    put_at (&text, text_columns (text) + 2, kinds);
    add_line (l, PLAIN, text);
  }
  else {
    add_line (l, PLAIN, text);
    add_wrapped (l, FAINT, kinds);
  }
  free (kinds);
}

static void
add_server (struct lines *l, const struct followed *f)
{
  const struct source *s = &f->source;
  char *path = text_printable (s->path), *stale = words_stale (f);
  char *mode = text_printable (s->mode);
  struct line *line;

  line = add_line (l, TITLE, path);
  line->tail = must_format (
      "  %s%s%zu export%s, at %s", mode, *mode ? ", " : "", s->nr_exports,
      s->nr_exports == 1 ? "" : "s", time_text (s->written).s);
  line->tail_style = FAINT;
  free (mode);
  if (stale)
    add_wrapped (l, follow_has_ended (f) && !(s->lost > 0) ? FAINT : BAD,
                 stale);
  free (stale);
}

void
lines_add (struct lines *l, const struct followed *f, bool brief)
{
  const struct source *s = &f->source;
  char *saving = words_saving (s);
  size_t i;

  add_server (l, f);
  if (!isnan (s->written))
    add_memory (l, s);
  if (saving)
    add_line (l, s->sampled_reads < CURVE_READS ? FAINT : PLAIN, saving);
  if (s->nr_exports == 0)
    add_line (l, FAINT, must_copy ("no export has been opened"));
  if (brief && s->nr_exports > 0)
    add_brief_head (l);
  else
    add_line (l, PLAIN, must_copy (""));
  for (i = 0; i < s->nr_exports; ++i)
    if (brief)
      add_brief (l, s, &s->exports[i]);
    else
      add_export (l, s, &s->exports[i]);
  if (brief)
    add_line (l, PLAIN, must_copy (""));
}
