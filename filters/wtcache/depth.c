/* SPDX-License-Identifier: BSD-3-Clause */

/* How many batches may be in flight at a backend.
 *
 * A backend that serves K requests at once answers N of them N/K times as
 * slowly as one alone; up to K, more in flight is more throughput, beyond it
 * is only latency, and what waits here instead can be merged.  So N over the
 * ratio of the latency under load to that of one alone tells K, as TCP Vegas
 * tells how much of what it has in flight only queues (Brakmo and Peterson,
 * 1995).  The limit goes to somewhat more than K, so that a backend which could
 * serve more is found out.
 *
 * What one alone takes is measured now and then by a short probe with one batch
 * in flight, as BBR finds its least round trip (Cardwell and others, 2016):
 * a backend which is always loaded would pass its queue off as its nature.
 * A probe costs a parallel backend some of its throughput.  That K changes
 * shows without one, so while all is as it was they are rare, and come soon
 * where something cannot be: batches faster than one alone, a size that was
 * never seen alone, or a limit that has moved far.
 *
 * Means are compared, not the least: on a busy machine all take longer, alone
 * too.  Latencies depend on the size and on FUA, so each power of two has its
 * own, twice.
 *
 * A backend that commits what it has in groups answers each the later the more
 * there are, and yet does more in all: its latency looks like a queue.  So
 * while writes wait for a place a higher limit is tried now and then: low and
 * high in turn, twice.  It stays if the worse of the high phases moved clearly
 * more bytes a second than the better of the low ones.  Each probe takes one
 * such step back, which has to prove itself again.
 *
 * Policy alone: the caller serialises the calls and reads the clock.
 */

#include <config.h>

#include <string.h>

#include "depth.h"
#include "util.h"

#define PERIOD_NS      UINT64_C (10000000000) /* of probes, while all is well */
#define SURPRISED_NS   UINT64_C (1000000000)  /* and when something changed */
#define FIRST_TRIAL_NS UINT64_C (50000000)    /* after a probe or a gain */
#define PROBE_NS       UINT64_C (50000000) /* a probe lasts at most so long, */
#define PROBE_SAMPLES  6                   /* or so many batches */
#define FIRST_LIMIT    16
#define LEAST_WINDOW   8
#define MARGIN         1.5  /* of the limit over what is served at once */
#define QUEUED         1.1  /* ratio of latencies from which some have waited */
#define LEAST_RATIO    0.75 /* below, one alone takes less too */
#define FAR            1.5  /* how much the limit may change without a probe */
#define PHASES         4    /* of a trial: low, high, low, high, */
#define PHASE_MOST     4    /* each of so many times the limit of batches, */
#define LEAST_PHASE    32   /* or of these, */
#define PHASE_NS       UINT64_C (100000000) /* or so long */
#define STRETCH        1.5
#define GAIN           1.1 /* that the higher limit has to bring */

void
depth_init (struct depth *d, unsigned fixed)
{
  memset (d, 0, sizeof *d);
  d->automatic = fixed == 0;
  d->limit = fixed ? fixed : FIRST_LIMIT;
  d->stretch = 1;
}

static bool
is_high (const struct depth *d)
{
  return d->phase > 0 && d->phase % 2 == 0;
}

unsigned
depth_limit (const struct depth *d)
{
  const double stretch = is_high (d) ? STRETCH * d->stretch : d->stretch;

  return d->probing ? 1 : min_u64 (d->limit * stretch, DEPTH_MOST);
}

bool
depth_serves_one (const struct depth *d)
{
  return d->limit < 3 && d->stretch == 1;
}

static unsigned
class_of (uint64_t bytes, bool fua)
{
  const unsigned size = log2_u64 (max_u64 (bytes, 512) / 512);

  return min_u64 (size, DEPTH_CLASSES - 1) + (fua ? DEPTH_CLASSES : 0);
}

static void
begin_window (struct depth *d)
{
  d->ratio_sum = 0;
  d->samples = d->in_flight_sum = d->in_flight_most = 0;
}

/* The end of a window with D->SAMPLES batches. */
static void
adapt (struct depth *d)
{
  const double ratio = d->ratio_sum / d->samples;
  const double in_flight = (double) d->in_flight_sum / d->samples;
  const bool queued = ratio > QUEUED;
  const double served = queued ? in_flight / ratio : d->in_flight_most;
  const double wanted = MARGIN * served + 1;

  /* Few in flight because few came say nothing of what could be. */
  if (wanted < d->limit ? queued && in_flight > wanted / 2
                        : d->in_flight_most > d->limit / 2)
    d->limit = (d->limit + wanted) / 2;
  if (d->limit > DEPTH_MOST)
    d->limit = DEPTH_MOST;
  if (ratio < LEAST_RATIO || d->limit > FAR * d->limit_probed ||
      d->limit < d->limit_probed / FAR)
    d->surprised = true;
  begin_window (d);
}

