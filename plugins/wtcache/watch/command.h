/* SPDX-License-Identifier: BSD-3-Clause */

/* One command of the control socket: its words, and its answer.  See command.c.
 */

#ifndef WTCACHE_COMMAND_H
#define WTCACHE_COMMAND_H

#include "export.h"
#include "watch/control.h"

#define MAX_ARGUMENTS 4

struct command {
  struct conversation *c;
  const char *name;
  struct argument {
    const char *key;
    char *value;
  } arguments[MAX_ARGUMENTS];
  unsigned nr;
};

/* Takes the arguments from the REST of a line.  KEYS: those that there may be,
 * each after a space; "*": any.  False: they are not right.
 */
extern bool command_parse (struct command *cmd, const char *keys, char *rest);

/* The value of an argument, or NULL. */
extern const char *command_argument (const struct command *cmd,
                                     const char *key);
/* An argument as a number of digits alone, at most MAX. */
extern bool command_number (const struct command *cmd, const char *key,
                            uint64_t max, uint64_t *n);

/* TEXT as a value of an answer, to be freed; NULL: ENOMEM. */
extern char *command_encode (const char *text);

/* How a command that goes over several exports ends: the last failure is its
 * answer, those before it are sent as notes.
 */
struct outcome_of_all {
  struct conversation *c;
  unsigned nr; /* exports */
  char *failure;
};

extern void command_failed (struct outcome_of_all *o, const struct export *e,
                            const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

/* Sends the last failure; false if there was none.  NAME: the export that the
 * command was given, or NULL; that no client has opened it is a failure.
 */
extern bool command_answer_failure (struct outcome_of_all *o, const char *name);

/* Each export of that name, or each at all if it is NULL; it stays meanwhile.
 */
#define FOR_EACH_EXPORT(e, o, name)                                            \
  for (struct export *e = export_keep_next (0, name); e != NULL;               \
       e = command_next_export (e, name, o))

extern struct export *command_next_export (struct export *e, const char *name,
                                           struct outcome_of_all *o);

#endif /* WTCACHE_COMMAND_H */
