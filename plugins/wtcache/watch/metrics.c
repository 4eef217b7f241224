/* SPDX-License-Identifier: BSD-3-Clause */

/* The metrics, as text for Prometheus.  For example, an export named "a" has
 *
 *   wtcache_write_bytes_total{server="",export="a",tls="no",number="1"} 4096
 *
 * docs/nbdkit-wtcache-filter.pod says of each metric what it means; a test
 * compares the two.  Names and units go by Prometheus's conventions.
 *
 * The values of an export are taken in one go, under the registry lock so that
 * it stays, into a sample; the text is made of the samples, when no lock is
 * held any more.  Nothing is stopped for that: a value is an atomic, read
 * relaxed, or is read under the lock that guards it, taken for that alone.  So
 * each value is one that it had, though two of them need not be of the same
 * moment; what must agree (a histogram's buckets and its count) is computed
 * from one look.
 *
 * Clients choose the names of exports, and a monitor keeps each label for ever.
 * So the first 100 exports have labels until they are freed.  The others, and
 * what exports that were freed had counted, are summed up in metrics of other
 * names, wtcache_other_…, whose counters never fall.
 *
 * Samples come and go with each writing and are not of the budget: some 2 KiB
 * for each export that has a label.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/name.h"
#include "export.h"
#include "watch/metrics.h"

/* How a value is printed: as it is, or in seconds.  SUM: as it is, and it is a
 * gauge that can be summed over exports.
 */
enum unit { PLAIN, NANOSECONDS, SUM };

/* One line for each export.  Rows of one name follow each other and differ in
 * their label; a row without help goes on with the metric before.
 */
struct row {
  const char *name, *type, *help;
  const char *label; /* beside those of the export, or NULL */
  uint64_t (*value) (struct export *e, int which);
  int which;
  enum unit unit;
};

static uint64_t
counted (struct export *e, int which)
{
  return stats_sum (&e->stats, which);
}

static uint64_t
reads (struct export *e, int which)
{
  (void) which;
  return counted (e, COUNT_HITS) + counted (e, COUNT_MISSES);
}

static uint64_t
read_bytes (struct export *e, int which)
{
  (void) which;
  return counted (e, COUNT_HIT_BYTES) + counted (e, COUNT_MISS_BYTES);
}

static uint64_t
ahead_pages (struct export *e, int which)
{
  return counted (e, which) >> e->pc.page_shift;
}

static uint64_t
calls (struct export *e, int which)
{
  const struct histogram_view v =
      histogram_view (&e->submit.meter.calls[which].latency, &latency_scale);

  return histogram_count (&v, &latency_scale);
}

static uint64_t
call_bytes (struct export *e, int which)
{
  return atomic_load_explicit (&e->submit.meter.calls[which].bytes,
                               memory_order_relaxed);
}

static uint64_t
call_errors (struct export *e, int which)
{
  return atomic_load_explicit (&e->submit.meter.calls[which].errors,
                               memory_order_relaxed);
}

/* Writes of batches beyond the first of each. */
static uint64_t
merged_writes (struct export *e, int which)
{
  const struct histogram_view v =
      histogram_view (&e->submit.batch_writes, &number_scale);
  const uint64_t batches = histogram_count (&v, &number_scale);

  (void) which;
  return v.sum - min_u64 (v.sum, batches);
}

static uint64_t
flushes_asked (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->submit.flushes_asked, memory_order_relaxed);
}

static uint64_t
flushes_done (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->submit.flushes_done, memory_order_relaxed);
}

/* Amounts are moved from one state to another in two steps: one may be below
 * zero for a moment.
 */
static uint64_t
at_least_0 (int64_t amount)
{
  return amount < 0 ? 0 : amount;
}

static uint64_t
dirty_bytes (struct export *e, int which)
{
  (void) which;
  return at_least_0 (pagecache_amounts (&e->pc).dirty);
}

