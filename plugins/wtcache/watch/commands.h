/* SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket.  See commands.c. */

#ifndef WTCACHE_COMMANDS_H
#define WTCACHE_COMMANDS_H

#include "export.h"
#include "watch/control.h"

/* LOG gets a line for each discard. */
extern void commands_init (void (*log) (const char *text));

/* Does what one line says, and answers. */
extern void command_run (struct conversation *c, char *line);
/* Whether it waits for no backend. */
extern bool command_is_quick (const char *line);

#endif /* WTCACHE_COMMANDS_H */
