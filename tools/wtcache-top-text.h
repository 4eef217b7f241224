/* SPDX-License-Identifier: BSD-3-Clause */

/* Text as a terminal shows it.  See wtcache-top-text.c. */

#ifndef WTCACHE_TOP_TEXT_H
#define WTCACHE_TOP_TEXT_H

#include <stddef.h>

/* How many columns a text takes, in the locale's characters. */
extern size_t text_columns (const char *text);
/* How many bytes of it fit in so many columns. */
extern size_t text_fitting (const char *text, size_t columns);

/* A copy, to be freed, in which what cannot be printed is written as \x1b. */
extern char *text_printable (const char *text);

#endif /* WTCACHE_TOP_TEXT_H */
