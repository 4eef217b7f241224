/* SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit's face of the cache: callbacks that hand on to the parts below.
 *
 * A connection joins its export's cache in .prepare and leaves it in .finalize,
 * or in .close where that never came; in leaving, the last that writes drains
 * the cache, while its own `next` can still be called.
 *
 * One thread of ours looks at the clock: it writes the statistics, pokes
 * write-back, and learns that the server was told to stop: nbdkit reports that
 * to filters only by ending a sleep in nbdkit_nanosleep.  A server that stops
 * without being told (nbdkit -s) ends that thread in .cleanup.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "base/ownfile.h"
#include "base/probes.h"
#include "base/repeat.h"
#include "base/workers.h"
#include "export/options.h"
#include "export/writeback.h"
#include "request.h"
#include "request/extents.h"
#include "request/readahead.h"
#include "submit.h"
#include "watch/commands.h"
#include "watch/lost.h"
#include "watch/metrics.h"
#include "watch/trace.h"
#include "wtcache/nbdkit-compat.h"

#define MOST_THREADS 96
#define TICK_NS      100000000
#define STATS_TICKS  20 /* statistics are written every so many ticks */
#define GROWTH       4  /* the cache may become so many times larger */

/* nbdkit -D wtcache.requests=1 logs each request that clients send. */
NBDKIT_DLL_PUBLIC int wtcache_debug_requests;

static pthread_t clock_thread;
static bool clock_runs; /* main thread only */
/* Ends the clock where no signal does: with "nbdkit -s" the server ends with
 * its one connection.  Relaxed: polled.
 */
static _Atomic bool clock_ends;
/* The registry may be used: from .get_ready to .cleanup.  Acquire in .prepare
 * pairs with release in these.
 */
static _Atomic bool serving;

/* The log says once that connections do not share.  Relaxed: an exchange. */
static _Atomic bool told_unshared;

/* One connection. */
struct handle {
  char *name;
  bool tls;
  bool joined;
  bool shared;
  /* Helpers may borrow the backend.  Relaxed: set once, by whichever threads
   * come first; export_lend takes the lock that counts.
   */
  _Atomic bool lent;
  struct backend backend;
  struct client client;
};

/* How often the module was loaded into this process. */
static unsigned loads;

static void
wtcache_load (void)
{
  loads++;
}

static int
wtcache_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
                const char *key, const char *value)
{
  const int r = options_parse (key, value);

  if (r == 0)
    return next (nxdata, key, value);
  return r == 1 ? 0 : -1;
}

static int
wtcache_config_complete (nbdkit_next_config_complete *next,
                         nbdkit_backend *nxdata)
{
  if (loads > 1) {
    nbdkit_error ("wtcache: --filter=wtcache is given %u times: once is "
                  "enough, and the two would share one memory",
                  loads);
    return -1;
  }
  if (options_check () == -1)
    return -1;
  return next (nxdata);
}

/* The first line of the statistics: no other file has it. */
#define STATS_MARK                                                             \
  "# Statistics of nbdkit-wtcache-filter, which replaces this file\n"
#define WHY_BYTES 512

static struct ownfile stats_file = { .mark = STATS_MARK, .lock = -1 };
static struct repeat stats_repeat; /* clock thread; main thread at the end */

static int
write_stats (char *why, size_t size)
{
  char *text;
  size_t len;
  int r;

  if (metrics_text (&text, &len) != 0) {
    snprintf (why, size, "cannot write: %s", strerror (ENOMEM));
    return -1;
  }
  r = ownfile_replace (&stats_file, text, len, why, size);
  free (text);
  return r;
}

/* Writes the statistics; what repeats is logged once, then counted. */
static void
renew_stats (void)
{
  char why[WHY_BYTES];
  bool failed;

  if (stats_file.lock == -1)
    return;
  failed = write_stats (why, sizeof why) == -1;
  switch (repeat_note (&stats_repeat, failed, now_ns ())) {
  case REPEAT_BEGAN:
    nbdkit_error ("wtcache-stats=%s: %s; it is tried again every few seconds",
                  options.stats, why);
    break;
  case REPEAT_GOES_ON:
    nbdkit_error ("wtcache-stats=%s: %s; failed %" PRIu64 " times so far",
                  options.stats, why, stats_repeat.count);
    break;
  case REPEAT_ENDED:
    nbdkit_error ("wtcache-stats=%s: written again, after %" PRIu64 " failures",
                  options.stats, stats_repeat.count);
    break;
  case REPEAT_SILENT:
    break;
  }
}

