/* SPDX-License-Identifier: BSD-3-Clause */

/* To the backend: reads, and writes in batches (submit.c), what makes an
 * operation durable (submit/durable.c), and operations that have their range
 * exclusively (submit/clear.c).
 */

#ifndef WTCACHE_SUBMIT_H
#define WTCACHE_SUBMIT_H

#include "submit/clear.h"
#include "submit/completion.h"
#include "submit/durable.h"
#include "submit/series.h"
#include "submit/spread.h"
#include "submit/types.h"

extern void submit_init (struct submit *s, struct pagecache *pc,
                         struct memory *memory, bool merge, unsigned depth);
extern void submit_destroy (struct submit *s);
/* DEPTH batches in flight from now on, or found by measuring if that is 0. */
extern void submit_set_depth (struct submit *s, unsigned depth);

/* Reads whole blocks, in calls of at most the backend's maximum. */
extern int submit_read (struct submit *s, struct backend *b, void *buf,
                        uint64_t offset, uint64_t len);

/* A turn for writes that begin later, before all that come from now on. */
extern uint64_t submit_turn (struct submit *s);

/* Writes claimed or gathered blocks and ends them in the pages: batches with
 * others that wait, and serves those meanwhile.  Returns its error when it has
 * ended.
 */
extern int submit_write (struct submit *s, struct backend *b, struct write *w);

#endif /* WTCACHE_SUBMIT_H */
