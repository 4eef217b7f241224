/* SPDX-License-Identifier: BSD-3-Clause */

/* The log's lines about a file that an option names.  See optionfile.c. */

#ifndef WTCACHE_OPTIONFILE_H
#define WTCACHE_OPTIONFILE_H

#include <stdbool.h>

#include "base/repeat.h"

/* A file that is written again and again. */
struct optionfile {
  const char *option;   /* without "wtcache-" */
  const char *often;    /* "seconds": it is tried again every few seconds */
  struct repeat repeat; /* only for the thread that writes the file */
};

/* A write of PATH has ended; if it FAILED, WHY says why. */
extern void optionfile_note (struct optionfile *f, const char *path,
                             bool failed, const char *why);
/* Logs why the server does not start.  -1, for the caller to return. */
extern int optionfile_refuse (const struct optionfile *f, const char *path,
                              const char *why);

#endif /* WTCACHE_OPTIONFILE_H */
