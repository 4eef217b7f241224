/* SPDX-License-Identifier: BSD-3-Clause */

/* The tests' disk: an nbdkit plugin with a volatile and a durable image, with
 * latencies, faults and gates that a test changes while it runs, and a log of
 * every request.
 *
 * This file is nbdkit's face: the parameters, what is advertised, and the
 * course of a request.  What the images hold is in image.c, what is done to
 * requests in fault.c, what is told of them in log.c, and how a test speaks
 * to the disk in control.c.  No lock is held here; what follows the
 * parameters does not change once the server runs.
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
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "fault.h"
#include "image.h"
#include "log.h"
#include "request.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* The parameters. */
static int64_t size = -1;
static char *durable_path, *log_path, *control_path, *export_list;
static int can_fua = NBDKIT_FUA_NATIVE;
static int model = NBDKIT_THREAD_MODEL_PARALLEL;
static bool can_flush = true, can_zero = true, can_fast_zero = true;
static bool can_trim = true, can_extents = true, can_multi_conn = true;
static bool is_rotational, is_readonly, forgets, trim_keeps, log_data;
static uint64_t block_min, block_preferred, block_max; /* 0: not given */

/* Made by get_ready.  Without names there is one. */
static struct export *exports;
static size_t nr_exports;

struct handle {
  struct export *export;
  unsigned connection;
  uint64_t size; /* when it was opened */
};

/* Parameters. */

struct choice {
  const char *name;
  int value;
};

static const struct choice fua_choices[] = {
  { "native", NBDKIT_FUA_NATIVE },
  { "emulate", NBDKIT_FUA_EMULATE },
  { "none", NBDKIT_FUA_NONE },
  { NULL, 0 },
};

static const struct choice model_choices[] = {
  { "parallel", NBDKIT_THREAD_MODEL_PARALLEL },
  { "serialize-requests", NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS },
  { "serialize-all-requests", NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS },
  { "serialize-connections", NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS },
  { NULL, 0 },
};

static const struct {
  const char *key;
  bool *value;
} bools[] = {
  { "flush", &can_flush },          { "zero", &can_zero },
  { "fast-zero", &can_fast_zero },  { "trim", &can_trim },
  { "extents", &can_extents },      { "multi-conn", &can_multi_conn },
  { "rotational", &is_rotational }, { "readonly", &is_readonly },
  { "forget", &forgets },           { "trim-keeps", &trim_keeps },
  { "log-data", &log_data },
};

static const struct {
  const char *key;
  char **value;
} paths[] = {
  { "durable", &durable_path },
  { "log", &log_path },
  { "control", &control_path },
};

static const struct {
  const char *key;
  uint64_t *value;
} blocks[] = {
  { "block-min", &block_min },
  { "block-preferred", &block_preferred },
  { "block-max", &block_max },
};

static const struct {
  const char *key;
  enum op op;
} latency_keys[] = {
  { "read-latency", OP_READ },   { "write-latency", OP_WRITE },
  { "flush-latency", OP_FLUSH }, { "zero-latency", OP_ZERO },
  { "trim-latency", OP_TRIM },
};

#define NR(array) (sizeof (array) / sizeof (array)[0])

static int
set_choice (const char *key, const char *value, const struct choice *choices,
            int *result)
{
  for (; choices->name; choices++)
    if (strcmp (choices->name, value) == 0) {
      *result = choices->value;
      return 0;
    }
  nbdkit_error ("%s=%s: no such value", key, value);
  return -1;
}

static int
set_string (char **result, char *value)
{
  free (*result);
  *result = value;
  return value ? 0 : -1;
}

