/* SPDX-License-Identifier: BSD-3-Clause */

/* Counters of what clients ask for, and their text.
 *
 * Each thread counts on lines of its own, so that a hit writes no line that
 * another thread writes.  A thread serves one connection, hence one export, and
 * finds its line without a lock while that stays so.  Lines belong to the
 * export; a thread that comes later takes over a line that was left.
 *
 * What the parts know anyway (amounts, batches, flushes) is not counted again
 * but asked for when the text is written.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "export.h"
#include "stats.h"
#include "writeback.h"

static _Atomic uint64_t ids;

/* The line that this thread counts on, and whose it is.  The initial-exec model
 * spares a call for each access; what it takes is small enough for a module.
 */
static __thread __attribute__ ((tls_model ("initial-exec"))) struct {
  uint64_t id;
  struct stats_line *line;
} mine;

/* A line may have as many users one after another as there are threads; two
 * at once could lose a count, never more.  So they are handed out in turn.
 */
#define MOST_LINES 64

void
stats_init (struct stats *s)
{
  memset (s, 0, sizeof *s);
  lock_init (&s->lock, RANK_STATS);
  s->id = atomic_fetch_add_explicit (&ids, 1, memory_order_relaxed) + 1;
}

void
stats_destroy (struct stats *s)
{
  struct stats_line *line;

  while ((line = s->lines) != NULL) {
    s->lines = line->next;
    free (line);
  }
  lock_destroy (&s->lock);
}

/* A line for this thread: a new one, or the one that was used longest ago. */
static struct stats_line *
take_line (struct stats *s)
{
  LOCK_FOR_SCOPE (&s->lock);
  struct stats_line *line, **link = &s->lines;
  unsigned n = 0;

  for (line = s->lines; line && line->next; line = line->next) {
    link = &line->next;
    n++;
  }
  if (n + 1 < MOST_LINES) {
    line = aligned_alloc (64, sizeof *line);
    if (line == NULL)
      return &s->overflow;
    memset (line, 0, sizeof *line);
  }
  else {
    line = *link;
    *link = NULL;
  }
  line->next = s->lines;
  s->lines = line;
  return line;
}

static struct stats_line *
line_of (struct stats *s)
{
  if (mine.id != s->id) {
    mine.line = take_line (s);
    mine.id = s->id;
  }
  return mine.line;
}

static void
count (struct stats_line *line, enum counter which, uint64_t n)
{
  _Atomic uint64_t *c = &line->counts[which];

  atomic_store_explicit (c, atomic_load_explicit (c, memory_order_relaxed) + n,
                         memory_order_relaxed);
}

void
stats_add (struct stats *s, enum counter which, uint64_t n)
{
  count (line_of (s), which, n);
}

void
stats_request (struct stats *s, enum counter requests, enum counter bytes,
               uint64_t n)
{
  struct stats_line *line = line_of (s);

  count (line, requests, 1);
  count (line, bytes, n);
}

uint64_t
stats_sum (struct stats *s, enum counter which)
{
  LOCK_FOR_SCOPE (&s->lock);
  struct stats_line *line;
  uint64_t sum =
      atomic_load_explicit (&s->overflow.counts[which], memory_order_relaxed);

  for (line = s->lines; line; line = line->next)
    sum += atomic_load_explicit (&line->counts[which], memory_order_relaxed);
  return sum;
}

/* One metric: its name, its text, and its value for an export. */
struct metric {
  const char *name, *type, *help;
  int64_t (*value) (struct export *e);
  enum counter which; /* if there is no function */
};

static int64_t
dirty_bytes (struct export *e)
{
  return pagecache_amounts (&e->pc).dirty;
}

static int64_t
writeback_bytes (struct export *e)
{
  return pagecache_amounts (&e->pc).writeback;
}

static int64_t
unstable_bytes (struct export *e)
{
  return pagecache_amounts (&e->pc).unstable;
}

static int64_t
bound_bytes (struct export *e)
{
  return writeback_bound (e);
}

static int64_t
backend_writes (struct export *e)
{
  return atomic_load_explicit (&e->submit.writes, memory_order_relaxed);
}

static int64_t
backend_written (struct export *e)
{
  return atomic_load_explicit (&e->submit.written_bytes, memory_order_relaxed);
}

static int64_t
backend_reads (struct export *e)
{
  return atomic_load_explicit (&e->submit.reads, memory_order_relaxed);
}

static int64_t
backend_read (struct export *e)
{
  return atomic_load_explicit (&e->submit.read_bytes, memory_order_relaxed);
}

static int64_t
merged_requests (struct export *e)
{
  return atomic_load_explicit (&e->submit.merged, memory_order_relaxed);
}

static int64_t
flushes_asked (struct export *e)
{
  return atomic_load_explicit (&e->submit.flushes_asked, memory_order_relaxed);
}

static int64_t
flushes_done (struct export *e)
{
  return atomic_load_explicit (&e->submit.flushes_done, memory_order_relaxed);
}

static int64_t
failures (struct export *e)
{
  return atomic_load_explicit (&e->pc.failures, memory_order_relaxed);
}

static int64_t
refusing (struct export *e)
{
  return atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed);
}

static int64_t
depth_now (struct export *e)
{
  LOCK_FOR_SCOPE (&e->submit.lock);

  return depth_limit (&e->submit.depth);
}

