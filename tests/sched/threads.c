/* SPDX-License-Identifier: BSD-3-Clause */

/* The filter's locks, threads and clock, over the scheduler: the functions of
 * base/lock.h and base/thread.h, and what the linker leads here (--wrap).
 *
 * A lock is one word: 0 free, 1 taken, 2 taken and a thread may wait.  Taking
 * it is a point.  A thread that finds it taken waits, and tries again when it
 * is dropped, as others do.  The order of locks is checked as in base/lock.c.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/thread.h"
#include "sched.h"

extern int __wrap_clock_gettime (clockid_t which, struct timespec *ts);
extern int __wrap_nanosleep (const struct timespec *ts, struct timespec *rest);
extern int __wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                                  void *(*run) (void *), void *arg);
extern int __wrap_pthread_join (pthread_t thread, void **result);
extern pthread_t __wrap_pthread_self (void);

/* ---- the order of locks ---- */

static _Noreturn void
wrong (const char *what, int rank)
{
  char why[100];

  snprintf (why, sizeof why, "%s (rank %d)", what, rank);
  fprintf (stderr, "locks: %s\n", why);
  abort ();
}

/* Each take of a lock begins with this. */
void
lock_check_order (const void *which, enum lock_rank rank)
{
  struct held_locks *h = sched_held ();
  unsigned i;

  for (i = 0; i < h->n; ++i)
    if (h->which[i] == which || h->rank[i] >= (int) rank)
      wrong ("a lock is taken under one of its own rank or a higher one", rank);
  sched_point ();
}

void
lock_note_taken (const void *which, enum lock_rank rank)
{
  struct held_locks *h = sched_held ();

  if (h->n == HELD_MAX)
    wrong ("too many locks are held", rank);
  h->which[h->n] = which;
  h->rank[h->n++] = rank;
}

void
lock_note_dropped (const void *which)
{
  struct held_locks *h = sched_held ();
  unsigned i = h->n;

  while (i > 0 && h->which[i - 1] != which)
    i--;
  if (i == 0)
    wrong ("a lock is dropped that is not held", 0);
  for (; i < h->n; ++i) {
    h->which[i - 1] = h->which[i];
    h->rank[i - 1] = h->rank[i];
  }
  h->n--;
}

bool
lock_is_held (const void *which)
{
  struct held_locks *h = sched_held ();
  unsigned i;

  for (i = 0; i < h->n; ++i)
    if (h->which[i] == which)
      return true;
  return false;
}

void
lock_check_none_held (void)
{
  if (sched_held ()->n != 0)
    wrong ("a lock is held here", sched_held ()->rank[0]);
}

/* ---- locks and conditions ---- */

static int *
word_of (struct lock *l)
{
  return (int *) &l->mutex;
}

void
lock_init (struct lock *l, enum lock_rank rank)
{
  memset (&l->mutex, 0, sizeof l->mutex);
  l->rank = rank;
}

void
lock_destroy (struct lock *l)
{
  if (*word_of (l) != 0)
    wrong ("a lock ends while it is held", l->rank);
}

static void
take (struct lock *l)
{
  int word = 1;

  while (*word_of (l) != 0) {
    *word_of (l) = word = 2;
    sched_wait (l, "a lock", NEVER_NS);
  }
  *word_of (l) = word;
  lock_note_taken (l, l->rank);
}

static void
drop (struct lock *l)
{
  const int word = *word_of (l);

  lock_note_dropped (l);
  *word_of (l) = 0;
  if (word == 2)
    sched_wake (l);
}

void
lock_take (struct lock *l)
{
  lock_check_order (l, l->rank);
  take (l);
}

void
lock_drop (struct lock *l)
{
  drop (l);
}

void
condition_init (struct condition *c)
{
  memset (c, 0, sizeof *c);
}

void
condition_destroy (struct condition *c)
{
  (void) c;
}

bool
condition_wait_until (struct condition *c, struct lock *l, uint64_t deadline)
{
  bool woken;

  drop (l);
  woken = sched_wait (c, "a condition", deadline);
  take (l);
  return woken;
}

void
condition_wait (struct condition *c, struct lock *l)
{
  condition_wait_until (c, l, NEVER_NS);
}

void
condition_wake_one (struct condition *c)
{
  sched_wake_one (c);
}

void
condition_wake_all (struct condition *c)
{
  sched_wake (c);
}

void
word_lock_sleep (struct word_lock *l)
{
  while (__atomic_exchange_n ((uint32_t *) &l->word, 2, __ATOMIC_RELAXED) != 0)
    sched_wait (l, "a page's lock", NEVER_NS);
}

void
word_lock_wake (struct word_lock *l)
{
  sched_wake_one (l);
}

bool
event_wait_until (struct event *e, uint64_t deadline)
{
  uint32_t *set = (uint32_t *) &e->set;

  sched_point ();
  while (*set == 0)
    if (!sched_wait (e, "an event", deadline) && *set == 0)
      return false;
  *set = 0;
  return true;
}

void
event_set (struct event *e)
{
  *(uint32_t *) &e->set = 1;
  sched_wake (e);
}

/* ---- threads and time ---- */

int
__wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                       void *(*run) (void *), void *arg)
{
  static unsigned n;
  char name[24];

  (void) attr;
  snprintf (name, sizeof name, "helper %u", n++);
  *thread = (pthread_t) sched_begin (name, run, arg);
  sched_point ();
  return 0;
}

int
__wrap_pthread_join (pthread_t thread, void **result)
{
  void *r = sched_join ((struct fibre *) thread);

  if (result)
    *result = r;
  return 0;
}

pthread_t
__wrap_pthread_self (void)
{
  return (pthread_t) sched_self ();
}

int
thread_begin (pthread_t *thread, void *(*run) (void *), void *arg)
{
  return __wrap_pthread_create (thread, NULL, run, arg);
}

int
thread_begin_own (pthread_t *thread, void *(*run) (void *), void *arg)
{
  return __wrap_pthread_create (thread, NULL, run, arg);
}

bool
thread_memory_is_locked (void)
{
  return false;
}

unsigned
thread_limit (unsigned max)
{
  return max;
}

int
__wrap_clock_gettime (clockid_t which, struct timespec *ts)
{
  const uint64_t ns = sched_now ();

  (void) which;
  ts->tv_sec = ns / 1000000000;
  ts->tv_nsec = ns % 1000000000;
  return 0;
}

int
__wrap_nanosleep (const struct timespec *ts, struct timespec *rest)
{
  (void) rest;
  sched_sleep ((uint64_t) ts->tv_sec * 1000000000 + ts->tv_nsec);
  return 0;
}