static uint64_t
writeback_bytes (struct export *e, int which)
{
  (void) which;
  return at_least_0 (pagecache_amounts (&e->pc).writeback);
}

static uint64_t
unstable_bytes (struct export *e, int which)
{
  (void) which;
  return at_least_0 (pagecache_amounts (&e->pc).unstable);
}

static uint64_t
bound_bytes (struct export *e, int which)
{
  (void) which;
  return dirty_bound (e);
}

static uint64_t
oldest_dirty (struct export *e, int which)
{
  const uint64_t since =
      atomic_load_explicit (&e->pc.dirty_since, memory_order_relaxed);
  const uint64_t now = now_ns ();

  if (since == 0 || dirty_bytes (e, which) == 0)
    return 0;
  return now > since ? now - since : 0;
}

static uint64_t
cached_pages (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->pc.counts->cached, memory_order_relaxed);
}

static uint64_t
evicted_pages (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->pc.counts->evicted, memory_order_relaxed);
}

static uint64_t
wasted_pages (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->pc.counts->wasted, memory_order_relaxed);
}

static uint64_t
page_bytes (struct export *e, int which)
{
  (void) which;
  return page_size (&e->pc);
}

static uint64_t
depth_now (struct export *e, int which)
{
  LOCK_FOR_SCOPE (&e->submit.lock);

  (void) which;
  return depth_limit (&e->submit.policy.depth);
}

static uint64_t
in_flight (struct export *e, int which)
{
  LOCK_FOR_SCOPE (&e->submit.lock);

  (void) which;
  return e->submit.policy.in_flight;
}

static uint64_t
writeback_refused (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->writeback.errors, memory_order_relaxed);
}

static uint64_t
failures (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->pc.unmade, memory_order_relaxed);
}

static uint64_t
refusing (struct export *e, int which)
{
  (void) which;
  return atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed);
}

static uint64_t
failing_since (struct export *e, int which)
{
  return refusing (e, which)
             ? atomic_load_explicit (&e->writeback.failing_since,
                                     memory_order_relaxed)
             : 0;
}

static uint64_t
connections (struct export *e, int which)
{
  (void) which;
  assert_held (&registry.lock);
  return e->users;
}

