/* SPDX-License-Identifier: BSD-3-Clause */

/* Counters of clients' requests.  See stats.c. */

#ifndef WTCACHE_STATS_H
#define WTCACHE_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/lock.h"
#include "base/util.h"

enum counter {
  /* Reads, when they have ended: either a hit or a miss. */
  COUNT_HITS,
  COUNT_HIT_BYTES,
  COUNT_MISSES, /* had to ask the backend */
  COUNT_MISS_BYTES,
  COUNT_MORE_PAGES, /* of reads, after the first page of each */
  COUNT_WRITES,
  COUNT_WRITE_BYTES,
  COUNT_FUA, /* writes, zeroes and trims with FUA */
  COUNT_FUA_BYTES,
  COUNT_DEGRADED,     /* parts of ordinary writes that had to go through */
  COUNT_THROTTLED,    /* ordinary writes that waited for that */
  COUNT_THROTTLED_NS, /* how long */
  COUNT_FLUSHES,
  COUNT_ZEROES,
  COUNT_ZERO_BYTES,
  COUNT_TRIMS,
  COUNT_TRIM_BYTES,
  COUNT_ERRORS,           /* requests that failed */
  COUNT_AHEAD_BYTES,      /* asked for ahead of a stream */
  COUNT_AHEAD_USED_BYTES, /* of those: the stream came there */
  COUNTERS
};

/* How long clients waited for what. */
enum latency {
  LATENCY_HIT,
  LATENCY_MISS, /* from the first page that was missed on */
  LATENCY_WRITE,
  LATENCY_FUA_WRITE,
  LATENCY_FLUSH,
  LATENCIES
};

/* Hits and ordinary writes are counted in turn, and after each STATS_SAMPLE of
 * a thread the next one of its connection is timed: two instructions for each
 * hit, and some 250 for the one that is timed.
 */
#define STATS_SAMPLE 1024

/* A thread's own counters, on cache lines of their own: it alone writes them.
 * Relaxed: a reader's sum may miss the latest.
 */
struct stats_line {
  _Atomic uint64_t counts[COUNTERS];
  struct histogram latencies[LATENCIES]; /* of request_scale */
  struct stats_line *next;               /* guarded by stats.lock */
} __attribute__ ((aligned (64)));

struct stats {
  uint64_t id;                /* no other export had or will have it */
  struct lock lock;           /* RANK_STATS */
  struct stats_line *lines;   /* guarded by lock: of the threads there are */
  struct stats_line overflow; /* of threads that found no memory */
};

extern void stats_init (struct stats *s);
extern void stats_destroy (struct stats *s);

/* The line that this thread counts on, and the export that owns it. */
extern THREAD_OWN struct stats_mine {
  uint64_t id;
  struct stats_line *line;
} stats_mine;

/* Makes a line this thread's own, for stats_line. */
extern struct stats_line *stats_take_line (struct stats *s);

static inline struct stats_line *
stats_line (struct stats *s)
{
  return stats_mine.id == s->id ? stats_mine.line : stats_take_line (s);
}

/* Returns the count of this line. */
static inline uint64_t
stats_count (struct stats_line *line, enum counter which, uint64_t n)
{
  _Atomic uint64_t *c = &line->counts[which];
  const uint64_t count = atomic_load_explicit (c, memory_order_relaxed) + n;

  atomic_store_explicit (c, count, memory_order_relaxed);
  return count;
}

/* The count on the calling thread's line. */
static inline uint64_t
stats_mine_count (struct stats *s, enum counter which)
{
  return atomic_load_explicit (&stats_line (s)->counts[which],
                               memory_order_relaxed);
}

/* Counts N, in the calling thread's line. */
static inline void
stats_add (struct stats *s, enum counter which, uint64_t n)
{
  stats_count (stats_line (s), which, n);
}

/* Counts a request, and N bytes (or another quantity) of it.  Returns whether
 * the next one is to be timed.
 */
static inline bool
stats_request (struct stats *s, enum counter requests, enum counter bytes,
               uint64_t n)
{
  struct stats_line *line = stats_line (s);

  stats_count (line, bytes, n);
  return stats_count (line, requests, 1) % STATS_SAMPLE == 0;
}

/* Adds a latency that stands for WEIGHT requests, from BEGAN until now. */
static inline void
stats_note_latency (struct stats *s, enum latency which, uint64_t began,
                    uint64_t weight)
{
  histogram_note_own (&stats_line (s)->latencies[which], &request_scale,
                      now_ns () - began, weight);
}

/* Whether nothing was counted. */
extern bool stats_is_empty (struct stats *s);

/* The sum over all threads there were. */
extern uint64_t stats_sum (struct stats *s, enum counter which);
extern struct histogram_view stats_latency (struct stats *s,
                                            enum latency which);

#endif /* WTCACHE_STATS_H */
