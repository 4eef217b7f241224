/* SPDX-License-Identifier: BSD-3-Clause */

/* Readahead for the streams of a connection.  See readahead.c. */

#ifndef WTCACHE_READAHEAD_H
#define WTCACHE_READAHEAD_H

#include "export.h"

/* NULL: ENOMEM. */
extern struct readahead *readahead_new (struct export *e);
/* Waits for the reads in progress. */
extern void readahead_free (struct readahead *ra);

/* Reads what is to be read ahead at OFFSET and has found no thread yet, with
 * the caller's own backend.  False: there is no such thing, or it failed.
 */
extern bool readahead_help (struct readahead *ra, struct backend *own,
                            uint64_t offset);

/* A read was answered; MISSED: not all of it from the cache. */
extern void readahead_note (struct readahead *ra, uint64_t offset, uint64_t len,
                            bool missed);

#endif /* WTCACHE_READAHEAD_H */
