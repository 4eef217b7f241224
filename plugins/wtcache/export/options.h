/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the filter.  See options.c. */

#ifndef WTCACHE_OPTIONS_H
#define WTCACHE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "export/types.h"

enum share { SHARE_AUTO, SHARE_ALWAYS, SHARE_NEVER };

/* Where the value of a parameter came from. */
enum origin { ORIGIN_DEFAULT, ORIGIN_START, ORIGIN_SET };

#define NR_PARAMETERS 15

struct options {
  uint64_t size; /* wtcache-size, bytes */
  enum share share;
  bool mode_given;        /* else it depends on the thread model */
  unsigned dirty_percent; /* dirty-max as a share of size; 0: not given so */
  char *stats;            /* absolute paths, or NULL */
  char *control;
  char name[64]; /* of the server, in its statistics */
  struct settings settings;
  enum origin origins[NR_PARAMETERS]; /* in the order of options_name */
  char why[200]; /* a message with numbers in it; see options_change */
};

extern struct options options;

/* Takes a parameter: 1 if it is valid, 0 if it is not of wtcache, -1 after
 * logging what is wrong.
 */
extern int options_parse (const char *key, const char *value);
/* Called after the last options_parse: 0, or -1 after logging which values
 * contradict each other.
 */
extern int options_check (void);
/* Changes a parameter in *O, a copy of `options`, while the server runs.  KEY
 * is its name, with or without "wtcache-".  NULL, or why not, in one line;
 * *UNKNOWN: because no parameter of that name can be changed.
 */
extern const char *options_change (struct options *o, const char *key,
                                   const char *value, bool *unknown);
/* The name of a parameter without "wtcache-". */
extern const char *options_name (unsigned parameter);
/* Its value as a user writes it: "256M", "30s", "auto". */
extern void options_format (const struct options *o, unsigned parameter,
                            char *text, size_t size);
/* Whether options_change can change it. */
extern bool options_can_change (unsigned parameter);
/* A size as a user writes it, exactly: 268435456 is "256M", 1000 is "1000". */
struct size_text {
  char s[24];
};
extern struct size_text size_text (uint64_t bytes);
/* Logs which of the given options have no effect with this thread model. */
extern void options_tell_without_effect (void);

extern const char options_help[];

#endif /* WTCACHE_OPTIONS_H */
