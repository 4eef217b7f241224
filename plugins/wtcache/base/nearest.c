/* SPDX-License-Identifier: BSD-3-Clause */

/* Which name a misspelt word means: the one that the fewest edits make of it,
 * where an edit inserts, removes or replaces one character, or swaps two
 * neighbours.  "prefecth" is one edit from "prefetch".
 */

#include <config.h>

#include <string.h>

#include "base/nearest.h"
#include "base/util.h"

#define LONGEST 40 /* of a name, characters */

static unsigned
min (unsigned a, unsigned b)
{
  return a < b ? a : b;
}

/* d[i][j]: the edits between the first I characters of A and J of B. */
static unsigned
edit_distance (const char *a, const char *b)
{
  const size_t m = strlen (a), n = strlen (b);
  unsigned d[LONGEST + 1][LONGEST + 1];
  size_t i, j;

  if (m > LONGEST || n > LONGEST)
    return LONGEST;
  for (i = 0; i <= m; ++i)
    for (j = 0; j <= n; ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = min (min (d[i - 1][j], d[i][j - 1]) + 1,
                     d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = min (d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[m][n];
}

const char *
nearest_name (const char *word, const char *const *names, size_t nr)
{
  /* A third of the word may be wrong, and not all of a short one. */
  const size_t length = strlen (word);
  unsigned best = 1 + min (length / 3, 3), edits;
  const char *found = NULL;
  size_t i;

  if (length < 2)
    return NULL;
  for (i = 0; i < nr; ++i) {
    edits = edit_distance (word, names[i]);
    if (edits < best) {
      best = edits;
      found = names[i];
    }
  }
  return found;
}
