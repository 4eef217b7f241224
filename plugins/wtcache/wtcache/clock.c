/* SPDX-License-Identifier: BSD-3-Clause */

/* The clock: a thread of ours that begins what is due by time.
 *
 * Ten times a second it starts write-back of old data, and logs what fails
 * again and again; every two seconds it has the statistics written.  It also
 * learns that the server was told to stop: nbdkit reports that to filters only
 * by ending a sleep in nbdkit_nanosleep.  A server that ends without a signal
 * ("nbdkit -s", after its one connection) tells it in .cleanup.  Then it begins
 * the drain and watches its end (ending.c), until the server has ended: no call
 * to the backend and no file can hold it up.
 */

#include <config.h>

#include <pthread.h>

#include <nbdkit-filter.h>

#include "base/thread.h"
#include "export.h"
#include "wtcache/clock.h"
#include "wtcache/ending.h"
#include "wtcache/failures.h"
#include "wtcache/statsfile.h"
#include "wtcache/warmfile.h"

#define TICK_MS     100
#define STATS_TICKS 20 /* the statistics are written every so many ticks */

static pthread_t clock_thread;
static bool clock_runs; /* main thread only */
/* The server ends, with or without a signal.  Relaxed: polled. */
static _Atomic bool server_ends;
static struct event drain_begun, clock_end;

static void
tick (unsigned *ticks)
{
  failures_tick ();
  if (++*ticks % STATS_TICKS == 0)
    statsfile_renew ();
}

/* Sleeps for a tick; false: it is time to end. */
static bool
sleep_in_ending (void)
{
  return !event_wait_until (&clock_end,
                            now_ns () + TICK_MS * UINT64_C (1000000));
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
    warmfile_tick ();
    tick (&ticks);
    told_to_stop = nbdkit_nanosleep (0, TICK_MS * 1000000) != 0;
  }
  ending_begin (told_to_stop);
  event_set (&drain_begun);
  while (sleep_in_ending ()) {
    ending_tick ();
    tick (&ticks);
  }
  return arg;
}

int
clock_start (void)
{
  int err;

  atomic_store_explicit (&server_ends, false, memory_order_relaxed);
  atomic_init (&drain_begun.set, 0);
  atomic_init (&clock_end.set, 0);
  err = thread_begin_own (&clock_thread, run_clock, NULL);
  clock_runs = err == 0;
  return err;
}

void
clock_begin_ending (void)
{
  if (!clock_runs)
    return;
  atomic_store_explicit (&server_ends, true, memory_order_relaxed);
  event_wait_until (&drain_begun, UINT64_MAX);
}

void
clock_stop (void)
{
  if (!clock_runs)
    return;
  clock_runs = false;
  event_set (&clock_end);
  pthread_join (clock_thread, NULL);
}
