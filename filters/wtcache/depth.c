/* SPDX-License-Identifier: BSD-3-Clause */

/* How many batches may be in flight at a backend.
 *
 * A backend that serves K requests at once answers N of them N/K times as
 * slowly as one alone; up to K, more in flight is more throughput, beyond it
 * is only latency, and what waits here instead can be merged.  So the ratio of
 * the latency under load to the least latency, as TCP Vegas compares round
 * trips (Brakmo and Peterson, 1995), tells where K is: while the ratio is
 * below 1.5 the limit grows, above 2 it shrinks.
 *
 * The least latency is found as BBR does (Cardwell and others, 2016): it is
 * forgotten after a while, and now and then a short probe with one batch in
 * flight measures it anew; without that a backend which is always loaded would
 * pass its queue off as its nature.  Latencies depend on the size and on FUA,
 * so each power of two has its own, twice.
 *
 * Policy alone: the caller serialises the calls and reads the clock.
 */

#include <config.h>

#include <string.h>

#include "depth.h"
#include "util.h"

#define PERIOD_NS     UINT64_C (1000000000)
#define PROBE_NS      UINT64_C (100000000) /* a probe lasts at most so long, */
#define PROBE_SAMPLES 3                    /* or so many batches */
#define FIRST_LIMIT   16
#define LEAST_WINDOW  8
#define RATIO_GROW    1.5
#define RATIO_SHRINK  2.0

void
depth_init (struct depth *d, unsigned fixed)
{
  memset (d, 0, sizeof *d);
  d->automatic = fixed == 0;
  d->limit = fixed ? fixed : FIRST_LIMIT;
}

unsigned
depth_limit (const struct depth *d)
{
  return d->probing ? 1 : (unsigned) d->limit;
}

static unsigned
class_of (uint64_t bytes)
{
  return min_u64 (log2_u64 (max_u64 (bytes, 512) / 512), DEPTH_CLASSES - 1);
}

static void
begin_window (struct depth *d)
{
  d->ratio_sum = 0;
  d->samples = d->in_flight_sum = 0;
}

/* The end of a window with D->SAMPLES batches. */
static void
adapt (struct depth *d)
{
  const double ratio = d->ratio_sum / d->samples;
  const double in_flight = (double) d->in_flight_sum / d->samples;

  if (ratio > RATIO_SHRINK)
    d->limit *= ratio > 2 * RATIO_SHRINK ? 0.5 : 0.8;
  else if (ratio < RATIO_GROW && in_flight > d->limit / 2)
    d->limit += max_u64 (1, d->limit / 4);
  if (d->limit < 1)
    d->limit = 1;
  if (d->limit > DEPTH_MOST)
    d->limit = DEPTH_MOST;
  begin_window (d);
}

static void
begin_period (struct depth *d, uint64_t now)
{
  memcpy (d->least[1], d->least[0], sizeof d->least[1]);
  memset (d->least[0], 0, sizeof d->least[0]);
  d->period_ends = now + PERIOD_NS;
  d->probing = d->limit > 1;
  d->probe_ends = now + PROBE_NS;
  begin_window (d);
}

void
depth_sample (struct depth *d, uint64_t bytes, bool fua, uint64_t latency,
              unsigned in_flight, uint64_t now)
{
  const unsigned class = class_of (bytes) + (fua ? DEPTH_CLASSES : 0);
  uint64_t *least = &d->least[0][class];
  uint64_t known;

  if (!d->automatic)
    return;
  if (now >= d->period_ends)
    begin_period (d, now);

  if (*least == 0 || latency < *least)
    *least = latency;
  known = *least;
  if (d->least[1][class] != 0 && !d->probing)
    known = min_u64 (known, d->least[1][class]);

  /* Batches that began before the probe say nothing about one alone. */
  if (d->probing) {
    if (in_flight == 1)
      d->samples++;
    if (d->samples >= PROBE_SAMPLES || now >= d->probe_ends) {
      d->probing = false;
      begin_window (d);
    }
    return;
  }

  d->ratio_sum += (double) latency / known;
  d->in_flight_sum += in_flight;
  if (++d->samples >= max_u64 (LEAST_WINDOW, d->limit))
    adapt (d);
}
