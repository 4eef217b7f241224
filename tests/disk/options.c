/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the tests' disk: parsed here before the server runs, and
 * not changed afterwards.  Latencies and the bound on requests served at once
 * do change, and go on to fault.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "fault.h"
#include "options.h"
#include "parse.h"

struct options options = {
  .offer = {
    .can_fua = NBDKIT_FUA_NATIVE,
    .can_flush = true,
    .can_zero = true,
    .can_fast_zero = true,
    .can_trim = true,
    .can_multi_conn = true,
  },
  .size = -1,
  .model = NBDKIT_THREAD_MODEL_PARALLEL,
  .can_extents = true,
};

/* Guards options.offer, which changes while the disk runs. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

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
} offers[] = {
  { "flush", &options.offer.can_flush },
  { "zero", &options.offer.can_zero },
  { "fast-zero", &options.offer.can_fast_zero },
  { "trim", &options.offer.can_trim },
  { "multi-conn", &options.offer.can_multi_conn },
  { "readonly", &options.offer.is_readonly },
};

static const struct {
  const char *key;
  bool *value;
} bools[] = {
  { "extents", &options.can_extents },
  { "rotational", &options.is_rotational },
  { "flush-own", &options.flushes_own },
  { "forget", &options.forgets },
  { "trim-keeps", &options.trim_keeps },
  { "log-data", &options.log_data },
};

static const struct {
  const char *key;
  char **value;
} paths[] = {
  { "durable", &options.durable_path },
  { "log", &options.log_path },
  { "control", &options.control_path },
};

static const struct {
  const char *key;
  uint64_t *value;
} blocks[] = {
  { "block-min", &options.block_min },
  { "block-preferred", &options.block_preferred },
  { "block-max", &options.block_max },
  { "extents-max", &options.extents_max },
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

static int
set_bool (bool *result, const char *value)
{
  const int r = nbdkit_parse_bool (value);

  *result = r == 1;
  return r == -1 ? -1 : 0;
}

/* Called with the lock held.  1: it is none of the keys of an offer. */
static int
set_offer (const char *key, const char *value)
{
  for (size_t i = 0; i < NR (offers); i++)
    if (strcmp (key, offers[i].key) == 0)
      return set_bool (offers[i].value, value);
  if (strcmp (key, "fua") == 0)
    return set_choice (key, value, fua_choices, &options.offer.can_fua);
  return 1;
}

int
offer_set (const char *key, const char *value)
{
  int r;

  pthread_mutex_lock (&lock);
  r = set_offer (key, value);
  pthread_mutex_unlock (&lock);
  return r == 0 ? 0 : -1;
}

struct offer
offer_now (void)
{
  struct offer offer;

  pthread_mutex_lock (&lock);
  offer = options.offer;
  pthread_mutex_unlock (&lock);
  return offer;
}

/* Looks KEY up in the tables.  Returns 1 if it is in none. */
static int
config_from_tables (const char *key, const char *value)
{
  for (size_t i = 0; i < NR (bools); i++)
    if (strcmp (key, bools[i].key) == 0)
      return set_bool (bools[i].value, value);
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

int
options_config (const char *key, const char *value)
{
  unsigned n;
  int r = config_from_tables (key, value);

  if (r == 1)
    r = set_offer (key, value);
  if (r != 1)
    return r;
  if (strcmp (key, "size") == 0) {
    options.size = nbdkit_parse_size (value);
    return options.size == -1 ? -1 : 0;
  }
  if (strcmp (key, "exports") == 0)
    return set_string (&options.export_list, strdup (value));
  if (strcmp (key, "thread-model") == 0)
    return set_choice (key, value, model_choices, &options.model);
  if (strcmp (key, "serve") == 0) {
    if (nbdkit_parse_unsigned (key, value, &n) == -1)
      return -1;
    serve_set (n);
    return 0;
  }
  nbdkit_error ("unknown parameter: %s", key);
  return -1;
}

int
options_complete (void)
{
  if (options.size == -1 && options.durable_path == NULL) {
    nbdkit_error ("size= or durable= must be given");
    return -1;
  }
  if (options.log_data && options.log_path == NULL) {
    nbdkit_error ("log-data=yes needs log=");
    return -1;
  }
  if (options.export_list && strpbrk (options.export_list, " \t\r\n/")) {
    nbdkit_error ("exports=: names without white space or slashes");
    return -1;
  }
  return 0;
}

void
options_free (void)
{
  free (options.export_list);
  free (options.durable_path);
  free (options.log_path);
  free (options.control_path);
}
