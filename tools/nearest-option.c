/* SPDX-License-Identifier: BSD-3-Clause */

/* Which option a misspelt one means. */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "nearest-option.h"

#define MAX_OPTIONS 32

const char *
nearest_option (const char *word, const struct option *options)
{
  const char *names[MAX_OPTIONS];
  char name[40];
  size_t nr;

  if (strncmp (word, "--", 2) != 0)
    return NULL;
  for (nr = 0; nr < MAX_OPTIONS && options[nr].name; ++nr)
    names[nr] = options[nr].name;
  snprintf (name, sizeof name, "%.*s", (int) strcspn (word + 2, "="), word + 2);
  return nearest_name (name, names, nr);
}
