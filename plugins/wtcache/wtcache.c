/* SPDX-License-Identifier: BSD-3-Clause */

/* The nbdkit callbacks.  Each checks its arguments, calls the division below
 * that does the work, and returns or logs the error.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filewriter.h"
#include "base/name.h"
#include "base/probes.h"
#include "base/value.h"
#include "base/workers.h"
#include "export.h"
#include "request.h"
#include "watch.h"
#include "wtcache/advice.h"
#include "wtcache/clock.h"
#include "wtcache/connection.h"
#include "wtcache/ending.h"
#include "wtcache/failures.h"
#include "wtcache/nbdkit-compat.h"
#include "wtcache/statsfile.h"
#include "wtcache/warmfile.h"

#define SHARED_THREADS 96 /* beside those of each export */
#define GROWTH         4  /* the cache may grow to so many times its size */

/* How long the end of the server waits for its last files, ns. */
#define FILES_NS UINT64_C (5000000000)

/* nbdkit -D wtcache.requests=1 logs each request that clients send. */
NBDKIT_DLL_PUBLIC int wtcache_debug_requests;

/* The registry may be used: from .get_ready to .cleanup.  Acquire in
 * wtcache_prepare pairs with release in wtcache_get_ready and wtcache_cleanup.
 */
static _Atomic bool serving;

/* How often the module was loaded into this process. */
static unsigned loads;

static char help[PARAMETERS_HELP_BYTES];

static void
wtcache_load (void)
{
  if (loads++ == 0) {
    parameters_reset (&settings);
    parameters_help (help, sizeof help, PARAMETERS_PREFIX, false);
  }
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

static void
log_text (const char *text)
{
  nbdkit_error ("%s", text);
}

/* Binds the control socket before the server goes into the background, so that
 * an error is logged where the server was started.
 */
static int
make_controllable (void)
{
  char why[200];

  if (settings.control == NULL)
    return 0;
  memory_may_grow (&registry.memory, GROWTH * SETTING (size));
  if (watch_bind (settings.control, log_text, why, sizeof why) == 0)
    return 0;
  nbdkit_error ("wtcache-control=%s: %s", settings.control, why);
  return -1;
}

static int
wtcache_get_ready (int thread_model)
{
  const bool parallel = thread_model == NBDKIT_THREAD_MODEL_PARALLEL;
  int err;

  if (!parallel)
    options_without_threads ();
  advice_log (parallel);
  err = export_registry_init (parallel);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache-size=%s: cannot map that much: %m",
                  value_size (SETTING (size)).s);
    return -1;
  }
  if (statsfile_check () == -1 || warmfile_check () == -1 ||
      make_controllable () == -1)
    return -1;
  err = lost_init (settings.stats ? settings.stats : settings.control,
                   settings.name, log_text);
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

/* Without a file that it could write, there is no writer. */
static int
begin_writing (void)
{
  int err;

  if (settings.stats == NULL && settings.control == NULL)
    return 0;
  err = filewriter_start (&folder_writer);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: cannot start a thread: %m");
    return -1;
  }
  lost_tell_old ();
  return 0;
}

static int
wtcache_after_fork (nbdkit_backend *nxdata)
{
  int err;

  (void) nxdata;
  export_registry_after_fork ();
  if (statsfile_begin () == -1 || warmfile_begin () == -1)
    return -1;
  if (begin_writing () == -1)
    return -1;
  if (registry.parallel) {
    workers_start (SHARED_THREADS);
    if (!workers_are_there ()) {
      nbdkit_error ("wtcache: cannot start a thread: %s", strerror (EAGAIN));
      return -1;
    }
  }
  err = clock_start ();
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: cannot start a thread: %m");
    return -1;
  }
  err = watch_start ();
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache-control=%s: cannot listen: %m", settings.control);
    return -1;
  }
  return 0;
}

static void
wtcache_cleanup (nbdkit_backend *nxdata)
{
  (void) nxdata;
  atomic_store_explicit (&serving, false, memory_order_release);
  clock_begin_ending ();
  watch_stop (); /* its commands need the workers */
  workers_stop ();
  clock_stop ();
  failures_finish ();
  watch_end (ending_finish ());
  statsfile_renew_last ();
  warmfile_save_last ();
}

/* Once for each load: given twice, the filter has one state all the same. */
static void
wtcache_unload (void)
{
  bool warm_ended;

  if (--loads > 0)
    return;
  watch_unbind ();
  warm_ended = warmfile_end (FILES_NS);
  if (warm_ended && registry.there)
    export_registry_destroy ();
  statsfile_end ();
  if (filewriter_stop (&folder_writer, FILES_NS)) {
    lost_free ();
    if (warm_ended)
      parameters_free (&settings);
  }
  else
    nbdkit_error ("wtcache: a write to a file in the folder of %s hangs: the "
                  "server ends without it",
                  settings.stats ? settings.stats : settings.control);
}

