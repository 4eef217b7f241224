/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the filter, each a row of one table: its name, kind,
 * default, range and help, where its value is kept, and how it changes while
 * the server runs.
 *
 * All that people see of them comes from the table: what a value may be, the
 * message that refuses another one, --help, --dump-plugin, wtcachectl's get,
 * set and help, and from these the completion in shells and, by
 * docs/parameters.py, the tables in the documents.  For example, of the row
 * "depth", a number from 1 to 64 or "auto", come
 *
 *   wtcache-depth=N|auto
 *   must be auto or a number from 1 to 64
 *
 * May not know nbdkit, nor what acts by a value: see options.c and change.c.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/util.h"
#include "base/value.h"
#include "export/parameters.h"
#include "submit.h"

struct settings settings;

const char *const mode_names[NR_MODES] = {
  [MODE_WRITEBACK] = "writeback",
  [MODE_PROMPT] = "through",
  [MODE_WRITETHROUGH] = "writethrough",
  [MODE_WRITEAROUND] = "writearound",
};

static const char *const share_names[] = {
  [SHARE_AUTO] = "auto",
  [SHARE_ALWAYS] = "always",
  [SHARE_NEVER] = "never",
};

static const char *const key_names[] = { "name", "all" };
static const char *const keep_names[] = { "no", "yes" };

#define CHOICES(names) .choices = names, .nr_choices = ARRAY_LEN (names)

#define MAX_PERCENT 50 /* half */

/* Where the texts of help begin, and the columns of a line. */
#define HELP_INDENT  30
#define HELP_COLUMNS 79

const struct parameter parameters[NR_PARAMETERS] = {
  [PARAMETER_SIZE] = {
    .name = "size", .kind = VALUE_SIZE, .at = offsetof (struct settings, size),
    .initially = "256M", .min = 1 * MiB, .max = UINT64_C (1) << 46,
    .change = CHANGE_RESIZE,
    .help = "Memory for everything; at least 16 pages",
  },
  [PARAMETER_MODE] = {
    .name = "mode", .kind = VALUE_CHOICE,
    .at = offsetof (struct settings, mode), .initially = "writeback",
    CHOICES (mode_names), .hidden = 1 << MODE_PROMPT, .change = CHANGE_TELL,
    .help = "An ordinary write is answered from memory (writeback), is "
            "durable when answered (writethrough), or is that and leaves the "
            "cache (writearound)",
  },
  [PARAMETER_PAGE_SIZE] = {
    .name = "page-size", .kind = VALUE_SIZE,
    .at = offsetof (struct settings, page_size), .initially = "4K",
    .min = 4 * KiB, .max = 1 * MiB, .power_of_2 = true,
    .help = "Unit of caching",
  },
  [PARAMETER_DIRTY_MAX] = {
    .name = "dirty-max", .kind = VALUE_SIZE,
    .at = offsetof (struct settings, dirty_max), .initially = "auto",
    .min = 64 * KiB, .max = UINT64_MAX >> 1, .zero = "auto", .portion = true,
    .change = CHANGE_STORE,
    .help = "Limit of data that is not durable yet; at the limit an ordinary "
            "write goes through",
  },
  [PARAMETER_DIRTY_AGE] = {
    .name = "dirty-age", .kind = VALUE_TIME,
    .at = offsetof (struct settings, dirty_age), .initially = "30",
    .change = CHANGE_STORE,
    .help = "Dirty data of this age is written to the backend",
  },
  [PARAMETER_DRAIN] = {
    .name = "drain", .kind = VALUE_TIME,
    .at = offsetof (struct settings, drain), .initially = "60",
    .help = "Time limit for writing dirty data when the last client leaves or "
            "nbdkit stops",
  },
  [PARAMETER_DEPTH] = {
    .name = "depth", .kind = VALUE_NUMBER,
    .at = offsetof (struct settings, depth), .initially = "auto",
    .min = 1, .max = DEPTH_MAX, .zero = "auto", .change = CHANGE_TELL,
    .parallel = true,
    .help = "Batches in flight at the backend",
  },
  [PARAMETER_FILL] = {
    .name = "fill", .kind = VALUE_SIZE, .at = offsetof (struct settings, fill),
    .initially = "auto", .min = 512, .max = 1 * MiB, .zero = "auto",
    .power_of_2 = true,
    .help = "Least amount that a read miss reads",
  },
  [PARAMETER_READAHEAD] = {
    .name = "readahead", .kind = VALUE_SIZE,
    .at = offsetof (struct settings, readahead), .initially = "2M",
    .min = 4 * KiB, .max = 64 * MiB, .zero = "off", .change = CHANGE_STORE,
    .parallel = true,
    .help = "Limit of reading ahead of a sequential client",
  },
  [PARAMETER_SHARE] = {
    .name = "share", .kind = VALUE_CHOICE,
    .at = offsetof (struct settings, share), .initially = "auto",
    CHOICES (share_names),
    .help = "Whether connections share a cache; auto: if the backend is "
            "multi-conn",
  },
  [PARAMETER_KEY] = {
    .name = "key", .kind = VALUE_CHOICE,
    .at = offsetof (struct settings, one_cache), .initially = "name",
    CHOICES (key_names),
    .help = "A cache for each export name (name), or one for all names, which "
            "are one disk (all)",
  },
  [PARAMETER_KEEP] = {
    .name = "keep", .kind = VALUE_BOOL, .at = offsetof (struct settings, keep),
    .initially = "yes", CHOICES (keep_names),
    .help = "Whether clean pages outlive the last connection",
  },
  [PARAMETER_STATS] = {
    .name = "stats", .kind = VALUE_PATH, .word = "FILE",
    .at = offsetof (struct settings, stats),
    .help = "Statistics as Prometheus text, every few seconds",
  },
  [PARAMETER_WARM] = {
    .name = "warm", .kind = VALUE_PATH, .word = "FILE",
    .at = offsetof (struct settings, warm), .parallel = true,
    .help = "List of the pages that clients used most, fetched again after a "
            "restart",
  },
  [PARAMETER_CONTROL] = {
    .name = "control", .kind = VALUE_PATH, .word = "SOCKET",
    .at = offsetof (struct settings, control),
    .help = "Socket for wtcachectl",
  },
  [PARAMETER_NAME] = {
    .name = "name", .kind = VALUE_NAME, .at = offsetof (struct settings, name),
    .min = 1, .max = 63,
    .help = "Label of this server in the statistics; if not given, the name "
            "of their file",
  },
};

