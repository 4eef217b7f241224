/* SPDX-License-Identifier: BSD-3-Clause */

/* Time as the filter sees it: it passes when the backend works, when a thread
 * sleeps, and a little with each look at it.  So a run depends on its bytes
 * alone, and a minute costs nothing.
 *
 * The linker leads the calls of these functions here (--wrap).
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "host.h"

#define LOOK_NS 1000
#define WAIT_NS 100000
#define TURN_NS 50000 /* in which other threads get a turn, really */

extern int __wrap_clock_gettime (clockid_t which, struct timespec *ts);
extern int __real_nanosleep (const struct timespec *ts, struct timespec *rest);
extern int __wrap_nanosleep (const struct timespec *ts, struct timespec *rest);
extern bool __wrap_event_wait_until (struct event *e, uint64_t deadline);
extern int __wrap_pthread_cond_timedwait (pthread_cond_t *cond,
                                          pthread_mutex_t *mutex,
                                          const struct timespec *until);

/* Relaxed: a time orders nothing. */
static _Atomic uint64_t now = UINT64_C (1000000000000);

static uint64_t
pass (uint64_t ns)
{
  return atomic_fetch_add_explicit (&now, ns, memory_order_relaxed) + ns;
}

void
clock_advance (uint64_t ns)
{
  pass (ns);
}

/* Before time passes for a thread that waits.  Where tasks have threads of
 * their own, these must get on meanwhile, on a busy machine too: a yield alone
 * does not see to that, and a drain of 300 ms is over before its helper has
 * run.
 */
static void
give_way (void)
{
  const struct timespec turn = { .tv_nsec = TURN_NS };

  if (host_uses_threads ())
    __real_nanosleep (&turn, NULL);
  else
    sched_yield ();
}

static uint64_t
ns_of (const struct timespec *ts)
{
  return (uint64_t) ts->tv_sec * 1000000000 + ts->tv_nsec;
}

int
__wrap_clock_gettime (clockid_t which, struct timespec *ts)
{
  const uint64_t ns = pass (LOOK_NS);

  (void) which;
  ts->tv_sec = ns / 1000000000;
  ts->tv_nsec = ns % 1000000000;
  return 0;
}

int
__wrap_nanosleep (const struct timespec *ts, struct timespec *rest)
{
  (void) rest;
  give_way ();
  pass (ns_of (ts));
  return 0;
}

/* Wakes without cause, as it may, until the time has come. */
int
__wrap_pthread_cond_timedwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                               const struct timespec *until)
{
  (void) cond;
  pthread_mutex_unlock (mutex);
  give_way ();
  pthread_mutex_lock (mutex);
  return pass (WAIT_NS) < ns_of (until) ? 0 : ETIMEDOUT;
}

/* The kernel, which is asked otherwise, knows another time. */
bool
__wrap_event_wait_until (struct event *e, uint64_t deadline)
{
  while (atomic_load_explicit (&e->set, memory_order_acquire) == 0) {
    give_way ();
    if (pass (WAIT_NS) >= deadline)
      return false;
  }
  atomic_store_explicit (&e->set, 0, memory_order_relaxed);
  return true;
}
