/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of a server, read from the file that it writes.
 *
 * The metrics that are known stand in tables: a name there is all that it
 * takes to read one.  Metrics that are not known are passed over, so that a
 * newer filter can be looked at; what is missing is NaN and spreads as such, so
 * that an older one can.  Rates come from the last two files and the time
 * between them.  How anything looks is not known here.
 */

#include <config.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "wtcache-top-model.h"
#include "wtcache-top-parse.h"
#include "wtcache-top-say.h"

#define PREFIX "wtcache_"

static const char *const value_names[NR_VALUES] = {
  [READ_REQUESTS] = "read_requests_total",
  [READ_BYTES] = "read_bytes_total",
  [READ_HIT_REQUESTS] = "read_hit_requests_total",
  [READ_HIT_BYTES] = "read_hit_bytes_total",
  [READ_MISSED_REQUESTS] = "read_missed_requests_total",
  [WRITE_REQUESTS] = "write_requests_total",
  [WRITE_BYTES] = "write_bytes_total",
  [ZERO_REQUESTS] = "zero_requests_total",
  [TRIM_REQUESTS] = "trim_requests_total",
  [FLUSH_REQUESTS] = "flush_requests_total",
  [FUA_REQUESTS] = "fua_requests_total",
  [FAILED_REQUESTS] = "failed_requests_total",
  [THROTTLED_WRITES] = "throttled_writes_total",
  [THROTTLED_SECONDS] = "throttled_seconds_total",
  [EVICTED_PAGES] = "evicted_pages_total",
  [READAHEAD_PAGES] = "readahead_pages_total",
  [READAHEAD_USED_PAGES] = "readahead_used_pages_total",
  [READAHEAD_WASTED_PAGES] = "readahead_wasted_pages_total",
  [BACKEND_READS] = "backend_reads_total",
  [BACKEND_READ_BYTES] = "backend_read_bytes_total",
  [BACKEND_WRITES] = "backend_writes_total",
  [BACKEND_WRITTEN_BYTES] = "backend_written_bytes_total",
  [BACKEND_FLUSHES] = "backend_flushes_total",
  [BACKEND_ERRORS] = "backend_errors_total",
  [WRITEBACK_ERRORS] = "writeback_refused_total",
  [CONNECTIONS] = "connections",
  [CACHED_PAGES] = "cached_pages",
  [PAGE_SIZE] = "page_size_bytes",
  [DIRTY] = "dirty_bytes",
  [WRITEBACK] = "writeback_bytes",
  [UNSTABLE] = "unstable_bytes",
  [DIRTY_BOUND] = "dirty_bound_bytes",
  [OLDEST_DIRTY] = "oldest_dirty_seconds",
  [DEPTH] = "depth",
  [IN_FLIGHT] = "in_flight_batches",
  [REFUSING] = "refusing",
  [FAILING_SINCE] = "refusing_since_timestamp_seconds",
};

/* The histograms: a metric, and the operation if that is a label. */
static const struct {
  const char *name, *operation;
} distribution_names[NR_DISTRIBUTIONS] = {
  [HIT_DURATIONS] = { "request_seconds", "read_hit" },
  [MISS_DURATIONS] = { "request_seconds", "read_miss" },
  [ORDINARY_WRITE_DURATIONS] = { "request_seconds", "write" },
  [FUA_WRITE_DURATIONS] = { "request_seconds", "fua_write" },
  [CLIENT_FLUSH_DURATIONS] = { "request_seconds", "flush" },
  [READ_DURATIONS] = { "backend_seconds", "read" },
  [WRITE_DURATIONS] = { "backend_seconds", "write" },
  [ZERO_DURATIONS] = { "backend_seconds", "zero" },
  [TRIM_DURATIONS] = { "backend_seconds", "trim" },
  [FLUSH_DURATIONS] = { "backend_seconds", "flush" },
  [BATCH_REQUESTS] = { "batch_requests", NULL },
};

const char *
value_name (enum value v)
{
  return value_names[v];
}

/*----------------------------------------------------------------------
 * From samples to exports
 */

/* The values read from a file, and its first error. */
struct reading {
  struct source *to;
  char *trouble;
};

static void
free_exports (struct source *s)
{
  size_t i;

  for (i = 0; i < s->nr_exports; ++i) {
    free (s->exports[i].name);
    free (s->exports[i].tls);
    free (s->exports[i].number);
  }
  free (s->exports);
  s->exports = NULL;
  s->nr_exports = 0;
}

/* Each metric names the exports in the same order, so the search begins after
 * the one that was found last.
 */
