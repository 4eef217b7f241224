/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations on one page, under its lock.  See page.c. */

#ifndef WTCACHE_PAGE_H
#define WTCACHE_PAGE_H

#include "pagecache/types.h"

/* Copies a part out if all of it is uptodate; else nothing, and false. */
extern bool page_read (struct pagecache *pc, const struct part *part, void *to);

/* Copies a part of a locked page, which is uptodate, and unlocks the page. */
extern void page_read_locked (struct pagecache *pc, struct page *p,
                              const struct part *part, void *to);

/* Tells the miss-ratio estimator that a client missed this page. */
extern void page_note_miss (struct pagecache *pc, uint64_t index);

/* Like page_read, but neither copies nor counts as an access. */
extern bool page_is_uptodate (struct pagecache *pc, const struct part *part);

/* Notes that BYTES has a part that was read from the backend, past the cache.
 * Blocks that are uptodate by now are copied from the page; a fill of any other
 * that is under way loses its mark, since it may have read older bytes than
 * these.
 */
extern void page_read_past (struct pagecache *pc, const struct part *part,
                            void *bytes);

/* Pins the page, so that it stays; NULL: no frame is to be had now. */
extern struct page *page_pin (struct pagecache *pc, uint64_t index,
                              enum admission why);

extern void page_unpin (struct pagecache *pc, struct page *p);

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

enum rewrite {
  REWRITE_NOT,  /* nothing has changed, for whatever reason */
  REWRITE_SAME, /* all of it was dirty before */
  REWRITE_MORE, /* more is dirty than before */
};

/* Does the same to a page that is there, without a pin. */
extern enum rewrite page_rewrite (struct pagecache *pc, const struct part *part,
                                  const void *from);

/* The same, and makes the page if it is not there; false: nothing has changed,
 * for whatever reason.
 */
extern bool page_write_new (struct pagecache *pc, const struct part *part,
                            const void *from);

/* Puts the blocks of a part in writeback before a writethrough.  0, or why
 * not.  The page is pinned.
 */
extern int page_claim (struct pagecache *pc, struct page *p,
                       const struct part *part);

/* Takes a claim back: nothing was written. */
extern void page_unclaim (struct pagecache *pc, struct page *p,
                          const struct part *part);

/* Copies a part into claimed blocks.  The write is opened, before any mark
 * goes, if any of them held acknowledged bytes that may not be durable.
 */
extern void page_write_claimed (struct pagecache *pc, struct page *p,
                                const struct part *part, const void *from,
                                struct open_write *open);

/* Does what page_claim and page_write_claimed do, to whole blocks of a page
 * that is there, without a pin; false: nothing has changed, for whatever
 * reason.
 */
extern bool page_write_through (struct pagecache *pc, const struct part *part,
                                const void *from, struct open_write *open);

/* Copies whole claimed blocks out, as they are to be written. */
extern void page_copy_claimed (struct pagecache *pc, struct page *p,
                               struct span span, void *to);

/* Takes the first run of dirty blocks that begins at one of blocks FROM …
 * BEFORE - 1 of a page, with a block that is dirty since pass PASS or before;
 * at most MAX blocks: copies them to TO and puts them in writeback.  LATER: it
 * may begin with a block of a later pass.  Dirty blocks that are in flight or
 * excluded are passed over, and *BUSY becomes true if one is dirty since pass
 * PASS or before.  A span of 0 blocks: nothing.
 */
extern struct span page_gather (struct pagecache *pc, uint64_t index,
                                uint32_t from, uint32_t before, uint32_t max,
                                uint32_t pass, bool later, void *to,
                                bool *busy);

/* Waits for the blocks of a page that are dirty since pass PASS or before, and
 * in flight or excluded now: until each has been seen otherwise once.
 */
extern void page_wait_busy (struct pagecache *pc, uint64_t index,
                            uint32_t pass);

/* The blocks of a page that are held, from block FROM on: one run; count 0:
 * none.
 */
extern struct span page_held_run (struct pagecache *pc, uint64_t index,
                                  uint32_t from);
/* The same for blocks that are owed: held, and not only by a write that was not
 * answered yet.
 */
extern struct span page_owed_run (struct pagecache *pc, uint64_t index,
                                  uint32_t from);

/* Discards the clean blocks of a range of pages; returns the bytes. */
extern uint64_t page_drop_clean (struct pagecache *pc, uint64_t offset,
                                 uint64_t len);

/* Unlocks a page; or lets it leave, if it has nothing but bytes that no reader
 * will ask for again.
 */
extern void page_drop_unlock (struct pagecache *pc, struct page *p);

#endif /* WTCACHE_PAGE_H */
