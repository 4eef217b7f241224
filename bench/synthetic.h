/* SPDX-License-Identifier: BSD-3-Clause */

/* Made loads on which an eviction policy can go wrong.  See synthetic.c. */

#ifndef WTCACHE_BENCH_SYNTHETIC_H
#define WTCACHE_BENCH_SYNTHETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Calls PUT (OPAQUE, PAGE) for each of COUNT accesses of the load NAME, the
 * same ones each time.  Returns how many times the load changes; -1: there is
 * no such load.
 */
extern int synthetic_load (const char *name, size_t count,
                           void (*put) (void *, uint64_t), void *opaque);

#endif /* WTCACHE_BENCH_SYNTHETIC_H */
