/* SPDX-License-Identifier: BSD-3-Clause */

/* Fills: reads the missing blocks of a page.  See fill.c. */

#ifndef WTCACHE_FILL_H
#define WTCACHE_FILL_H

#include "pagecache/types.h"

enum fill {
  FILL_NOTHING, /* all of it is uptodate */
  FILL_OURS,    /* the caller reads *ours, and ends the fill */
  FILL_JOIN,    /* another thread reads all missing blocks: fill_wait */
  FILL_ALONE,   /* a fill is under way that was overtaken: read past it */
};

/* Begins to fill the missing blocks of a part of a pinned page. */
extern enum fill fill_begin (struct pagecache *pc, struct page *p,
                             const struct part *part, struct span *ours);

/* A part of a page that a read wants. */
struct wanted {
  struct part part;
  uint32_t asked_offset; /* in the page: what the client asked for, */
  uint32_t asked_len;    /* 0: nothing of this page */
  void *to;              /* where that is copied; NULL: nowhere */
  struct page *page;     /* pinned; NULL: not, or no frame */
  struct span ours;      /* the blocks that the caller reads */
  enum fill fill;
};

static inline struct part
wanted_asked (const struct wanted *w)
{
  return (struct part){ .index = w->part.index,
                        .offset = w->asked_offset,
                        .len = w->asked_len };
}

/* Copies what was asked for if it is uptodate, in which case nothing is filled.
 * Else finds or makes the page, pins it, and begins to fill the part.  Under
 * one lock of the page.  FILL_NOTHING: the page is not pinned.
 */
extern enum fill fill_want (struct pagecache *pc, struct wanted *w,
                            enum admission why);

/* Ends it: BYTES hold what was read for the span.  Blocks that nothing touched
 * since become uptodate; for the others BYTES gets what the page has.  With an
 * ERROR nothing becomes uptodate.
 */
extern void fill_end (struct pagecache *pc, struct page *p, struct span span,
                      void *bytes, int error);

/* The same, and unpins the page. */
extern void fill_end_unpin (struct pagecache *pc, struct page *p,
                            struct span span, void *bytes, int error);

/* Waits for the fill that is under way, if any. */
extern void fill_wait (struct pagecache *pc, struct page *p);

#endif /* WTCACHE_FILL_H */
