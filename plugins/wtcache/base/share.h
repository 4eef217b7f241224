/* SPDX-License-Identifier: BSD-3-Clause */

/* How much of what all exports share one of them may take.
 *
 * An export takes as many times what it leaves free as its need is urgent.  For
 * example, of 96 units that are all free it may take 48 to read ahead, 64 for
 * what a request can do without, and 72 for all else.  The next export finds
 * less, and so on; the last unit is never taken.  An export whose backend hangs
 * keeps what it has, so none relies on this alone: see export/shares.c.
 */

#ifndef WTCACHE_SHARE_H
#define WTCACHE_SHARE_H

#include <stdbool.h>
#include <stddef.h>

enum urgency {
  URGENCY_AHEAD = 1, /* reading ahead */
  URGENCY_BESIDE,    /* makes a request or a pass faster */
  URGENCY_NEEDED,    /* write-back, drain, requests */
};

/* Whether an export that has HAS units may take COUNT of those that are FREE.
 */
static inline bool
share_allows (size_t has, size_t count, size_t free, enum urgency urgency)
{
  return count <= free && has + count <= urgency * (free - count);
}

#endif /* WTCACHE_SHARE_H */
