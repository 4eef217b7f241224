/* SPDX-License-Identifier: BSD-3-Clause */

/* Moves what one cache holds to another cache of the same disk.  See move.c. */

#ifndef WTCACHE_MOVE_H
#define WTCACHE_MOVE_H

#include "pagecache/types.h"

/* Moves the held blocks and remembered zeroes of FROM, which no connection and
 * no call uses, to TO, of the same size, blocks and pool.  Data that TO holds
 * itself stays there.  Neither calls the backend nor waits.  False: some of it
 * is still with FROM, for want of a frame or a slot, or because an operation
 * has its range in TO.
 */
extern bool move_held (struct pagecache *from, struct pagecache *to);

#endif /* WTCACHE_MOVE_H */
