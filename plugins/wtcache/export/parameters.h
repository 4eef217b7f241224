/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of the parameters.  See parameters.c. */

#ifndef WTCACHE_PARAMETERS_H
#define WTCACHE_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export/settings.h"

enum value_kind {
  VALUE_SIZE,
  VALUE_TIME,
  VALUE_NUMBER,
  VALUE_CHOICE,
  VALUE_BOOL,
  VALUE_PATH,
  VALUE_NAME, /* letters, digits, dots, dashes, underscores */
};

/* How a parameter changes while the server runs. */
enum change {
  CHANGE_NEVER,
  CHANGE_STORE, /* the next request acts by it */
  /* The same, and see change.c: the cache is made smaller or larger, */
  CHANGE_RESIZE,
  CHANGE_TELL, /* the exports there are keep a copy of it */
};

struct parameter {
  const char *name; /* without PARAMETERS_PREFIX */
  enum value_kind kind;
  size_t at;             /* in struct settings */
  const char *initially; /* the default, as a user writes it; NULL: none */
  const char *word;      /* for a value in help, where the kind's is not right:
                            "SOCKET" */
  const char *help;      /* no full stop at its end */

  /* VALUE_SIZE, VALUE_TIME, VALUE_NUMBER; VALUE_NAME: of its length. */
  uint64_t min, max;
  const char *zero; /* the word for 0: "auto", "off" */

  /* VALUE_SIZE */
  bool power_of_2;
  bool portion; /* of wtcache-size, at most half: 1% to 50% is valid too */

  /* VALUE_CHOICE, VALUE_BOOL: the name of each value. */
  const char *const *choices;
  unsigned nr_choices;
  unsigned hidden; /* a bit for each value that cannot be chosen */

  enum change change;
  bool parallel; /* without effect if the thread model is not parallel */
};

#define PARAMETERS_PREFIX "wtcache-"

extern const struct parameter parameters[NR_PARAMETERS];

/* One line that says why a value is refused. */
struct why {
  char s[256];
};

/* The number of a parameter, whose name is given with or without the prefix;
 * NR_PARAMETERS: there is none.
 */
extern unsigned parameters_find (const char *name);
/* The parameter whose name is closest to a misspelt one; NULL: none is close.
 */
extern const struct parameter *parameters_meant (const char *name);

/* Sets all to their defaults.  Does not free the texts that *S held. */
extern void parameters_reset (struct settings *s);
/* Frees the texts that were set. */
extern void parameters_free (struct settings *s);
/* Sets one in *S, or returns false and says in *WHY what a valid value is. */
extern bool parameters_set (struct settings *s, unsigned parameter,
                            const char *value, struct why *why);
/* Whether all values in *S go together, or false and *WHY. */
extern bool parameters_agree (const struct settings *s, struct why *why);
/* The value as a user writes it: "256M", "30s", "auto"; "" is none. */
extern void parameters_format (const struct settings *s, unsigned parameter,
                               char *text, size_t size);

/* Whether names, as VALUE_NAME, may have this character. */
extern bool parameters_names_with (char c);

/* The forms of a valid value, such as "SIZE|N%|auto": room for them. */
#define PARAMETERS_FORMS_BYTES 80
extern void parameters_forms (unsigned parameter, char *text, size_t size);
/* Its purpose, range and default, and whether it is changeable, in one line. */
extern void parameters_explain (unsigned parameter, char *text, size_t size);

/* Help for all of them, or for those that are changeable: of each PREFIX, its
 * name and its forms, then what explains it in lines that are indented.
 */
#define PARAMETERS_HELP_BYTES 4096
extern void parameters_help (char *help, size_t size, const char *prefix,
                             bool changeable);

#endif /* WTCACHE_PARAMETERS_H */
