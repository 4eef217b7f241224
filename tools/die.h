/* SPDX-License-Identifier: BSD-3-Clause */

/* How a tool ends before its work is done.  See die.c. */

#ifndef DIE_H
#define DIE_H

#include <getopt.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Each tool has its own. */
extern const char program_name[];

/* Prints one line on the standard error output, and ends with this status. */
extern void die (int status, const char *format, ...)
    __attribute__ ((noreturn, format (printf, 2, 3)));
/* WORD is none of the OPTIONS, which end as getopt_long wants it. */
extern void die_of_option (const char *word, const struct option *options)
    __attribute__ ((noreturn));
/* The pointer, unless it is NULL for want of memory. */
extern void *checked (void *p);
/* For --help and --version. */
extern void print_and_exit (const char *text) __attribute__ ((noreturn));

#endif /* DIE_H */
