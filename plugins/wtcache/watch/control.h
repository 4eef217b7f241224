/* SPDX-License-Identifier: BSD-3-Clause */

/* The control socket, and a conversation over it.  See control.c. */

#ifndef WTCACHE_CONTROL_H
#define WTCACHE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

struct conversation;

/* Sends one line, without its newline. */
extern void control_say (struct conversation *c, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));
/* Whether the client has gone, or the server ends. */
extern bool control_is_over (struct conversation *c);

/* Binds the socket: before the server has other threads.  0; or -1, and why in
 * WHY, one line.
 */
extern int control_bind (const char *path, char *why, size_t size);
/* Begins to listen; RUN does what one line says.  IS_QUICK: it takes no time,
 * so it is run also while all places are taken.  0 or an errno.
 */
extern int control_start (void (*run) (struct conversation *c, char *line),
                          bool (*is_quick) (const char *line));
/* Ends all conversations; a command that is under way ends by itself. */
extern void control_stop (void);
/* Removes the socket. */
extern void control_unbind (void);

#endif /* WTCACHE_CONTROL_H */
