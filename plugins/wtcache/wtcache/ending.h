/* SPDX-License-Identifier: BSD-3-Clause */

/* The end of the server: the drain, and what it could not save.  See ending.c.
 */

#ifndef WTCACHE_ENDING_H
#define WTCACHE_ENDING_H

#include <stdbool.h>
#include <stdint.h>

/* Begins the drain.  SIGNAL: nbdkit has just ended our sleep, and logged that.
 */
extern void ending_begin (bool signal);
/* Called again and again from then on: logs what is lost when the drain is
 * over, and what was saved after all.
 */
extern void ending_tick (void);
/* All has ended: logs what is left, and returns its bytes. */
extern uint64_t ending_finish (void);

#endif /* WTCACHE_ENDING_H */
