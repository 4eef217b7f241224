/* SPDX-License-Identifier: BSD-3-Clause */

/* Counters of what clients ask for.  See stats.c. */

#ifndef WTCACHE_STATS_H
#define WTCACHE_STATS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "lock.h"

enum counter {
  COUNT_READS,
  COUNT_READ_BYTES,
  COUNT_MISSED_READS, /* reads that had to ask the backend */
  COUNT_WRITES,
  COUNT_WRITE_BYTES,
  COUNT_FUA,      /* writes, zeroes and trims with FUA */
  COUNT_DEGRADED, /* ordinary writes that had to go through */
  COUNT_FLUSHES,
  COUNT_ZEROES,
  COUNT_TRIMS,
  COUNT_ERRORS, /* requests that failed */
  COUNTERS
};

/* A thread's own counters, on cache lines of their own: it alone writes them.
 * Relaxed: a reader's sum may miss the latest.
 */
struct stats_line {
  _Atomic uint64_t counts[COUNTERS];
  struct stats_line *next; /* guarded by stats.lock */
} __attribute__ ((aligned (64)));

struct stats {
  uint64_t id;                /* no other export had or will have it */
  struct lock lock;           /* RANK_STATS */
  struct stats_line *lines;   /* guarded by lock: of the threads there are */
  struct stats_line overflow; /* of threads that found no memory */
};

extern void stats_init (struct stats *s);
extern void stats_destroy (struct stats *s);

/* Counts N, in the calling thread's line. */
extern void stats_add (struct stats *s, enum counter which, uint64_t n);
/* Counts a request of N bytes. */
extern void stats_request (struct stats *s, enum counter requests,
                           enum counter bytes, uint64_t n);
/* The sum over all threads there were. */
extern uint64_t stats_sum (struct stats *s, enum counter which);

/* Writes all counters of all exports to FILE, as Prometheus text, replacing it
 * at once.  0 or an errno.
 */
extern int stats_write (const char *file);

#endif /* WTCACHE_STATS_H */
