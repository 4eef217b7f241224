/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of the page cache: its struct, and the arithmetic of
 * ranges, pages and blocks.
 *
 * For example, with pages of 4 KiB and blocks of 512 bytes, the byte range
 * 5000 … 9000 has two parts: bytes 904 … 4095 of page 1, which touch its blocks
 * 1 … 7, and bytes 0 … 808 of page 2, which touch its blocks 0 and 1.
 */

#ifndef WTCACHE_PAGECACHE_TYPES_H
#define WTCACHE_PAGECACHE_TYPES_H

#include "base/util.h"
#include "pagecache/doubts.h"
#include "pagecache/held.h"
#include "pagecache/pools.h"
#include "pagecache/zeroes.h"

/* How much is in a state; bytes. */
struct amounts {
  int64_t dirty, writeback, unstable, held;
};

/* A write that may take marks from blocks which hold acknowledged bytes; on the
 * stack of its thread.  Zeroed at first; see open_begin.
 */
struct open_write {
  struct open_write *prev, *next; /* guarded by open_lock */
  uint64_t ticket;
  bool is_open;
};

struct pagecache {
  /* Constant while the export is in use. */
  struct pools *pools;
  struct pool *pool;
  uint64_t key_base;
  uint64_t size; /* of the export, bytes */
  uint32_t block_shift, page_shift;
  struct page_counts *counts;

  /* A block leaves the cache once it is stable.  Relaxed: it can change at any
   * time, and either is right.
   */
  _Atomic bool around;

  /* Relaxed: each is changed under the lock of the page concerned, and a
   * reader without needs a recent value only.
   */
  _Atomic int64_t dirty, writeback, unstable, held_bytes;
  _Atomic int64_t reserved;     /* bytes writers are about to make dirty */
  _Atomic uint64_t dirty_since; /* ns; when the oldest became dirty; 0: none */
  /* How often something that was acknowledged ceased to be on its way to
   * durable: blocks became dirty again, zeroes were lost.  Release in
   * unmade_count pairs with acquire in unmade_total.
   */
  _Atomic uint64_t unmade;
  _Atomic int64_t bound; /* bytes that may be held; see writeback.c */

  struct held held;
  struct zeroes zeroes;
  struct doubts doubts;
  struct lock settle_lock; /* RANK_SETTLE: one settling at a time */

  struct lock open_lock; /* RANK_OPEN */
  /* Guarded by open_lock. */
  struct open_write *oldest_open, *newest_open;
  uint64_t open_tickets;
  unsigned open_waiters;
  struct condition open_closed;

  struct borrower borrower;
};

/* The export's number, which no other has now. */
static inline unsigned
export_number (const struct pagecache *pc)
{
  return pc->key_base >> KEY_INDEX_BITS;
}

/* Bytes in a state that keeps their page. */
static inline int64_t
held_bytes (const struct pagecache *pc)
{
  return atomic_load_explicit (&pc->held_bytes, memory_order_relaxed);
}

static inline uint32_t
block_size (const struct pagecache *pc)
{
  return UINT32_C (1) << pc->block_shift;
}

static inline uint32_t
page_size (const struct pagecache *pc)
{
  return UINT32_C (1) << pc->page_shift;
}

/* The part of a byte range that lies in one page. */
struct part {
  uint64_t index;  /* of the page */
  uint32_t offset; /* bytes in the page */
  uint32_t len;
};

/* THE walk over a range: takes its first part away from it; false: empty. */
static inline bool
next_part (const struct pagecache *pc, uint64_t *offset, uint64_t *len,
           struct part *part)
{
  if (*len == 0)
    return false;
  part->index = *offset >> pc->page_shift;
  part->offset = *offset & (page_size (pc) - 1);
  part->len = min_u64 (*len, page_size (pc) - part->offset);
  *offset += part->len;
  *len -= part->len;
  return true;
}

/* The part that is all of a range; false: the range is empty, or lies in more
 * than one page.
 */
static inline bool
only_part (const struct pagecache *pc, uint64_t offset, uint64_t len,
           struct part *part)
{
  part->index = offset >> pc->page_shift;
  part->offset = offset & (page_size (pc) - 1);
  part->len = len;
  return len - 1 < page_size (pc) - part->offset;
}

/* The blocks that a part touches. */
static inline struct span
part_span (const struct pagecache *pc, const struct part *part)
{
  const uint32_t first = part->offset >> pc->block_shift;

  return (struct span){
    .first = first,
    .count = ((part->offset + part->len - 1) >> pc->block_shift) - first + 1,
  };
}

/* The bytes of a page's span, without those past the end of the export. */
static inline struct part
span_part (const struct pagecache *pc, uint64_t index, struct span s)
{
  const uint32_t offset = s.first << pc->block_shift;
  const uint64_t at = (index << pc->page_shift) + offset;

  return (struct part){
    .index = index,
    .offset = offset,
    .len = min_u64 ((uint64_t) s.count << pc->block_shift, pc->size - at),
  };
}

static inline uint64_t
pagecache_key (const struct pagecache *pc, uint64_t index)
{
  return pc->key_base | index;
}

static inline uint64_t
page_index (const struct pagecache *pc, const struct page *p)
{
  return page_key (p) & ~pc->key_base;
}

static inline uint8_t *
page_map (const struct pagecache *pc, struct page *p, enum block_state state)
{
  return pool_map (pc->pool, p, state);
}

/* All blocks of a page. */
static inline struct span
page_span (const struct pagecache *pc)
{
  return (struct span){ .count = page_size (pc) >> pc->block_shift };
}

static inline struct span
block_span (uint32_t block)
{
  return (struct span){ .first = block, .count = 1 };
}

/* The blocks of the export's byte range in the page with this index. */
static inline struct span
range_span (const struct pagecache *pc, uint64_t index, uint64_t offset,
            uint64_t len)
{
  const uint64_t start = index << pc->page_shift;
  const uint64_t first = max_u64 (offset, start) - start;
  const uint64_t end = min_u64 (offset + len, start + page_size (pc)) - start;

  return (struct span){
    .first = first >> pc->block_shift,
    .count = ((end - 1) >> pc->block_shift) - (first >> pc->block_shift) + 1,
  };
}

/* How many blocks of a page begin inside the export: fewer than all in its
 * last page, none in those that a smaller size has left unsavable.
 */
static inline uint32_t
blocks_inside (const struct pagecache *pc, uint64_t index)
{
  const uint64_t start = index << pc->page_shift;

  if (start >= pc->size)
    return 0;
  return min_u64 (page_span (pc).count,
                  (pc->size - start + block_size (pc) - 1) >> pc->block_shift);
}

#endif /* WTCACHE_PAGECACHE_TYPES_H */
