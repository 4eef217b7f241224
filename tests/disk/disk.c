/* SPDX-License-Identifier: BSD-3-Clause */

/* The tests' disk: an nbdkit plugin with a volatile and a durable image, with
 * latencies, faults and gates that a test changes while it runs, and a log of
 * every request.
 *
 * This file is nbdkit's face: what is advertised, and the course of a request.
 * The parameters are in options.c, what the images hold in image.c, what is
 * done to requests in fault.c, what is told of them in log.c, and how a test
 * speaks to the disk in control.c.  No lock is held here, and nothing here
 * changes once the server runs.
 *
 * Two things that a disk may do, and that a test can rely on:
 * - With forget=yes the failure takes away all that is not durable at that
 *   moment, also of requests that have acted but not yet ended, and of those
 *   that another flush in flight was to cover.
 * - Without FUA and without flush every write is durable when it ends.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "fault.h"
#include "image.h"
#include "log.h"
#include "options.h"
#include "request.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* Made by get_ready.  Without names there is one. */
static struct export *exports;
static size_t nr_exports;

struct handle {
  struct export *export;
  unsigned connection;
  uint64_t size;      /* when it was opened */
  struct offer offer; /* likewise */
};

static int
disk_thread_model (void)
{
  return options.model;
}

/* The course of the server. */

/* Opens the image of a new export called NAME. */
static int
add_export (const char *name, const char *path)
{
  struct export *p = reallocarray (exports, nr_exports + 1, sizeof *p);
  struct export export = { .name = strdup (name) };

  if (p == NULL || export.name == NULL) {
    nbdkit_error ("out of memory");
    return -1;
  }
  exports = p;
  export.image = image_open (path, options.size, options.offer.is_readonly);
  if (export.image == NULL) {
    nbdkit_error ("%s: %m", path ? path : "memory");
    free ((char *) export.name);
    return -1;
  }
  exports[nr_exports++] = export;
  return 0;
}

static int
add_named_exports (void)
{
  char *saved, *name, *path;
  int r;

  for (name = strtok_r (options.export_list, ",", &saved); name;
       name = strtok_r (NULL, ",", &saved)) {
    path = NULL;
    if (options.durable_path &&
        asprintf (&path, "%s.%s", options.durable_path, name) == -1)
      return -1;
    r = add_export (name, path);
    free (path);
    if (r == -1)
      return -1;
  }
  return 0;
}

static int
disk_get_ready (void)
{
  if ((options.export_list ? add_named_exports ()
                           : add_export ("-", options.durable_path)) == -1)
    return -1;
  if (options.log_path && log_open (options.log_path, options.log_data) == -1) {
    nbdkit_error ("%s: %m", options.log_path);
    return -1;
  }
  if (options.control_path &&
      control_listen (options.control_path, exports, nr_exports) == -1) {
    nbdkit_error ("%s: %m", options.control_path);
    return -1;
  }
  return 0;
}

static int
disk_after_fork (void)
{
  /* Else each sleep takes 50 us more than its latency, which is much of 0.2 ms.
   * Threads that begin later inherit it.
   */
  prctl (PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  if (control_start () == -1) {
    nbdkit_error ("control: %m");
    return -1;
  }
  return 0;
}

static void
disk_cleanup (void)
{
  fault_quit ();
  control_stop ();
}

static void
disk_unload (void)
{
  control_stop ();
  fault_remove ("all");
  log_close ();
  for (size_t i = 0; i < nr_exports; i++) {
    image_close (exports[i].image);
    free ((char *) exports[i].name);
  }
  free (exports);
  options_free ();
}

/* Connections. */

static int
disk_list_exports (int readonly, int is_tls, struct nbdkit_exports *list)
{
  (void) readonly;
  (void) is_tls;
  if (options.export_list == NULL)
    return nbdkit_use_default_export (list);
  for (size_t i = 0; i < nr_exports; i++)
    if (nbdkit_add_export (list, exports[i].name, NULL) == -1)
      return -1;
  return 0;
}

/* With names there is no default one. */
static const char *
disk_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  return options.export_list ? NULL : "";
}

static struct export *
find_export (void)
{
  const char *name;

  if (options.export_list == NULL)
    return &exports[0];
  name = nbdkit_export_name ();
  for (size_t i = 0; name && i < nr_exports; i++)
    if (strcmp (exports[i].name, name) == 0)
      return &exports[i];
  nbdkit_error ("no export \"%s\"", name ? name : "");
  errno = ENOENT;
  return NULL;
}

