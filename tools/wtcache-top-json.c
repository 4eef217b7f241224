/* SPDX-License-Identifier: BSD-3-Clause */

/* All values that are known, for programs.  A value that is not known is not in
 * the object, so that a script which needs it fails rather than takes 0 for it.
 */

#include <config.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/util.h"
#include "wtcache-top-json.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-words.h"

static void
put (json_t *object, const char *name, json_t *value)
{
  if (json_object_set_new (object, name, value) != 0)
    say_failure ("out of memory");
}

/* Whole numbers have no point, as far as a double is exact. */
static void
put_number (json_t *object, const char *name, double number)
{
  if (!isfinite (number))
    return;
  if (number == rint (number) && fabs (number) < 0x1p53)
    put (object, name, json_integer ((json_int_t) number));
  else
    put (object, name, json_real (number));
}

/* A name that is not UTF-8 has its printable form. */
static void
put_string (json_t *object, const char *name, const char *text)
{
  json_t *string = json_string (text);
  char *printable;

  if (string == NULL) {
    printable = text_printable (text);
    string = json_string (printable);
    free (printable);
  }
  put (object, name, string);
}

/* A text that is to be freed; NULL leaves it out. */
static void
put_words (json_t *object, const char *name, char *words)
{
  if (words)
    put_string (object, name, words);
  free (words);
}

static json_t *
values_of (const struct export *e)
{
  json_t *values = json_object ();
  size_t i;

  for (i = 0; i < NR_VALUES; ++i)
    put_number (values, value_name (i), e->now.v[i]);
  return values;
}

/* Counters have their rate under their name without "_total". */
static json_t *
rates_of (const struct source *s, const struct export *e)
{
  json_t *rates = json_object ();
  char name[64];
  size_t i;

  for (i = 0; i <= LAST_COUNTER; ++i) {
    snprintf (name, sizeof name, "%s", value_name (i));
    name[strlen (name) - strlen ("_total")] = '\0';
    put_number (rates, name, model_rate (s, e, i));
  }
  return rates;
}

struct operation {
  enum distribution d;
  const char *name;
};

static const struct operation requests[] = {
  { HIT_DURATIONS, "read_hit" },         { MISS_DURATIONS, "read_miss" },
  { ORDINARY_WRITE_DURATIONS, "write" }, { FUA_WRITE_DURATIONS, "fua_write" },
  { CLIENT_FLUSH_DURATIONS, "flush" },
};

static const struct operation calls[] = {
  { READ_DURATIONS, "read" },   { WRITE_DURATIONS, "write" },
  { ZERO_DURATIONS, "zero" },   { TRIM_DURATIONS, "trim" },
  { FLUSH_DURATIONS, "flush" },
};

/* How long each of these took. */
static json_t *
durations_of (const struct export *e, const struct operation *operations,
              size_t nr)
{
  json_t *all = json_object ();
  size_t i;

  for (i = 0; i < nr; ++i) {
    const enum distribution d = operations[i].d;
    json_t *one;

    if (isnan (model_count (e, d)))
      continue;
    one = json_object ();
    put_number (one, "calls", model_count (e, d));
    put_number (one, "mean_seconds", model_mean (e, d));
    put_number (one, "p50_seconds", model_quantile (e, d, 0.5));
    put_number (one, "p90_seconds", model_quantile (e, d, 0.9));
    put_number (one, "p99_seconds", model_quantile (e, d, 0.99));
    put (all, operations[i].name, one);
  }
  return all;
}

static json_t *
curve_of (const struct curve *c)
{
  json_t *points = json_array ();
  size_t i;

  for (i = 0; i < c->nr_points; ++i) {
    json_t *point = json_object ();

    put_number (point, "size_ratio", c->points[i].bytes / c->size);
    put_number (point, "size_bytes", c->points[i].bytes);
    put_number (point, "miss_ratio", c->points[i].ratio);
    json_array_append_new (points, point);
  }
  return points;
}

static json_t *
export_object (const struct source *s, const struct export *e)
{
  json_t *object = json_object ();

  put_string (object, "export", e->name);
  put (object, "tls", json_boolean (strcmp (e->tls, "yes") == 0));
  put_string (object, "number", e->number);
  put_string (object, "condition", condition_name (words_condition (s, e)));
  put_words (object, "state", words_state (s, e));
  if (*e->now.error)
    put_string (object, "error", e->now.error);
  put_number (object, "hit_ratio", model_hit_ratio (e));
  put_number (object, "requests_per_batch", model_mean (e, BATCH_REQUESTS));
  put (object, "values", values_of (e));
  if (!isnan (model_seconds (s)))
    put (object, "rates", rates_of (s, e));
  put (object, "requests", durations_of (e, requests, ARRAY_LEN (requests)));
  put (object, "backend", durations_of (e, calls, ARRAY_LEN (calls)));
  return object;
}

static json_t *
memory_of (const struct source *s)
{
  json_t *memory = json_object ();
  size_t i;

  for (i = 0; i < s->nr_kinds; ++i)
    put_number (memory, s->memory[i].name, s->memory[i].bytes);
  return memory;
}

static json_t *
file_object (const struct followed *f)
{
  const struct source *s = &f->source;
  json_t *object = json_object (), *exports = json_array ();
  size_t i;

  put_string (object, "file", s->path);
  put_number (object, "written", s->written);
  put_number (object, "age_seconds", follow_age (f));
  put (object, "stale", json_boolean (follow_is_stale (f)));
  put (object, "ended", json_boolean (follow_has_ended (f)));
  put_number (object, "lost_bytes", s->lost);
  put_words (object, "trouble", words_stale (f));
  put_number (object, "interval_seconds", model_seconds (s));
  if (*s->version)
    put_string (object, "version", s->version);
  if (*s->nbdkit)
    put_string (object, "nbdkit", s->nbdkit);
  if (*s->mode)
    put_string (object, "mode", s->mode);
  put_number (object, "size_bytes", s->size);
  put_number (object, "dirty_max_bytes", s->dirty_max);
  put_number (object, "memory_bytes", model_memory (s));
  put (object, "memory_by_kind", memory_of (s));
  put_number (object, "curve_sampled_reads", s->sampled_reads);
  if (s->curve.nr_points > 0)
    put (object, "curve", curve_of (&s->curve));
  put_number (object, "saved_by_doubling", curve_saving (&s->curve, 2));
  for (i = 0; i < s->nr_exports; ++i)
    json_array_append_new (exports, export_object (s, &s->exports[i]));
  put (object, "exports", exports);
  return object;
}

int
json_print (const struct followed *files, size_t nr_files, bool one_line)
{
  json_t *object = json_object (), *array = json_array ();
  size_t i;
  int r;

  for (i = 0; i < nr_files; ++i)
    json_array_append_new (array, file_object (&files[i]));
  put (object, "files", array);
  r = json_dumpf (object, stdout,
                  (one_line ? JSON_COMPACT : JSON_INDENT (2)) |
                      JSON_REAL_PRECISION (15));
  json_decref (object);
  if (r != 0 || putchar ('\n') == EOF || fflush (stdout) != 0)
    return errno ? errno : EIO;
  return 0;
}
