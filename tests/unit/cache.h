/* SPDX-License-Identifier: BSD-3-Clause */

/* Steps from one state of blocks to another: for example, cache_write and then
 * cache_gather make a block dirty and put it in flight.  A range lies in one
 * page; its bytes have one value.
 */

#ifndef CACHE_H
#define CACHE_H

#include "unit.h"

#define CACHE_MEMORY (40 * MiB)

#define GEOMETRIES 7
extern const struct geometry {
  uint32_t page, block;
} geometries[GEOMETRIES];

/* A cache in each geometry; its export has 8 pages. */
#define FOR_EACH_GEOMETRY(c)                                                   \
  for (size_t geometry = 0; geometry < GEOMETRIES; ++geometry)                 \
    for (struct cache *c =                                                     \
             cache_new (CACHE_MEMORY, geometries[geometry].page,               \
                        geometries[geometry].block,                            \
                        8 * (uint64_t) geometries[geometry].page);             \
         c; cache_free (c), c = NULL)

/* Pages of 4096 bytes, blocks of 512. */
extern struct cache *cache_small (void);
extern uint64_t cache_block (const struct cache *c);

/* LEN bytes of one value, for free. */
extern uint8_t *same_bytes (uint64_t len, int value);

extern struct page *cache_pin (struct cache *c, uint64_t offset);
/* Fills what is missing. */
extern void cache_fill (struct cache *c, uint64_t offset, uint64_t len,
                        int value);
/* Ordinary writes: as page_write returns, and one that must succeed. */
extern int cache_try_write (struct cache *c, uint64_t offset, uint64_t len,
                            int value);
extern void cache_write (struct cache *c, uint64_t offset, uint64_t len,
                         int value);
/* Claims and writes, as a writethrough does; whether it took a mark. */
extern int cache_try_claim (struct cache *c, uint64_t offset, uint64_t len);
extern bool cache_write_claimed (struct cache *c, uint64_t offset, uint64_t len,
                                 int value);
extern void cache_end_write (struct cache *c, uint64_t offset, uint64_t len,
                             enum outcome outcome);
extern void cache_make_unstable (struct cache *c, uint64_t offset, uint64_t len,
                                 int value);
/* Gathers a run from a block on into TO, as a flush does. */
extern struct span cache_gather (struct cache *c, uint64_t offset, void *to,
                                 bool *busy);

/* The value of all bytes of a part; -1: it is not cached. */
extern int cache_value (struct cache *c, uint64_t offset, uint64_t len);
extern void cache_assert_amounts (struct cache *c, int64_t dirty,
                                  int64_t writeback, int64_t unstable,
                                  int64_t held);

#endif /* CACHE_H */
