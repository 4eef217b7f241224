/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads for work that no client waits for, and for parts of a request that
 * can run in parallel.
 *
 * A backend that hangs keeps the threads that called it.  So each export has a
 * crew:
 *
 *     its own    two threads, for what is needed: write-back and drain
 *     shared     all others, by the rule of base/share.h
 *
 * For example, 39 exports hang and have all shared threads that they may.  The
 * last one is still written back in one of its own threads, and drained in the
 * other; its clients' threads read what is missing.
 *
 * A crew's own threads are begun when they are reserved, because the system may
 * have none later.  A shared one is begun when a task finds none free.  A
 * request never waits for a thread: it tries, and does the work itself if it
 * gets none.  Threads are alike, so what is reserved is a number: as many
 * threads as crews have of their own never run a task that shares.
 *
 * May not know what a task does.
 */

#include <config.h>

#include <pthread.h>
#include <stddef.h>

#include "base/lock.h"
#include "base/thread.h"
#include "base/util.h"
#include "base/workers.h"

#define OWN_WORKERS 2
#define MAX_SHARED  96
#define MAX_WORKERS (MAX_SHARED + 1000 * OWN_WORKERS)

/* The bytes of a stack that are touched by what the filter runs on it. */
#define STACK_BYTES (24 * KiB)

struct crew {
  uint16_t own;    /* its own threads that run a task, or are about to */
  uint16_t shared; /* the same of the others */
  bool reserved;
};

enum thread_state { THREAD_NONE, THREAD_RUNS, THREAD_ENDED };

struct tasks {
  struct task *first, **last;
};

static struct {
  struct lock lock; /* RANK_WORKERS */
  struct condition changed;

  /* Guarded by lock. */
  unsigned max;      /* threads; 0: none may be begun */
  unsigned shared;   /* of them */
  unsigned reserved; /* own threads of crews, those that still run included */
  unsigned begun;    /* threads that run */
  unsigned admitted; /* tasks that run, or that a thread is about to run … */
  unsigned sharing;  /* … of these, those in shared threads */
  bool stopping;
  struct tasks ready; /* admitted */
  struct tasks later; /* these wait until their crew may have a thread */
  struct {
    pthread_t thread;
    enum thread_state state;
  } threads[MAX_WORKERS];
  struct crew crews[MAX_CREWS];
} w = {
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_WORKERS },
};

static void *worker (void *arg);

static void
add_task (struct tasks *l, struct task *t)
{
  assert_held (&w.lock);
  t->next = NULL;
  *l->last = t;
  l->last = &t->next;
}

static struct task *
take_first (struct tasks *l)
{
  struct task *t = l->first;

  assert_held (&w.lock);
  if (t && (l->first = t->next) == NULL)
    l->last = &l->first;
  return t;
}

/* One more thread, if there may be one and the system has one. */
static bool
add_worker (void)
{
  unsigned i;

  assert_held (&w.lock);
  if (w.begun >= w.max)
    return false;
  for (i = 0; w.threads[i].state == THREAD_RUNS; ++i)
    ;
  if (w.threads[i].state == THREAD_ENDED) /* it takes no lock any more */
    pthread_join (w.threads[i].thread, NULL);
  w.threads[i].state = THREAD_NONE;
  if (thread_begin (&w.threads[i].thread, worker, &w.threads[i].state) != 0)
    return false;
  w.threads[i].state = THREAD_RUNS;
  w.begun++;
  return true;
}

/* Whether one more thread may run a task that shares. */
static bool
is_one_free (const struct crew *c, unsigned crew, enum urgency urgency)
{
  const unsigned free = w.shared - w.sharing;

  assert_held (&w.lock);
  if (crew == NO_CREW ? free == 0 : !share_allows (c->shared, 1, free, urgency))
    return false;
  return w.sharing + w.reserved < w.begun || add_worker ();
}

/* Finds a thread for a task; a crew's own one if it MAY_OWN that. */
static bool
admit (struct task *t, enum urgency urgency, bool may_own)
{
  struct crew *c = &w.crews[t->crew];

  assert_held (&w.lock);
  t->own = may_own && c->reserved && c->own < OWN_WORKERS;
  if (t->own)
    c->own++;
  else if (is_one_free (c, t->crew, urgency)) {
    c->shared++;
    w.sharing++;
  }
  else
    return false;
  w.admitted++;
  add_task (&w.ready, t);
  condition_wake_one (&w.changed);
  return true;
}