static void *
disk_open (int readonly)
{
  static atomic_uint connections; /* a counter, nothing is ordered by it */
  struct export *export = find_export ();
  struct handle *h;

  (void) readonly;
  if (export == NULL)
    return NULL;
  h = malloc (sizeof *h);
  if (h == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  h->export = export;
  h->size = image_size (export->image);
  h->offer = offer_now ();
  h->connection =
      atomic_fetch_add_explicit (&connections, 1, memory_order_relaxed) + 1;
  log_connection (true);
  return h;
}

static void
disk_close (void *handle)
{
  log_connection (false);
  free (handle);
}

static int64_t
disk_get_size (void *handle)
{
  struct handle *h = handle;

  return h->size;
}

static int
disk_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                 uint32_t *maximum)
{
  (void) handle;
  *minimum = *preferred = *maximum = 0;
  if (options.block_min == 0 && options.block_preferred == 0 &&
      options.block_max == 0)
    return 0;
  *minimum = options.block_min ? options.block_min : 1;
  *maximum = options.block_max ? options.block_max : UINT32_MAX;
  *preferred = options.block_preferred ? options.block_preferred : 4096;
  if (options.block_preferred == 0 && *preferred < *minimum)
    *preferred = *minimum;
  if (options.block_preferred == 0 && *preferred > *maximum)
    *preferred = *maximum;
  return 0;
}

#define ADVERTISE(callback, value)                                             \
  static int callback (void *handle)                                           \
  {                                                                            \
    const struct handle *h = handle;                                           \
                                                                               \
    (void) h;                                                                  \
    return value;                                                              \
  }

ADVERTISE (disk_can_write, !h->offer.is_readonly)
ADVERTISE (disk_can_flush, h->offer.can_flush)
ADVERTISE (disk_can_fua, h->offer.can_fua)
ADVERTISE (disk_can_zero, h->offer.can_zero)
ADVERTISE (disk_can_fast_zero, h->offer.can_fast_zero)
ADVERTISE (disk_can_trim, h->offer.can_trim)
ADVERTISE (disk_can_extents, options.can_extents)
ADVERTISE (disk_can_multi_conn, h->offer.can_multi_conn)
ADVERTISE (disk_is_rotational, options.is_rotational)

/* Requests. */

/* The data of a request, beside its description. */
union payload {
  void *read;
  const void *write;
  struct nbdkit_extents *extents;
};

static uint64_t
latency_of (const struct request *request)
{
  uint64_t ns = latency_get (request->op);

  if (request->fua)
    ns += latency_get (OP_FLUSH);
  return ns;
}

/* The last block of the export may be a short one.  The maximum is for
 * requests that carry data.
 */
static bool
violates_block_size (const struct handle *h, const struct request *request)
{
  const uint64_t min = options.block_min ? options.block_min : 1;
  const uint64_t end = request->offset + request->length;

  if (request->op == OP_FLUSH)
    return false;
  if (request->offset % min || (end % min && end != h->size))
    return true;
  return (request->op == OP_READ || request->op == OP_WRITE) &&
         options.block_max && request->length > options.block_max;
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, bool hole)
{
  return nbdkit_add_extent (opaque, offset, length,
                            hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0);
}

static bool
writes (const struct request *request)
{
  return request->op == OP_WRITE || request->op == OP_ZERO ||
         request->op == OP_TRIM;
}

static uint64_t
extents_length (uint64_t length)
{
  return options.extents_max && length > options.extents_max
             ? options.extents_max
             : length;
}

/* Acts on the first LENGTH bytes of the request's range. */
static int
act (const struct handle *h, const struct request *request,
     union payload payload, uint64_t length, bool durable, uint64_t began)
{
  struct image *image = request->export->image;
  const bool own = options.flushes_own && !h->offer.can_multi_conn;
  const unsigned writer = own ? request->connection : 0;

  switch (request->op) {
  case OP_READ:
    return image_read (image, payload.read, length, request->offset);
  case OP_WRITE:
    return image_write (image, payload.write, length, request->offset, writer,
                        durable);
  case OP_ZERO:
    return image_zero (image, length, request->offset, writer, durable);
  case OP_TRIM:
    if (options.trim_keeps)
      return 0;
    return image_zero (image, length, request->offset, writer, durable);
  case OP_FLUSH:
    return image_flush (image, began, writer);
  case OP_EXTENTS:
    return image_extents (image, extents_length (length), request->offset,
                          options.block_min > 512 ? options.block_min : 512,
                          add_extent, payload.extents);
  case NR_OPS:
    break;
  }
  abort ();
}

