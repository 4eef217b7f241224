/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations that have their range exclusively: zero, trim, writes past the
 * cache, discard.  See clear.c.
 */

#ifndef WTCACHE_CLEAR_H
#define WTCACHE_CLEAR_H

#include "submit/types.h"

/* Like exclusive_begin, for an operation that forgets remembered zeroes: a
 * write past the cache or a trim.  X has the slot that this may need.  If none
 * is free, remembered zeroes are made durable first.  0; or an errno, and the
 * caller does not have the range.
 */
extern int clear_begin_forgetting (struct submit *s, struct backend *b,
                                   struct exclusive *x, uint64_t offset,
                                   uint64_t len);

/* Writes past the cache; the caller has the range by clear_begin_forgetting.
 * Durable.
 */
extern int clear_write_past (struct submit *s, struct backend *b,
                             const void *bytes, uint64_t offset, uint64_t len);

/* Zeroes or trims whole blocks; the caller has the range exclusively, for a
 * trim by clear_begin_forgetting, and nothing of it is in writeback.  Ends the
 * blocks in the pages.
 */
extern int clear_zero (struct submit *s, struct backend *b, uint64_t offset,
                       uint64_t len, unsigned flags);
extern int clear_trim (struct submit *s, struct backend *b, uint64_t offset,
                       uint64_t len, bool fua);
/* Discards what of a range of whole blocks the backend does not have, or may
 * yet forget: from then on reads return what the backend has.  Waits for writes
 * of it that are in flight.  *HELD and *ZEROED: how many bytes of pages and of
 * remembered zeroes were discarded.  ENOSPC: a part of a remembered range
 * cannot be discarded alone, and nothing was.
 */
extern int clear_discard (struct submit *s, uint64_t offset, uint64_t len,
                          uint64_t *held, uint64_t *zeroed);
/* Zeroes again what a failed flush may have lost. */
extern int clear_redo_zeroes (struct submit *s, struct backend *b);

#endif /* WTCACHE_CLEAR_H */