/* Finds threads for tasks that wait, as far as there are any. */
static void
admit_later (void)
{
  struct tasks all = w.later;
  struct task *t;

  assert_held (&w.lock);
  if (all.first == NULL)
    return;
  w.later = (struct tasks){ .last = &w.later.first };
  while ((t = take_first (&all)) != NULL)
    if (!admit (t, URGENCY_NEEDED, true))
      add_task (&w.later, t);
}

/* A task of the crew has ended. */
static void
dismiss (unsigned crew, bool own)
{
  struct crew *c = &w.crews[crew];

  assert_held (&w.lock);
  w.admitted--;
  if (!own) {
    c->shared--;
    w.sharing--;
  }
  else {
    c->own--;
    if (!c->reserved)
      w.reserved--;
  }
}

/* Whether a thread without a task is of no more use. */
static bool
is_surplus (void)
{
  assert_held (&w.lock);
  return w.stopping || w.begun > w.shared + w.reserved;
}

/* NULL: the thread ends. */
static struct task *
next_task (void)
{
  struct task *t;

  assert_held (&w.lock);
  while ((t = take_first (&w.ready)) == NULL && !is_surplus ())
    condition_wait (&w.changed, &w.lock);
  return t;
}

static void *
worker (void *arg)
{
  enum thread_state *state = arg;
  struct task *t;
  unsigned crew;
  bool own;

  lock_take (&w.lock);
  while ((t = next_task ()) != NULL) {
    crew = t->crew;
    own = t->own;
    lock_drop (&w.lock);
    t->run (t);
    lock_take (&w.lock);
    dismiss (crew, own);
    admit_later ();
  }
  *state = THREAD_ENDED;
  w.begun--;
  lock_drop (&w.lock);
  return NULL;
}

/* The first thread is begun here, so that a task that waits is run in the end.
 */
void
workers_start (unsigned shared)
{
  condition_init (&w.changed);
  LOCK_FOR_SCOPE (&w.lock);

  w.max = thread_limit (MAX_WORKERS);
  w.shared = min_u64 (min_u64 (shared, MAX_SHARED), w.max / 2);
  w.ready.last = &w.ready.first;
  w.later.last = &w.later.first;
  w.stopping = false;
  if (w.shared == 0 || !add_worker ())
    w.max = 0;
}

void
workers_stop (void)
{
  bool begun[MAX_WORKERS];
  unsigned i;

  lock_take (&w.lock);
  w.stopping = true;
  if (w.max > 0)
    condition_wake_all (&w.changed);
  w.max = 0;
  for (i = 0; i < MAX_WORKERS; ++i)
    begun[i] = w.threads[i].state != THREAD_NONE;
  lock_drop (&w.lock);

  /* No thread begins another: most is 0. */
  for (i = 0; i < MAX_WORKERS; ++i)
    if (begun[i]) {
      pthread_join (w.threads[i].thread, NULL);
      w.threads[i].state = THREAD_NONE;
    }
}

bool
workers_are_there (void)
{
  LOCK_FOR_SCOPE (&w.lock);

  return w.max > 0;
}

bool
workers_reserve (unsigned crew)
{
  LOCK_FOR_SCOPE (&w.lock);
  struct crew *c = &w.crews[crew];
  const unsigned more = OWN_WORKERS - c->own;

  /* One thread is left to share. */
  if (w.shared + w.reserved + more > w.max)
    return false;
  while (w.begun < w.sharing + w.reserved + more + (w.sharing == 0))
    if (!add_worker ())
      return false;
  w.reserved += more;
  c->reserved = true;
  admit_later ();
  return true;
}

void
workers_release (unsigned crew)
{
  LOCK_FOR_SCOPE (&w.lock);
  struct crew *c = &w.crews[crew];

  c->reserved = false;
  w.reserved -= OWN_WORKERS - c->own;
  condition_wake_all (&w.changed); /* some are surplus now */
}

uint64_t
workers_cost (void)
{
  return OWN_WORKERS * STACK_BYTES;
}

void
workers_run (unsigned crew, struct task *t)
{
  lock_take (&w.lock);
  if (w.max > 0) {
    t->crew = crew;
    if (!admit (t, URGENCY_NEEDED, true))
      add_task (&w.later, t);
    lock_drop (&w.lock);
    return;
  }
  lock_drop (&w.lock);
  t->run (t);
}

bool
workers_try (unsigned crew, struct task *t, enum urgency urgency)
{
  LOCK_FOR_SCOPE (&w.lock);

  t->crew = crew;
  return w.max > 0 && admit (t, urgency, urgency == URGENCY_NEEDED);
}
