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
