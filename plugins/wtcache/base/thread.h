/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of the filter.  See thread.c. */

#ifndef WTCACHE_THREAD_H
#define WTCACHE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* Begins a thread that may call the backend: like one of nbdkit's.  0 or an
 * errno.
 */
extern int thread_begin (pthread_t *thread, void *(*run) (void *), void *arg);
/* Begins a thread that does not: its stack is small, and it takes no signal. */
extern int thread_begin_own (pthread_t *thread, void *(*run) (void *),
                             void *arg);

/* How many threads that call the backend there may be, if MAX are wanted. */
extern unsigned thread_limit (unsigned max);

/* Whether the process has all its memory locked, so that the system populates
 * new mappings at once (mlockall).
 */
extern bool thread_memory_is_locked (void);

#endif /* WTCACHE_THREAD_H */
