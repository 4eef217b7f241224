/* SPDX-License-Identifier: BSD-3-Clause */

/* The arguments of a run.  See arguments.h. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "arguments.h"

uint64_t
fresh_seed (void)
{
  uint32_t seed;

  if (getrandom (&seed, sizeof seed, 0) != sizeof seed)
    abort ();
  return seed;
}

uint64_t
number (const char *text)
{
  char *end;
  const uint64_t n = strtoull (text, &end, 10);

  if (*text == '\0' || *end != '\0') {
    fprintf (stderr, "%s: not a number: %s\n", program_invocation_short_name,
             text);
    exit (EXIT_FAILURE);
  }
  return n;
}

bool
seeds_option (struct seeds *s, int option, const char *text)
{
  switch (option) {
  case 's':
    s->seed = number (text);
    s->given = true;
    return true;
  case 'c':
    s->count = number (text);
    return true;
  case 't':
    s->seconds = number (text);
    return true;
  default:
    return false;
  }
}

void
seeds_begin (struct seeds *s, double now)
{
  s->end = now + s->seconds;
  if (s->count == 0)
    s->count = s->seconds ? UINT64_MAX : 1;
}

bool
seeds_go_on (const struct seeds *s, unsigned done, double now)
{
  return done < s->count && (s->seconds == 0 || now < s->end);
}

uint64_t
seeds_next (struct seeds *s)
{
  return s->given ? s->seed++ : fresh_seed ();
}

void
tap_comment (const char *text)
{
  for (; *text; ++text) {
    putchar (*text);
    if (*text == '\n')
      printf ("# ");
  }
  putchar ('\n');
}
