/* SPDX-License-Identifier: BSD-3-Clause */

/* The uses of pages that threads report to the curve.  See rings.c. */

#ifndef WTCACHE_RINGS_H
#define WTCACHE_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum curve_use {
  CURVE_HIT,  /* a read of cached bytes */
  CURVE_MISS, /* and of bytes that were not */
  CURVE_WRITE
};

#define RING_SLOTS 128
struct ring;

struct rings {
  struct ring *first;
  uint32_t mask; /* one less than there are */
};

/* For a cache of so many pages.  -1: there is no memory. */
extern int rings_init (struct rings *rings, size_t pages);
extern void rings_destroy (struct rings *rings);
/* Bytes that they have. */
extern size_t rings_memory (const struct rings *rings);

/* The calling thread used a page with this hash.  If WINDOW uses ago or later
 * it did so already, that is only counted.  Takes no lock.  Returns how many
 * uses the thread's ring has, or 0 if this one did not go into it.
 */
extern uint32_t rings_note (struct rings *rings, uint64_t key, uint64_t h,
                            enum curve_use use, uint32_t window);

/* Hands what is in the rings now to USE, and returns how many rings had some.
 * One caller at a time.
 */
typedef void rings_use (void *opaque, uint64_t key, bool write);
extern unsigned rings_take (struct rings *rings, rings_use *use, void *opaque);

/* Pages that were read, of these those that were missing, and uses that found
 * a ring full, since the beginning.
 */
struct ring_counts {
  uint64_t reads, misses, dropped;
};

extern struct ring_counts rings_counts (const struct rings *rings);

#endif /* WTCACHE_RINGS_H */
