/* SPDX-License-Identifier: BSD-3-Clause */

/* The metrics, as text for Prometheus.  For example, an export named "a" has
 *
 *   wtcache_write_bytes_total{server="",export="a",tls="no",number="1"} 4096
 *
 * The text is made of samples of the exports (samples.c), when no lock is held
 * any more.  Those that have no label of their own are in metrics of other
 * names, wtcache_other_….
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "watch/metrics.h"
#include "watch/samples.h"

static const char *const call_names[BACKEND_CALLS] = {
  "read", "write", "zero", "trim", "flush",
};

static const char *const latency_names[LATENCIES] = {
  [LATENCY_HIT] = "read_hit", [LATENCY_MISS] = "read_miss",
  [LATENCY_WRITE] = "write",  [LATENCY_FUA_WRITE] = "fua_write",
  [LATENCY_FLUSH] = "flush",
};

/* An errno that write-back may meet; all others are EIO to backend.c. */
static const char *
error_name (int err)
{
  switch (err) {
  case EPERM:
    return "EPERM";
  case ENOMEM:
    return "ENOMEM";
  case EINVAL:
    return "EINVAL";
  case ENOSPC:
    return "ENOSPC";
  case ENOTSUP:
    return "ENOTSUP";
  case ESHUTDOWN:
    return "ESHUTDOWN";
  case ETIMEDOUT:
    return "ETIMEDOUT";
  default:
    return "EIO";
  }
}

static void
put_head_of (FILE *f, const char *prefix, const char *name, const char *type,
             const char *help)
{
  fprintf (f, "# HELP wtcache_%s%s %s\n# TYPE wtcache_%s%s %s\n", prefix, name,
           help, prefix, name, type);
}

static void
put_head (FILE *f, const char *name, const char *type, const char *help)
{
  put_head_of (f, "", name, type, help);
}

/* The value of the label that tells servers apart, which needs no escapes. */
static const char *server = "";

void
metrics_name (const char *name)
{
  server = name;
  samples_begin ();
}

/* The name of a metric that is of no export, with LABEL or NULL, up to the
 * value.
 */
static void
put_own (FILE *f, const char *name, const char *label)
{
  fprintf (f, "wtcache_%s{server=\"%s\"%s%s} ", name, server, label ? "," : "",
           label ? label : "");
}

static void
put_own_number (FILE *f, const char *name, const char *label, uint64_t value)
{
  put_own (f, name, label);
  fprintf (f, "%llu\n", (unsigned long long) value);
}

/* Whose line it is, and with which label beside, up to the value. */
static void
put_name (FILE *f, const struct sample *s, const char *name, const char *suffix,
          const char *label)
{
  if (s->other)
    fprintf (f, "wtcache_other_%s%s{server=\"%s\"%s%s} ", name, suffix, server,
             label ? "," : "", label ? label : "");
  else
    fprintf (f,
             "wtcache_%s%s{server=\"%s\",export=%s,tls=\"%s\",number=\"%u\""
             "%s%s} ",
             name, suffix, server, s->name.text, s->tls ? "yes" : "no",
             s->number, label ? "," : "", label ? label : "");
}

static void
put_value (FILE *f, uint64_t value, enum unit unit)
{
  if (unit != NANOSECONDS)
    fprintf (f, "%llu\n", (unsigned long long) value);
  else
    fprintf (f, "%.9g\n", value / 1e9);
}

static void
put_row (FILE *f, const struct sample *s, const struct row *r)
{
  for (; s; s = s->next) {
    put_name (f, s, r->name, "", r->label);
    put_value (f, s->values[r - rows], r->unit);
  }
}