static struct export *
find_export (struct source *s, const char *name, const char *tls,
             const char *number)
{
  size_t i;

  for (i = 0; i < s->nr_exports; ++i) {
    const size_t at = (s->last_found + 1 + i) % s->nr_exports;
    struct export *e = &s->exports[at];

    if (strcmp (e->name, name) == 0 && strcmp (e->tls, tls) == 0 &&
        strcmp (e->number, number) == 0) {
      s->last_found = at;
      return e;
    }
  }
  return NULL;
}

static struct export *
new_export (struct source *s, const char *name, const char *tls,
            const char *number)
{
  struct export *e;
  size_t i;

  s->exports = must_resize (s->exports, s->nr_exports + 1, sizeof *s->exports);
  e = &s->exports[s->nr_exports++];
  memset (e, 0, sizeof *e);
  e->name = must_copy (name);
  e->tls = must_copy (tls);
  e->number = must_copy (number);
  for (i = 0; i < NR_VALUES; ++i)
    e->now.v[i] = e->before.v[i] = NAN;
  for (i = 0; i < NR_DISTRIBUTIONS; ++i)
    e->now.distributions[i].sum = e->now.distributions[i].count = NAN;
  return e;
}

/* Copies a label's value, cut off where there is no room. */
static void
copy_label (char *to, size_t size, const struct sample *s, const char *name)
{
  const char *value = sample_label (s, name);
  const size_t length = value ? strnlen (value, size - 1) : 0;

  if (value)
    memcpy (to, value, length);
  to[length] = '\0';
}

/* A bound or a ratio that stands in a label; NaN if there is none. */
static double
label_number (const struct sample *s, const char *name)
{
  const char *value = sample_label (s, name);
  char *end;
  double number;

  if (value == NULL || *value == '\0')
    return NAN;
  number = strtod (value, &end);
  return *end == '\0' ? number : NAN;
}

static const char *
take_bucket (struct histogram *h, const struct sample *s)
{
  const double bound = label_number (s, "le");
  size_t i;

  if (isnan (bound))
    return "a bucket has no number as its label le";
  if (h->nr_buckets == MAX_BUCKETS)
    return "a histogram has too many buckets";
  for (i = h->nr_buckets++; i > 0 && h->buckets[i - 1].bound > bound; --i)
    h->buckets[i] = h->buckets[i - 1];
  h->buckets[i] = (struct bucket){ bound, s->value };
  return NULL;
}

/* Whether the sample belongs to the histogram; then takes it over. */
static bool
take_distribution (struct export *e, enum distribution d, const char *name,
                   const struct sample *s, const char **trouble)
{
  const size_t length = strlen (distribution_names[d].name);
  const char *operation = sample_label (s, "operation");
  struct histogram *h = &e->now.distributions[d];

  if (strncmp (name, distribution_names[d].name, length) != 0)
    return false;
  if (distribution_names[d].operation &&
      (operation == NULL ||
       strcmp (operation, distribution_names[d].operation) != 0))
    return false;
  name += length;
  if (strcmp (name, "_bucket") == 0)
    *trouble = take_bucket (h, s);
  else if (strcmp (name, "_sum") == 0)
    h->sum = s->value;
  else if (strcmp (name, "_count") == 0)
    h->count = s->value;
  else
    return false;
  return true;
}

static const char *
take_of_export (struct export *e, const char *name, const struct sample *s)
{
  const char *trouble = NULL;
  size_t i;

  for (i = 0; i < NR_VALUES; ++i)
    if (strcmp (name, value_names[i]) == 0) {
      /* A further label, as that of the operation, is summed over. */
      e->now.v[i] = (isnan (e->now.v[i]) ? 0 : e->now.v[i]) + s->value;
      return NULL;
    }
  for (i = 0; i < NR_DISTRIBUTIONS; ++i)
    if (take_distribution (e, i, name, s, &trouble))
      return trouble;
  if (strcmp (name, "refusing_info") == 0)
    copy_label (e->now.error, sizeof e->now.error, s, "error");
  return NULL;
}

/* A point of the curve; its size, so far, is a part of the whole. */
static const char *
take_point (struct curve *c, const struct sample *s)
{
  const double ratio = label_number (s, "size_ratio");
  size_t i;

  if (isnan (ratio) || ratio <= 0)
    return "a point of the curve has no number as its label size_ratio";
  if (c->nr_points == MAX_POINTS)
    return "the curve has too many points";
  if (isnan (s->value))
    return NULL;
  for (i = c->nr_points++; i > 0 && c->points[i - 1].bytes > ratio; --i)
    c->points[i] = c->points[i - 1];
  c->points[i] = (struct curve_point){ ratio, s->value };
  return NULL;
}

