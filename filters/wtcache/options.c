/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the filter: what they may be, and what they mean.
 *
 * A wrong one is refused at start, in one line with its name, the value and
 * what would be right.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "options.h"

#define SECOND UINT64_C (1000000000)

#define PREFIX "wtcache-"

struct options options = {
  .size = 256 * MiB,
  .settings = {
    .mode = MODE_WRITEBACK,
    .page_size = 4096,
    .dirty_age = 30 * SECOND,
    .drain = 60 * SECOND,
    .readahead = 2 * MiB,
    .keep = true,
  },
};

/* Options that were given and that only our own threads can act upon. */
static bool depth_given, readahead_given, age_given;

/* A number of digits; the rest of the text in *REST. */
static bool
parse_number (const char *text, uint64_t *n, char **rest)
{
  if (*text < '0' || *text > '9')
    return false;
  errno = 0;
  *n = strtoull (text, rest, 10);
  return errno == 0;
}

/* Bytes, with a suffix as nbdkit's own sizes have it. */
static bool
parse_size (const char *text, uint64_t *bytes)
{
  static const char suffixes[] = "bkmgtpe";
  const char *suffix;
  unsigned shift = 0;
  char *rest;

  if (!parse_number (text, bytes, &rest))
    return false;
  if (*rest != '\0') {
    suffix = strchr (suffixes, *rest | 0x20);
    if (suffix == NULL || rest[1] != '\0')
      return false;
    shift = 10 * (suffix - suffixes);
  }
  if (*bytes > (UINT64_MAX >> 1) >> shift)
    return false;
  *bytes <<= shift;
  return true;
}

/* A time: seconds, or with a unit; ns. */
static bool
parse_time (const char *text, uint64_t *ns)
{
  static const struct {
    const char *name;
    uint64_t ns;
  } units[] = {
    { "", SECOND }, { "s", SECOND },      { "ms", SECOND / 1000 },
    { "us", 1000 }, { "m", 60 * SECOND }, { "h", 3600 * SECOND },
  };
  char *rest;
  size_t i;

  if (!parse_number (text, ns, &rest))
    return false;
  for (i = 0; i < ARRAY_LEN (units); ++i)
    if (strcmp (rest, units[i].name) == 0) {
      /* A hundred years are enough, and never overflow when added. */
      if (*ns > UINT64_C (100) * 365 * 86400 * SECOND / units[i].ns)
        return false;
      *ns *= units[i].ns;
      return true;
    }
  return false;
}

static const char *
parse_total_size (struct options *o, const char *value)
{
  if (!parse_size (value, &o->size) || o->size < 1 * MiB ||
      o->size > UINT64_C (1) << 46)
    return "must be a size from 1M to 64T";
  return NULL;
}

static const char *
parse_page_size (struct options *o, const char *value)
{
  uint64_t n;

  if (!parse_size (value, &n) || !is_power_of_2 (n) || n < 4 * KiB ||
      n > 1 * MiB)
    return "must be a power of two from 4K to 1M";
  o->settings.page_size = n;
  return NULL;
}

static const char *
parse_mode (struct options *o, const char *value)
{
  if (strcmp (value, "writeback") == 0)
    o->settings.mode = MODE_WRITEBACK;
  else if (strcmp (value, "writethrough") == 0)
    o->settings.mode = MODE_WRITETHROUGH;
  else if (strcmp (value, "writearound") == 0)
    o->settings.mode = MODE_WRITEAROUND;
  else
    return "must be writeback, writethrough or writearound";
  o->mode_given = true;
  return NULL;
}

static const char *
parse_dirty_max (struct options *o, const char *value)
{
  static const char allowed[] =
      "must be auto, a size from 64K to half of wtcache-size, or 1% to 50%";
  uint64_t n;
  char *rest;

  o->dirty_percent = 0;
  o->settings.dirty_max = 0;
  if (strcmp (value, "auto") == 0)
    return NULL;
  if (parse_number (value, &n, &rest) && strcmp (rest, "%") == 0) {
    if (n < 1 || n > 50)
      return allowed;
    o->dirty_percent = n;
    return NULL;
  }
  if (!parse_size (value, &n) || n < 64 * KiB)
    return allowed;
  o->settings.dirty_max = n;
  return NULL;
}

