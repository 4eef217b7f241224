/* SPDX-License-Identifier: BSD-3-Clause */

/* Values as people write them, for the parameters of the filter and for the
 * arguments of its tools: each form is parsed and printed in one place.
 *
 * For example, value_parse_size reads "64K" as 65536, value_size prints 65536
 * as "64K", and value_meant_size knows that "64KiB" means that.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "base/value.h"

#define SECOND   UINT64_C (1000000000)
#define MAX_TIME (UINT64_C (100) * 365 * 86400 * SECOND)

/* Digits; the rest of the text in *REST. */
static bool
parse_digits (const char *text, uint64_t *n, char **rest)
{
  if (*text < '0' || *text > '9')
    return false;
  errno = 0;
  *n = strtoull (text, rest, 10);
  return errno == 0;
}

/* Digits, then TAIL. */
static bool
parse_with (const char *tail, const char *text, uint64_t *number)
{
  uint64_t n;
  char *rest;

  if (!parse_digits (text, &n, &rest) || strcmp (rest, tail) != 0)
    return false;
  *number = n;
  return true;
}

bool
value_parse_number (const char *text, uint64_t *n)
{
  return parse_with ("", text, n);
}

bool
value_parse_percent (const char *text, uint64_t *percent)
{
  return parse_with ("%", text, percent);
}

bool
value_parse_size (const char *text, uint64_t *bytes)
{
  static const char suffixes[] = "bkmgtpe";
  const char *suffix = suffixes;
  unsigned shift;
  uint64_t n;
  char *rest;

  if (!parse_digits (text, &n, &rest))
    return false;
  if (*rest != '\0') {
    suffix = strchr (suffixes, *rest | 0x20);
    if (suffix == NULL || rest[1] != '\0')
      return false;
  }
  shift = 10 * (suffix - suffixes);
  if (n > (UINT64_MAX >> 1) >> shift)
    return false;
  *bytes = n << shift;
  return true;
}

struct value_text
value_size (uint64_t bytes)
{
  static const char suffixes[] = "\0KMGTPE";
  struct value_text text;
  unsigned i = 0;

  for (; bytes != 0 && bytes % KiB == 0 && suffixes[i + 1]; ++i)
    bytes /= KiB;
  snprintf (text.s, sizeof text.s, "%" PRIu64 "%.1s", bytes, &suffixes[i]);
  return text;
}

bool
value_meant_size (const char *text, struct value_text *size)
{
  const size_t digits = strspn (text, "0123456789");
  const char *rest = text + digits;

  if (digits == 0 || digits > 20 || *rest == '\0' ||
      strchr ("kKmMgGtTpPeE", *rest) == NULL ||
      (strcasecmp (rest + 1, "b") != 0 && strcasecmp (rest + 1, "ib") != 0))
    return false;
  snprintf (size->s, sizeof size->s, "%.*s%c", (int) digits, text,
            toupper ((unsigned char) *rest));
  return true;
}

/* From the largest on; none means the last. */
static const struct {
  const char *name;
  uint64_t ns;
} units[] = {
  { "h", 3600 * SECOND },  { "m", 60 * SECOND }, { "s", SECOND },
  { "ms", SECOND / 1000 }, { "us", 1000 },       { "", SECOND },
};

bool
value_parse_time (const char *text, uint64_t *ns)
{
  uint64_t n;
  char *rest;
  size_t i;

  if (!parse_digits (text, &n, &rest))
    return false;
  for (i = 0; i < ARRAY_LEN (units); ++i)
    if (strcmp (rest, units[i].name) == 0) {
      /* Limited, so that adding it to a time does not overflow. */
      if (n > MAX_TIME / units[i].ns)
        return false;
      *ns = n * units[i].ns;
      return true;
    }
  return false;
}

struct value_text
value_time (uint64_t ns)
{
  struct value_text text;
  size_t i = 0;

  while (i + 2 < ARRAY_LEN (units) && ns % units[i].ns != 0)
    ++i;
  snprintf (text.s, sizeof text.s, "%" PRIu64 "%s", ns / units[i].ns,
            units[i].name);
  return text;
}

bool
value_parse_bool (const char *text, bool *yes)
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