static const struct row rows[] = {
  { "read_requests_total", "counter", "Reads.", NULL, reads, 0, PLAIN },
  { "read_bytes_total", "counter", "Bytes of reads.", NULL, read_bytes, 0,
    PLAIN },
  { "read_hit_requests_total", "counter",
    "Reads that were answered from the cache alone.", NULL, counted, COUNT_HITS,
    PLAIN },
  { "read_hit_bytes_total", "counter",
    "Bytes of reads that were answered from the cache alone.", NULL, counted,
    COUNT_HIT_BYTES, PLAIN },
  { "read_missed_requests_total", "counter",
    "Reads of which something was not in the cache.", NULL, counted,
    COUNT_MISSES, PLAIN },
  { "read_missed_bytes_total", "counter",
    "Bytes of reads of which something was not in the cache.", NULL, counted,
    COUNT_MISS_BYTES, PLAIN },
  { "write_requests_total", "counter", "Writes.", NULL, counted, COUNT_WRITES,
    PLAIN },
  { "write_bytes_total", "counter", "Bytes of writes.", NULL, counted,
    COUNT_WRITE_BYTES, PLAIN },
  { "zero_requests_total", "counter", "Zero requests.", NULL, counted,
    COUNT_ZEROES, PLAIN },
  { "zero_bytes_total", "counter", "Bytes of zero requests.", NULL, counted,
    COUNT_ZERO_BYTES, PLAIN },
  { "trim_requests_total", "counter", "Trim requests.", NULL, counted,
    COUNT_TRIMS, PLAIN },
  { "trim_bytes_total", "counter", "Bytes of trim requests.", NULL, counted,
    COUNT_TRIM_BYTES, PLAIN },
  { "flush_requests_total", "counter", "Flushes.", NULL, counted, COUNT_FLUSHES,
    PLAIN },
  { "fua_requests_total", "counter", "Writes, zeroes and trims with FUA.", NULL,
    counted, COUNT_FUA, PLAIN },
  { "fua_bytes_total", "counter", "Bytes of requests with FUA.", NULL, counted,
    COUNT_FUA_BYTES, PLAIN },
  { "failed_requests_total", "counter",
    "Requests that were answered with an error.", NULL, counted, COUNT_ERRORS,
    PLAIN },
  { "written_through_total", "counter",
    "Parts of ordinary writes that went through.", NULL, counted,
    COUNT_DEGRADED, PLAIN },
  { "throttled_writes_total", "counter",
    "Ordinary writes that had to be durable at once.", NULL, counted,
    COUNT_THROTTLED, PLAIN },
  { "throttled_seconds_total", "counter",
    "How long ordinary writes that had to be durable took.", NULL, counted,
    COUNT_THROTTLED_NS, NANOSECONDS },
  { "connections", "gauge", "Clients that are connected.", NULL, connections, 0,
    SUM },
  { "cached_pages", "gauge", "Pages in the cache.", NULL, cached_pages, 0,
    SUM },
  { "page_size_bytes", "gauge", "The size of a page.", NULL, page_bytes, 0,
    PLAIN },
  { "evicted_pages_total", "counter",
    "Clean pages that left the cache to make room.", NULL, evicted_pages, 0,
    PLAIN },
  { "dirty_bytes", "gauge", "Bytes that the backend has not got.", NULL,
    dirty_bytes, 0, SUM },
  { "writeback_bytes", "gauge", "Bytes on their way to the backend.", NULL,
    writeback_bytes, 0, SUM },
  { "unstable_bytes", "gauge", "Bytes that no flush has covered yet.", NULL,
    unstable_bytes, 0, SUM },
  { "dirty_bound_bytes", "gauge",
    "Bytes that may be dirty, in writeback or unstable.", NULL, bound_bytes, 0,
    PLAIN },
  { "oldest_dirty_seconds", "gauge",
    "Age of the block that has been dirty longest.", NULL, oldest_dirty, 0,
    NANOSECONDS },
  { "readahead_pages_total", "counter",
    "Pages that were asked for ahead of a stream.", NULL, ahead_pages,
    COUNT_AHEAD_BYTES, PLAIN },
  { "readahead_used_pages_total", "counter",
    "Pages asked for ahead that the stream has come to.", NULL, ahead_pages,
    COUNT_AHEAD_USED_BYTES, PLAIN },
  { "readahead_wasted_pages_total", "counter",
    "Pages read ahead that left the cache unused.", NULL, wasted_pages, 0,
    PLAIN },
  { "backend_reads_total", "counter", "Reads sent to the backend.", NULL, calls,
    CALL_READ, PLAIN },
  { "backend_read_bytes_total", "counter", "Bytes that the backend read.", NULL,
    call_bytes, CALL_READ, PLAIN },
  { "backend_writes_total", "counter", "Writes sent to the backend.", NULL,
    calls, CALL_WRITE, PLAIN },
  { "backend_written_bytes_total", "counter", "Bytes that the backend wrote.",
    NULL, call_bytes, CALL_WRITE, PLAIN },
  { "backend_zeroes_total", "counter", "Zero requests sent to the backend.",
    NULL, calls, CALL_ZERO, PLAIN },
  { "backend_zeroed_bytes_total", "counter", "Bytes that the backend zeroed.",
    NULL, call_bytes, CALL_ZERO, PLAIN },
  { "backend_trims_total", "counter", "Trim requests sent to the backend.",
    NULL, calls, CALL_TRIM, PLAIN },
  { "backend_trimmed_bytes_total", "counter", "Bytes that the backend trimmed.",
    NULL, call_bytes, CALL_TRIM, PLAIN },
  { "backend_flushes_total", "counter", "Flushes of the backend.", NULL,
    flushes_done, 0, PLAIN },
  { "flushes_wanted_total", "counter",
    "Flushes of the backend that were waited for.", NULL, flushes_asked, 0,
    PLAIN },
  { "backend_errors_total", "counter", "Calls of the backend that failed.",
    "operation=\"read\"", call_errors, CALL_READ, PLAIN },
  { "backend_errors_total", NULL, NULL, "operation=\"write\"", call_errors,
    CALL_WRITE, PLAIN },
  { "backend_errors_total", NULL, NULL, "operation=\"zero\"", call_errors,
    CALL_ZERO, PLAIN },
  { "backend_errors_total", NULL, NULL, "operation=\"trim\"", call_errors,
    CALL_TRIM, PLAIN },
  { "backend_errors_total", NULL, NULL, "operation=\"flush\"", call_errors,
    CALL_FLUSH, PLAIN },
  { "merged_writes_total", "counter",
    "Writes that went along in another's batch.", NULL, merged_writes, 0,
    PLAIN },
  { "depth", "gauge", "Batches that may be in flight at the backend.", NULL,
    depth_now, 0, PLAIN },
  { "in_flight_batches", "gauge", "Batches that are in flight.", NULL,
    in_flight, 0, SUM },
  { "writeback_refused_total", "counter",
    "Attempts of write-back that failed, wholly or in part.", NULL,
    writeback_refused, 0, PLAIN },
  { "dirty_again_total", "counter", "How often blocks became dirty again.",
    NULL, failures, 0, PLAIN },
  { "refusing", "gauge", "1 while the backend refuses write-back.", NULL,
    refusing, 0, PLAIN },
  { "writeback_failing_since_timestamp_seconds", "gauge",
    "When the backend began to refuse write-back; 0 if it does not.", NULL,
    failing_since, 0, PLAIN },
};

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