static void *
wtcache_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
              const char *exportname, int is_tls)
{
  struct handle *h;

  if (next (context, readonly, exportname) == -1)
    return NULL;
  h = connection_new (exportname, is_tls);
  if (h == NULL)
    nbdkit_error ("wtcache: opening export %s: %m",
                  name_quoted (exportname).text);
  return h;
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
  return connection_join (h, next);
}

static int
wtcache_finalize (nbdkit_next *next, void *handle)
{
  (void) next;
  connection_leave (handle);
  return 0;
}

static void
wtcache_close (void *handle)
{
  connection_leave (handle);
  connection_free (handle);
}

static int64_t
wtcache_get_size (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) next;
  return h->backend.traits.size;
}

/* Any request is taken; whole pages are the fastest. */
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

/* Reports a request to the trace and to the debug log. */
static void
trace_or_log (struct handle *h, enum request_kind kind, uint32_t count,
              uint64_t offset, uint32_t flags)
{
  const bool writes = kind == KIND_WRITE || kind == KIND_FUA_WRITE;

  if (writes || kind == KIND_READ)
    trace_note (h->client.export->name, writes, offset, count);
  if (wtcache_debug_requests)
    nbdkit_debug (
        "wtcache: export %s: %s %" PRIu64 "+%" PRIu32 " flags 0x%" PRIx32,
        name_quoted (h->name).text, failures_kind (kind), offset, count, flags);
}

/* The request that was to be timed has been, or none is to be yet. */
static void
is_timed (struct handle *h)
{
  atomic_store_explicit (&h->client.plain, true, memory_order_relaxed);
}

/* The rare part of begin_request: tracing, the first request of a connection,
 * and one that is to be timed.  When that began; 0: it is not to be.
 */
static __attribute__ ((noinline, cold)) uint64_t
begin_slowly (struct handle *h, enum request_kind kind, uint32_t count,
              uint64_t offset, uint32_t flags)
{
  if (atomic_load_explicit (&trace_watchers, memory_order_relaxed) != 0)
    trace_or_log (h, kind, count, offset, flags);
  if (!atomic_load_explicit (&h->lent, memory_order_relaxed)) {
    connection_lend (h);
    is_timed (h);
  }
  return atomic_load_explicit (&h->client.plain, memory_order_relaxed)
             ? 0
             : now_ns ();
}

static inline bool
is_common (struct handle *h)
{
  return atomic_load_explicit (&trace_watchers, memory_order_relaxed) == 0 &&
         atomic_load_explicit (&h->client.plain, memory_order_relaxed);
}

/* Each data request begins here; from the first one on helpers may borrow the
 * connection.
 */
static inline __attribute__ ((always_inline)) struct client *
begin_request (struct handle *h, enum request_kind kind, uint32_t count,
               uint64_t offset, uint32_t flags)
{
  PROBE5 (request__begin, kind, h->name, offset, count, flags);
  if (!is_common (h))
    begin_slowly (h, kind, count, offset, flags);
  return &h->client;
}

/* Has the error of a request logged, and returns it to the client. */
static __attribute__ ((noinline)) int
fail_request (struct handle *h, enum request_kind kind, uint32_t count,
              uint64_t offset, int error, int *err)
{
  PROBE5 (error, kind, h->name, offset, count, error);
  stats_add (&h->client.export->stats, COUNT_ERRORS, 1);
  failures_note (h, kind, count, offset, error);
  *err = error;
  return -1;
}

/* Each data request ends here. */
static inline __attribute__ ((always_inline)) int
end_request (struct handle *h, enum request_kind kind, uint32_t count,
             uint64_t offset, int error, int *err)
{
  PROBE3 (request__end, kind, h->name, error);
  return error == 0 ? 0 : fail_request (h, kind, count, offset, error, err);
}

/* The same as in wtcache_pread, and a hit is timed.  A miss is timed where it
 * is found.
 */
static __attribute__ ((noinline, cold)) int
read_slowly (struct handle *h, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  struct stats *s = &h->client.export->stats;
  const uint64_t began = begin_slowly (h, KIND_READ, count, offset, flags);
  const uint64_t misses = stats_mine_count (s, COUNT_MISSES);
  const int error = request_read (&h->client, buf, count, offset);

  if (began != 0 && stats_mine_count (s, COUNT_MISSES) == misses) {
    stats_note_latency (s, LATENCY_HIT, began, STATS_SAMPLE);
    is_timed (h);
  }
  return error;
}