static int
refuse_stats (const char *why)
{
  nbdkit_error ("wtcache-stats=%s: %s", options.stats, why);
  return -1;
}

/* Whatever can be seen before the server goes into the background. */
static int
check_stats (void)
{
  char why[WHY_BYTES];

  metrics_name (options.name);
  stats_file.path = options.stats;
  if (options.stats && ownfile_check (&stats_file, why, sizeof why) != 0)
    return refuse_stats (why);
  return 0;
}

/* The server has its user now (nbdkit -u). */
static int
begin_stats (void)
{
  char why[WHY_BYTES];

  if (options.stats == NULL)
    return 0;
  if (ownfile_lock (&stats_file, why, sizeof why) == 0 &&
      write_stats (why, sizeof why) == 0)
    return 0;
  ownfile_unlock (&stats_file);
  return refuse_stats (why);
}

static void
log_text (const char *text)
{
  nbdkit_error ("%s", text);
}

/* The socket is there before the server goes into the background: what is wrong
 * is told at start.
 */
static int
make_controllable (void)
{
  char why[200];

  if (options.control == NULL)
    return 0;
  memory_may_grow (&registry.memory, GROWTH * options.size);
  commands_init (&options, log_text);
  if (control_bind (options.control, why, sizeof why) == 0)
    return 0;
  nbdkit_error ("wtcache-control=%s: %s", options.control, why);
  return -1;
}

static int
wtcache_get_ready (int thread_model)
{
  const bool parallel = thread_model == NBDKIT_THREAD_MODEL_PARALLEL;
  int err;

  if (!parallel) {
    options_tell_without_effect ();
    if (!options.mode_given)
      options.settings.mode = MODE_THROUGH;
  }
  err = registry_init (&options.settings, options.size, parallel);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache-size=%" PRIu64 ": cannot map that much: %m",
                  options.size);
    return -1;
  }
  if (check_stats () == -1 || make_controllable () == -1)
    return -1;
  err =
      lost_init (options.stats ? options.stats : options.control, options.name);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: %m");
    return -1;
  }
  /* nbdkit -D wtcache.requests=1: it was set before. */
  if (wtcache_debug_requests)
    atomic_fetch_add_explicit (&trace_watchers, 1, memory_order_relaxed);
  atomic_store_explicit (&serving, true, memory_order_release);
  return 0;
}

/* Over a serial stack it only writes statistics: no thread of ours calls the
 * backend then.
 */
static void *
run_clock (void *arg)
{
  unsigned ticks = 0;

  /* nbdkit_nanosleep fails once the server was told to stop. */
  while (!atomic_load_explicit (&clock_ends, memory_order_relaxed) &&
         nbdkit_nanosleep (0, TICK_NS) == 0) {
    if (registry.parallel)
      exports_for_each (writeback_tick, NULL);
    if (++ticks % STATS_TICKS == 0)
      renew_stats ();
  }
  /* The server stops: from now on nothing is held back. */
  atomic_store_explicit (&registry.stopping, true, memory_order_relaxed);
  if (registry.parallel)
    exports_for_each (writeback_begin_drain, NULL);
  return arg;
}

static int
wtcache_after_fork (nbdkit_backend *nxdata)
{
  sigset_t all, old;
  int err;

  (void) nxdata;
  registry_after_fork ();
  if (begin_stats () == -1)
    return -1;
  lost_tell_old (log_text);
  if (registry.parallel) {
    workers_start (MOST_THREADS);
    if (!workers_are_there ()) {
      nbdkit_error ("wtcache: cannot start a thread: %s", strerror (EAGAIN));
      return -1;
    }
  }
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&clock_thread, NULL, run_clock, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: cannot start a thread: %m");
    return -1;
  }
  clock_runs = true;
  err = control_start (command_run, command_is_quick);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache-control=%s: cannot listen: %m", options.control);
    return -1;
  }
  return 0;
}

/* Room for the ranges that a line of the log tells. */
#define RANGES_BYTES 512

