/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the filter: names, valid values, and the fields they set.
 *
 * An invalid one is refused at start, in one line with its name, its value and
 * what a valid value is, such as
 *
 *   wtcache-size=5x: must be a size from 1M to 64T
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <nbdkit-filter.h>

#include "base/nearest.h"
#include "export/options.h"

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

/* Whether options were given that need helper threads. */
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

struct size_text
size_text (uint64_t bytes)
{
  static const char suffixes[] = "\0KMGTPE";
  struct size_text text;
  unsigned i = 0;

  for (; bytes != 0 && bytes % KiB == 0 && suffixes[i + 1]; ++i)
    bytes /= KiB;
  snprintf (text.s, sizeof text.s, "%" PRIu64 "%.1s", bytes, &suffixes[i]);
  return text;
}

/* Writes "1GiB", "512kb" and such as "1G", "512K" to SIZE; false: TEXT is not
 * of that form.
 */
static bool
without_bytes (const char *text, char *size, size_t room)
{
  const size_t digits = strspn (text, "0123456789");
  const char *rest = text + digits;

  if (digits == 0 || *rest == '\0' || strchr ("kKmMgGtTpPeE", *rest) == NULL ||
      (strcasecmp (rest + 1, "b") != 0 && strcasecmp (rest + 1, "ib") != 0))
    return false;
  snprintf (size, room, "%.*s%c", (int) digits, text,
            toupper ((unsigned char) *rest));
  return true;
}

/* The units of time: the first is meant where there is none. */
static const struct {
  const char *name;
  uint64_t ns;
} units[] = {
  { "", SECOND },  { "h", 3600 * SECOND },  { "m", 60 * SECOND },
  { "s", SECOND }, { "ms", SECOND / 1000 }, { "us", 1000 },
};

#define TIME_ALLOWED(example)                                                  \
  "must be a time above 0 and at most 100 years, such as " example             \
  ", with the unit us, ms, s, m or h (s if there is none)"

/* A time: seconds, or with a unit; ns. */
static bool
parse_time (const char *text, uint64_t *ns)
{
  char *rest;
  size_t i;

  if (!parse_number (text, ns, &rest))
    return false;
  for (i = 0; i < ARRAY_LEN (units); ++i)
    if (strcmp (rest, units[i].name) == 0) {
      /* At most 100 years, so that adding it to a time does not overflow. */
      if (*ns > UINT64_C (100) * 365 * 86400 * SECOND / units[i].ns)
        return false;
      *ns *= units[i].ns;
      return true;
    }
  return false;
}

