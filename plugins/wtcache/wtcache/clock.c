/* SPDX-License-Identifier: BSD-3-Clause */

/* The clock: a thread of ours that begins what is due by time.
 *
 * Ten times a second it starts write-back of old data; every two seconds it has
 * the statistics written.  It also learns that the server was told to stop:
 * nbdkit reports that to filters only by ending a sleep in nbdkit_nanosleep.  A
 * server that ends without a signal ("nbdkit -s", after its one connection)
 * tells it in .cleanup.  Then it begins the drain and watches its end
 * (ending.c), until the server has ended: no call to the backend and no file
 * can hold it up.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "export.h"
#include "wtcache/clock.h"
#include "wtcache/ending.h"
#include "wtcache/statsfile.h"

#define TICK_MS     100
#define STATS_TICKS 20 /* the statistics are written every so many ticks */

static pthread_t clock_thread;
static bool clock_runs; /* main thread only */
/* The server ends, with or without a signal.  Relaxed: polled. */
static _Atomic bool server_ends;
static sem_t drain_begun;
static int clock_end[2]; /* a pipe: its end of file ends the thread */

static void
tick (unsigned *ticks)
{
  if (++*ticks % STATS_TICKS == 0)
    statsfile_renew ();
}

/* Sleeps for a tick; false: it is time to end. */
static bool
sleep_in_ending (void)
{
  struct pollfd p = { .fd = clock_end[0], .events = POLLIN };

  return poll (&p, 1, TICK_MS) <= 0;
}

/* Over a serial stack it begins nothing: no thread of ours calls the backend
 * then.
 */
static void *
run_clock (void *arg)
{
  unsigned ticks = 0;
  bool told_to_stop = false;

  while (!told_to_stop &&
         !atomic_load_explicit (&server_ends, memory_order_relaxed)) {
    if (registry.parallel)
      export_for_each (writeback_tick, NULL);
    tick (&ticks);
    told_to_stop = nbdkit_nanosleep (0, TICK_MS * 1000000) != 0;
  }
  ending_begin (told_to_stop);
  sem_post (&drain_begun);
  while (sleep_in_ending ()) {
    ending_tick ();
    tick (&ticks);
  }
  return arg;
}

int
clock_start (void)
{
  sigset_t all, old;
  int err;

  atomic_store_explicit (&server_ends, false, memory_order_relaxed);
  if (sem_init (&drain_begun, 0, 0) != 0 || pipe2 (clock_end, O_CLOEXEC) != 0)
    return errno;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&clock_thread, NULL, run_clock, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  clock_runs = err == 0;
  return err;
}

void
clock_begin_ending (void)
{
  if (!clock_runs)
    return;
  atomic_store_explicit (&server_ends, true, memory_order_relaxed);
  while (sem_wait (&drain_begun) != 0)
    ;
}

void
clock_stop (void)
{
  if (!clock_runs)
    return;
  clock_runs = false;
  close (clock_end[1]);
  pthread_join (clock_thread, NULL);
  close (clock_end[0]);
  sem_destroy (&drain_begun);
}