static void
log_lost (const struct export *e, uint64_t bytes, const char *which,
          const char *ranges)
{
  char *text;
  int err;

  if (asprintf (&text,
                "wtcache: export %s%s: LOST: %" PRIu64 " %sbytes were "
                "acknowledged and could not be made durable before the "
                "server's end (offset+length):%s",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "", bytes,
                which, ranges) == -1) {
    nbdkit_error ("wtcache: LOST: %" PRIu64 " bytes", bytes);
    return;
  }
  nbdkit_error ("%s", text);
  err = lost_add (text);
  if (err != 0)
    nbdkit_error ("wtcache: the file that says so cannot be written: %s",
                  strerror (err));
  free (text);
}

/* Logs what of an export the backend has not got, and adds it up. */
static void
log_left (struct export *e, void *opaque)
{
  uint64_t *lost = opaque;
  const struct amounts a = pagecache_amounts (&e->pc);
  const uint64_t zeroed = zeroes_bytes (&e->pc.zeroes);
  char ranges[RANGES_BYTES];

  *lost += a.dirty + a.unstable + zeroed;
  if (a.dirty + a.unstable > 0) {
    export_format_held (e, 0, ranges, sizeof ranges);
    log_lost (e, a.dirty + a.unstable, "", ranges);
  }
  if (zeroed > 0) {
    export_format_zeroed (e, ranges, sizeof ranges);
    log_lost (e, zeroed, "zeroed ", ranges);
  }
}

static void
wtcache_cleanup (nbdkit_backend *nxdata)
{
  uint64_t lost = 0;

  (void) nxdata;
  atomic_store_explicit (&serving, false, memory_order_release);
  atomic_store_explicit (&clock_ends, true, memory_order_relaxed);
  if (clock_runs)
    pthread_join (clock_thread, NULL);
  clock_runs = false;
  control_stop (); /* its commands need the workers */
  workers_stop ();
  exports_for_each (log_left, &lost);
  metrics_end (lost);
  renew_stats ();
}

/* Once for each load: given twice, the filter has one state all the same. */
static void
wtcache_unload (void)
{
  if (--loads > 0)
    return;
  control_unbind ();
  if (registry.settings.page_size != 0)
    registry_destroy ();
  ownfile_unlock (&stats_file);
  lost_free ();
  free (options.stats);
  free (options.control);
}

static void *
wtcache_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
              const char *exportname, int is_tls)
{
  struct handle *h;

  if (next (context, readonly, exportname) == -1)
    return NULL;
  h = calloc (1, sizeof *h);
  if (h)
    h->name = strdup (exportname);
  if (h == NULL || h->name == NULL) {
    nbdkit_error ("wtcache: opening export %s: %m",
                  name_quoted (exportname).text);
    free (h);
    return NULL;
  }
  h->tls = is_tls;
  return h;
}

/* Whether the connections of this export share one cache. */
static bool
is_shared (const struct backend_traits *t)
{
  switch (options.share) {
  case SHARE_NEVER:
    return false;
  case SHARE_ALWAYS:
    /* One connection's flush has to reach what the others wrote, which only
     * threads of ours may do.
     */
    return t->can_multi_conn || registry.parallel;
  default:
    return t->can_multi_conn;
  }
}

static void
tell_not_held (struct handle *h, const struct open_result *r)
{
  const bool two_kinds =
      r->nr_siblings > 0 && r->siblings[0]->tls == r->export->tls;

  if (registry.settings.mode != MODE_WRITEBACK || !h->backend.traits.can_write)
    return;
  if (r->nr_siblings > 0)
    nbdkit_error ("wtcache: export %s is open %s, "
                  "in two caches: ordinary writes go through at once",
                  name_quoted (h->name).text,
                  two_kinds ? "with multi-conn and without"
                            : "with TLS and without");
  else if (!h->shared && !atomic_exchange_explicit (&told_unshared, true,
                                                    memory_order_relaxed))
    nbdkit_error ("wtcache: export %s: connections may be over one disk "
                  "without seeing each other's writes, so each has a cache "
                  "of its own and ordinary writes go through at once",
                  name_quoted (h->name).text);
}

/* What a sibling held back may be what this connection reads.  Over a serial
 * stack its own connection writes it, at its next request.
 */
static void
write_siblings (struct open_result *r)
{
  struct export *e;
  unsigned i;

  for (i = 0; i < r->nr_siblings; ++i) {
    e = r->siblings[i];
    if (registry.parallel && pagecache_amounts (&e->pc).dirty > 0)
      writeback_drain (e, NULL);
    export_let_go (e);
  }
}

