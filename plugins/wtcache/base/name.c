/* SPDX-License-Identifier: BSD-3-Clause */

/* How a name that a client chose is printed: in logs, statistics and tools.
 *
 * A client may send any bytes as an export's name, up to 4096 of them.  The
 * printed form is valid UTF-8 without control characters, so it forges no line
 * of a log and moves no cursor, and a parser of labels takes it.  At most 64
 * bytes are printed.  A name that is longer, or has other bytes, is cut before
 * the first of those and ends in a hash of the whole: "disk\x1b[2J" is printed
 * as "disk#0d6c3b1f7a2e9458" or alike, so two such names can be told apart.
 *
 * Between quotes, backslash and quote have a backslash before them.
 */

#include <config.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/name.h"

#define HASH_BYTES 17 /* "#" and 16 digits */

/* Bytes of the character at P, which ends in a zero byte at the latest; 0: it
 * is none that may be printed.
 */
static unsigned
character (const unsigned char *p)
{
  static const uint32_t min[] = { 0, 0, 0x80, 0x800, 0x10000 };
  uint32_t c = *p;
  unsigned n, i;

  if (c < 0x80)
    return c >= ' ' && c != 0x7f ? 1 : 0;
  n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
  if (c < 0xc2 || c > 0xf4)
    return 0;
  c &= 0x7f >> n;
  for (i = 1; i < n; ++i) {
    if ((p[i] & 0xc0) != 0x80)
      return 0;
    c = c << 6 | (p[i] & 0x3f);
  }
  /* Too long a form, a surrogate, or above the last; C1 are controls. */
  if (c < min[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff || c < 0xa0)
    return 0;
  return n;
}

/* FNV-1a. */
static uint64_t
name_hash (const unsigned char *p)
{
  uint64_t h = UINT64_C (0xcbf29ce484222325);

  for (; *p; ++p)
    h = (h ^ *p) * UINT64_C (0x100000001b3);
  return h;
}

struct name_quoted
name_quoted (const char *name)
{
  const unsigned char *const begin = (const unsigned char *) name, *p;
  const unsigned char *cut = begin, *end;
  struct name_quoted q;
  char *to = q.text;
  unsigned n;

  for (p = begin; *p && (n = character (p)) > 0; p += n) {
    if (p + n - begin > NAME_MAX_BYTES)
      break;
    if (p + n - begin <= NAME_MAX_BYTES - HASH_BYTES)
      cut = p + n;
  }
  end = *p ? cut : p;
  *to++ = '"';
  for (p = begin; p < end; ++p) {
    if (*p == '\\' || *p == '"')
      *to++ = '\\';
    *to++ = *p;
  }
  if (*end)
    to += sprintf (to, "#%016" PRIx64, name_hash (begin));
  *to++ = '"';
  *to = '\0';
  return q;
}
