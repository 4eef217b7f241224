/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests of clients.  See request.c. */

#ifndef WTCACHE_REQUEST_H
#define WTCACHE_REQUEST_H

#include "request/extents.h"
#include "request/fetch.h"
#include "request/readahead.h"
#include "request/types.h"
#include "request/warm.h"

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

#endif /* WTCACHE_REQUEST_H */
