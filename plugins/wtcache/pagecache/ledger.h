/* SPDX-License-Identifier: BSD-3-Clause */

/* The acknowledged bytes that are not yet durable.  See ledger.c. */

#ifndef WTCACHE_LEDGER_H
#define WTCACHE_LEDGER_H

#include "pagecache/types.h"

/* Flush number FLUSH succeeded: what ended before it began is durable. */
extern void ledger_settle (struct pagecache *pc, uint32_t flush);

/* One more connection to the backend has come; its number.  A flush by it
 * covers all that is unstable if held_covering is not below that number.
 */
extern uint64_t ledger_connect (struct pagecache *pc);

/* A flush or FUA operation failed, which began when the epoch was EPOCH: all
 * unstable blocks are dirty again, all remembered zeroes are lost, and what was
 * read of ranges in doubt is dropped.
 */
extern void ledger_fail (struct pagecache *pc, uint32_t epoch);

/* An exclusive operation over a range failed: the ranges in it that are
 * remembered as zero must be zeroed again.
 */
extern void ledger_lose_zeroes (struct pagecache *pc, uint64_t offset,
                                uint64_t len);

/* The backend may have anything in a range.  Called before its cached blocks
 * are discarded, so that a request which reads them from the backend afterwards
 * finds the range in doubt already.
 */
extern void ledger_doubt (struct pagecache *pc, uint64_t offset, uint64_t len);

#endif /* WTCACHE_LEDGER_H */
