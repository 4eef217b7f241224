/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that wait for a page to change.  See waits.c. */

#ifndef WTCACHE_WAITS_H
#define WTCACHE_WAITS_H

#include "pagecache/descriptor.h"

/* Called before the first page is used; may be called again. */
extern void waits_init (void);

/* Sleeps until a locked page changes, and drops its lock: unless it is pinned,
 * the caller has to look the page up again.
 */
extern void waits_sleep (struct page *p);

/* A locked page has changed in a way that a thread may wait for. */
extern void waits_wake (struct page *p);

#endif /* WTCACHE_WAITS_H */
