/* SPDX-License-Identifier: BSD-3-Clause */

/* The pool of threads.  See workers.c. */

#ifndef WTCACHE_WORKERS_H
#define WTCACHE_WORKERS_H

#include <stdbool.h>

struct task {
  void (*run) (struct task *t); /* the task may be freed in it */
  struct task *next;
};

/* Allows at most MOST threads, which are started as needed.  Before this, and
 * with MOST 0, there is none and tasks run in their callers.
 */
extern void workers_start (unsigned most);
/* Waits until every task has ended, and ends the threads. */
extern void workers_stop (void);

/* Whether there are threads at all. */
extern bool workers_are_there (void);

/* Runs a task: in a thread as soon as one is free, in the caller if there are
 * none at all.
 */
extern void workers_run (struct task *t);

/* Runs a task at once in a thread that is free or can be started.  Returns
 * false, and does nothing, if there is none.
 */
extern bool workers_try (struct task *t);

#endif /* WTCACHE_WORKERS_H */
