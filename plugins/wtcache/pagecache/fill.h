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

/* Ends it: BYTES hold what was read for the span.  Blocks that nothing touched
 * since become uptodate; for the others BYTES gets what the page has.  With an
 * ERROR nothing becomes uptodate.
 */
extern void fill_end (struct pagecache *pc, struct page *p, struct span span,
                      void *bytes, int error);

/* Waits for the fill that is under way, if any. */
extern void fill_wait (struct pagecache *pc, struct page *p);

#endif /* WTCACHE_FILL_H */
