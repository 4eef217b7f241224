/* SPDX-License-Identifier: BSD-3-Clause */

/* How wtcache-top ends when it cannot go on: one line, and a status. */

#ifndef WTCACHE_TOP_SAY_H
#define WTCACHE_TOP_SAY_H

#include <stddef.h>

/* Says what is wrong and ends with status 1: something failed. */
extern void say_failure (const char *format, ...)
    __attribute__ ((noreturn, format (printf, 1, 2)));

/* The same with status 2: it was called in a wrong way. */
extern void say_misuse (const char *format, ...)
    __attribute__ ((noreturn, format (printf, 1, 2)));

/* Memory, or the end. */
extern void *must_resize (void *old, size_t number, size_t size);
extern char *must_copy (const char *text);
extern char *must_format (const char *format, ...)
    __attribute__ ((format (printf, 1, 2)));

#endif /* WTCACHE_TOP_SAY_H */