unsigned
parameters_find (const char *name)
{
  unsigned i = 0;

  if (strncmp (name, PARAMETERS_PREFIX, strlen (PARAMETERS_PREFIX)) == 0)
    name += strlen (PARAMETERS_PREFIX);
  while (i < NR_PARAMETERS && strcmp (name, parameters[i].name) != 0)
    ++i;
  return i;
}

const struct parameter *
parameters_meant (const char *name)
{
  const char *names[NR_PARAMETERS], *meant;
  unsigned i;

  if (strncmp (name, PARAMETERS_PREFIX, strlen (PARAMETERS_PREFIX)) == 0)
    name += strlen (PARAMETERS_PREFIX);
  for (i = 0; i < NR_PARAMETERS; ++i)
    names[i] = parameters[i].name;
  meant = nearest_name (name, names, NR_PARAMETERS);
  return meant ? &parameters[parameters_find (meant)] : NULL;
}

/* ---- texts ---- */

static void append (char *text, size_t size, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

/* Adds to a text that has room for SIZE bytes in all. */
static void
append (char *text, size_t size, const char *format, ...)
{
  const size_t len = strlen (text);
  va_list args;

  va_start (args, format);
  vsnprintf (text + len, size - len, format, args);
  va_end (args);
}

/* The name of a choice, or NULL if it cannot be chosen. */
static const char *
choice (const struct parameter *p, unsigned value)
{
  return p->hidden & 1U << value ? NULL : p->choices[value];
}

/* "writeback, writethrough or writearound": LAST is " or ". */
static void
append_choices (char *text, size_t size, const struct parameter *p,
                const char *between, const char *last)
{
  const char *separator = "";
  unsigned i, left = 0;

  for (i = 0; i < p->nr_choices; ++i)
    left += choice (p, i) != NULL;
  for (i = 0; i < p->nr_choices; ++i)
    if (choice (p, i)) {
      append (text, size, "%s%s", separator, choice (p, i));
      separator = --left == 1 ? last : between;
    }
}

static void
append_number (char *text, size_t size, const struct parameter *p, uint64_t n)
{
  if (p->kind == VALUE_SIZE)
    append (text, size, "%s", value_size (n).s);
  else
    append (text, size, "%" PRIu64, n);
}

/* "a size from 1M to 64T" */
static void
append_limits (char *text, size_t size, const struct parameter *p)
{
  append (text, size, "%s from ",
          p->power_of_2             ? "a power of two"
          : p->kind == VALUE_NUMBER ? "a number"
                                    : "a size");
  append_number (text, size, p, p->min);
  append (text, size, " to ");
  if (p->portion)
    append (text, size, "half of wtcache-size, or 1%% to %d%%", MAX_PERCENT);
  else
    append_number (text, size, p, p->max);
}

/* Why a value is refused: what a valid one is. */
static void
say_allowed (const struct parameter *p, struct why *why)
{
  char *s = why->s;
  const size_t size = sizeof why->s;

  strcpy (s, "must be ");
  switch (p->kind) {
  case VALUE_SIZE:
  case VALUE_NUMBER:
    if (p->zero)
      append (s, size, "%s%s", p->zero, p->portion ? ", " : " or ");
    append_limits (s, size, p);
    break;
  case VALUE_TIME:
    append (s, size,
            "a time above 0 and at most 100 years, such as %s, 500ms or 2m, "
            "with the unit us, ms, s, m or h (s if there is none)",
            p->initially);
    break;
  case VALUE_CHOICE:
    append_choices (s, size, p, ", ", " or ");
    break;
  case VALUE_BOOL:
    append (s, size, "yes or no");
    break;
  case VALUE_PATH:
    append (s, size, "the path of a file");
    break;
  case VALUE_NAME:
    append (s, size,
            "%" PRIu64 " to %" PRIu64
            " letters, digits, dots, dashes or underscores",
            p->min, p->max);
    break;
  }
}

/* ---- values ---- */

static _Atomic uint64_t *
number_of (const struct settings *s, const struct parameter *p)
{
  return (_Atomic uint64_t *) ((char *) s + p->at);
}

static char **
text_at (const struct settings *s, const struct parameter *p)
{
  return (char **) ((char *) s + p->at);
}

static bool
is_text (const struct parameter *p)
{
  return p->kind == VALUE_PATH || p->kind == VALUE_NAME;
}

static bool
parse_size (const struct parameter *p, const char *value, uint64_t *n)
{
  if (p->portion && value_parse_percent (value, n)) {
    if (*n < 1 || *n > MAX_PERCENT)
      return false;
    *n |= SETTINGS_PERCENT;
    return true;
  }
  return value_parse_size (value, n) && *n >= p->min && *n <= p->max &&
         (!p->power_of_2 || is_power_of_2 (*n));
}

static bool
parse_choice (const struct parameter *p, const char *value, uint64_t *n)
{
  unsigned i;

  for (i = 0; i < p->nr_choices; ++i)
    if (choice (p, i) && strcmp (value, choice (p, i)) == 0) {
      *n = i;
      return true;
    }
  return false;
}

static bool
parse_value (const struct parameter *p, const char *value, uint64_t *n)
{
  bool yes;

  if (p->zero && strcmp (value, p->zero) == 0) {
    *n = 0;
    return true;
  }
  switch (p->kind) {
  case VALUE_SIZE:
    return parse_size (p, value, n);
  case VALUE_TIME:
    return value_parse_time (value, n) && *n > 0;
  case VALUE_NUMBER:
    return value_parse_number (value, n) && *n >= p->min && *n <= p->max;
  case VALUE_CHOICE:
    return parse_choice (p, value, n);
  case VALUE_BOOL:
    if (!value_parse_bool (value, &yes))
      return false;
    *n = yes;
    return true;
  default:
    return false;
  }
}

bool
parameters_names_with (char c)
{
  return isalnum ((unsigned char) c) || (c && strchr ("._-", c));
}

static bool
is_name (const struct parameter *p, const char *value)
{
  size_t len = 0;

  while (parameters_names_with (value[len]))
    ++len;
  return value[len] == '\0' && len >= p->min && len <= p->max;
}

/* The path counts from the folder where nbdkit was started: it leaves that
 * when it forks.  To be freed; NULL: there is no such folder, or no memory.
 */
static char *
absolute_path (const char *path)
{
  char *folder = *path == '/' ? strdup ("") : getcwd (NULL, 0), *absolute;

  if (folder == NULL || asprintf (&absolute, "%s%s%s", folder,
                                  *path == '/' ? "" : "/", path) == -1)
    absolute = NULL;
  free (folder);
  return absolute;
}

static bool
set_text (struct settings *s, const struct parameter *p, const char *value,
          struct why *why)
{
  char **at = text_at (s, p), *text;

  if (p->kind == VALUE_NAME ? !is_name (p, value) : *value == '\0') {
    say_allowed (p, why);
    return false;
  }
  text = p->kind == VALUE_NAME ? strdup (value) : absolute_path (value);
  if (text == NULL) {
    snprintf (why->s, sizeof why->s,
              "must be a path from a folder that is "
              "there");
    return false;
  }
  free (*at);
  *at = text;
  return true;
}

bool
parameters_set (struct settings *s, unsigned parameter, const char *value,
                struct why *why)
{
  const struct parameter *p = &parameters[parameter];
  struct value_text meant;
  uint64_t n;

  if (is_text (p))
    return set_text (s, p, value, why);
  if (parse_value (p, value, &n)) {
    atomic_store_explicit (number_of (s, p), n, memory_order_relaxed);
    return true;
  }
  say_allowed (p, why);
  if (p->kind == VALUE_SIZE && value_meant_size (value, &meant))
    append (why->s, sizeof why->s, ": write %s", meant.s);
  return false;
}

void
parameters_reset (struct settings *s)
{
  struct why why;
  unsigned i;

  memset (s, 0, sizeof *s);
  for (i = 0; i < NR_PARAMETERS; ++i)
    if (parameters[i].initially)
      parameters_set (s, i, parameters[i].initially, &why);
}

void
parameters_free (struct settings *s)
{
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; ++i)
    if (is_text (&parameters[i])) {
      free (*text_at (s, &parameters[i]));
      *text_at (s, &parameters[i]) = NULL;
    }
}

