/* SPDX-License-Identifier: BSD-3-Clause */

/* The values of all metrics of exports, taken in one go.  See samples.c. */

#ifndef WTCACHE_SAMPLES_H
#define WTCACHE_SAMPLES_H

#include "base/name.h"
#include "watch/rows.h"

/* All values of one export, or of all that have no label. */
struct sample {
  struct sample *next;
  struct name_quoted name;
  bool tls, other;
  unsigned number;
  int error; /* of write-back, 0 if there is none */
  uint64_t values[MAX_ROWS];
  struct histogram_view waits[LATENCIES], latency[BACKEND_CALLS], batches;
};

struct samples {
  struct sample *first, **end; /* of exports with a label */
  struct sample others;
  unsigned nr_others;
};

/* From now on what exports have counted that are freed is kept. */
extern void samples_begin (void);

/* Of the exports as they are at one moment: what one of them has counted is
 * in its own sample, or in that of the others, but never in none.  0 or ENOMEM.
 */
extern int samples_take (struct samples *all);
extern void samples_free (struct samples *all);

#endif /* WTCACHE_SAMPLES_H */
