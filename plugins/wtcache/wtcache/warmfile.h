/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of the warm list (wtcache-warm).  See warmfile.c.  Without that
 * option none of these does anything.
 */

#ifndef WTCACHE_WARMFILE_H
#define WTCACHE_WARMFILE_H

#include <stdbool.h>
#include <stdint.h>

/* Checks what can be checked before the server goes into the background.  0; or
 * -1, after logging why it cannot be written.
 */
extern int warmfile_check (void);
/* Locks and reads it, once the server runs as its user (nbdkit -u).  0; or -1,
 * after logging why it cannot be locked.  A list that cannot be used is logged.
 */
extern int warmfile_begin (void);
/* To be called at each tick of the clock, until the server is told to stop. */
extern void warmfile_tick (void);
/* Has it written for the last time. */
extern void warmfile_save_last (void);
/* Waits for that, for at most NS, releases its lock and frees the list.  False,
 * after logging it: a write to the file hangs, and may touch the exports and
 * the settings until the process ends.
 */
extern bool warmfile_end (uint64_t ns);

#endif /* WTCACHE_WARMFILE_H */
