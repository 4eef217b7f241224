/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of which one runs at a time, in an order that a seed draws, and time
 * that passes only when all of them wait.  See sched.c.
 */

#ifndef SCHED_H
#define SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER_NS UINT64_MAX

/* How the next thread is chosen. */
enum policy {
  POLICY_UNIFORM, /* all that can run are alike */
  POLICY_PRIORITY /* each has a rank; at a few points one falls to the last */
};

struct sched_options {
  uint64_t seed;
  enum policy policy;
  unsigned run;           /* points between two interruptions, in the mean */
  unsigned stalls;        /* percent of interruptions that put it to sleep */
  uint64_t stall_ns;      /* … for at most so long */
  uint64_t step_ns;       /* what a point takes */
  uint64_t interruptions; /* at most */
  bool atomics;           /* each atomic access is a point */
  /* Called with a text when no thread can run and none waits for a time, or
   * when they run on while no time passes.  Does not return.
   */
  void (*stuck) (const char *why);
};

struct fibre;

/* Runs MAIN and all threads that it begins; returns when MAIN does. */
extern void sched_run (const struct sched_options *o, void (*main) (void *),
                       void *arg);

extern struct fibre *sched_begin (const char *name, void *(*run) (void *),
                                  void *arg);
extern void *sched_join (struct fibre *f);
extern struct fibre *sched_self (void);
extern const char *sched_name (void);

/* Another thread may run here. */
extern void sched_point (void);

/* Waits for a wake-up on an object, or for a time: then false. */
extern bool sched_wait (const void *on, const char *what, uint64_t until);
extern void sched_wake (const void *on);     /* all */
extern void sched_wake_one (const void *on); /* any */
extern void sched_sleep (uint64_t ns);
extern uint64_t sched_now (void);

/* The waits of all threads, as text. */
extern void sched_describe (char *text, size_t size);
/* Of the schedule so far: equal for equal ones. */
extern uint64_t sched_digest (void);
extern uint64_t sched_interruptions (void);

/* The locks that a thread holds, for lock.c. */
#define HELD_MAX 16
struct held_locks {
  unsigned n;
  const void *which[HELD_MAX];
  int rank[HELD_MAX];
};
extern struct held_locks *sched_held (void);

#endif /* SCHED_H */
