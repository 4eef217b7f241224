/* SPDX-License-Identifier: BSD-3-Clause */

/* The pool of threads.  See workers.c. */

#ifndef WTCACHE_WORKERS_H
#define WTCACHE_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/share.h"

struct task {
  void (*run) (struct task *t); /* the task may be freed in it */

  /* Guarded by the workers' lock, until it runs. */
  struct task *next;
  unsigned crew;
  bool own; /* in one of the crew's own threads */
};

/* Threads are counted by crews: one for each export that is in use.  A crew is
 * a number below MAX_CREWS; a task that calls no backend has crew NO_CREW.
 */
#define NO_CREW   0
#define MAX_CREWS 8192

/* Allows at most SHARED threads that all crews share, which are started as
 * needed.  Before this, and with SHARED 0, there is none and tasks run in their
 * callers.
 */
extern void workers_start (unsigned shared);
/* Waits until every task has ended, and ends the threads. */
extern void workers_stop (void);

/* Whether there are threads at all. */
extern bool workers_are_there (void);

/* Begins the threads that no other crew gets; false: there may be no more. */
extern bool workers_reserve (unsigned crew);
/* Tasks of the crew may still run. */
extern void workers_release (unsigned crew);
/* The size of the stacks of a crew's own threads, in bytes. */
extern uint64_t workers_cost (void);

/* Runs a task that is needed: in a thread as soon as the crew may have one, in
 * the caller if there are none at all.
 */
extern void workers_run (unsigned crew, struct task *t);

/* Runs a task at once in a thread that is free or can be started.  Returns
 * false, and does nothing, if the crew may not have one.
 */
extern bool workers_try (unsigned crew, struct task *t, enum urgency urgency);

#endif /* WTCACHE_WORKERS_H */