/* LABEL beside that of each bucket, or "". */
static void
put_histogram (FILE *f, const struct sample *s, const char *name,
               const char *label, const struct histogram_view *v,
               const struct scale *scale, enum unit unit)
{
  char labels[64];
  unsigned i;

  for (i = 0; i < scale->count; ++i) {
    snprintf (labels, sizeof labels, "%s%sle=\"%g\"", label, *label ? "," : "",
              scale->bounds[i] / (unit == PLAIN ? 1 : 1e9));
    put_name (f, s, name, "_bucket", labels);
    put_value (f, v->up_to[i], PLAIN);
  }
  snprintf (labels, sizeof labels, "%s%sle=\"+Inf\"", label, *label ? "," : "");
  put_name (f, s, name, "_bucket", labels);
  put_value (f, histogram_count (v, scale), PLAIN);
  put_name (f, s, name, "_sum", *label ? label : NULL);
  put_value (f, v->sum, unit);
  put_name (f, s, name, "_count", *label ? label : NULL);
  put_value (f, histogram_count (v, scale), PLAIN);
}

/* The latencies of one operation. */
static void
put_latencies (FILE *f, const struct sample *s, const char *name,
               const char *operation, const struct histogram_view *v,
               const struct scale *scale)
{
  char label[32];

  snprintf (label, sizeof label, "operation=\"%s\"", operation);
  put_histogram (f, s, name, label, v, scale, NANOSECONDS);
}

static void
put_histograms (FILE *f, const char *prefix, const struct sample *first)
{
  const struct sample *s;
  unsigned i;

  put_head_of (f, prefix, "request_seconds", "histogram",
               "How long requests of clients took.");
  for (s = first; s; s = s->next)
    for (i = 0; i < LATENCIES; ++i)
      put_latencies (f, s, "request_seconds", latency_names[i], &s->waits[i],
                     &request_scale);
  put_head_of (f, prefix, "backend_seconds", "histogram",
               "How long calls of the backend took.");
  for (s = first; s; s = s->next)
    for (i = 0; i < BACKEND_CALLS; ++i)
      put_latencies (f, s, "backend_seconds", call_names[i], &s->latency[i],
                     &latency_scale);
  put_head_of (f, prefix, "batch_requests", "histogram",
               "How many writes each batch carried.");
  for (s = first; s; s = s->next)
    put_histogram (f, s, "batch_requests", "", &s->batches, &number_scale,
                   PLAIN);
}

static void
put_errors (FILE *f, const struct sample *s)
{
  char label[32];

  put_head (f, "refusing_info", "gauge",
            "With which error the backend refuses write-back.");
  for (; s; s = s->next)
    if (s->error != 0) {
      snprintf (label, sizeof label, "error=\"%s\"", error_name (s->error));
      put_name (f, s, "refusing_info", "", label);
      put_value (f, 1, PLAIN);
    }
}

static void
put_memory (FILE *f)
{
  const struct memory_use u = pools_memory_use (&registry.pools);
  const struct {
    const char *kind;
    uint64_t bytes;
  } kinds[] = {
    { "frames", u.frames }, { "descriptors", u.descriptors },
    { "tables", u.tables }, { "buffers", u.buffers },
    { "other", u.other },
  };
  char label[32];
  size_t i;

  put_head (f, "size_bytes", "gauge", "The value of wtcache-size.");
  put_own_number (f, "size_bytes", NULL, memory_limit (&registry.memory));
  put_head (f, "memory_bytes", "gauge", "Memory taken from wtcache-size.");
  for (i = 0; i < ARRAY_LEN (kinds); ++i) {
    snprintf (label, sizeof label, "kind=\"%s\"", kinds[i].kind);
    put_own_number (f, "memory_bytes", label, kinds[i].bytes);
  }
}

static void
put_curve (FILE *f)
{
  struct curve_estimate e;
  struct curve_counts counts;
  char label[32];
  unsigned i;

  export_curve (&e, &counts);
  put_head (f, "curve_miss_ratio", "gauge",
            "Estimate of the miss ratio with so many times the size.");
  for (i = 0; i < CURVE_SIZES; ++i) {
    snprintf (label, sizeof label, "size_ratio=\"%g\"", (1 << i) / 4.0);
    put_own (f, "curve_miss_ratio", label);
    fprintf (f, "%.6f\n", e.miss_ratio[i]);
  }
  put_head (f, "curve_sampled_reads_total", "counter",
            "Reads of pages that the estimate rests on.");
  put_own_number (f, "curve_sampled_reads_total", NULL, counts.sampled_reads);
  put_head (f, "curve_dropped_total", "counter",
            "Uses of pages that came too fast for the estimate.");
  put_own_number (f, "curve_dropped_total", NULL, counts.dropped);
}