static int
wtcache_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;

  (void) next;
  PROBE5 (request__begin, KIND_READ, h->name, offset, count, flags);
  return end_request (h, KIND_READ, count, offset,
                      is_common (h)
                          ? request_read (&h->client, buf, count, offset)
                          : read_slowly (h, buf, count, offset, flags),
                      err);
}

/* The same as in wtcache_pwrite of a write with FUA, and of one that is timed.
 */
static __attribute__ ((noinline)) int
write_slowly (struct handle *h, const void *buf, uint32_t count,
              uint64_t offset, uint32_t flags)
{
  const bool fua = flags & NBDKIT_FLAG_FUA;
  struct stats *s = &h->client.export->stats;
  uint64_t began = 0;
  int error;

  if (!is_common (h))
    began = begin_slowly (h, fua ? KIND_FUA_WRITE : KIND_WRITE, count, offset,
                          flags);
  if (fua) {
    began = began != 0 ? began : now_ns ();
    stats_request (s, COUNT_FUA, COUNT_FUA_BYTES, count);
  }
  error = request_write (&h->client, buf, count, offset, fua);
  if (fua)
    stats_note_latency (s, LATENCY_FUA_WRITE, began, 1);
  else if (began != 0) {
    stats_note_latency (s, LATENCY_WRITE, began, STATS_SAMPLE);
    is_timed (h);
  }
  return error;
}

static int
wtcache_pwrite (nbdkit_next *next, void *handle, const void *buf,
                uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  const bool fua = flags & NBDKIT_FLAG_FUA;
  const enum request_kind kind = fua ? KIND_FUA_WRITE : KIND_WRITE;

  (void) next;
  PROBE5 (request__begin, kind, h->name, offset, count, flags);
  if (stats_request (&h->client.export->stats, COUNT_WRITES, COUNT_WRITE_BYTES,
                     count) &&
      !fua)
    request_time_next (&h->client);
  return end_request (
      h, kind, count, offset,
      !fua && is_common (h)
          ? request_write (&h->client, buf, count, offset, false)
          : write_slowly (h, buf, count, offset, flags),
      err);
}

static int
wtcache_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin_request (h, KIND_FLUSH, 0, 0, flags);
  struct stats *s = &c->export->stats;
  const uint64_t began = now_ns ();
  int error;

  (void) next;
  stats_add (s, COUNT_FLUSHES, 1);
  error = request_flush (c);
  stats_note_latency (s, LATENCY_FLUSH, began, 1);
  return end_request (h, KIND_FLUSH, 0, 0, error, err);
}

static int
wtcache_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin_request (h, KIND_ZERO, count, offset, flags);
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
    /* Only a fast zero may return it: for any other nbdkit would abort. */
    if (zero_flags & ZERO_FAST) {
      PROBE3 (request__end, KIND_ZERO, h->name, error);
      *err = error;
      return -1;
    }
    error = EIO;
  }
  return end_request (h, KIND_ZERO, count, offset, error, err);
}

static int
wtcache_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin_request (h, KIND_TRIM, count, offset, flags);
  struct stats *s = &c->export->stats;
  const bool fua = flags & NBDKIT_FLAG_FUA;

  (void) next;
  stats_request (s, COUNT_TRIMS, COUNT_TRIM_BYTES, count);
  if (fua)
    stats_request (s, COUNT_FUA, COUNT_FUA_BYTES, count);
  return end_request (h, KIND_TRIM, count, offset,
                      request_trim (c, count, offset, fua), err);
}

static int
wtcache_extents (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents, int *err)
{
  struct handle *h = handle;
  struct client *c = begin_request (h, KIND_BLOCK_STATUS, count, offset, flags);

  (void) next;
  return end_request (h, KIND_BLOCK_STATUS, count, offset,
                      extents_get (c, count, offset, flags, extents), err);
}

/* Advice: an error is reported when the range is read.  ERR may be NULL. */
static int
wtcache_cache (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
               uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct client *c = begin_request (h, KIND_CACHE, count, offset, flags);

  (void) next;
  (void) err;
  /* More than half of the cache would evict its own pages. */
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
  char forms[PARAMETERS_FORMS_BYTES];
  unsigned i;

  printf ("wtcache_version=%s\n", PACKAGE_VERSION);
  for (i = 0; i < NR_PARAMETERS; ++i) {
    parameters_forms (i, forms, sizeof forms);
    printf ("%s%s=%s\n", PARAMETERS_PREFIX, parameters[i].name, forms);
  }
}
#endif

static struct nbdkit_filter filter = {
  .name = "wtcache",
  .longname = "wtcache",
  .description = "paged shared cache in memory; FUA goes through it",
  .load = wtcache_load,
  .config = wtcache_config,
  .config_complete = wtcache_config_complete,
  .config_help = help,
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
