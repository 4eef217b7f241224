/* SPDX-License-Identifier: BSD-3-Clause */

/* The commands that only look.  See status.c. */

#ifndef WTCACHE_STATUS_H
#define WTCACHE_STATUS_H

#include "watch/command.h"

/* Sends the state of the server and of each export. */
extern void status_run (struct command *cmd);
/* Sends each option, with its value and where that comes from. */
extern void status_run_get (struct command *cmd);

#endif /* WTCACHE_STATUS_H */