/* All values of one export, or of all that have no label. */
struct sample {
  struct sample *next;
  struct name_quoted name;
  bool tls, other;
  unsigned number;
  int error; /* of write-back, 0 if there is none */
  uint64_t values[ARRAY_LEN (rows)];
  struct histogram_view waits[LATENCIES], latency[BACKEND_CALLS], batches;
};

struct samples {
  struct sample *first, **end; /* of exports with a label */
  struct sample others;
  unsigned nr_others;
};

/* The counts of exports that were freed.  Guarded by the registry lock. */
static struct sample freed;

static void
read_values (struct export *e, struct sample *s)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (rows); ++i)
    s->values[i] = rows[i].value (e, rows[i].which);
  for (i = 0; i < LATENCIES; ++i)
    s->waits[i] = stats_latency (&e->stats, i);
  for (i = 0; i < BACKEND_CALLS; ++i)
    s->latency[i] =
        histogram_view (&e->submit.meter.calls[i].latency, &latency_scale);
  s->batches = histogram_view (&e->submit.batch_writes, &number_scale);
}

/* A row without a type goes on with a counter. */
static bool
is_counter (const struct row *r)
{
  return r->type == NULL || strcmp (r->type, "counter") == 0;
}

static void
add_view (struct histogram_view *to, const struct histogram_view *v)
{
  unsigned i;

  for (i = 0; i < ARRAY_LEN (to->up_to); ++i)
    to->up_to[i] += v->up_to[i];
  to->sum += v->sum;
}

/* Adds what an export has counted, and what it has NOW. */
static void
add_values (struct sample *to, struct export *e, bool now)
{
  struct sample s;
  size_t i;

  read_values (e, &s);
  for (i = 0; i < ARRAY_LEN (rows); ++i)
    if (is_counter (&rows[i]) || (now && rows[i].unit == SUM))
      to->values[i] += s.values[i];
  for (i = 0; i < LATENCIES; ++i)
    add_view (&to->waits[i], &s.waits[i]);
  for (i = 0; i < BACKEND_CALLS; ++i)
    add_view (&to->latency[i], &s.latency[i]);
  add_view (&to->batches, &s.batches);
}

