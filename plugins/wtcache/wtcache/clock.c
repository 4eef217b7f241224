/* SPDX-License-Identifier: BSD-3-Clause */

/* The clock: a thread of ours that begins what is due by time.
 *
 * Ten times a second it starts write-back of old data; every two seconds it
 * writes the statistics.  It also learns that the server was told to stop, and
 * then starts the drain: nbdkit reports a stop to filters only by ending a
 * sleep in nbdkit_nanosleep.  A server that ends without a signal ("nbdkit -s",
 * after its one connection) ends the clock in .cleanup.
 */

#include <config.h>

#include <pthread.h>
#include <signal.h>

#include <nbdkit-filter.h>

#include "export.h"
#include "wtcache/clock.h"
#include "wtcache/statsfile.h"

#define TICK_NS     100000000
#define STATS_TICKS 20 /* the statistics are written every so many ticks */

static pthread_t clock_thread;
static bool clock_runs; /* main thread only */
/* Ends the clock where no signal does.  Relaxed: polled. */
static _Atomic bool clock_ends;

/* Over a serial stack it only writes the statistics: no thread of ours calls
 * the backend then.
 */
static void *
run_clock (void *arg)
{
  unsigned ticks = 0;

  /* nbdkit_nanosleep fails once the server was told to stop. */
  while (!atomic_load_explicit (&clock_ends, memory_order_relaxed) &&
         nbdkit_nanosleep (0, TICK_NS) == 0) {
    if (registry.parallel)
      export_for_each (writeback_tick, NULL);
    if (++ticks % STATS_TICKS == 0)
      statsfile_renew ();
  }
  /* The server stops: from now on no write stays dirty. */
  atomic_store_explicit (&registry.stopping, true, memory_order_relaxed);
  if (registry.parallel)
    export_for_each (writeback_begin_drain, NULL);
  return arg;
}

int
clock_start (void)
{
  sigset_t all, old;
  int err;

  atomic_store_explicit (&clock_ends, false, memory_order_relaxed);
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&clock_thread, NULL, run_clock, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  clock_runs = err == 0;
  return err;
}

void
clock_stop (void)
{
  atomic_store_explicit (&clock_ends, true, memory_order_relaxed);
  if (clock_runs)
    pthread_join (clock_thread, NULL);
  clock_runs = false;
}
