/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests, recorded to be replayed.  See trace.c. */

#ifndef WTCACHE_TRACE_H
#define WTCACHE_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pools;

/* The number of users that want each request: a trace, and the log of requests.
 * Relaxed: a request that comes just now may be missed.
 */
extern _Atomic unsigned trace_watchers;

/* A client reads or writes, at least one byte. */
extern void trace_note (const char *export, bool write, uint64_t offset,
                        uint32_t len);

struct trace_result {
  uint64_t recorded; /* requests that are in the file */
  uint64_t missed;   /* that came faster than they could be written down */
};

/* Writes the requests of the exports with this name to FILE, which it makes,
 * for so many seconds or until OVER.  BEGUN is called once it does. 0 or an
 * errno: EBUSY, a trace is being recorded; EEXIST, there is such a file;
 * ETIMEDOUT, the file hangs.
 */
extern int trace_record (struct pools *ps, const char *export, const char *file,
                         unsigned seconds, void (*begun) (void *opaque),
                         bool (*over) (void *opaque), void *opaque,
                         struct trace_result *result);

#endif /* WTCACHE_TRACE_H */