static int
join_export (struct handle *h)
{
  const struct backend_traits *t = &h->backend.traits;
  char ranges[RANGES_BYTES];
  struct open_result r;
  int err;

  err = export_open (h->name, h->tls, is_shared (t), t, t->can_write, &r);
  if (err == ESTALE) {
    nbdkit_error ("wtcache: export %s now has %" PRIu64 " bytes in "
                  "blocks of %" PRIu32 ", but its cache is in use, or holds "
                  "data, with another size: refused",
                  name_quoted (h->name).text, t->size, t->block);
    return -1;
  }
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: export %s: no memory for its cache: %m "
                  "(wtcache-size=%" PRIu64 ")",
                  name_quoted (h->name).text, memory_limit (&registry.memory));
    return -1;
  }
  if (r.unsavable > 0) {
    export_format_held (r.export, t->size, ranges, sizeof ranges);
    nbdkit_error ("wtcache: export %s has shrunk to %" PRIu64 " bytes: "
                  "%" PRId64 " dirty bytes past its end cannot be saved "
                  "(offset+length):%s",
                  name_quoted (h->name).text, t->size, r.unsavable, ranges);
  }
  h->client.export = r.export;
  h->shared = r.export->shared;
  tell_not_held (h, &r);
  write_siblings (&r);
  return 0;
}

static int
wtcache_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;

  (void) readonly;
  if (!atomic_load_explicit (&serving, memory_order_acquire)) {
    nbdkit_error ("wtcache: the server is stopping: export %s is not "
                  "opened",
                  name_quoted (h->name).text);
    return -1;
  }
  if (backend_init (&h->backend, next) == -1)
    return -1;
  if (join_export (h) == -1)
    return -1;
  export_attach (h->client.export, &h->backend);
  h->client.own = &h->backend;
  /* Off, it may be switched on by who controls the server. */
  if (registry.parallel &&
      (registry.settings.readahead != 0 || options.control != NULL))
    h->client.ahead = readahead_new (h->client.export);
  h->joined = true;
  return 0;
}

/* The last connection that writes leaves nothing behind if it can help it;
 * so does each one if others' flushes do not cover it.
 */
static void
drain (struct handle *h)
{
  struct export *e = h->client.export;
  const bool last = export_end_writer (e);
  int err;

  if (!last && h->backend.traits.can_multi_conn && e->shared)
    return;
  if (!export_holds_data (e))
    return;
  /* Its negotiation is over, even if it sent no request. */
  export_lend (e, &h->backend);
  err = writeback_drain (e, &h->backend);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: export %s: %" PRId64 " bytes could not be "
                  "written back when its last writer left: %m; they wait in "
                  "memory for the next connection",
                  name_quoted (h->name).text, pagecache_amounts (&e->pc).held);
  }
}

static void
leave_export (struct handle *h)
{
  if (!h->joined)
    return;
  h->joined = false;
  readahead_free (h->client.ahead);
  if (h->backend.traits.can_write)
    drain (h);
  export_withdraw (h->client.export, &h->backend);
  export_close (h->client.export);
}

static int
wtcache_finalize (nbdkit_next *next, void *handle)
{
  (void) next;
  leave_export (handle);
  return 0;
}

static void
wtcache_close (void *handle)
{
  struct handle *h = handle;

  leave_export (h);
  free (h->name);
  free (h);
}

static int64_t
wtcache_get_size (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.size;
}

/* Partial blocks are our work; what helps us most is whole pages. */
static int
wtcache_block_size (nbdkit_next *next, void *handle, uint32_t *minimum,
                    uint32_t *preferred, uint32_t *maximum)
{
  struct handle *h = handle;
  const uint64_t wanted =
      max_u64 (page_size (&h->client.export->pc), h->backend.traits.preferred);

  (void) next;
  *minimum = 1;
  /* nbdkit takes a power of two from 512 to 32 MiB. */
  *preferred = UINT64_C (1) << log2_u64 (clamp_u64 (wanted, 512, 32 * MiB));
  *maximum = MAX_TRANSFER;
  return 0;
}

static int
wtcache_can_write (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.can_write;
}

