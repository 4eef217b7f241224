/* SPDX-License-Identifier: BSD-3-Clause */

/* What clients ask for: a byte range becomes pieces, pages, blocks.  See
 * request.c.
 */

#ifndef WTCACHE_REQUEST_H
#define WTCACHE_REQUEST_H

#include "export.h"

struct readahead;

/* One connection. */
struct client {
  struct export *export;
  struct backend *own;
  struct readahead *ahead; /* NULL: none */
};

/* A miss asks the backend for at least so many bytes, aligned to them. */
extern uint64_t request_fill (const struct export *e);

/* Ranges lie inside the export and are not empty; any alignment.  All return
 * 0 or an errno that NBD has.
 */
extern int request_read (struct client *c, void *buf, uint32_t len,
                         uint64_t offset);
/* DURABLE: on stable storage when it returns 0. */
extern int request_write (struct client *c, const void *buf, uint32_t len,
                          uint64_t offset, bool durable);
extern int request_flush (struct client *c);
/* FLAGS: enum zero_flag.  ENOTSUP with ZERO_FAST: nothing has changed. */
extern int request_zero (struct client *c, uint32_t len, uint64_t offset,
                         unsigned flags);
extern int request_trim (struct client *c, uint32_t len, uint64_t offset,
                         bool durable);

/* Brings a range into the cache, as far as there is room. */
extern int request_prefetch (struct export *e, struct backend *b,
                             uint64_t offset, uint64_t len, enum admission why);

#endif /* WTCACHE_REQUEST_H */
