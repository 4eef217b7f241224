/* SPDX-License-Identifier: BSD-3-Clause */

/* Writes that carry acknowledged bytes.  See open.c. */

#ifndef WTCACHE_OPEN_H
#define WTCACHE_OPEN_H

#include "pagecache/types.h"

extern void open_init (struct pagecache *pc);
extern void open_destroy (struct pagecache *pc);

/* A write takes marks from blocks that hold acknowledged bytes: until it is
 * closed a flush waits for it.  Called before the first mark goes, and under
 * the page's lock, or before a lock that a flush takes.  A second call does
 * nothing.
 */
extern void open_begin (struct pagecache *pc, struct open_write *w);
/* Its blocks have their marks again, or need none.  Nothing, if it took none.
 */
extern void open_end (struct pagecache *pc, struct open_write *w);
/* Waits for the writes that are open now. */
extern void open_wait (struct pagecache *pc);

#endif /* WTCACHE_OPEN_H */
