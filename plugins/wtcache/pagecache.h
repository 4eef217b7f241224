/* SPDX-License-Identifier: BSD-3-Clause */

/* The pages of one export and the states of their blocks.  See pagecache.c. */

#ifndef WTCACHE_PAGECACHE_H
#define WTCACHE_PAGECACHE_H

#include "pagecache/types.h"

/* NUMBER is 1 … MOST_CACHES and no other cache's; BLOCK and the pool's page
 * size are powers of two, in bytes.
 */
extern void pagecache_init (struct pagecache *pc, struct pools *ps,
                            struct pool *pool, unsigned number, uint64_t size,
                            uint32_t block, bool around);
/* Every page is dropped before, nothing is held. */
extern void pagecache_destroy (struct pagecache *pc);

/* Copies a part out if all of it is uptodate; else nothing, and false. */
extern bool page_read (struct pagecache *pc, const struct part *part, void *to);

/* A client reads of a page what is not there: for the curve. */
extern void page_note_miss (struct pagecache *pc, uint64_t index);

/* Whether all of a part is uptodate; unlike page_read it is no use. */
extern bool page_is_uptodate (struct pagecache *pc, const struct part *part);

/* What of a part BYTES got from the backend, past the cache.  Blocks that are
 * uptodate by now are copied from the page; a fill of any other that is under
 * way loses its mark, since it may have read older bytes than these.
 */
extern void page_read_past (struct pagecache *pc, const struct part *part,
                            void *bytes);

/* Pins the page so that it stays; NULL: no frame can be had now. */
extern struct page *page_pin (struct pagecache *pc, uint64_t index,
                              enum admission why);
extern void page_unpin (struct pagecache *pc, struct page *p);

enum fill {
  FILL_NOTHING, /* all of it is uptodate */
  FILL_OURS,    /* the caller reads *ours, and ends the fill */
  FILL_JOIN,    /* somebody reads all that is missing: page_wait_fill */
  FILL_ALONE,   /* a fill is under way that was overtaken: read past it */
};

/* Begins to fill what of a part is missing, of a pinned page. */
extern enum fill page_fill_begin (struct pagecache *pc, struct page *p,
                                  const struct part *part, struct span *ours);
/* Ends it: BYTES hold what was read for the span.  Blocks that nothing touched
 * since become uptodate; for the others BYTES gets what the page has.  With an
 * ERROR nothing becomes uptodate.
 */
extern void page_fill_end (struct pagecache *pc, struct page *p,
                           struct span span, void *bytes, int error);
/* Waits for the fill that is under way, if any. */
extern void page_wait_fill (struct pagecache *pc, struct page *p);

/* Results of page_write and page_claim, beside 0. */
enum {
  WRITE_EDGE = 1, /* a block covered in part is not uptodate: fill it */
  WRITE_BUSY,     /* a write of these blocks is in flight: wait */
  WRITE_EXCLUDED, /* an exclusive operation has the range: wait */
};

/* Copies a part in (zeroes if FROM is NULL) and makes its blocks dirty.
 * 0, or why nothing has changed.  The page is pinned.
 */
extern int page_write (struct pagecache *pc, struct page *p,
                       const struct part *part, const void *from);

/* Does the same to a page that is there, without a pin; false: nothing has
 * changed, for whatever reason.
 */
extern bool page_rewrite (struct pagecache *pc, const struct part *part,
                          const void *from);

/* Puts the blocks of a part in writeback before a writethrough.  0, or why
 * not.  The page is pinned.
 */
extern int page_claim (struct pagecache *pc, struct page *p,
                       const struct part *part);
/* Takes a claim back: nothing was written. */
extern void page_unclaim (struct pagecache *pc, struct page *p,
                          const struct part *part);
/* Copies a part into claimed blocks.  *ACKNOWLEDGED becomes true, before any
 * mark goes, if any of them held acknowledged bytes that may not be durable.
 */
extern void page_write_claimed (struct pagecache *pc, struct page *p,
                                const struct part *part, const void *from,
                                _Atomic bool *acknowledged);

/* Copies whole claimed blocks out, as they are to be written. */
extern void page_copy_claimed (struct pagecache *pc, struct page *p,
                               struct span span, void *to);

/* Takes the first run of blocks that are dirty since pass PASS or before and
 * begins at one of blocks FROM … BEFORE - 1 of a page, at most MOST blocks:
 * copies them to TO and puts them in writeback.  Dirty blocks that are in
 * flight or excluded are passed over, and *BUSY becomes true.  LATER: those of
 * later passes as well, which are not waited for.  A span of 0 blocks: nothing.
 */
extern struct span page_gather (struct pagecache *pc, uint64_t index,
                                uint32_t from, uint32_t before, uint32_t most,
                                uint32_t pass, bool later, void *to,
                                bool *busy);

enum outcome {
  OUTCOME_FAILED,   /* or never begun */
  OUTCOME_UNSTABLE, /* the backend took it */
  OUTCOME_STABLE,
};

/* A write over whole blocks has ended, which began when the epoch was EPOCH;
 * all of them are in writeback.
 */
extern void pagecache_end_write (struct pagecache *pc, uint64_t offset,
                                 uint64_t len, enum outcome outcome,
                                 uint32_t epoch);

/* Waits until no block of the range is in writeback.  Nobody begins a new one
 * for ever: the caller has the range exclusively, or tries again.
 */
extern void pagecache_wait_writeback (struct pagecache *pc, uint64_t offset,
                                      uint64_t len);

enum clear {
  CLEAR_ZEROED,  /* the range reads as zero */
  CLEAR_UNKNOWN, /* the backend knows: trimmed, or written past the cache */
  CLEAR_FAILED,
};

/* An exclusive operation over whole blocks has ended. */
extern void pagecache_clear (struct pagecache *pc, uint64_t offset,
                             uint64_t len, enum clear how);

/* An exclusive operation over a range failed: what is remembered of it as zero
 * is to be zeroed again.
 */
extern void pagecache_lose_zeroes (struct pagecache *pc, uint64_t offset,
                                   uint64_t len);

/* The blocks of a page that are held, from block FROM on: one run; count 0:
 * none.
 */
extern struct span page_held_run (struct pagecache *pc, uint64_t index,
                                  uint32_t from);
/* The index of the first page at or after INDEX that is held. */
extern bool pagecache_next_held (struct pagecache *pc, uint64_t *index);

/* Flush number FLUSH succeeded: what ended before it began is stable. */
extern void pagecache_settle (struct pagecache *pc, uint32_t flush);
/* A flush or FUA operation failed, which began when the epoch was EPOCH: all
 * unstable blocks are dirty again, and what was read of ranges in doubt is
 * dropped.
 */
extern void pagecache_fail (struct pagecache *pc, uint32_t epoch);

/* Gives a cache that nobody uses another size, and drops all that is clean.
 * Returns the bytes that are held past the new end: they are kept, and never
 * written.
 */
extern int64_t pagecache_resize (struct pagecache *pc, uint64_t size);

/* Drops all that is clean; how many bytes. */
extern uint64_t pagecache_drop (struct pagecache *pc);

/* What of a range is in which state. */
extern struct amounts pagecache_range_amounts (struct pagecache *pc,
                                               uint64_t offset, uint64_t len);

extern struct amounts pagecache_amounts (struct pagecache *pc);
/* Whether more is held than may be. */
extern bool pagecache_is_beyond_bound (struct pagecache *pc);

#endif /* WTCACHE_PAGECACHE_H */
