/* SPDX-License-Identifier: BSD-3-Clause */

/* The help of wtcachectl.  See wtcachectl-help.c. */

#ifndef WTCACHECTL_HELP_H
#define WTCACHECTL_HELP_H

#include <stdbool.h>

extern void show_help (void);
/* Of one command, whose arguments are written as ARGUMENTS. */
extern void show_help_of (const char *command, const char *arguments,
                          bool json);

#endif /* WTCACHECTL_HELP_H */