static const struct metric metrics[] = {
  { "read_requests_total", "counter", "Reads that clients asked for.", NULL,
    COUNT_READS },
  { "read_bytes_total", "counter", "Bytes that clients read.", NULL,
    COUNT_READ_BYTES },
  { "read_missed_requests_total", "counter",
    "Reads of which something was not cached.", NULL, COUNT_MISSED_READS },
  { "write_requests_total", "counter", "Writes that clients asked for.", NULL,
    COUNT_WRITES },
  { "write_bytes_total", "counter", "Bytes that clients wrote.", NULL,
    COUNT_WRITE_BYTES },
  { "fua_requests_total", "counter", "Requests with FUA.", NULL, COUNT_FUA },
  { "degraded_writes_total", "counter",
    "Ordinary writes that had to be durable at once.", NULL, COUNT_DEGRADED },
  { "flush_requests_total", "counter", "Flushes that clients asked for.", NULL,
    COUNT_FLUSHES },
  { "zero_requests_total", "counter", "Zero requests.", NULL, COUNT_ZEROES },
  { "trim_requests_total", "counter", "Trim requests.", NULL, COUNT_TRIMS },
  { "failed_requests_total", "counter", "Requests that failed.", NULL,
    COUNT_ERRORS },
  { "backend_reads_total", "counter", "Reads sent to the backend.",
    backend_reads, 0 },
  { "backend_read_bytes_total", "counter", "Bytes read from the backend.",
    backend_read, 0 },
  { "backend_writes_total", "counter", "Batches written to the backend.",
    backend_writes, 0 },
  { "backend_written_bytes_total", "counter", "Bytes written to the backend.",
    backend_written, 0 },
  { "merged_writes_total", "counter",
    "Writes that went along in another's batch.", merged_requests, 0 },
  { "flushes_wanted_total", "counter", "Flushes that were waited for.",
    flushes_asked, 0 },
  { "backend_flushes_total", "counter", "Flushes sent to the backend.",
    flushes_done, 0 },
  { "writeback_failures_total", "counter",
    "Pages whose acknowledged bytes the backend did not take.", failures, 0 },
  { "dirty_bytes", "gauge", "Bytes that the backend has not got.", dirty_bytes,
    0 },
  { "writeback_bytes", "gauge", "Bytes on their way to the backend.",
    writeback_bytes, 0 },
  { "unstable_bytes", "gauge", "Bytes that no flush has covered yet.",
    unstable_bytes, 0 },
  { "dirty_bound_bytes", "gauge",
    "Bytes that may be dirty, in writeback or unstable.", bound_bytes, 0 },
  { "depth", "gauge", "Batches that may be in flight at the backend.",
    depth_now, 0 },
  { "refusing", "gauge", "1 while the backend refuses write-back.", refusing,
    0 },
};

struct text {
  FILE *f;
  const struct metric *metric;
};

/* A name as a label's value: backslash, quote and newline are escaped. */
static void
put_label (FILE *f, const char *name)
{
  for (; *name; ++name)
    if (*name == '\n')
      fputs ("\\n", f);
    else {
      if (*name == '\\' || *name == '"')
        fputc ('\\', f);
      fputc (*name, f);
    }
}

static void
put_value (struct export *e, void *opaque)
{
  const struct text *t = opaque;
  const struct metric *m = t->metric;
  const int64_t value =
      m->value ? m->value (e) : (int64_t) stats_sum (&e->stats, m->which);

  fprintf (t->f, "wtcache_%s{export=\"", m->name);
  put_label (t->f, e->name);
  fprintf (t->f, "\",tls=\"%s\",number=\"%u\"} %lld\n", e->tls ? "yes" : "no",
           e->number, (long long) (value < 0 ? 0 : value));
}

static void
put_memory (FILE *f)
{
  uint64_t used;

  lock_take (&registry.memory.lock);
  used = registry.memory.used;
  lock_drop (&registry.memory.lock);
  fprintf (f,
           "# HELP wtcache_memory_bytes Memory taken from wtcache-size.\n"
           "# TYPE wtcache_memory_bytes gauge\n"
           "wtcache_memory_bytes %llu\n"
           "# HELP wtcache_size_bytes The value of wtcache-size.\n"
           "# TYPE wtcache_size_bytes gauge\n"
           "wtcache_size_bytes %llu\n",
           (unsigned long long) used,
           (unsigned long long) registry.memory.limit);
}

static int
put_all (FILE *f)
{
  struct text t = { .f = f };
  size_t i;

  for (i = 0; i < ARRAY_LEN (metrics); ++i) {
    t.metric = &metrics[i];
    fprintf (f, "# HELP wtcache_%s %s\n# TYPE wtcache_%s %s\n", metrics[i].name,
             metrics[i].help, metrics[i].name, metrics[i].type);
    exports_for_each (put_value, &t);
  }
  put_memory (f);
  return fflush (f) == 0 && !ferror (f) ? 0 : EIO;
}

int
stats_write (const char *file)
{
  char *other;
  FILE *f;
  int err = 0;

  if (asprintf (&other, "%s.new", file) == -1)
    return ENOMEM;
  f = fopen (other, "we");
  if (f == NULL)
    err = errno;
  else {
    err = put_all (f);
    if (fclose (f) != 0 && err == 0)
      err = errno;
    if (err == 0 && rename (other, file) != 0)
      err = errno;
    if (err != 0)
      unlink (other);
  }
  free (other);
  return err;
}
