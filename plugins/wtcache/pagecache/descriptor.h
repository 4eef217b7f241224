/* SPDX-License-Identifier: BSD-3-Clause */

/* The descriptor of a page, and the bitmaps of its blocks' states.
 *
 * There is one descriptor for each frame; it is never freed, only given another
 * identity.  So a pointer to it stays valid for ever.  A thread that found it
 * without a lock takes the page's lock and checks that the key still is the one
 * it wants.
 */

#ifndef WTCACHE_DESCRIPTOR_H
#define WTCACHE_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/lock.h"
#include "pagecache/evict.h"

/* States of a block; each is one bitmap of the page. */
enum block_state {
  UPTODATE,  /* the frame holds what a read must return */
  DIRTY,     /* acknowledged, and newer than anything sent to the backend */
  WRITEBACK, /* one write of it is on its way, or about to be */
  UNSTABLE,  /* the backend took it; no covering flush has succeeded yet */
  PENDING,   /* that write carries nothing that was acknowledged before */
  FILLING,   /* a read is under way, and nothing touched the block since */
  BLOCK_STATES
};

/* One more bitmap, of dirty blocks: they became dirty in pass page.dirtied, all
 * others earlier.  So a flush does not wait for writes that came after it.
 */
#define BLOCK_FRESH ((enum block_state) BLOCK_STATES)
#define BLOCK_MAPS  (BLOCK_STATES + 1)

/* The largest bitmap, bytes: of a page of 1 MiB with 512-byte blocks. */
#define MAX_MAP_BYTES 256

enum page_flag {
  PAGE_FILLING = 1, /* one fill of this page is under way */
  PAGE_WAITERS = 2, /* a thread sleeps until the page changes */
  PAGE_HELD = 4,    /* in the tree of held pages */
  PAGE_INDEXED = 8, /* in its bucket: its identity counts */
  PAGE_LISTED = 16, /* in the list of unstable pages */
};

/* Number 0 is no page. */
typedef uint32_t page_number;

struct page {
  struct word_lock lock; /* RANK_PAGE: identity, states, bytes of the frame */

  /* Next of the bucket, written under the bucket's lock and read without:
   * release pairs with acquire in pool_find.  In a free list: eviction lock.
   */
  _Atomic page_number chain;

  /* evict.key is the identity, 0 none: written under `lock`, by atomic store
   * because pool_find compares it without.  The rest: eviction lock.
   */
  struct evict_entry evict;

  /* Guarded by the held lock of the page's cache. */
  page_number left, right;  /* the tree of held pages */
  page_number older, newer; /* the list of unstable pages */

  /* Guarded by `lock`. */
  uint32_t dirtied;    /* pass in which a block last became dirty */
  uint16_t pins;       /* threads that rely on its identity */
  uint16_t generation; /* flushes begun when a block last became unstable */
  uint8_t flags;       /* enum page_flag */
  uint8_t states[];    /* BLOCK_MAPS bitmaps of pool.map_bytes each */
};

/* With 4 KiB pages of 512-byte blocks a descriptor is one cache line. */
_Static_assert(offsetof (struct page, states) + BLOCK_MAPS <= 64,
               "a page descriptor has grown past a cache line");

/* Blocks FIRST … FIRST + COUNT - 1 of a page. */
struct span {
  uint32_t first, count;
};

static inline uint64_t
page_key (const struct page *p)
{
  return __atomic_load_n (&p->evict.key, __ATOMIC_RELAXED);
}

/* The bits of byte I of a bitmap that belong to blocks FIRST … END - 1, at
 * least one of which is in it.
 */
static inline uint8_t
byte_mask (uint32_t i, uint32_t first, uint32_t end)
{
  const uint32_t from = first > i * 8 ? first - i * 8 : 0;
  const uint32_t to = end - i * 8 < 8 ? end - i * 8 : 8;

  return (0xff << from) & (0xff >> (8 - to));
}

/* for each byte I of the span S, with M its bits in the span. */
#define FOR_EACH_BYTE(i, m, s)                                                 \
  for (uint32_t i = (s).first / 8, m;                                          \
       i * 8 < (s).first + (s).count &&                                        \
       ((m = byte_mask (i, (s).first, (s).first + (s).count)), true);          \
       ++i)

static inline bool
bits_all (const uint8_t *map, struct span s)
{
  /* A page of 4 KiB has one byte. */
  if (s.first + s.count <= 8)
    return !(~map[0] & byte_mask (0, s.first, s.first + s.count));

  FOR_EACH_BYTE (i, mask, s)
    if ((map[i] & mask) != mask)
      return false;
  return true;
}

static inline bool
bits_any (const uint8_t *map, struct span s)
{
  FOR_EACH_BYTE (i, mask, s)
    if (map[i] & mask)
      return true;
  return false;
}

static inline bool
bit_get (const uint8_t *map, uint32_t block)
{
  return map[block / 8] >> (block % 8) & 1;
}

/* The first block from FROM on, before END, whose bit is VALUE; else END. */
static inline uint32_t
bits_find (const uint8_t *map, uint32_t from, uint32_t end, bool value)
{
  const uint8_t flip = value ? 0 : 0xff;
  uint32_t rest;

  for (; from < end; from += 8 - from % 8) {
    rest = (uint8_t) (map[from / 8] ^ flip) >> from % 8;
    if (rest != 0) {
      from += __builtin_ctz (rest);
      break;
    }
  }
  return from < end ? from : end;
}

/* The blocks of a span from the first whose bit is VALUE to the last one. */
static inline struct span
bits_between (const uint8_t *map, struct span s, bool value)
{
  const uint32_t first = bits_find (map, s.first, s.first + s.count, value);
  uint32_t end = s.first + s.count;

  while (end > first && bit_get (map, end - 1) != value)
    end--;
  return (struct span){ .first = first, .count = end - first };
}

/* for each run R of blocks in the span S whose bits are set. */
#define FOR_EACH_RUN(r, map, s)                                                \
  for (struct span r = bits_run (map, (s).first, s); r.count > 0;              \
       r = bits_run (map, r.first + r.count, s))

/* The first run of set bits from block FROM on, in a span; count 0: none. */
static inline struct span
bits_run (const uint8_t *map, uint32_t from, struct span s)
{
  const uint32_t end = s.first + s.count;
  const uint32_t first = bits_find (map, from, end, true);

  return (struct span){ .first = first,
                        .count = bits_find (map, first, end, false) - first };
}

#endif /* WTCACHE_DESCRIPTOR_H */
