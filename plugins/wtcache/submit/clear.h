/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations that have their range exclusively: zero, trim, writes past the
 * cache, discard.  See clear.c.
 */

#ifndef WTCACHE_CLEAR_H
#define WTCACHE_CLEAR_H

#include "submit/types.h"

/* Waits until the caller has a range exclusively, and nothing of it is in
 * writeback.  FORGETS: the operation forgets remembered zeroes, and X gets the
 * slot that this may need; if none is free, remembered zeroes are made durable
 * first, by B.  0; or an errno, and the caller does not have the range: ENOSPC
 * if there is no room and B is NULL.
 */
extern int clear_begin (struct submit *s, struct backend *b,
                        struct exclusive *x, uint64_t offset, uint64_t len,
                        bool forgets);
extern void clear_end (struct submit *s, struct exclusive *x);

/* Writes past the cache.  The caller has the range by clear_begin, as one that
 * forgets.  Durable.
 */
extern int clear_write_past (struct submit *s, struct backend *b,
                             const void *bytes, uint64_t offset, uint64_t len);

/* Zeroes (CLEAR_ZEROED) or trims (CLEAR_UNKNOWN) whole blocks; the caller has
 * the range by clear_begin, for a trim as one that forgets.  FLAGS: enum
 * zero_flag, for a trim ZERO_FUA alone.  Ends the blocks in the pages.  ENOTSUP
 * with ZERO_FAST: nothing has changed.
 */
extern int clear_range (struct submit *s, struct backend *b, uint64_t offset,
                        uint64_t len, enum clear how, unsigned flags);
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
