/* SPDX-License-Identifier: BSD-3-Clause */

/* The answers of servers, for people and as JSON.  See wtcachectl-show.c. */

#ifndef WTCACHECTL_SHOW_H
#define WTCACHECTL_SHOW_H

#include <stdbool.h>

#include <jansson.h>

#include "wtcachectl-talk.h"

/* Prints it, and releases it. */
extern void print_object (json_t *object);

/* Each prints an answer that is ANSWER_OK and returns the exit status. */
extern int show_status (const struct answer *a, bool json);
/* NAME: the one option to show, without "wtcache-"; NULL: all. */
extern int show_options (const struct answer *a, const char *name, bool json);
/* Of any other command. */
extern int show_end (const struct answer *a, const char *command, bool json);

/* The answer of a command that failed, as JSON. */
extern void show_failure (const struct answer *a, const char *command);

/* The servers of the usual folder by their names; ANSWERS: what they said to
 * "status".
 */
extern int show_servers (const struct texts *names,
                         const struct answer *answers, bool json);

#endif /* WTCACHECTL_SHOW_H */
