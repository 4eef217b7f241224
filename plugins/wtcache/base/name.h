/* SPDX-License-Identifier: BSD-3-Clause */

/* How a name that a client chose is printed.  See name.c. */

#ifndef WTCACHE_NAME_H
#define WTCACHE_NAME_H

/* Bytes of a printed name, without the quotes and backslashes. */
#define NAME_MAX_BYTES 64

/* The most that name_quoted writes, with its quotes and the zero byte. */
#define NAME_QUOTED_BYTES (2 * NAME_MAX_BYTES + 3)

/* A name in quotes, fit for a terminal, a log and the value of a label. */
struct name_quoted {
  char text[NAME_QUOTED_BYTES];
};
extern struct name_quoted name_quoted (const char *name);

#endif /* WTCACHE_NAME_H */
