/* SPDX-License-Identifier: BSD-3-Clause */

/* Which name a misspelt word means.  See nearest.c. */

#ifndef WTCACHE_NEAREST_H
#define WTCACHE_NEAREST_H

#include <stddef.h>

/* The one of the NR names that WORD is closest to, or NULL if it is close to
 * none: "dirty-mx" is close to "dirty-max", "x" to nothing.
 */
extern const char *nearest_name (const char *word, const char *const *names,
                                 size_t nr);

#endif /* WTCACHE_NEAREST_H */
