/* SPDX-License-Identifier: BSD-3-Clause */

/* How wtcachectl ends when it cannot go on.  See wtcachectl.c. */

#ifndef WTCACHECTL_SAY_H
#define WTCACHECTL_SAY_H

#include <stddef.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_ALL = 3 };

/* Prints one line on the standard error output, and ends with this status. */
extern void die (int status, const char *format, ...)
    __attribute__ ((noreturn, format (printf, 2, 3)));
/* The pointer, unless it is NULL for want of memory. */
extern void *checked (void *p);
/* A text to be freed. */
extern char *formatted (const char *format, ...)
    __attribute__ ((format (printf, 1, 2)));

#endif /* WTCACHECTL_SAY_H */
