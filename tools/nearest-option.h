/* SPDX-License-Identifier: BSD-3-Clause */

/* Which option a misspelt one means.  See nearest-option.c. */

#ifndef NEAREST_OPTION_H
#define NEAREST_OPTION_H

#include <getopt.h>

/* The name of the option that WORD, such as "--jsno" or "--dept=3", is closest
 * to; NULL: it is no long option, or close to none.  OPTIONS end as getopt_long
 * wants it.
 */
extern const char *nearest_option (const char *word,
                                   const struct option *options);

#endif /* NEAREST_OPTION_H */
