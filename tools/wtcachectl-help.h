/* SPDX-License-Identifier: BSD-3-Clause */

/* The help of wtcachectl.  See wtcachectl-help.c. */

#ifndef WTCACHECTL_HELP_H
#define WTCACHECTL_HELP_H

#include <stdbool.h>

#include <jansson.h>

extern void show_help (void);
/* A command with its arguments, as an object that the caller owns. */
extern json_t *help_json (const char *command, const char *arguments);
/* Of one command, whose arguments are written as ARGUMENTS. */
extern void show_help_of (const char *command, const char *arguments,
                          bool json);

#endif /* WTCACHECTL_HELP_H */
