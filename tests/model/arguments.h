/* SPDX-License-Identifier: BSD-3-Clause */

/* Arguments common to the programs that have seeds: numbers, and which seeds
 * are to run.
 */

#ifndef MODEL_ARGUMENTS_H
#define MODEL_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern uint64_t fresh_seed (void);
/* An argument as a number; ends the program if it is none. */
extern uint64_t number (const char *text);

/* The seeds that are to run: SEED and those that follow, or new ones; COUNT of
 * them, or as many as begin in SECONDS.
 */
struct seeds {
  uint64_t seed, count, seconds;
  bool given;
  double end; /* with SECONDS */
};

/* For getopt_long. */
#define SEEDS_OPTIONS                                                          \
  { "seed", required_argument, NULL, 's' },                                    \
      { "count", required_argument, NULL, 'c' },                               \
  {                                                                            \
    "seconds", required_argument, NULL, 't'                                    \
  }

/* Takes one of these options; false: it is another. */
extern bool seeds_option (struct seeds *s, int option, const char *text);
/* Begins, at the time NOW.  Without a bound it is one seed. */
extern void seeds_begin (struct seeds *s, double now);
/* Whether one more is to run after so many. */
extern bool seeds_go_on (const struct seeds *s, unsigned done, double now);
extern uint64_t seeds_next (struct seeds *s);

/* Prints a text as TAP comments, after a "# " that was printed. */
extern void tap_comment (const char *text);

#endif /* MODEL_ARGUMENTS_H */