static const char *
take_of_process (struct source *to, const char *name, const struct sample *s)
{
  if (strcmp (name, "size_bytes") == 0)
    to->size = s->value;
  else if (strcmp (name, "dirty_max_bytes") == 0)
    to->dirty_max = s->value;
  else if (strcmp (name, "memory_bytes") == 0) {
    if (to->nr_kinds < MAX_KINDS) {
      struct memory_kind *k = &to->memory[to->nr_kinds++];

      copy_label (k->name, sizeof k->name, s, "kind");
      k->bytes = s->value;
    }
  }
  else if (strcmp (name, "mode") == 0) {
    if (s->value == 1)
      copy_label (to->mode, sizeof to->mode, s, "mode");
  }
  else if (strcmp (name, "build_info") == 0) {
    copy_label (to->version, sizeof to->version, s, "version");
    copy_label (to->nbdkit, sizeof to->nbdkit, s, "nbdkit");
  }
  else if (strcmp (name, "ended") == 0)
    to->ended = s->value;
  else if (strcmp (name, "lost_bytes") == 0)
    to->lost = s->value;
  else if (strcmp (name, "curve_sampled_reads_total") == 0)
    to->sampled_reads = s->value;
  else if (strcmp (name, "curve_miss_ratio") == 0)
    return take_point (&to->curve, s);
  return NULL;
}

static int
take_sample (const struct sample *s, void *opaque)
{
  struct reading *r = opaque;
  const char *export = sample_label (s, "export"),
             *tls = sample_label (s, "tls"),
             *number = sample_label (s, "number"), *trouble;
  struct export *e;

  if (strncmp (s->name, PREFIX, strlen (PREFIX)) != 0)
    return 0;
  if (export == NULL)
    trouble = take_of_process (r->to, s->name + strlen (PREFIX), s);
  else {
    tls = tls ? tls : "no";
    number = number ? number : "";
    e = find_export (r->to, export, tls, number);
    if (e == NULL)
      e = new_export (r->to, export, tls, number);
    trouble = take_of_export (e, s->name + strlen (PREFIX), s);
  }
  if (trouble == NULL)
    return 0;
  r->trouble = must_format ("%s: %s", s->name, trouble);
  return -1;
}

/*----------------------------------------------------------------------
 * From one file to the next
 */

static void
remember (struct history *h, double value)
{
  h->values[h->next++ % HISTORY] = value;
}

static void
remember_all (const struct source *s, struct export *e)
{
  static const enum value counters[] = {
    [READ_SPEED] = READ_BYTES,
    [WRITE_SPEED] = WRITE_BYTES,
    [BACKEND_READ_SPEED] = BACKEND_READ_BYTES,
    [BACKEND_WRITE_SPEED] = BACKEND_WRITTEN_BYTES,
    [FLUSH_SPEED] = BACKEND_FLUSHES,
  };
  size_t i;

  if (!isnan (model_seconds (s)))
    for (i = 0; i < ARRAY_LEN (counters); ++i)
      remember (&e->history[i], model_rate (s, e, counters[i]));
  remember (&e->history[HELD_BYTES], model_held (e));
}

/* The points of a curve came with ratios; the cache's size makes sizes.  A
 * curve that rests on a few reads is dropped.
 */
static void
finish_curve (struct source *s)
{
  struct curve *c = &s->curve;
  size_t i;

  c->size = s->size;
  if (!(s->sampled_reads >= CURVE_READS))
    c->nr_points = 0;
  for (i = 0; i < c->nr_points; ++i)
    c->points[i].bytes *= s->size;
}

/* Caches of one name are told apart by their numbers. */
static void
mark_alike (struct source *s, struct export *e)
{
  size_t i;

  for (i = 0; i < s->nr_exports; ++i)
    if (e != &s->exports[i] && strcmp (e->name, s->exports[i].name) == 0 &&
        strcmp (e->tls, s->exports[i].tls) == 0)
      e->alike = true;
}

/* The values of an export in the file before. */
static void
connect_exports (struct source *next, struct source *last)
{
  size_t i;

  for (i = 0; i < next->nr_exports; ++i) {
    struct export *e = &next->exports[i], *old;

    old = find_export (last, e->name, e->tls, e->number);
    if (old) {
      e->in_before = true;
      e->before = old->now;
      memcpy (e->history, old->history, sizeof e->history);
    }
    mark_alike (next, e);
    remember_all (next, e);
  }
}