/* Looks KEY up in the tables.  Returns 1 if it is in none. */
static int
config_from_tables (const char *key, const char *value)
{
  for (size_t i = 0; i < NR (bools); i++)
    if (strcmp (key, bools[i].key) == 0) {
      int r = nbdkit_parse_bool (value);

      *bools[i].value = r == 1;
      return r == -1 ? -1 : 0;
    }
  for (size_t i = 0; i < NR (paths); i++)
    if (strcmp (key, paths[i].key) == 0)
      return set_string (paths[i].value, nbdkit_absolute_path (value));
  for (size_t i = 0; i < NR (blocks); i++)
    if (strcmp (key, blocks[i].key) == 0) {
      int64_t r = nbdkit_parse_size (value);

      if (r == -1)
        return -1;
      if (r < 1 || r > UINT32_MAX) {
        nbdkit_error ("%s=%s: out of range", key, value);
        return -1;
      }
      *blocks[i].value = r;
      return 0;
    }
  for (size_t i = 0; i < NR (latency_keys); i++)
    if (strcmp (key, latency_keys[i].key) == 0) {
      uint64_t ns;

      if (parse_time (value, &ns) == -1) {
        nbdkit_error ("%s=%s: not a time", key, value);
        return -1;
      }
      latency_set (latency_keys[i].op, ns);
      return 0;
    }
  return 1;
}

static int
disk_config (const char *key, const char *value)
{
  unsigned n;
  int r = config_from_tables (key, value);

  if (r != 1)
    return r;
  if (strcmp (key, "size") == 0) {
    size = nbdkit_parse_size (value);
    return size == -1 ? -1 : 0;
  }
  if (strcmp (key, "exports") == 0)
    return set_string (&export_list, strdup (value));
  if (strcmp (key, "fua") == 0)
    return set_choice (key, value, fua_choices, &can_fua);
  if (strcmp (key, "thread-model") == 0)
    return set_choice (key, value, model_choices, &model);
  if (strcmp (key, "serve") == 0) {
    if (nbdkit_parse_unsigned (key, value, &n) == -1)
      return -1;
    serve_set (n);
    return 0;
  }
  nbdkit_error ("unknown parameter: %s", key);
  return -1;
}

static int
disk_config_complete (void)
{
  if (size == -1 && durable_path == NULL) {
    nbdkit_error ("size= or durable= must be given");
    return -1;
  }
  if (log_data && log_path == NULL) {
    nbdkit_error ("log-data=yes needs log=");
    return -1;
  }
  if (export_list && strpbrk (export_list, " \t\r\n/")) {
    nbdkit_error ("exports=: names without white space or slashes");
    return -1;
  }
  return 0;
}

#define disk_config_help                                                       \
  "size=SIZE           Size of the disk (that of the durable image).\n"        \
  "durable=FILE        Durable image, created if missing (in memory).\n"       \
  "exports=A,B,..      Names, each with a disk of its own in FILE.NAME.\n"     \
  "log=FILE            Log of all requests.\n"                                 \
  "log-data=yes        Put what is written into FILE.data.\n"                  \
  "control=SOCKET      Listen for commands.\n"                                 \
  "read-latency=TIME (also write-, flush-, zero-, trim-)\n"                    \
  "serve=N             Requests served at once (no bound).\n"                  \
  "fua=native|emulate|none\n"                                                  \
  "thread-model=MODEL  parallel, serialize-requests, ...\n"                    \
  "flush, zero, fast-zero, trim, extents, multi-conn=yes|no (yes)\n"           \
  "rotational, readonly, trim-keeps=yes|no (no)\n"                             \
  "forget=yes|no       Failed flush or FUA loses what is not durable (no).\n"  \
  "block-min, block-preferred, block-max=SIZE"

