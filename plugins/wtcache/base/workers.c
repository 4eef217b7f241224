/* SPDX-License-Identifier: BSD-3-Clause */

/* A pool of threads, for work that no client waits for and for parts of a
 * request that can run in parallel.
 *
 * A thread is started when a task finds none free, up to a bound, and then
 * stays.  For example, a miss of three runs hands two of them to threads and
 * reads the third itself.  A backend that hangs keeps the threads that called
 * it; so a request never waits for a thread: it tries, and does the work itself
 * if none is free.
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

#define MAX_WORKERS 128

static struct {
  struct lock lock; /* RANK_WORKERS */
  struct condition changed;

  /* Guarded by lock. */
  unsigned most, begun;
  unsigned idle; /* threads that run no task, those just begun among them */
  bool stopping;
  struct task *first, **last;
  unsigned waiting; /* tasks in the list */
  pthread_t threads[MAX_WORKERS];
} w = {
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_WORKERS },
};

static struct task *
next_task (void)
{
  LOCK_FOR_SCOPE (&w.lock);
  struct task *t;

  while (w.first == NULL && !w.stopping)
    condition_wait (&w.changed, &w.lock);
  t = w.first;
  if (t) {
    w.first = t->next;
    if (w.first == NULL)
      w.last = &w.first;
    w.waiting--;
    w.idle--;
  }
  return t;
}

static void *
worker (void *arg)
{
  struct task *t;

  while ((t = next_task ()) != NULL) {
    t->run (t);
    lock_take (&w.lock);
    w.idle++;
    lock_drop (&w.lock);
  }
  return arg;
}

/* One more thread, if there may be one and the system has one. */
static void
add_worker (void)
{
  assert_held (&w.lock);
  if (w.begun < w.most &&
      thread_begin (&w.threads[w.begun], worker, NULL) == 0) {
    w.begun++;
    w.idle++;
  }
}

/* The first thread is begun here: a task that has to be queued never finds that
 * there is none at all.
 */
void
workers_start (unsigned most)
{
  condition_init (&w.changed);
  LOCK_FOR_SCOPE (&w.lock);

  w.most = thread_limit (min_u64 (most, MAX_WORKERS));
  w.last = &w.first;
  w.stopping = false;
  add_worker ();
  if (w.begun == 0)
    w.most = 0;
}

void
workers_stop (void)
{
  unsigned i, begun;

  lock_take (&w.lock);
  begun = w.begun;
  w.stopping = true;
  if (w.most > 0)
    condition_wake_all (&w.changed);
  w.most = 0;
  lock_drop (&w.lock);

  /* No thread begins another: most is 0. */
  for (i = 0; i < begun; ++i)
    pthread_join (w.threads[i], NULL);
}

bool
workers_are_there (void)
{
  LOCK_FOR_SCOPE (&w.lock);

  return w.most > 0;
}

/* Hands the task to a thread.  MUST: queues it behind others if need be. */
static bool
hand_over (struct task *t, bool must)
{
  LOCK_FOR_SCOPE (&w.lock);

  if (w.most == 0)
    return false;
  if (w.idle <= w.waiting)
    add_worker ();
  if (!must && w.idle <= w.waiting)
    return false;
  t->next = NULL;
  *w.last = t;
  w.last = &t->next;
  w.waiting++;
  condition_wake_all (&w.changed);
  return true;
}

void
workers_run (struct task *t)
{
  if (!hand_over (t, true))
    t->run (t);
}

bool
workers_try (struct task *t)
{
  return hand_over (t, false);
}