static const char *
parse_dirty_age (struct options *o, const char *value)
{
  uint64_t ns;

  if (!parse_time (value, &ns) || ns == 0)
    return "must be a time such as 30, 30s or 500ms";
  o->settings.dirty_age = ns;
  age_given = true;
  return NULL;
}

static const char *
parse_drain (struct options *o, const char *value)
{
  if (!parse_time (value, &o->settings.drain) || o->settings.drain == 0)
    return "must be a time such as 60, 60s or 5m";
  return NULL;
}

static const char *
parse_depth (struct options *o, const char *value)
{
  uint64_t n = 0;
  char *rest;

  if (strcmp (value, "auto") != 0 && (!parse_number (value, &n, &rest) ||
                                      *rest != '\0' || n < 1 || n > DEPTH_MOST))
    return "must be auto or a number from 1 to 64";
  o->settings.depth = n;
  depth_given = true;
  return NULL;
}

static const char *
parse_fill (struct options *o, const char *value)
{
  uint64_t n = 0;

  if (strcmp (value, "auto") != 0 &&
      (!parse_size (value, &n) || !is_power_of_2 (n) || n < 512 || n > 1 * MiB))
    return "must be auto or a power of two from 512 to 1M";
  o->settings.fill = n;
  return NULL;
}

static const char *
parse_readahead (struct options *o, const char *value)
{
  uint64_t n = 0;

  if (strcmp (value, "off") != 0 &&
      (!parse_size (value, &n) || n < 4 * KiB || n > 64 * MiB))
    return "must be off or a size from 4K to 64M";
  o->settings.readahead = n;
  readahead_given = n != 0;
  return NULL;
}

static const char *
parse_share (struct options *o, const char *value)
{
  if (strcmp (value, "auto") == 0)
    o->share = SHARE_AUTO;
  else if (strcmp (value, "always") == 0)
    o->share = SHARE_ALWAYS;
  else if (strcmp (value, "never") == 0)
    o->share = SHARE_NEVER;
  else
    return "must be auto, always or never";
  return NULL;
}

static const char *
parse_key (struct options *o, const char *value)
{
  if (strcmp (value, "name") == 0)
    o->settings.one_cache = false;
  else if (strcmp (value, "all") == 0)
    o->settings.one_cache = true;
  else
    return "must be name or all";
  return NULL;
}

static const char *
parse_keep (struct options *o, const char *value)
{
  if (strcmp (value, "yes") == 0)
    o->settings.keep = true;
  else if (strcmp (value, "no") == 0)
    o->settings.keep = false;
  else
    return "must be yes or no";
  return NULL;
}

/* The server changes its folder when it goes into the background. */
static const char *
parse_path (char **path, const char *value)
{
  if (*value == '\0')
    return "must be the path of a file";
  free (*path);
  *path = nbdkit_absolute_path (value);
  return *path ? NULL : "must be a path from a folder that is there";
}

static const char *
parse_stats (struct options *o, const char *value)
{
  return parse_path (&o->stats, value);
}

static const char *
parse_control (struct options *o, const char *value)
{
  return parse_path (&o->control, value);
}

/* Each returns NULL, or what would be right. */
static const struct {
  const char *key;
  const char *(*parse) (struct options *o, const char *value);
  bool running; /* it can be changed while the server runs */
} parameters[] = {
  { "wtcache-size", parse_total_size, true },
  { "wtcache-page-size", parse_page_size, false },
  { "wtcache-mode", parse_mode, true },
  { "wtcache-dirty-max", parse_dirty_max, true },
  { "wtcache-dirty-age", parse_dirty_age, true },
  { "wtcache-drain", parse_drain, false },
  { "wtcache-depth", parse_depth, true },
  { "wtcache-fill", parse_fill, false },
  { "wtcache-readahead", parse_readahead, true },
  { "wtcache-share", parse_share, false },
  { "wtcache-key", parse_key, false },
  { "wtcache-keep", parse_keep, false },
  { "wtcache-stats", parse_stats, false },
  { "wtcache-control", parse_control, false },
};

