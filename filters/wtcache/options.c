/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the filter: what they may be, and what they mean.
 *
 * A wrong one is refused at start, in one line with its name, the value and
 * what would be right.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "options.h"

#define SECOND UINT64_C (1000000000)

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

/* The share of wtcache-size, in percent, and of bytes, of dirty-max. */
static unsigned dirty_percent;
/* Options that were given and that only our own threads can act upon. */
static bool depth_given, readahead_given, age_given;

static int
refuse (const char *key, const char *value, const char *allowed)
{
  nbdkit_error ("%s=%s: %s", key, value, allowed);
  return -1;
}

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

static int
parse_total_size (const char *key, const char *value)
{
  if (!parse_size (value, &options.size) || options.size < 1 * MiB ||
      options.size > UINT64_C (1) << 46)
    return refuse (key, value, "must be a size from 1M to 64T");
  return 1;
}

static int
parse_page_size (const char *key, const char *value)
{
  uint64_t n;

  if (!parse_size (value, &n) || !is_power_of_2 (n) || n < 4 * KiB ||
      n > 1 * MiB)
    return refuse (key, value, "must be a power of two from 4K to 1M");
  options.settings.page_size = n;
  return 1;
}

static int
parse_mode (const char *key, const char *value)
{
  if (strcmp (value, "writeback") == 0)
    options.settings.mode = MODE_WRITEBACK;
  else if (strcmp (value, "writethrough") == 0)
    options.settings.mode = MODE_WRITETHROUGH;
  else if (strcmp (value, "writearound") == 0)
    options.settings.mode = MODE_WRITEAROUND;
  else
    return refuse (key, value,
                   "must be writeback, writethrough or writearound");
  options.mode_given = true;
  return 1;
}

static int
parse_dirty_max (const char *key, const char *value)
{
  static const char allowed[] =
      "must be auto, a size from 64K to half of wtcache-size, or 1% to 50%";
  uint64_t n;
  char *rest;

  dirty_percent = 0;
  options.settings.dirty_max = 0;
  if (strcmp (value, "auto") == 0)
    return 1;
  if (parse_number (value, &n, &rest) && strcmp (rest, "%") == 0) {
    if (n < 1 || n > 50)
      return refuse (key, value, allowed);
    dirty_percent = n;
    return 1;
  }
  if (!parse_size (value, &n) || n < 64 * KiB)
    return refuse (key, value, allowed);
  options.settings.dirty_max = n;
  return 1;
}

static int
parse_dirty_age (const char *key, const char *value)
{
  if (!parse_time (value, &options.settings.dirty_age) ||
      options.settings.dirty_age == 0)
    return refuse (key, value, "must be a time such as 30, 30s or 500ms");
  age_given = true;
  return 1;
}

static int
parse_drain (const char *key, const char *value)
{
  if (!parse_time (value, &options.settings.drain) ||
      options.settings.drain == 0)
    return refuse (key, value, "must be a time such as 60, 60s or 5m");
  return 1;
}

static int
parse_depth (const char *key, const char *value)
{
  uint64_t n = 0;
  char *rest;

  if (strcmp (value, "auto") != 0 && (!parse_number (value, &n, &rest) ||
                                      *rest != '\0' || n < 1 || n > DEPTH_MOST))
    return refuse (key, value, "must be auto or a number from 1 to 64");
  options.settings.depth = n;
  depth_given = true;
  return 1;
}

static int
parse_fill (const char *key, const char *value)
{
  uint64_t n = 0;

  if (strcmp (value, "auto") != 0 &&
      (!parse_size (value, &n) || !is_power_of_2 (n) || n < 512 || n > 1 * MiB))
    return refuse (key, value, "must be auto or a power of two from 512 to 1M");
  options.settings.fill = n;
  return 1;
}

static int
parse_readahead (const char *key, const char *value)
{
  uint64_t n = 0;

  if (strcmp (value, "off") != 0 &&
      (!parse_size (value, &n) || n < 4 * KiB || n > 64 * MiB))
    return refuse (key, value, "must be off or a size from 4K to 64M");
  options.settings.readahead = n;
  readahead_given = n != 0;
  return 1;
}

static int
parse_share (const char *key, const char *value)
{
  if (strcmp (value, "auto") == 0)
    options.share = SHARE_AUTO;
  else if (strcmp (value, "always") == 0)
    options.share = SHARE_ALWAYS;
  else if (strcmp (value, "never") == 0)
    options.share = SHARE_NEVER;
  else
    return refuse (key, value, "must be auto, always or never");
  return 1;
}

static int
parse_key (const char *key, const char *value)
{
  if (strcmp (value, "name") == 0)
    options.settings.one_cache = false;
  else if (strcmp (value, "all") == 0)
    options.settings.one_cache = true;
  else
    return refuse (key, value, "must be name or all");
  return 1;
}

static int
parse_keep (const char *key, const char *value)
{
  if (strcmp (value, "yes") == 0)
    options.settings.keep = true;
  else if (strcmp (value, "no") == 0)
    options.settings.keep = false;
  else
    return refuse (key, value, "must be yes or no");
  return 1;
}

static int
parse_stats (const char *key, const char *value)
{
  if (*value == '\0')
    return refuse (key, value, "must be the path of a file");
  free (options.stats);
  /* The server changes its folder when it goes into the background. */
  options.stats = nbdkit_absolute_path (value);
  return options.stats ? 1 : -1;
}

static const struct {
  const char *key;
  int (*parse) (const char *key, const char *value);
} parameters[] = {
  { "wtcache-size", parse_total_size },
  { "wtcache-page-size", parse_page_size },
  { "wtcache-mode", parse_mode },
  { "wtcache-dirty-max", parse_dirty_max },
  { "wtcache-dirty-age", parse_dirty_age },
  { "wtcache-drain", parse_drain },
  { "wtcache-depth", parse_depth },
  { "wtcache-fill", parse_fill },
  { "wtcache-readahead", parse_readahead },
  { "wtcache-share", parse_share },
  { "wtcache-key", parse_key },
  { "wtcache-keep", parse_keep },
  { "wtcache-stats", parse_stats },
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
    "wtcache-stats=FILE            Write counters there, as Prometheus text.";

int
options_parse (const char *key, const char *value)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (parameters); ++i)
    if (strcmp (key, parameters[i].key) == 0)
      return parameters[i].parse (key, value);
  /* A misspelt one of ours would otherwise be the plugin's to explain. */
  if (strncmp (key, "wtcache-", strlen ("wtcache-")) == 0)
    return refuse (key, value, "there is no such option of wtcache");
  return 0;
}

int
options_check (void)
{
  struct settings *s = &options.settings;

  if (options.size < 16 * (uint64_t) s->page_size) {
    nbdkit_error ("wtcache-size=%" PRIu64 ": must be at least 16 pages, that "
                  "is %" PRIu64 ", with wtcache-page-size=%" PRIu32,
                  options.size, 16 * (uint64_t) s->page_size, s->page_size);
    return -1;
  }
  if (dirty_percent != 0)
    s->dirty_max = options.size / 100 * dirty_percent;
  if (s->dirty_max > options.size / 2) {
    nbdkit_error ("wtcache-dirty-max=%" PRIu64 ": must be at most half of "
                  "wtcache-size, that is %" PRIu64,
                  s->dirty_max, options.size / 2);
    return -1;
  }
  return 0;
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
