/* SPDX-License-Identifier: BSD-3-Clause */

/* Locks, and the order in which a thread may take them.
 *
 * Two kinds: `struct lock` is a pthread mutex with a rank; `struct word_lock`
 * is four bytes (a futex), for the locks of which there are as many as pages.
 * A thread takes locks in rising rank only; of each rank at most one at a
 * time.  A try-lock may be taken out of order, because it does not wait.  With
 * WTCACHE_ASSERTIONS every take checks this.
 *
 * None of these is held across a call to the backend.
 */

#ifndef WTCACHE_LOCK_H
#define WTCACHE_LOCK_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* docs/design.md says for each of these what it excludes and why. */
enum lock_rank {
  RANK_NONE,
  RANK_CONTROL,  /* the conversations over the control socket (control.c) */
  RANK_SETTINGS, /* one change of the settings at a time (change.c) */
  RANK_REGISTRY, /* which exports there are (export.c) */
  RANK_LOANS,    /* connections, and loans of them (connections.c) */
  RANK_PASS,     /* the cursor of one write-back pass (writeback.c) */
  RANK_AHEAD,    /* a connection's streams (readahead.c) */
  RANK_WARM,     /* what of the warm list is fetched (warm.c) */
  RANK_SETTLE,   /* one settling of unstable blocks at a time (pagecache.c) */
  RANK_EVICT,    /* the eviction queues and free frames (pool.c) */
  RANK_PAGE,     /* a page: identity, states, bytes (pagecache.c) */
  RANK_BUCKET,   /* chains of the index (pool.c) */
  RANK_HELD,     /* which pages are held, unstable, the epoch (held.c) */
  RANK_OPEN,     /* writes that took marks of acknowledged bytes (open.c) */
  RANK_CLEARS,   /* ranges being cleared or remembered zero (zeroes.c) */
  RANK_DOUBTS,   /* ranges in doubt (doubts.c) */
  RANK_SUBMIT,   /* writes waiting and in flight, flushes (submit.c) */
  RANK_CURVE,    /* the caches simulated for the miss ratios (curve.c) */
  RANK_WAIT,     /* the queues of threads that wait for a page (pagecache.c) */
  RANK_MEMORY,   /* the budget and the bounce buffers (frames.c) */
  RANK_TRACE,    /* the requests that were recorded (trace.c) */
  RANK_WORKERS,  /* tasks waiting for a thread (workers.c) */
  RANK_FILES,    /* texts waiting to be files (filewriter.c) */
  RANK_STATS,    /* the list of the threads' counters (stats.c) */
};

#ifdef WTCACHE_ASSERTIONS
extern void lock_check_order (const void *which, enum lock_rank rank);
extern void lock_note_taken (const void *which, enum lock_rank rank);
extern void lock_note_dropped (const void *which);
extern bool lock_is_held (const void *which);
extern void lock_check_none_held (void);
#else
#define lock_check_order(which, rank) ((void) 0)
#define lock_note_taken(which, rank)  ((void) 0)
#define lock_note_dropped(which)      ((void) 0)
#define lock_check_none_held()        ((void) 0)
#endif

/* Says that this thread holds the lock; checked in assertion builds. */
#ifdef WTCACHE_ASSERTIONS
#define assert_held(which) assert (lock_is_held (which))
#else
#define assert_held(which) ((void) 0)
#endif

struct lock {
  pthread_mutex_t mutex;
  enum lock_rank rank;
};

struct condition {
  pthread_cond_t cond; /* waits by the monotonic clock */
};

extern void lock_init (struct lock *l, enum lock_rank rank);
extern void lock_destroy (struct lock *l);
extern void lock_take (struct lock *l);
extern void lock_drop (struct lock *l);

extern void condition_init (struct condition *c);
extern void condition_destroy (struct condition *c);
extern void condition_wait (struct condition *c, struct lock *l);
/* False when the monotonic time DEADLINE (ns) came first. */
extern bool condition_wait_until (struct condition *c, struct lock *l,
                                  uint64_t deadline);
extern void condition_wake_one (struct condition *c);
extern void condition_wake_all (struct condition *c);

static inline void
lock_cleanup (struct lock **l)
{
  lock_drop (*l);
}

/* Holds the lock to the end of the scope. */
#define LOCK_FOR_SCOPE(l)                                                      \
  __attribute__ ((cleanup (lock_cleanup))) struct lock *lock_scope = (l);      \
  lock_take (lock_scope)

/* Four bytes: 0 free, 1 taken, 2 taken and a thread may sleep (Drepper,
 * "Futexes are tricky", mutex 3).  Acquire on taking pairs with release on
 * dropping.
 */
struct word_lock {
  _Atomic uint32_t word;
};

extern void word_lock_sleep (struct word_lock *l);
extern void word_lock_wake (struct word_lock *l);

static inline void
word_lock_take (struct word_lock *l, enum lock_rank rank)
{
  uint32_t expected = 0;

  (void) rank;
  lock_check_order (l, rank);
  if (!atomic_compare_exchange_strong_explicit (
          &l->word, &expected, 1, memory_order_acquire, memory_order_relaxed))
    word_lock_sleep (l);
  lock_note_taken (l, rank);
}

static inline bool
word_lock_try (struct word_lock *l, enum lock_rank rank)
{
  uint32_t expected = 0;

  (void) rank;
  if (!atomic_compare_exchange_strong_explicit (
          &l->word, &expected, 1, memory_order_acquire, memory_order_relaxed))
    return false;
  lock_note_taken (l, rank);
  return true;
}

static inline void
word_lock_drop (struct word_lock *l)
{
  lock_note_dropped (l);
  if (atomic_exchange_explicit (&l->word, 0, memory_order_release) == 2)
    word_lock_wake (l);
}

/* One thread sleeps until another sets the event, once. */
struct event {
  _Atomic uint32_t set;
};

/* Waits until it is set; false: the monotonic time DEADLINE (ns) came first.
 */
extern bool event_wait_until (struct event *e, uint64_t deadline);
extern void event_set (struct event *e);

#endif /* WTCACHE_LOCK_H */
