/* SPDX-License-Identifier: BSD-3-Clause */

/* The words of commands and parameters. */

#ifndef WTDISK_PARSE_H
#define WTDISK_PARSE_H

#include "request.h"

/* "2ms", "200us", "1s", "0.5": a time, seconds without a unit. */
extern int parse_time (const char *text, uint64_t *ns);
extern int parse_number (const char *text, uint64_t *n);

/* "read", ... or "any", which is OP_ANY. */
extern int parse_op (const char *text, enum op *op);

/* "EIO" or a number; these two know the same names. */
extern int parse_errno (const char *text);
extern const char *name_of_errno (int error);

/* All but name_of_errno return -1 for a word that is none. */

#endif /* WTDISK_PARSE_H */
