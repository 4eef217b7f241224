/* SPDX-License-Identifier: BSD-3-Clause */

/* Messages of wtcachectl, beside die.h.  See wtcachectl.c. */

#ifndef WTCACHECTL_SAY_H
#define WTCACHECTL_SAY_H

#include "die.h"

/* Beside those of die.h. */
enum { EXIT_NOT_ALL = 3 };

/* A text to be freed. */
extern char *formatted (const char *format, ...)
    __attribute__ ((format (printf, 1, 2)));

#endif /* WTCACHECTL_SAY_H */