static void
note_freed (struct export *e)
{
  assert_held (&registry.lock);
  add_values (&freed, e, false);
}

static int
take_sample (struct samples *all, struct export *e)
{
  struct sample *s;

  if (!e->labelled) {
    add_values (&all->others, e, true);
    all->nr_others++;
    return 0;
  }
  s = calloc (1, sizeof *s);
  if (s == NULL)
    return ENOMEM;
  s->name = name_quoted (e->name);
  s->tls = e->tls;
  s->number = e->number;
  if (refusing (e, 0))
    s->error = atomic_load_explicit (&e->writeback.error, memory_order_relaxed);
  read_values (e, s);
  *all->end = s;
  all->end = &s->next;
  return 0;
}

/* Of the exports as they are at one moment: what one of them has counted is
 * in its own sample, or in that of the others, but never in none.
 */
static int
take_samples (struct samples *all)
{
  LOCK_FOR_SCOPE (&registry.lock);
  struct export *e;
  int err = 0;

  all->first = NULL;
  all->end = &all->first;
  all->others = freed;
  all->others.other = true;
  all->nr_others = 0;
  for (e = registry.first; e && err == 0; e = e->next)
    err = take_sample (all, e);
  return err;
}

static void
free_samples (struct samples *all)
{
  struct sample *s;

  while ((s = all->first) != NULL) {
    all->first = s->next;
    free (s);
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
  registry.note_freed = note_freed;
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

static void
put_histograms (FILE *f, const char *prefix, const struct sample *first)
{
  const struct sample *s;
  char label[32];
  unsigned i;

  put_head_of (f, prefix, "request_seconds", "histogram",
               "How long requests of clients took.");
  for (s = first; s; s = s->next)
    for (i = 0; i < LATENCIES; ++i) {
      snprintf (label, sizeof label, "operation=\"%s\"", latency_names[i]);
      put_histogram (f, s, "request_seconds", label, &s->waits[i],
                     &request_scale, NANOSECONDS);
    }
  put_head_of (f, prefix, "backend_seconds", "histogram",
               "How long calls of the backend took.");
  for (s = first; s; s = s->next)
    for (i = 0; i < BACKEND_CALLS; ++i) {
      snprintf (label, sizeof label, "operation=\"%s\"", call_names[i]);
      put_histogram (f, s, "backend_seconds", label, &s->latency[i],
                     &latency_scale, NANOSECONDS);
    }
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

  put_head (f, "writeback_failing_info", "gauge",
            "With which error the backend refuses write-back.");
  for (; s; s = s->next)
    if (s->error != 0) {
      snprintf (label, sizeof label, "error=\"%s\"", error_name (s->error));
      put_name (f, s, "writeback_failing_info", "", label);
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

  for (r = rows; r < rows + ARRAY_LEN (rows); ++r)
    any |= all->others.values[r - rows];
  if (any == 0)
    return;
  put_head (f, "other_exports", "gauge",
            "Exports whose metrics are summed up here.");
  put_own_number (f, "other_exports", NULL, all->nr_others);
  for (r = rows; r < rows + ARRAY_LEN (rows); ++r) {
    if (!is_counter (r) && r->unit != SUM)
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

  for (r = rows; r < rows + ARRAY_LEN (rows); ++r) {
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
  err = take_samples (&all);
  f = err == 0 ? open_memstream (text, len) : NULL;
  if (err == 0 && f == NULL)
    err = ENOMEM;
  if (f) {
    err = put_all (f, &all);
    if (fclose (f) != 0)
      err = ENOMEM;
  }
  free_samples (&all);
  if (err != 0) {
    free (*text);
    *text = NULL;
  }
  return err;
}