void
model_init (struct source *s, const char *path)
{
  memset (s, 0, sizeof *s);
  s->path = path;
  s->written = s->written_before = s->size = s->dirty_max = NAN;
  s->sampled_reads = s->ended = s->lost = NAN;
}

char *
model_take (struct source *s, char *text, double written)
{
  struct source next;
  struct reading reading = { .to = &next };
  struct parse_error error;

  model_init (&next, s->path);
  if (parse_exposition (text, &error, take_sample, &reading) != 0) {
    free_exports (&next);
    return must_format ("line %u: %s", error.line,
                        reading.trouble ? reading.trouble : error.what);
  }
  if (isnan (next.size)) {
    free_exports (&next);
    return must_copy ("this is not a file of wtcache-stats");
  }
  next.written = written;
  next.written_before = s->written;
  finish_curve (&next);
  connect_exports (&next, s);
  free_exports (s);
  *s = next;
  return NULL;
}

/*----------------------------------------------------------------------
 * Questions that can be asked
 */

double
model_seconds (const struct source *s)
{
  const double seconds = s->written - s->written_before;

  return seconds > 0 ? seconds : NAN;
}

/* A counter that is less than before began anew. */
static double
growth (double now, double before)
{
  return now >= before ? now - before : now;
}

double
model_rate (const struct source *s, const struct export *e, enum value v)
{
  /* An export that was not there before has begun since. */
  const double before = e->in_before ? e->before.v[v] : 0;

  return growth (e->now.v[v], before) / model_seconds (s);
}

double
model_hit_ratio (const struct export *e)
{
  double hits = e->now.v[READ_HIT_REQUESTS], reads = e->now.v[READ_REQUESTS];

  if (e->in_before) {
    hits = growth (hits, e->before.v[READ_HIT_REQUESTS]);
    reads = growth (reads, e->before.v[READ_REQUESTS]);
  }
  /* They are not counted at the same instant. */
  return reads > 0 ? fmin (hits / reads, 1) : NAN;
}

/* The values added to a histogram between two files. */
static struct histogram
grown (const struct export *e, enum distribution d)
{
  struct histogram h = e->now.distributions[d];
  const struct histogram *before = &e->before.distributions[d];
  size_t i;

  if (!e->in_before || before->nr_buckets != h.nr_buckets ||
      !(h.count >= before->count))
    return h;
  for (i = 0; i < h.nr_buckets; ++i)
    h.buckets[i].count -= before->buckets[i].count;
  h.sum -= before->sum;
  h.count -= before->count;
  return h;
}

double
model_count (const struct export *e, enum distribution d)
{
  return grown (e, d).count;
}

double
model_mean (const struct export *e, enum distribution d)
{
  const struct histogram h = grown (e, d);

  return h.count > 0 ? h.sum / h.count : NAN;
}

/* As Prometheus does it: even within a bucket, and the last finite bound for
 * what lies beyond.
 */
double
model_quantile (const struct export *e, enum distribution d, double q)
{
  const struct histogram h = grown (e, d);
  double wanted, below = 0, low = 0;
  size_t i;

  if (!(h.count > 0) || h.nr_buckets == 0)
    return NAN;
  wanted = q * h.buckets[h.nr_buckets - 1].count;
  for (i = 0; i < h.nr_buckets; ++i) {
    const struct bucket *b = &h.buckets[i];

    if (b->count >= wanted && b->count > below)
      return isinf (b->bound) ? low
                              : low + (b->bound - low) * (wanted - below) /
                                          (b->count - below);
    below = b->count;
    if (!isinf (b->bound))
      low = b->bound;
  }
  return NAN;
}

double
model_held (const struct export *e)
{
  return e->now.v[DIRTY] + e->now.v[WRITEBACK] + e->now.v[UNSTABLE];
}

double
model_memory (const struct source *s)
{
  double sum = s->nr_kinds > 0 ? 0 : NAN;
  size_t i;

  for (i = 0; i < s->nr_kinds; ++i)
    sum += s->memory[i].bytes;
  return sum;
}

double
curve_saving (const struct curve *c, double factor)
{
  double now = NAN, then = NAN;
  size_t i;

  for (i = 0; i < c->nr_points; ++i) {
    if (c->points[i].bytes == c->size)
      now = c->points[i].ratio;
    if (c->points[i].bytes == c->size * factor)
      then = c->points[i].ratio;
  }
  if (isnan (then) || !(now > 0))
    return NAN;
  return fmax (now - then, 0) / now;
}
