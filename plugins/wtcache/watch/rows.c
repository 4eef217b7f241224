/* SPDX-License-Identifier: BSD-3-Clause */

/* The metrics of an export that are a number each: their names, and where each
 * number comes from.
 *
 * docs/wtcache-statistics.pod says of each metric what it means; a test
 * compares the two.  Names and units go by Prometheus's conventions.
 *
 * A value is an atomic, read relaxed, or is read under the lock that guards it,
 * taken for that alone.  So each is one that it had, though two of them need
 * not be of the same moment.
 */

#include <config.h>

#include <string.h>

#include "request.h"
#include "watch/rows.h"

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
warm_listed (struct export *e, int which)
{
  (void) which;
  return warm_progress (e->name, e->tls).listed;
}

static uint64_t
warm_fetched (struct export *e, int which)
{
  (void) which;
  return warm_progress (e->name, e->tls).fetched;
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
  (void) which;
  return dirty_age (e);
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

const struct row rows[] = {
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
  { "warm_listed_bytes", "gauge", "Bytes that the warm list names.", NULL,
    warm_listed, 0, PLAIN },
  { "warm_fetched_bytes", "gauge",
    "Bytes of the warm list that are cached, or were.", NULL, warm_fetched, 0,
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
  { "refusing_since_timestamp_seconds", "gauge",
    "When the backend began to refuse write-back; 0 if it does not.", NULL,
    failing_since, 0, PLAIN },
  { 0 },
};

_Static_assert(ARRAY_LEN (rows) <= MAX_ROWS, "a sample has room for each row");

/* A row without a type goes on with a counter. */
bool
row_is_counter (const struct row *r)
{
  return r->type == NULL || strcmp (r->type, "counter") == 0;
}
