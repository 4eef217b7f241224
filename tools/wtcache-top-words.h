/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of an export in words.  See wtcache-top-words.c. */

#ifndef WTCACHE_TOP_WORDS_H
#define WTCACHE_TOP_WORDS_H

#include "wtcache-top-file.h"

enum condition {
  CONDITION_UNKNOWN,  /* the file does not tell */
  CONDITION_CLEAN,    /* all is on stable storage */
  CONDITION_HELD,     /* something is not, as usual */
  CONDITION_REFUSING, /* the backend does not take it */
};

/* The condition as a script reads it: "clean", "held", ... */
extern const char *condition_name (enum condition c);

extern enum condition words_condition (const struct source *s,
                                       const struct export *e);

/* These are to be freed. */

/* "all on the backend", "12 MiB dirty, oldest 3 s", ...; of a server that has
 * ended or hangs, what was known last, and when.
 */
extern char *words_state (const struct source *s, const struct export *e);

/* "doubling the cache would save 12 % of backend reads", or that it is too
 * early to say; NULL if there is no curve.
 */
extern char *words_saving (const struct source *s);

/* Why what is shown of a file is not of now; NULL if it is. */
extern char *words_stale (const struct followed *f);

/* The name of an export, without characters that a terminal would obey. */
extern char *words_name (const struct export *e);

#endif /* WTCACHE_TOP_WORDS_H */