static int
wtcache_can_fua (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.can_write ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int
wtcache_can_zero (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.can_zero ? NBDKIT_ZERO_NATIVE : NBDKIT_ZERO_NONE;
}

static int
wtcache_can_fast_zero (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.can_fast_zero;
}

static int
wtcache_can_multi_conn (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->shared &&
         atomic_load_explicit (&h->client.export->holds, memory_order_relaxed);
}

static int
wtcache_can_cache (nbdkit_next *next, void *handle)
{
  (void) next;
  (void) handle;
  return NBDKIT_CACHE_NATIVE;
}

static const char *const kind_names[] = {
  [KIND_READ] = "read",
  [KIND_WRITE] = "write",
  [KIND_FUA_WRITE] = "FUA write",
  [KIND_FLUSH] = "flush",
  [KIND_ZERO] = "zero",
  [KIND_TRIM] = "trim",
  [KIND_BLOCK_STATUS] = "block status",
  [KIND_CACHE] = "cache",
};

/* Somebody wants to be told of each request. */
static void
tell_watchers (struct handle *h, enum request_kind kind, uint32_t count,
               uint64_t offset, uint32_t flags)
{
  const bool writes = kind == KIND_WRITE || kind == KIND_FUA_WRITE;

  if (writes || kind == KIND_READ)
    trace_note (h->client.export->name, writes, offset, count);
  if (wtcache_debug_requests)
    nbdkit_debug (
        "wtcache: export %s: %s %" PRIu64 "+%" PRIu32 " flags 0x%" PRIx32,
        name_quoted (h->name).text, kind_names[kind], offset, count, flags);
}

/* What is to be done for few requests only, apart from those of every one. */
static __attribute__ ((noinline)) void
begin_slowly (struct handle *h, enum request_kind kind, uint32_t count,
              uint64_t offset, uint32_t flags)
{
  if (atomic_load_explicit (&trace_watchers, memory_order_relaxed) != 0)
    tell_watchers (h, kind, count, offset, flags);
  if (!atomic_load_explicit (&h->lent, memory_order_relaxed)) {
    export_lend (h->client.export, &h->backend);
    atomic_store_explicit (&h->lent, true, memory_order_relaxed);
  }
}

/* Each data request begins here: from the first on helpers may borrow. */
static inline __attribute__ ((always_inline)) struct client *
begin (struct handle *h, enum request_kind kind, uint32_t count,
       uint64_t offset, uint32_t flags)
{
  PROBE5 (request__begin, kind, h->name, offset, count, flags);
  if (atomic_load_explicit (&trace_watchers, memory_order_relaxed) != 0 ||
      !atomic_load_explicit (&h->lent, memory_order_relaxed))
    begin_slowly (h, kind, count, offset, flags);
  return &h->client;
}

/* Its error is logged once, and goes to this client. */
static __attribute__ ((noinline)) int
fail (struct handle *h, enum request_kind kind, uint32_t count, uint64_t offset,
      int error, int *err)
{
  PROBE5 (error, kind, h->name, offset, count, error);
  stats_add (&h->client.export->stats, COUNT_ERRORS, 1);
  errno = error;
  nbdkit_error ("wtcache: export %s: %s of %" PRIu32 " bytes at %" PRIu64
                " failed: %m",
                name_quoted (h->name).text, kind_names[kind], count, offset);
  *err = error;
  return -1;
}

/* Each ends here. */
static inline __attribute__ ((always_inline)) int
end (struct handle *h, enum request_kind kind, uint32_t count, uint64_t offset,
     int error, int *err)
{
  PROBE3 (request__end, kind, h->name, error);
  return error == 0 ? 0 : fail (h, kind, count, offset, error, err);
}

static int
wtcache_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_READ, count, offset, flags);

  (void) next;
  return end (h, KIND_READ, count, offset, request_read (c, buf, count, offset),
              err);
}

static int
wtcache_pwrite (nbdkit_next *next, void *handle, const void *buf,
                uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  const bool fua = flags & NBDKIT_FLAG_FUA;
  const enum request_kind kind = fua ? KIND_FUA_WRITE : KIND_WRITE;
  struct client *c = begin (h, kind, count, offset, flags);
  struct stats *s = &c->export->stats;

  (void) next;
  stats_request (s, COUNT_WRITES, COUNT_WRITE_BYTES, count);
  if (fua)
    stats_request (s, COUNT_FUA, COUNT_FUA_BYTES, count);
  return end (h, kind, count, offset,
              request_write (c, buf, count, offset, fua), err);
}

