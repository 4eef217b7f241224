/* SPDX-License-Identifier: BSD-3-Clause */

/* The filter's threads, in place of its workers.c: they can be stopped and
 * started again as often as there are inputs, and there are two kinds.
 *
 * With threads, each task has one of its own.  Without, a task runs in one too,
 * because it may not hold its caller's locks, but its caller waits for it; so
 * the order of everything is given.  A request that only tries to find a
 * thread finds none then: it would wait for a task that waits for it.
 */

#include <config.h>

#include <pthread.h>
#include <stdatomic.h>

#include "base/workers.h"
#include "host.h"
#include "unit.h"

/* As if there were no more. */
#define MAX_RUNNING 24

static bool own_threads;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* Guarded by lock. */
  unsigned running;
  bool started;
} w = { .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER };

void
host_use_threads (bool threads)
{
  own_threads = threads;
}

bool
host_uses_threads (void)
{
  return own_threads;
}

static void *
run (void *arg)
{
  struct task *t = arg;

  t->run (t);
  pthread_mutex_lock (&w.lock);
  w.running--;
  pthread_cond_broadcast (&w.changed);
  pthread_mutex_unlock (&w.lock);
  return NULL;
}

static bool
hand_over (struct task *t, bool must_run)
{
  pthread_t thread;
  bool room;

  pthread_mutex_lock (&w.lock);
  while (must_run && w.started && own_threads && w.running >= MAX_RUNNING)
    pthread_cond_wait (&w.changed, &w.lock);
  room = w.started && w.running < MAX_RUNNING;
  w.running += room;
  pthread_mutex_unlock (&w.lock);
  if (!room)
    return false;
  must (pthread_create (&thread, NULL, run, t) == 0);
  if (own_threads)
    must (pthread_detach (thread) == 0);
  else
    must (pthread_join (thread, NULL) == 0);
  return true;
}

void
workers_start (unsigned shared)
{
  (void) shared;
  pthread_mutex_lock (&w.lock);
  w.started = true;
  pthread_mutex_unlock (&w.lock);
}

void
workers_stop (void)
{
  pthread_mutex_lock (&w.lock);
  w.started = false;
  while (w.running > 0)
    pthread_cond_wait (&w.changed, &w.lock);
  pthread_mutex_unlock (&w.lock);
}

bool
workers_are_there (void)
{
  return true; /* of the test's own, or none, which makes no difference */
}

bool
workers_reserve (unsigned crew)
{
  (void) crew;
  return true;
}

void
workers_release (unsigned crew)
{
  (void) crew;
}

uint64_t
workers_cost (void)
{
  return 64 * 1024;
}

void
workers_run (unsigned crew, struct task *t)
{
  (void) crew;
  if (!hand_over (t, true))
    t->run (t);
}

bool
workers_try (unsigned crew, struct task *t, enum urgency urgency)
{
  (void) crew;
  (void) urgency;
  return own_threads && hand_over (t, false);
}