bool
parameters_agree (const struct settings *s, struct why *why)
{
  const uint64_t min = 16 * s->page_size;
  uint64_t dirty_max;

  if (s->size < min) {
    snprintf (why->s, sizeof why->s,
              "wtcache-size=%s: must be at least 16 pages, that is %s, with "
              "wtcache-page-size=%s",
              value_size (s->size).s, value_size (min).s,
              value_size (s->page_size).s);
    return false;
  }
  dirty_max = settings_bytes (s->dirty_max, s->size);
  if (dirty_max <= s->size / 2)
    return true;
  snprintf (why->s, sizeof why->s,
            "wtcache-dirty-max=%s: must be at most half of wtcache-size, "
            "that is %s",
            value_size (dirty_max).s, value_size (s->size / 2).s);
  return false;
}

void
parameters_format (const struct settings *s, unsigned parameter, char *text,
                   size_t size)
{
  const struct parameter *p = &parameters[parameter];
  uint64_t n;

  *text = '\0';
  if (is_text (p)) {
    append (text, size, "%s", *text_at (s, p) ? *text_at (s, p) : "");
    return;
  }
  n = atomic_load_explicit (number_of (s, p), memory_order_relaxed);
  if (p->choices)
    append (text, size, "%s", p->choices[n]);
  else if (n == 0 && p->zero)
    append (text, size, "%s", p->zero);
  else if (p->kind == VALUE_TIME)
    append (text, size, "%s", value_time (n).s);
  else if (n & SETTINGS_PERCENT)
    append (text, size, "%" PRIu64 "%%", n & ~SETTINGS_PERCENT);
  else
    append_number (text, size, p, n);
}