static int
wtcache_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_FLUSH, 0, 0, flags);

  (void) next;
  stats_add (&c->export->stats, COUNT_FLUSHES, 1);
  return end (h, KIND_FLUSH, 0, 0, request_flush (c), err);
}

static int
wtcache_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_ZERO, count, offset, flags);
  struct stats *s = &c->export->stats;
  unsigned zero_flags = 0;
  int error;

  (void) next;
  stats_request (s, COUNT_ZEROES, COUNT_ZERO_BYTES, count);
  if (flags & NBDKIT_FLAG_FUA)
    stats_request (s, COUNT_FUA, COUNT_FUA_BYTES, count);
  zero_flags |= flags & NBDKIT_FLAG_MAY_TRIM ? ZERO_MAY_TRIM : 0;
  zero_flags |= flags & NBDKIT_FLAG_FUA ? ZERO_FUA : 0;
  zero_flags |= flags & NBDKIT_FLAG_FAST_ZERO ? ZERO_FAST : 0;
  error = request_zero (c, count, offset, zero_flags);
  if (error == ENOTSUP) {
    /* Of a fast zero it is an answer, of any other nbdkit would abort. */
    if (zero_flags & ZERO_FAST) {
      PROBE3 (request__end, KIND_ZERO, h->name, error);
      *err = error;
      return -1;
    }
    error = EIO;
  }
  return end (h, KIND_ZERO, count, offset, error, err);
}

static int
wtcache_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_TRIM, count, offset, flags);
  struct stats *s = &c->export->stats;
  const bool fua = flags & NBDKIT_FLAG_FUA;

  (void) next;
  stats_request (s, COUNT_TRIMS, COUNT_TRIM_BYTES, count);
  if (fua)
    stats_request (s, COUNT_FUA, COUNT_FUA_BYTES, count);
  return end (h, KIND_TRIM, count, offset, request_trim (c, count, offset, fua),
              err);
}

static int
wtcache_extents (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_BLOCK_STATUS, count, offset, flags);

  (void) next;
  return end (h, KIND_BLOCK_STATUS, count, offset,
              extents_get (c, count, offset, flags, extents), err);
}

/* Advice: what fails now is told when it is read.  ERR may be NULL. */
static int
wtcache_cache (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
               uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin (h, KIND_CACHE, count, offset, flags);

  (void) next;
  (void) err;
  /* More than a part of the cache would only push itself out. */
  fetch_range (c->export, c->own, offset,
               min_u64 (count, memory_limit (&registry.memory) / 2),
               ADMIT_READ);
  PROBE3 (request__end, KIND_CACHE, h->name, 0);
  return 0;
}

#ifdef HAVE_DUMP_PLUGIN
static void
wtcache_dump_plugin (void)
{
  printf ("wtcache_version=%s\n", PACKAGE_VERSION);
  printf ("wtcache_modes=writeback,writethrough,writearound\n");
}
#endif

static struct nbdkit_filter filter = {
  .name = "wtcache",
  .longname = "wtcache",
  .description = "paged shared cache in memory; FUA goes through it",
  .load = wtcache_load,
  .config = wtcache_config,
  .config_complete = wtcache_config_complete,
  .config_help = options_help,
#ifdef HAVE_DUMP_PLUGIN
  .dump_plugin = wtcache_dump_plugin,
#endif
  .get_ready = wtcache_get_ready,
  .after_fork = wtcache_after_fork,
  .cleanup = wtcache_cleanup,
  .unload = wtcache_unload,
  .open = wtcache_open,
  .prepare = wtcache_prepare,
  .finalize = wtcache_finalize,
  .close = wtcache_close,
  .get_size = wtcache_get_size,
  .block_size = wtcache_block_size,
  .can_write = wtcache_can_write,
  .can_flush = wtcache_can_write, /* whenever it can write */
  .can_fua = wtcache_can_fua,
  .can_zero = wtcache_can_zero,
  .can_fast_zero = wtcache_can_fast_zero,
  .can_multi_conn = wtcache_can_multi_conn,
  .can_cache = wtcache_can_cache,
  .pread = wtcache_pread,
  .pwrite = wtcache_pwrite,
  .flush = wtcache_flush,
  .zero = wtcache_zero,
  .trim = wtcache_trim,
  .extents = wtcache_extents,
  .cache = wtcache_cache,
};

NBDKIT_REGISTER_FILTER (filter)
