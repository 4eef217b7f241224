/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of the filter that may call the backend.  See thread.c. */

#ifndef WTCACHE_THREAD_H
#define WTCACHE_THREAD_H

#include <pthread.h>

/* Begins a thread like one of nbdkit's.  0 or an errno. */
extern int thread_begin (pthread_t *thread, void *(*run) (void *), void *arg);

/* How many threads there may be, if MAX are wanted. */
extern unsigned thread_limit (unsigned max);

#endif /* WTCACHE_THREAD_H */
