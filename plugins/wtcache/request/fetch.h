/* SPDX-License-Identifier: BSD-3-Clause */

/* Reads of bytes that are not cached.  See fetch.c. */

#ifndef WTCACHE_FETCH_H
#define WTCACHE_FETCH_H

#include "request/types.h"

/* A miss asks the backend for at least so many bytes, aligned to them: no more
 * than a piece, so that one miss does not push out a small cache.
 */
extern uint64_t fetch_fill_size (const struct export *e);

/* Reads a piece of a client's read of which something is missing; it is one of
 * those of SPREAD, unless that is NULL.
 */
extern int fetch_piece (struct client *c, struct spread *spread, uint8_t *buf,
                        uint64_t offset, uint64_t len);

/* Brings a range into the cache, as far as there is room. */
extern int fetch_range (struct export *e, struct backend *b, uint64_t offset,
                        uint64_t len, enum admission why);

/* The same by way of a buffer of ROOM bytes, at least a block: of fetch_spare
 * bytes if that can be had.
 */
extern int fetch_into (struct export *e, struct backend *b, uint8_t *spare,
                       uint64_t room, uint64_t offset, uint64_t len,
                       enum admission why);
extern uint64_t fetch_spare (const struct export *e, uint64_t offset,
                             uint64_t len);

/* Copies a range block by block from the cache, and asks the backend for what
 * is not there.
 */
extern int fetch_past (struct export *e, struct backend *b, uint8_t *buf,
                       uint64_t offset, uint64_t len);

#endif /* WTCACHE_FETCH_H */
