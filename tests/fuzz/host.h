/* SPDX-License-Identifier: BSD-3-Clause */

/* As much of nbdkit as the filter sees.  See host.c, clock.c, workers.c. */

#ifndef HOST_H
#define HOST_H

#include <nbdkit-filter.h>

#include "array.h"

/* The filter's entry, as nbdkit finds it. */
extern struct nbdkit_filter *filter_init (void);

/* A plugin's disk. */
struct host_disk {
  struct array *array;
  struct backend_traits says; /* what the layer below the filter tells */
};

/* The part of a connection below the filter. */
struct host_next {
  nbdkit_next next; /* first: the filter has a pointer to this */
  struct backend backend;
  struct host_disk *disk;
  struct backend_traits says; /* at first what the disk says */
  bool readonly;
};

extern void host_connect (struct host_next *n, struct host_disk *disk,
                          bool readonly);

/* The open of the layer below, which does nothing. */
extern int host_next_open (nbdkit_context *context, int readonly,
                           const char *exportname);

/* Messages that the filter logged as errors, so far. */
extern unsigned host_errors (void);

/* Begins to run the clock of the filter, step by step. */
extern void host_clock_start (void);
/* The filter's clock ticks once. */
extern void host_tick (void);
/* The server is told to stop: the filter's clock ends. */
extern void host_stop (void);

/* Advances the time of all threads; it stands still otherwise. */
extern void clock_advance (uint64_t ns);

/* Tasks have threads of their own, or the caller that begins a task waits until
 * it has ended.
 */
extern void host_use_threads (bool threads);
extern bool host_uses_threads (void);

#endif /* HOST_H */
