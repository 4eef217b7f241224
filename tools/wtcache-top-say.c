/* SPDX-License-Identifier: BSD-3-Clause */

/* How wtcache-top ends when it cannot go on. */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wtcache-top-say.h"

static void __attribute__ ((format (printf, 1, 0)))
say (const char *format, va_list args)
{
  fflush (stdout);
  fputs ("wtcache-top: ", stderr);
  vfprintf (stderr, format, args);
  fputc ('\n', stderr);
}

void
say_failure (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  say (format, args);
  va_end (args);
  exit (1);
}

void
say_misuse (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  say (format, args);
  va_end (args);
  exit (2);
}

void *
must_resize (void *old, size_t number, size_t size)
{
  void *new = reallocarray (old, number ? number : 1, size);

  if (new == NULL)
    say_failure ("out of memory");
  return new;
}

char *
must_copy (const char *text)
{
  return must_format ("%s", text);
}

char *
must_format (const char *format, ...)
{
  va_list args;
  char *text;
  int length;

  va_start (args, format);
  length = vasprintf (&text, format, args);
  va_end (args);
  if (length == -1)
    say_failure ("out of memory");
  return text;
}
