/* SPDX-License-Identifier: BSD-3-Clause */

/* Locks: thin wrappers of pthread mutexes and futexes that check the order in
 * which a thread takes them (see lock.h).  For example, a thread that holds a
 * page's lock (RANK_PAGE) may take a bucket's (RANK_BUCKET); the reverse aborts
 * in builds with assertions.
 *
 * A mutex operation that fails is a bug of ours, never a state to recover
 * from, so it aborts.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/util.h"

#ifdef WTCACHE_ASSERTIONS

/* The locks this thread holds, in the order taken. */
#define MAX_HELD 16
static __thread struct {
  const void *which;
  enum lock_rank rank;
} held[MAX_HELD];
static __thread unsigned nr_held;

void
lock_check_order (const void *which, enum lock_rank rank)
{
  unsigned i;

  for (i = 0; i < nr_held; ++i)
    if (held[i].which == which || held[i].rank >= rank) {
      fprintf (stderr, "wtcache: lock of rank %d taken under rank %d\n",
               (int) rank, (int) held[i].rank);
      abort ();
    }
}

void
lock_note_taken (const void *which, enum lock_rank rank)
{
  assert (nr_held < MAX_HELD);
  held[nr_held].which = which;
  held[nr_held++].rank = rank;
}

void
lock_note_dropped (const void *which)
{
  unsigned i = nr_held;

  while (i > 0 && held[i - 1].which != which)
    i--;
  assert (i > 0);
  for (; i < nr_held; ++i)
    held[i - 1] = held[i];
  nr_held--;
}

bool
lock_is_held (const void *which)
{
  unsigned i;

  for (i = 0; i < nr_held; ++i)
    if (held[i].which == which)
      return true;
  return false;
}

void
lock_check_none_held (void)
{
  assert (nr_held == 0);
}

#endif /* WTCACHE_ASSERTIONS */

static void
must (int err)
{
  if (err != 0)
    abort ();
}

void
lock_init (struct lock *l, enum lock_rank rank)
{
  must (pthread_mutex_init (&l->mutex, NULL));
  l->rank = rank;
}

void
lock_destroy (struct lock *l)
{
  must (pthread_mutex_destroy (&l->mutex));
}

void
lock_take (struct lock *l)
{
  lock_check_order (l, l->rank);
  must (pthread_mutex_lock (&l->mutex));
  lock_note_taken (l, l->rank);
}

void
lock_drop (struct lock *l)
{
  lock_note_dropped (l);
  must (pthread_mutex_unlock (&l->mutex));
}

void
condition_init (struct condition *c)
{
  pthread_condattr_t attr;

  must (pthread_condattr_init (&attr));
  must (pthread_condattr_setclock (&attr, CLOCK_MONOTONIC));
  must (pthread_cond_init (&c->cond, &attr));
  must (pthread_condattr_destroy (&attr));
}

void
condition_destroy (struct condition *c)
{
  must (pthread_cond_destroy (&c->cond));
}

void
condition_wait (struct condition *c, struct lock *l)
{
  lock_note_dropped (l);
  must (pthread_cond_wait (&c->cond, &l->mutex));
  lock_note_taken (l, l->rank);
}

bool
condition_wait_until (struct condition *c, struct lock *l, uint64_t deadline)
{
  const struct timespec ts = {
    .tv_sec = deadline / 1000000000,
    .tv_nsec = deadline % 1000000000,
  };
  int err;

  lock_note_dropped (l);
  err = pthread_cond_timedwait (&c->cond, &l->mutex, &ts);
  lock_note_taken (l, l->rank);
  if (err != ETIMEDOUT)
    must (err);
  return err == 0;
}

void
condition_wake_one (struct condition *c)
{
  must (pthread_cond_signal (&c->cond));
}

void
condition_wake_all (struct condition *c)
{
  must (pthread_cond_broadcast (&c->cond));
}

/* The time as the kernel takes it, which is not that of the C library where
 * time_t is larger than a long.  Some 32-bit systems have only the call with
 * a 64-bit time.
 */
#ifdef SYS_futex
struct futex_time {
  long sec, nsec;
};
#define FUTEX_SEC_MAX LONG_MAX
#else
#define SYS_futex     SYS_futex_time64
struct futex_time {
  int64_t sec, nsec;
};
#define FUTEX_SEC_MAX INT64_MAX
#endif

static void
futex_wait (_Atomic uint32_t *word, uint32_t expected)
{
  /* Returns early when the word differs or a signal comes; callers loop. */
  syscall (SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void
futex_wait_until (_Atomic uint32_t *word, uint32_t expected, uint64_t deadline)
{
  const struct futex_time ts = {
    .sec = min_u64 (deadline / 1000000000, FUTEX_SEC_MAX),
    .nsec = deadline % 1000000000,
  };

  /* Unlike FUTEX_WAIT this takes an absolute time. */
  syscall (SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, &ts, NULL,
           FUTEX_BITSET_MATCH_ANY);
}

static void
futex_wake (_Atomic uint32_t *word)
{
  syscall (SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* The lock was taken: spin for about as long as a short copy lasts, then
 * sleep.  Leaving 2 in the word makes the dropper wake us.
 */
void
word_lock_sleep (struct word_lock *l)
{
  uint32_t expected;
  int i;

  for (i = 0; i < 64; ++i) {
    expected = 0;
    if (atomic_compare_exchange_weak_explicit (
            &l->word, &expected, 1, memory_order_acquire, memory_order_relaxed))
      return;
  }
  while (atomic_exchange_explicit (&l->word, 2, memory_order_acquire) != 0)
    futex_wait (&l->word, 2);
}

void
word_lock_wake (struct word_lock *l)
{
  futex_wake (&l->word);
}

/* Acquire pairs with the release in event_set: what the setter wrote before
 * is seen after the wait.
 */
bool
event_wait_until (struct event *e, uint64_t deadline)
{
  while (atomic_load_explicit (&e->set, memory_order_acquire) == 0) {
    if (now_ns () >= deadline)
      return false;
    futex_wait_until (&e->set, 0, deadline);
  }
  atomic_store_explicit (&e->set, 0, memory_order_relaxed);
  return true;
}

/* The waiter may be gone as soon as the word is set: only the address is passed
 * to the kernel after that, which a wake-up does not dereference in a harmful
 * way (at worst an unrelated thread wakes without cause, and loops).
 */
void
event_set (struct event *e)
{
  atomic_store_explicit (&e->set, 1, memory_order_release);
  futex_wake (&e->set);
}