/* A batch that had the backend to itself. */
static void
note_alone (struct depth *d, double *alone, uint64_t latency)
{
  *alone = *alone == 0 ? latency : *alone * 0.75 + latency * 0.25;
  if (d->probing && ++d->samples >= PROBE_SAMPLES) {
    d->probing = false;
    begin_window (d);
  }
}

static void
begin_phase (struct depth *d, unsigned phase, uint64_t now)
{
  d->phase = phase;
  d->phase_began = now;
  d->phase_batches = d->phase_bytes = 0;
  d->phase_waited = false;
}

/* A trial is over, or did not come to its end. */
static void
end_trial (struct depth *d, bool gained, uint64_t now)
{
  if (gained)
    d->stretch *= STRETCH;
  d->trial_interval =
      gained ? FIRST_TRIAL_NS : min_u64 (4 * d->trial_interval, PERIOD_NS);
  d->trial_due = now + d->trial_interval;
  d->phase = 0;
  begin_window (d);
}

/* A batch of a trial has ended.  WAITED: as many were in flight as may be. */
static void
note_trial (struct depth *d, uint64_t bytes, bool waited, uint64_t now)
{
  double rate;

  d->phase_bytes += bytes;
  d->phase_waited |= waited;
  if (++d->phase_batches < max_u64 (LEAST_PHASE, PHASE_MOST * d->limit) &&
      now < d->phase_began + PHASE_NS)
    return;
  /* A limit that was none, or too few batches, tells nothing. */
  if (!d->phase_waited || d->phase_batches < depth_limit (d)) {
    end_trial (d, false, now);
    return;
  }
  rate = d->phase_bytes / (double) max_u64 (now - d->phase_began, 1);
  if (!is_high (d)) {
    if (d->phase == 1 || rate > d->rate_low)
      d->rate_low = rate;
  }
  else if (rate < GAIN * d->rate_low || d->phase == PHASES) {
    end_trial (d, rate >= GAIN * d->rate_low, now);
    return;
  }
  begin_phase (d, d->phase + 1, now);
}

static bool
is_due (const struct depth *d, uint64_t now)
{
  return d->probe_ends == 0 ||
         now >= d->probe_began + (d->surprised ? SURPRISED_NS : PERIOD_NS);
}

static void
begin_probe (struct depth *d, uint64_t now)
{
  d->probe_began = now;
  d->probe_ends = now + PROBE_NS;
  d->limit_probed = d->limit;
  d->probing = d->limit >= 2;
  d->surprised = false;
  d->stretch = d->stretch > STRETCH ? d->stretch / STRETCH : 1;
  d->phase = 0;
  d->trial_interval = FIRST_TRIAL_NS;
  d->trial_due = d->probe_ends + d->trial_interval;
  begin_window (d);
}

void
depth_sample (struct depth *d, uint64_t bytes, bool fua, uint64_t latency,
              unsigned in_flight, uint64_t now)
{
  double *alone = &d->alone[class_of (bytes, fua)];

  if (!d->automatic)
    return;
  if (is_due (d, now))
    begin_probe (d, now);
  else if (d->probing && now >= d->probe_ends) {
    d->probing = false;
    begin_window (d);
  }

  if (in_flight == 1)
    note_alone (d, alone, latency);
  /* Batches that began before a probe end in it, and count for nothing; nor
   * do those of a class that was never seen alone.
   */
  if (*alone == 0)
    d->surprised = true;
  if (d->probing || *alone == 0)
    return;
  if (d->phase > 0) {
    note_trial (d, bytes, in_flight >= depth_limit (d), now);
    return;
  }
  d->ratio_sum += latency / *alone;
  d->in_flight_sum += in_flight;
  d->in_flight_most = max_u64 (d->in_flight_most, in_flight);
  if (++d->samples >= max_u64 (LEAST_WINDOW, d->limit)) {
    const bool waited = d->in_flight_most >= depth_limit (d);

    adapt (d);
    if (waited && now >= d->trial_due && !depth_serves_one (d) &&
        depth_limit (d) < DEPTH_MOST)
      begin_phase (d, 1, now);
  }
}