/* Acts or fails as the faults in force say. */
static int
act_or_fail (const struct handle *h, const struct request *request,
             union payload payload, uint64_t began)
{
  /* A disk that can do neither keeps whatever it takes. */
  const bool keeps = h->offer.can_fua == NBDKIT_FUA_NONE && !h->offer.can_flush;
  const bool durable = request->fua || keeps;
  uint64_t partial = 0;
  int err = fault_hit (request, &partial);

  if (err == 0)
    err = act (h, request, payload, request->length, durable, began);
  else if (partial > 0 && writes (request)) {
    if (partial > request->length)
      partial = request->length;
    log_partial (request, partial);
    act (h, request, payload, partial, keeps, began);
  }
  if (err && options.forgets && (request->op == OP_FLUSH || request->fua)) {
    image_forget (request->export->image);
    log_forget (request->export);
  }
  return err;
}

/* One request from its start to its end. */
static int
run (const struct handle *h, struct request *request, union payload payload)
{
  uint64_t began = 0;
  int err;

  request->export = h->export;
  request->connection = h->connection;
  log_start (request, request->op == OP_WRITE ? payload.write : NULL);
  if (request->op == OP_FLUSH)
    began = image_flush_begin (h->export->image);

  if (violates_block_size (h, request)) {
    log_violation (request);
    nbdkit_debug ("block size violated: %s of %" PRIu64 " at %" PRIu64,
                  op_names[request->op], request->length, request->offset);
    err = EINVAL;
  }
  else {
    gate_pass (request, false);
    serve_begin ();
    sleep_ns (latency_of (request));
    err = act_or_fail (h, request, payload, began);
    serve_end ();
    gate_pass (request, true);
    if (writes (request))
      image_ended (h->export->image, request->length, request->offset);
  }

  log_end (request, err);
  if (err == 0)
    return 0;
  nbdkit_set_error (err);
  errno = err;
  return -1;
}

static int
disk_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  struct request request = { .op = OP_READ, .offset = offset, .length = count };

  (void) flags;
  return run (handle, &request, (union payload){ .read = buf });
}

static int
disk_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  struct request request = {
    .op = OP_WRITE,
    .offset = offset,
    .length = count,
    .fua = flags & NBDKIT_FLAG_FUA,
  };

  return run (handle, &request, (union payload){ .write = buf });
}

static int
disk_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct request request = {
    .op = OP_ZERO,
    .offset = offset,
    .length = count,
    .fua = flags & NBDKIT_FLAG_FUA,
    .may_trim = flags & NBDKIT_FLAG_MAY_TRIM,
    .fast = flags & NBDKIT_FLAG_FAST_ZERO,
  };

  return run (handle, &request, (union payload){ 0 });
}

static int
disk_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct request request = {
    .op = OP_TRIM,
    .offset = offset,
    .length = count,
    .fua = flags & NBDKIT_FLAG_FUA,
  };

  return run (handle, &request, (union payload){ 0 });
}

static int
disk_flush (void *handle, uint32_t flags)
{
  struct request request = { .op = OP_FLUSH };

  (void) flags;
  return run (handle, &request, (union payload){ 0 });
}

static int
disk_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  struct request request = {
    .op = OP_EXTENTS,
    .offset = offset,
    .length = count,
  };

  (void) flags;
  return run (handle, &request, (union payload){ .extents = extents });
}

static struct nbdkit_plugin plugin = {
  .name = "wtdisk",
  .longname = "disk of the wtcache tests",
  .description = "volatile and durable image, faults, gates and a log",
  .unload = disk_unload,
  .config = options_config,
  .config_complete = options_complete,
  .config_help = OPTIONS_HELP,
  .thread_model = disk_thread_model,
  .get_ready = disk_get_ready,
  .after_fork = disk_after_fork,
  .cleanup = disk_cleanup,
  .list_exports = disk_list_exports,
  .default_export = disk_default_export,
  .open = disk_open,
  .close = disk_close,
  .get_size = disk_get_size,
  .block_size = disk_block_size,
  .can_write = disk_can_write,
  .can_flush = disk_can_flush,
  .can_fua = disk_can_fua,
  .can_zero = disk_can_zero,
  .can_fast_zero = disk_can_fast_zero,
  .can_trim = disk_can_trim,
  .can_extents = disk_can_extents,
  .can_multi_conn = disk_can_multi_conn,
  .is_rotational = disk_is_rotational,
  .pread = disk_pread,
  .pwrite = disk_pwrite,
  .zero = disk_zero,
  .trim = disk_trim,
  .flush = disk_flush,
  .extents = disk_extents,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN (plugin)