static int
disk_thread_model (void)
{
  return model;
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
  export.image = image_open (path, size, is_readonly);
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

  for (name = strtok_r (export_list, ",", &saved); name;
       name = strtok_r (NULL, ",", &saved)) {
    path = NULL;
    if (durable_path && asprintf (&path, "%s.%s", durable_path, name) == -1)
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
  if ((export_list ? add_named_exports () : add_export ("-", durable_path)) ==
      -1)
    return -1;
  if (log_path && log_open (log_path, log_data) == -1) {
    nbdkit_error ("%s: %m", log_path);
    return -1;
  }
  if (control_path &&
      control_listen (control_path, exports, nr_exports) == -1) {
    nbdkit_error ("%s: %m", control_path);
    return -1;
  }
  return 0;
}

static int
disk_after_fork (void)
{
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
  free (export_list);
  free (durable_path);
  free (log_path);
  free (control_path);
}

/* Connections. */

static int
disk_list_exports (int readonly, int is_tls, struct nbdkit_exports *list)
{
  (void) readonly;
  (void) is_tls;
  if (export_list == NULL)
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
  return export_list ? NULL : "";
}

static struct export *
find_export (void)
{
  const char *name;

  if (export_list == NULL)
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
  h->connection =
      atomic_fetch_add_explicit (&connections, 1, memory_order_relaxed) + 1;
  log_connection ();
  return h;
}

static void
disk_close (void *handle)
{
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
  if (block_min == 0 && block_preferred == 0 && block_max == 0)
    return 0;
  *minimum = block_min ? block_min : 1;
  *maximum = block_max ? block_max : UINT32_MAX;
  *preferred = block_preferred ? block_preferred : 4096;
  if (block_preferred == 0 && *preferred < *minimum)
    *preferred = *minimum;
  if (block_preferred == 0 && *preferred > *maximum)
    *preferred = *maximum;
  return 0;
}

#define ADVERTISE(callback, value)                                             \
  static int callback (void *handle)                                           \
  {                                                                            \
    (void) handle;                                                             \
    return value;                                                              \
  }

ADVERTISE (disk_can_write, !is_readonly)
ADVERTISE (disk_can_flush, can_flush)
ADVERTISE (disk_can_fua, can_fua)
ADVERTISE (disk_can_zero, can_zero)
ADVERTISE (disk_can_fast_zero, can_fast_zero)
ADVERTISE (disk_can_trim, can_trim)
ADVERTISE (disk_can_extents, can_extents)
ADVERTISE (disk_can_multi_conn, can_multi_conn)
ADVERTISE (disk_is_rotational, is_rotational)

/* Requests. */

/* What a request carries beside its description. */
union payload {
  void *read;
  const void *write;
  struct nbdkit_extents *extents;
};

/* Not nbdkit_nanosleep, which ends early when the server is told to stop: a
 * disk does not.
 */
static void
sleep_ns (uint64_t ns)
{
  struct timespec ts = {
    .tv_sec = ns / 1000000000,
    .tv_nsec = ns % 1000000000,
  };

  if (ns > 0)
    while (clock_nanosleep (CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
      ;
}

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
  const uint64_t min = block_min ? block_min : 1;
  const uint64_t end = request->offset + request->length;

  if (request->op == OP_FLUSH)
    return false;
  if (request->offset % min || (end % min && end != h->size))
    return true;
  return (request->op == OP_READ || request->op == OP_WRITE) && block_max &&
         request->length > block_max;
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

/* Acts on the first LENGTH bytes of the request's range. */
static int
act (const struct request *request, union payload payload, uint64_t length,
     bool durable, uint64_t began)
{
  struct image *image = request->export->image;

  switch (request->op) {
  case OP_READ:
    return image_read (image, payload.read, length, request->offset);
  case OP_WRITE:
    return image_write (image, payload.write, length, request->offset, durable);
  case OP_ZERO:
    return image_zero (image, length, request->offset, durable);
  case OP_TRIM:
    if (trim_keeps)
      return 0;
    return image_zero (image, length, request->offset, durable);
  case OP_FLUSH:
    return image_flush (image, began);
  case OP_EXTENTS:
    return image_extents (image, length, request->offset,
                          block_min > 512 ? block_min : 512, add_extent,
                          payload.extents);
  case NR_OPS:
    break;
  }
  abort ();
}

/* Acts or fails as the faults in force say. */
static int
act_or_fail (const struct request *request, union payload payload,
             uint64_t began)
{
  const bool durable =
      request->fua || (can_fua == NBDKIT_FUA_NONE && !can_flush);
  uint64_t partial = 0;
  int err = fault_hit (request, &partial);

  if (err == 0)
    err = act (request, payload, request->length, durable, began);
  else if (partial > 0 && writes (request)) {
    if (partial > request->length)
      partial = request->length;
    log_partial (request, partial);
    act (request, payload, partial, false, began);
  }
  if (err && forgets && (request->op == OP_FLUSH || request->fua)) {
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
    err = act_or_fail (request, payload, began);
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
  .config = disk_config,
  .config_complete = disk_config_complete,
  .config_help = disk_config_help,
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
