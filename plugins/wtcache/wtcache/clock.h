/* SPDX-License-Identifier: BSD-3-Clause */

/* The thread that begins what is due by time.  See clock.c. */

#ifndef WTCACHE_CLOCK_H
#define WTCACHE_CLOCK_H

/* 0 or an errno. */
extern int clock_start (void);
/* The server ends: returns when the drain has begun. */
extern void clock_begin_ending (void);
/* After clock_begin_ending: ends the clock's thread, if there is one. */
extern void clock_stop (void);

#endif /* WTCACHE_CLOCK_H */