const char options_help[] =
    "wtcache-size=SIZE             Memory for everything (default 256M).\n"
    "wtcache-page-size=SIZE        Unit of caching, 4K to 1M (default 4K).\n"
    "wtcache-mode=MODE             Ordinary writes: writeback (default),\n"
    "                              writethrough or writearound.\n"
    "wtcache-dirty-max=SIZE|N%|auto  The most that may be dirty.\n"
    "wtcache-dirty-age=TIME        Write back at this age (default 30).\n"
    "wtcache-drain=TIME            The longest last drain (default 60).\n"
    "wtcache-depth=N|auto          Batches in flight at the backend.\n"
    "wtcache-fill=SIZE|auto        The least that a miss reads.\n"
    "wtcache-readahead=SIZE|off    The most read ahead of a stream (default "
    "2M).\n"
    "wtcache-share=auto|always|never  One cache for all connections.\n"
    "wtcache-key=name|all          What tells caches apart.\n"
    "wtcache-keep=yes|no           Clean pages outlive the last connection.\n"
    "wtcache-stats=FILE            Write counters there, as Prometheus text.\n"
    "wtcache-control=SOCKET        Listen there for wtcachectl.";

static int
refuse (const char *key, const char *value, const char *allowed)
{
  nbdkit_error ("%s=%s: %s", key, value, allowed);
  return -1;
}

int
options_parse (const char *key, const char *value)
{
  const char *allowed;
  size_t i;

  for (i = 0; i < ARRAY_LEN (parameters); ++i)
    if (strcmp (key, parameters[i].key) == 0) {
      allowed = parameters[i].parse (&options, value);
      return allowed ? refuse (key, value, allowed) : 1;
    }
  /* A misspelt one of ours would otherwise be the plugin's to explain. */
  if (strncmp (key, PREFIX, strlen (PREFIX)) == 0)
    return refuse (key, value, "there is no such option of wtcache");
  return 0;
}

/* What has to go together does: NULL, or what does not. */
static const char *
check (struct options *o)
{
  struct settings *s = &o->settings;
  uint64_t dirty_max;

  if (o->size < 16 * (uint64_t) s->page_size) {
    snprintf (o->why, sizeof o->why,
              "wtcache-size=%" PRIu64 ": must be at least 16 pages, that is "
              "%" PRIu64 ", with wtcache-page-size=%" PRIu32,
              o->size, 16 * (uint64_t) s->page_size, s->page_size);
    return o->why;
  }
  if (o->dirty_percent != 0)
    s->dirty_max = o->size / 100 * o->dirty_percent +
                   o->size % 100 * o->dirty_percent / 100;
  dirty_max = s->dirty_max;
  if (dirty_max > o->size / 2) {
    snprintf (o->why, sizeof o->why,
              "wtcache-dirty-max=%" PRIu64 ": must be at most half of "
              "wtcache-size, that is %" PRIu64,
              dirty_max, o->size / 2);
    return o->why;
  }
  return NULL;
}

int
options_check (void)
{
  const char *why = check (&options);

  if (why == NULL)
    return 0;
  nbdkit_error ("%s", why);
  return -1;
}

const char *
options_change (struct options *o, const char *key, const char *value,
                bool *unknown)
{
  const char *why;
  size_t i;

  *unknown = false;
  for (i = 0; i < ARRAY_LEN (parameters); ++i)
    if (parameters[i].running &&
        strcmp (key, parameters[i].key + strlen (PREFIX)) == 0) {
      why = parameters[i].parse (o, value);
      return why ? why : check (o);
    }
  *unknown = true;
  return "only size, dirty-max, dirty-age, depth, readahead and mode can be "
         "changed while the server runs";
}

void
options_tell_without_effect (void)
{
  nbdkit_debug ("wtcache: the thread model is not parallel: no readahead in "
                "the background, no merging across requests, and dirty data "
                "is looked after at the next request");
  if (depth_given || readahead_given || age_given ||
      options.share == SHARE_ALWAYS)
    nbdkit_error ("wtcache: the thread model is not parallel, so without "
                  "effect:%s%s%s%s",
                  depth_given ? " wtcache-depth" : "",
                  readahead_given ? " wtcache-readahead" : "",
                  age_given ? " wtcache-dirty-age (but at a request)" : "",
                  options.share == SHARE_ALWAYS
                      ? " wtcache-share=always (but if multi-conn)"
                      : "");
}
