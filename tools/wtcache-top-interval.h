/* SPDX-License-Identifier: BSD-3-Clause */

/* One line an interval.  See wtcache-top-interval.c. */

#ifndef WTCACHE_TOP_INTERVAL_H
#define WTCACHE_TOP_INTERVAL_H

#include <stdbool.h>
#include <stddef.h>

#include "wtcache-top-file.h"

/* Prints a line for each file, or an object of all, every so many seconds,
 * until the program is ended.  The files were looked at once.
 */
extern void interval_run (struct followed *files, size_t nr_files,
                          unsigned seconds, bool json)
    __attribute__ ((noreturn));

#endif /* WTCACHE_TOP_INTERVAL_H */