/* Main thread, once the others have ended. */
static bool has_ended;
static uint64_t lost_bytes;

void
metrics_end (uint64_t lost)
{
  has_ended = true;
  lost_bytes = lost;
}

static void
put_end (FILE *f)
{
  put_head (f, "ended", "gauge", "1 in the last file of a server.");
  put_own_number (f, "ended", NULL, has_ended);
  put_head (f, "lost_bytes", "gauge",
            "Acknowledged bytes that the server could not make durable "
            "before its end.");
  put_own_number (f, "lost_bytes", NULL, lost_bytes);
  put_head (f, "written_timestamp_seconds", "gauge",
            "When these numbers were taken.");
  put_own_number (f, "written_timestamp_seconds", NULL, time (NULL));
}

static void
put_settings (FILE *f)
{
  const size_t mode = SETTING (mode);
  char label[32];
  size_t i;

  put_head (f, "dirty_max_bytes", "gauge",
            "The value of wtcache-dirty-max; 0 if it is auto.");
  put_own_number (f, "dirty_max_bytes", NULL,
                  settings_bytes (SETTING (dirty_max), SETTING (size)));
  put_head (f, "mode", "gauge", "1 for the mode that is in use.");
  for (i = 0; i < ARRAY_LEN (mode_names); ++i) {
    snprintf (label, sizeof label, "mode=\"%s\"", mode_names[i]);
    put_own_number (f, "mode", label, mode == i);
  }
  put_head (f, "build_info", "gauge",
            "The version of the filter, and of nbdkit as it was built.");
  put_own_number (
      f, "build_info",
      "version=\"" PACKAGE_VERSION "\",nbdkit=\"" NBDKIT_VERSION "\"", 1);
}

/* The counts of exports without a label, and what those that were freed have
 * counted; nothing if there was none.
 */
static void
put_others (FILE *f, const struct samples *all)
{
  const struct row *r;
  uint64_t any = all->nr_others;

  for (r = rows; r->name; ++r)
    any |= all->others.values[r - rows];
  if (any == 0)
    return;
  put_head (f, "other_exports", "gauge",
            "Exports whose metrics are summed up here.");
  put_own_number (f, "other_exports", NULL, all->nr_others);
  for (r = rows; r->name; ++r) {
    if (!row_is_counter (r) && r->unit != SUM)
      continue;
    if (r->help)
      put_head_of (f, "other_", r->name, r->type, r->help);
    put_row (f, &all->others, r);
  }
  put_histograms (f, "other_", &all->others);
}

static int
put_all (FILE *f, const struct samples *all)
{
  const struct sample *first = all->first;
  const struct row *r;

  for (r = rows; r->name; ++r) {
    if (r->help)
      put_head (f, r->name, r->type, r->help);
    put_row (f, first, r);
  }
  put_histograms (f, "", first);
  put_others (f, all);
  put_errors (f, first);
  put_memory (f);
  put_curve (f);
  put_settings (f);
  put_end (f);
  return fflush (f) == 0 && !ferror (f) ? 0 : ENOMEM;
}

int
metrics_text (char **text, size_t *len)
{
  struct samples all;
  FILE *f;
  int err;

  *text = NULL;
  err = samples_take (&all);
  f = err == 0 ? open_memstream (text, len) : NULL;
  if (err == 0 && f == NULL)
    err = ENOMEM;
  if (f) {
    err = put_all (f, &all);
    if (fclose (f) != 0)
      err = ENOMEM;
  }
  samples_free (&all);
  if (err != 0) {
    free (*text);
    *text = NULL;
  }
  return err;
}
