/* SPDX-License-Identifier: BSD-3-Clause */

/* How a tool ends before its work is done: with one line and a status. */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "die.h"
#include "nearest-option.h"

void
die (int status, const char *format, ...)
{
  va_list args;

  fflush (stdout);
  fprintf (stderr, "%s: ", program_name);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (status);
}

void
die_of_option (const char *word, const struct option *options)
{
  const char *meant = nearest_option (word, options);

  if (meant)
    die (EXIT_USAGE, "%s: there is no such option: is --%s meant?", word,
         meant);
  die (EXIT_USAGE, "%s: there is no such option: see %s --help", word,
       program_name);
}

void *
checked (void *p)
{
  if (p == NULL)
    die (EXIT_FAILED, "no memory");
  return p;
}

void
print_and_exit (const char *text)
{
  fputs (text, stdout);
  exit (fflush (stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED);
}
