/* SPDX-License-Identifier: BSD-3-Clause */

/* What the server could not save.  See ending.c. */

#ifndef WTCACHE_ENDING_H
#define WTCACHE_ENDING_H

#include <stdint.h>

/* Logs the ranges that the backend lacks, has the file written that says so,
 * and returns their bytes.
 */
extern uint64_t ending_tell_lost (void);

#endif /* WTCACHE_ENDING_H */