/* ---- help ---- */

void
parameters_forms (unsigned parameter, char *text, size_t size)
{
  const struct parameter *p = &parameters[parameter];
  static const char *const words[] = {
    [VALUE_SIZE] = "SIZE", [VALUE_TIME] = "TIME",   [VALUE_NUMBER] = "N",
    [VALUE_CHOICE] = "",   [VALUE_BOOL] = "yes|no", [VALUE_PATH] = "FILE",
    [VALUE_NAME] = "NAME",
  };

  snprintf (text, size, "%s%s", p->word ? p->word : words[p->kind],
            p->portion ? "|N%" : "");
  if (p->kind == VALUE_CHOICE)
    append_choices (text, size, p, "|", "|");
  if (p->zero)
    append (text, size, "|%s", p->zero);
}

void
parameters_explain (unsigned parameter, char *text, size_t size)
{
  const struct parameter *p = &parameters[parameter];

  snprintf (text, size, "%s (", p->help);
  if (p->kind == VALUE_SIZE || p->kind == VALUE_NUMBER) {
    append_limits (text, size, p);
    append (text, size, "; ");
  }
  append (text, size, "default %s%s)", p->initially ? p->initially : "none",
          p->change == CHANGE_NEVER ? "" : "; changeable");
}

/* Adds the words of TEXT in lines that are indented, the first of which is
 * begun already.
 */
static void
append_wrapped (char *help, size_t size, const char *text)
{
  size_t column = HELP_INDENT, len;

  for (; *text; text += len + (text[len] == ' ')) {
    len = strcspn (text, " ");
    if (column > HELP_INDENT && column + 1 + len > HELP_COLUMNS) {
      append (help, size, "\n%*s", HELP_INDENT, "");
      column = HELP_INDENT;
    }
    else if (column > HELP_INDENT) {
      append (help, size, " ");
      column++;
    }
    append (help, size, "%.*s", (int) len, text);
    column += len;
  }
}

void
parameters_help (char *help, size_t size, const char *prefix, bool changeable)
{
  char text[400];
  unsigned i;
  int len;

  *help = '\0';
  for (i = 0; i < NR_PARAMETERS; ++i) {
    if (changeable && parameters[i].change == CHANGE_NEVER)
      continue;
    len = strlen (help);
    parameters_forms (i, text, sizeof text);
    append (help, size, "%s%s%s=%s", len > 0 ? "\n" : "", prefix,
            parameters[i].name, text);
    len = strlen (help) - len - (len > 0);
    if (len + 2 > HELP_INDENT) {
      append (help, size, "\n");
      len = 0;
    }
    append (help, size, "%*s", HELP_INDENT - len, "");
    parameters_explain (i, text, sizeof text);
    append_wrapped (help, size, text);
  }
}
