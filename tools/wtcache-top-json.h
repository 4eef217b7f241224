/* SPDX-License-Identifier: BSD-3-Clause */

/* All that is known, for programs.  See wtcache-top-json.c. */

#ifndef WTCACHE_TOP_JSON_H
#define WTCACHE_TOP_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "wtcache-top-file.h"

/* Prints an object of all files, in one line or in many.  0 or an errno. */
extern int json_print (const struct followed *files, size_t nr_files,
                       bool one_line);

#endif /* WTCACHE_TOP_JSON_H */
