/* SPDX-License-Identifier: BSD-3-Clause */

/* Text as a terminal shows it: how wide its characters are in the locale, and
 * which of them would not be shown but obeyed.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "wtcache-top-say.h"
#include "wtcache-top-text.h"

/* The length of the first character, and the columns that it takes. */
static size_t
measure (const char *text, size_t *columns)
{
  mbstate_t state = { 0 };
  wchar_t c;
  const size_t length = mbrtowc (&c, text, strlen (text), &state);
  int width;

  *columns = 1;
  if (length == 0 || length > strlen (text))
    return 1;
  width = wcwidth (c);
  if (width >= 0)
    *columns = width;
  return length;
}

size_t
text_fitting (const char *text, size_t columns)
{
  const char *at = text;
  size_t used = 0, taken, length;

  for (; *at; at += length, used += taken) {
    length = measure (at, &taken);
    if (used + taken > columns)
      break;
  }
  return at - text;
}

size_t
text_columns (const char *text)
{
  size_t used = 0, taken;

  while (*text) {
    text += measure (text, &taken);
    used += taken;
  }
  return used;
}

char *
text_printable (const char *text)
{
  const char *end = text + strlen (text);
  /* No byte takes more than \x and two digits. */
  char *printable = must_resize (NULL, 4 * (end - text) + 1, 1),
       *to = printable;
  mbstate_t state = { 0 };

  while (text < end) {
    wchar_t c;
    size_t length = mbrtowc (&c, text, end - text, &state);

    if (length == 0 || length > (size_t) (end - text)) {
      length = 1;
      c = L'\0';
      memset (&state, 0, sizeof state);
    }
    if (iswprint (c)) {
      memcpy (to, text, length);
      to += length;
      text += length;
    }
    else
      for (; length > 0; --length, ++text)
        to += sprintf (to, "\\x%02x", (unsigned char) *text);
  }
  *to = '\0';
  return printable;
}