static void
format_time (uint64_t ns, char *text, size_t size)
{
  size_t i = 1;

  while (i + 1 < ARRAY_LEN (units) && ns % units[i].ns != 0)
    ++i;
  snprintf (text, size, "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
}

static bool
parse_bool (const char *text, bool *yes)
{
  static const char *const words[][4] = { { "no", "false", "0", "off" },
                                          { "yes", "true", "1", "on" } };
  size_t i, j;

  for (i = 0; i < 2; ++i)
    for (j = 0; j < ARRAY_LEN (words[i]); ++j)
      if (strcasecmp (text, words[i][j]) == 0) {
        *yes = i == 1;
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
    return TIME_ALLOWED ("30, 500ms or 2m");
  o->settings.dirty_age = ns;
  age_given = true;
  return NULL;
}

static const char *
parse_drain (struct options *o, const char *value)
{
  if (!parse_time (value, &o->settings.drain) || o->settings.drain == 0)
    return TIME_ALLOWED ("60, 90s or 5m");
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
  return parse_bool (value, &o->settings.keep) ? NULL : "must be yes or no";
}

/* The path is made absolute: nbdkit changes its directory when it forks. */
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

static bool
is_of_names (char c)
{
  return isalnum ((unsigned char) c) || (c && strchr ("._-", c));
}

static const char *
parse_name (struct options *o, const char *value)
{
  const char *p = value;

  while (is_of_names (*p))
    ++p;
  if (*p || p == value || p - value >= (ptrdiff_t) sizeof o->name)
    return "must be 1 to 63 letters, digits, dots, dashes or underscores";
  strcpy (o->name, value);
  return NULL;
}

/* Where none is given, that of a file: "disk" of /run/wtcache/disk.prom. */
static void
name_by (struct options *o, const char *path, const char *suffix)
{
  const char *base = strrchr (path, '/');
  size_t len, i;

  base = base ? base + 1 : path;
  len = strlen (base);
  if (len > strlen (suffix) &&
      strcmp (base + len - strlen (suffix), suffix) == 0)
    len -= strlen (suffix);
  len = min_u64 (len, sizeof o->name - 1);
  for (i = 0; i < len; ++i)
    o->name[i] = is_of_names (base[i]) ? base[i] : '_';
  o->name[len] = '\0';
}

/* ---- values as a user writes them ---- */

/* A size; 0 is written as ZERO. */
static void
format_size_or (uint64_t bytes, const char *zero, char *text, size_t size)
{
  snprintf (text, size, "%s", bytes == 0 ? zero : size_text (bytes).s);
}

static void
format_total_size (const struct options *o, char *text, size_t size)
{
  format_size_or (o->size, "0", text, size);
}

static void
format_page_size (const struct options *o, char *text, size_t size)
{
  format_size_or (o->settings.page_size, "0", text, size);
}

static void
format_mode (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", mode_names[o->settings.mode]);
}

static void
format_dirty_max (const struct options *o, char *text, size_t size)
{
  if (o->dirty_percent != 0)
    snprintf (text, size, "%u%%", o->dirty_percent);
  else
    format_size_or (o->settings.dirty_max, "auto", text, size);
}

static void
format_dirty_age (const struct options *o, char *text, size_t size)
{
  format_time (o->settings.dirty_age, text, size);
}

static void
format_drain (const struct options *o, char *text, size_t size)
{
  format_time (o->settings.drain, text, size);
}

static void
format_depth (const struct options *o, char *text, size_t size)
{
  if (o->settings.depth == 0)
    snprintf (text, size, "auto");
  else
    snprintf (text, size, "%u", o->settings.depth);
}

static void
format_fill (const struct options *o, char *text, size_t size)
{
  format_size_or (o->settings.fill, "auto", text, size);
}

static void
format_readahead (const struct options *o, char *text, size_t size)
{
  format_size_or (o->settings.readahead, "off", text, size);
}

static void
format_share (const struct options *o, char *text, size_t size)
{
  static const char *const names[] = {
    [SHARE_AUTO] = "auto",
    [SHARE_ALWAYS] = "always",
    [SHARE_NEVER] = "never",
  };

  snprintf (text, size, "%s", names[o->share]);
}

static void
format_key (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", o->settings.one_cache ? "all" : "name");
}

static void
format_keep (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", o->settings.keep ? "yes" : "no");
}

static void
format_stats (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", o->stats ? o->stats : "");
}

static void
format_control (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", o->control ? o->control : "");
}

static void
format_name (const struct options *o, char *text, size_t size)
{
  snprintf (text, size, "%s", o->name);
}

/* The parameters.  PARSE returns NULL, or what a valid value is. */
static const struct parameter {
  const char *key;
  const char *(*parse) (struct options *o, const char *value);
  void (*format) (const struct options *o, char *text, size_t size);
  bool size;    /* its values are sizes */
  bool running; /* it can be changed while the server runs */
} parameters[NR_PARAMETERS] = {
  { "wtcache-size", parse_total_size, format_total_size, true, true },
  { "wtcache-page-size", parse_page_size, format_page_size, true, false },
  { "wtcache-mode", parse_mode, format_mode, false, true },
  { "wtcache-dirty-max", parse_dirty_max, format_dirty_max, true, true },
  { "wtcache-dirty-age", parse_dirty_age, format_dirty_age, false, true },
  { "wtcache-drain", parse_drain, format_drain, false, false },
  { "wtcache-depth", parse_depth, format_depth, false, true },
  { "wtcache-fill", parse_fill, format_fill, true, false },
  { "wtcache-readahead", parse_readahead, format_readahead, true, true },
  { "wtcache-share", parse_share, format_share, false, false },
  { "wtcache-key", parse_key, format_key, false, false },
  { "wtcache-keep", parse_keep, format_keep, false, false },
  { "wtcache-stats", parse_stats, format_stats, false, false },
  { "wtcache-control", parse_control, format_control, false, false },
  { "wtcache-name", parse_name, format_name, false, false },
};

const char *
options_name (unsigned parameter)
{
  return parameters[parameter].key + strlen (PREFIX);
}

void
options_format (const struct options *o, unsigned parameter, char *text,
                size_t size)
{
  parameters[parameter].format (o, text, size);
}

bool
options_can_change (unsigned parameter)
{
  return parameters[parameter].running;
}

const char options_help[] =
    "wtcache-size=SIZE             Memory for everything (default 256M).\n"
    "wtcache-page-size=SIZE        Unit of caching, 4K to 1M (default 4K).\n"
    "wtcache-mode=MODE             Ordinary writes: writeback (default),\n"
    "                              writethrough or writearound.\n"
    "wtcache-dirty-max=SIZE|N%|auto  Limit of data not yet durable.\n"
    "wtcache-dirty-age=TIME        Write dirty data back at this age (default\n"
    "                              30).\n"
    "wtcache-drain=TIME            Time limit for writing dirty data when the\n"
    "                              last client leaves or nbdkit stops (60).\n"
    "wtcache-depth=N|auto          Batches in flight at the backend.\n"
    "wtcache-fill=SIZE|auto        Least amount that a miss reads.\n"
    "wtcache-readahead=SIZE|off    Limit of reading ahead (default 2M).\n"
    "wtcache-share=auto|always|never  Share a cache among connections; auto:\n"
    "                              if the backend is multi-conn.\n"
    "wtcache-key=name|all          A cache for each export name, or one for\n"
    "                              all names, which are one disk.\n"
    "wtcache-keep=yes|no           Keep clean pages after the last client.\n"
    "wtcache-stats=FILE            Statistics, as Prometheus text.\n"
    "wtcache-control=SOCKET        Socket for wtcachectl.\n"
    "wtcache-name=NAME             Of this server, in its statistics.";

/* Sets a parameter.  NULL, or what a valid value is. */
static const char *
set (struct options *o, size_t parameter, const char *value, enum origin origin)
{
  const struct parameter *p = &parameters[parameter];
  const char *allowed = p->parse (o, value);
  char size[32];

  if (allowed == NULL)
    o->origins[parameter] = origin;
  else if (p->size && without_bytes (value, size, sizeof size)) {
    snprintf (o->why, sizeof o->why, "%s: write %s", allowed, size);
    return o->why;
  }
  return allowed;
}

static int
refuse_option (const char *key, const char *value, const char *allowed)
{
  nbdkit_error ("%s=%s: %s", key, value, allowed);
  return -1;
}

/* The parameter whose name is closest to a misspelt KEY; NULL: none is close.
 */
static const char *
meant (const char *key)
{
  const char *names[NR_PARAMETERS];
  size_t i;

  for (i = 0; i < NR_PARAMETERS; ++i)
    names[i] = parameters[i].key;
  return nearest_name (key, names, NR_PARAMETERS);
}

int
options_parse (const char *key, const char *value)
{
  const char *allowed;
  size_t i;

  for (i = 0; i < NR_PARAMETERS; ++i)
    if (strcmp (key, parameters[i].key) == 0) {
      allowed = set (&options, i, value, ORIGIN_START);
      return allowed ? refuse_option (key, value, allowed) : 1;
    }
  /* Otherwise the plugin would have to explain a misspelt option of wtcache.
   */
  if (strncmp (key, PREFIX, strlen (PREFIX)) != 0)
    return 0;
  if (meant (key) == NULL)
    return refuse_option (key, value, "there is no such option of wtcache");
  nbdkit_error ("%s=%s: there is no such option of wtcache: is %s meant?", key,
                value, meant (key));
  return -1;
}

/* Checks options against each other: NULL, or what is wrong. */
static const char *
check (struct options *o)
{
  struct settings *s = &o->settings;
  uint64_t dirty_max;

  if (o->size < 16 * (uint64_t) s->page_size) {
    snprintf (o->why, sizeof o->why,
              "wtcache-size=%s: must be at least 16 pages, that is %s, with "
              "wtcache-page-size=%s",
              size_text (o->size).s, size_text (16 * (uint64_t) s->page_size).s,
              size_text (s->page_size).s);
    return o->why;
  }
  if (o->dirty_percent != 0)
    s->dirty_max = o->size / 100 * o->dirty_percent +
                   o->size % 100 * o->dirty_percent / 100;
  dirty_max = s->dirty_max;
  if (dirty_max > o->size / 2) {
    snprintf (o->why, sizeof o->why,
              "wtcache-dirty-max=%s: must be at most half of wtcache-size, "
              "that is %s",
              size_text (dirty_max).s, size_text (o->size / 2).s);
    return o->why;
  }
  return NULL;
}

int
options_check (void)
{
  const char *why = check (&options);

  if (why) {
    nbdkit_error ("%s", why);
    return -1;
  }
  if (options.name[0] == '\0' && options.stats)
    name_by (&options, options.stats, ".prom");
  else if (options.name[0] == '\0' && options.control)
    name_by (&options, options.control, ".ctl");
  return 0;
}

/* Explains why a parameter cannot be changed. */
static const char *
why_not (struct options *o, const char *key)
{
  static const char those[] =
      "only size, dirty-max, dirty-age, depth, readahead and mode can be "
      "changed while the server runs";
  char full[64];
  const char *name;

  snprintf (full, sizeof full, PREFIX "%.40s", key);
  name = meant (full);
  if (name == NULL || strcmp (name, full) == 0)
    return those;
  snprintf (o->why, sizeof o->why, "%s; is %s meant?", those,
            name + strlen (PREFIX));
  return o->why;
}

const char *
options_change (struct options *o, const char *key, const char *value,
                bool *unknown)
{
  const char *why;
  size_t i;

  *unknown = false;
  if (strncmp (key, PREFIX, strlen (PREFIX)) == 0)
    key += strlen (PREFIX);
  for (i = 0; i < NR_PARAMETERS; ++i)
    if (parameters[i].running && strcmp (key, options_name (i)) == 0) {
      why = set (o, i, value, ORIGIN_SET);
      return why ? why : check (o);
    }
  *unknown = true;
  return why_not (o, key);
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
