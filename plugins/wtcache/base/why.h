/* SPDX-License-Identifier: BSD-3-Clause */

/* Why something failed, as a line for people.  See why.c. */

#ifndef WTCACHE_WHY_H
#define WTCACHE_WHY_H

#include <stddef.h>

/* Puts the reason into WHY, at most SIZE bytes.  Returns -1, for the caller to
 * return.
 */
extern int why_refuse (char *why, size_t size, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

#endif /* WTCACHE_WHY_H */
