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
 * The latency of one alone is measured now and then by a short probe with one
 * batch in flight, as BBR finds its least round trip (Cardwell and others,
 * 2016): a backend which is always loaded would pass its queue off as its
 * nature.  A probe costs a parallel backend some of its throughput.  That K
 * changes shows without one, so while all is as it was they are rare, and come
 * soon where something cannot be: batches faster than one alone, a size that
 * was never seen alone, or a limit that has moved far.
 *
 * Means are compared, not the least: on a busy machine all take longer, alone
 * too.  Latencies depend on the size and on FUA, so each power of two has its
 * own, twice.
 *
 * A backend that commits in groups answers each the later the more there are,
 * and yet does more in all: its latency looks like a queue.  So throughput is
 * compared as well, at two depths, low and high in turn, twice; both pairs have
 * to agree before anything changes, as in the trials of PCC (Dong and others,
 * 2015).  A depth that proved to move clearly more becomes a floor under the
 * limit.  The first trial is of the depth at which all began, whatever the
 * limit came to; later ones, where writes wait, are of twice what is in use.
 * By turns the floor has to prove itself, against the limit or half of it.  A
 * loss may be noise, so a short trial is repeated; lost again, the floor goes,
 * or what is higher rests for long: only a surprise lets it be tried sooner.
 *
 * A write that waits costs more: its thread sleeps and has to be woken.  Where
 * a batch takes a fraction of a millisecond, that can be most of the work. Then
 * latencies tell of the processors, and a few places more change nothing, since
 * every write waits until there is a place for each.  So there, when twice as
 * many have lost, the most that may be in flight are tried before it rests.
 *
 * Policy alone: the caller serialises the calls and reads the clock.
 */

#include <config.h>

#include <string.h>

#include "base/util.h"
#include "submit/depth.h"

#define PERIOD_NS      UINT64_C (10000000000) /* of probes, while all is well */
#define SURPRISED_NS   UINT64_C (1000000000)  /* and when something changed */
#define FIRST_TRIAL_NS UINT64_C (50000000)    /* after a change */
#define PROBE_NS       UINT64_C (50000000) /* a probe lasts at most so long, */
#define PROBE_SAMPLES  6                   /* or so many batches */
#define FIRST_LIMIT    16
#define MIN_WINDOW     8
#define MARGIN         1.5  /* of the limit over what is served at once */
#define QUEUED         1.1  /* ratio of latencies from which some have waited */
#define MIN_RATIO      0.75 /* below, one alone takes less too */
#define FAR            1.5  /* how much the limit may change without a probe */
#define STEADY         1.1  /* it has changed in a window by no more */
#define PHASES         4    /* of a trial: low, high, low, high, */
#define PHASE_ROUNDS   4    /* each of so many times its depth of batches, */
#define MIN_PHASE      16   /* or so few, of a trial of the floor, */
#define PHASE_NS       UINT64_C (50000000)  /* or so long, */
#define MAX_PHASE_NS   UINT64_C (200000000) /* beyond which it tries no more */
#define STEP           2                    /* what a trial tries, of now */
#define GAIN           1.1    /* that a higher limit has to bring, and */
#define FLOOR_GAIN     1.15   /* the floor for each doubling up to it */
#define QUICK_NS       750000 /* alone; then what it costs to wait counts */
#define MIN_LEAP       4      /* below, the backend serves one or two */
#define LONG_TRIAL_NS  UINT64_C (400000000) /* what is seen so long is true */

void
depth_init (struct depth *d, unsigned fixed)
{
  memset (d, 0, sizeof *d);
  d->automatic = fixed == 0;
  d->limit = fixed ? fixed : FIRST_LIMIT;
  d->untried = true;
}

static bool
is_high (const struct depth *d)
{
  return d->phase > 0 && d->phase % 2 == 0;
}

unsigned
depth_limit (const struct depth *d)
{
  if (d->probing)
    return 1;
  if (d->phase > 0)
    return is_high (d) ? d->high : d->low;
  return max_u64 (d->limit, d->floor);
}

bool
depth_serves_one (const struct depth *d)
{
  return d->limit < 3 && d->floor < 3 && !is_high (d);
}

static unsigned
size_class (uint64_t bytes, bool fua)
{
  const unsigned size = log2_u64 (max_u64 (bytes, 512) / 512);

  return min_u64 (size, DEPTH_CLASSES - 1) + (fua ? DEPTH_CLASSES : 0);
}

static void
begin_samples (struct depth *d)
{
  d->ratio_sum = 0;
  d->samples = d->in_flight_sum = d->in_flight_max = d->unknown = 0;
}

/* The end of a window with D->SAMPLES batches. */
static void
adapt_limit (struct depth *d)
{
  const double ratio = d->ratio_sum / d->samples;
  const double in_flight = (double) d->in_flight_sum / d->samples;
  const bool queued = ratio > QUEUED;
  const double served = queued ? in_flight / ratio : d->in_flight_max;
  const double wanted = MARGIN * served + 1;

  /* Few in flight because few came say nothing of what could be. */
  if (wanted < d->limit ? queued && in_flight > wanted / 2
                        : d->in_flight_max > d->limit / 2)
    d->limit = (d->limit + wanted) / 2;
  if (d->limit > DEPTH_MAX)
    d->limit = DEPTH_MAX;
  if (ratio < MIN_RATIO || d->limit > FAR * d->limit_probed ||
      d->limit < d->limit_probed / FAR)
    d->surprised = true;
}

/* A batch that had the backend to itself. */
static void
note_alone (struct depth *d, double *alone, uint64_t latency)
{
  *alone = *alone == 0 ? latency : *alone * 0.75 + latency * 0.25;
  if (d->probing && ++d->samples >= PROBE_SAMPLES) {
    d->probing = false;
    begin_samples (d);
  }
}

/* MAX: that may be in flight yet of what came before. */
static void
begin_phase (struct depth *d, unsigned phase, unsigned max, uint64_t now)
{
  d->phase = phase;
  d->phase_began = now;
  d->phase_skips = max;
  d->phase_bytes = d->phase_batches = d->phase_max = 0;
}

/* The floor has to prove itself, or, by turns, something higher may.  MAX were
 * in flight in the last window; STEADY: the limit hardly changed in it.
 */
static void
try_depths (struct depth *d, unsigned max, bool steady, uint64_t now)
{
  const unsigned limit = depth_limit (d);
  const unsigned used = min_u64 (max, d->floor);
  const bool may_climb = steady && max >= limit && limit < DEPTH_MAX &&
                         (d->untried || !depth_serves_one (d));
  const unsigned higher =
      d->leaps ? DEPTH_MAX
               : max_u64 (STEP * limit, d->untried ? FIRST_LIMIT : 0);

  if (used <= d->limit)
    d->tries_floor = false;
  else if (!d->doubted)
    d->tries_floor = !(d->tries_floor && may_climb);
  if (!d->tries_floor && !may_climb) {
    d->doubted = false;
    return;
  }
  d->low = d->tries_floor ? min_u64 (d->limit, used / STEP) : limit;
  d->high = d->tries_floor ? d->floor : min_u64 (higher, DEPTH_MAX);
  d->trial_began = now;
  begin_phase (d, 1, max, now);
}

/* Whether a trial may take long: one whose result is kept for long. */
static bool
may_take_long (const struct depth *d)
{
  return d->tries_floor || d->untried;
}

static void
end_phases (struct depth *d, uint64_t interval, uint64_t now)
{
  d->trial_interval = interval;
  d->trial_due = now + interval;
  d->phase = 0;
  begin_samples (d);
}

/* A trial told nothing, or that the floor is worth it still. */
static void
change_nothing (struct depth *d, uint64_t now)
{
  d->doubted = false;
  end_phases (d, min_u64 (4 * d->trial_interval, PERIOD_NS), now);
}

/* HIGH moves clearly more. */
static void
note_gain (struct depth *d, uint64_t now)
{
  if (d->tries_floor) {
    change_nothing (d, now);
    return;
  }
  d->floor = d->high;
  d->untried = d->doubted = d->leaps = false;
  end_phases (d, FIRST_TRIAL_NS, now);
}

/* A climb has lost, though as many were in flight as it let in: so writes
 * waited for a place all the same, which DEPTH_MAX places may end.
 */
static bool
may_leap (const struct depth *d)
{
  return d->is_quick && d->low >= MIN_LEAP && !d->tries_floor && !d->leaps &&
         d->phase_max >= d->high && d->high < DEPTH_MAX;
}

/* HIGH does not.  It is believed when it has been seen twice, or for long, or
 * where it would have been plain, against two.
 */
static void
note_loss (struct depth *d, uint64_t now)
{
  const bool is_plain = may_take_long (d) &&
                        (d->low <= 2 || now >= d->trial_began + LONG_TRIAL_NS);

  if (!d->doubted && !is_plain) {
    d->doubted = true;
    end_phases (d, FIRST_TRIAL_NS, now);
    return;
  }
  if (d->tries_floor)
    d->floor = 0;
  d->leaps = may_leap (d);
  d->untried = d->doubted = false;
  end_phases (d, d->leaps ? FIRST_TRIAL_NS : PERIOD_NS, now);
}

/* So many must have been in flight in a phase for it to tell something: with
 * too few writers a floor would seem to be of no use.
 */
static unsigned
needed (const struct depth *d)
{
  if (!is_high (d))
    return d->low;
  return d->tries_floor ? STEP * d->low : d->low + 1;
}

/* Whether RATE is clearly more than that of the low phase.  Depth is latency,
 * so the more a floor adds, the more it has to bring.
 */
static bool
is_gain (const struct depth *d, double rate)
{
  double min = d->rate_low;
  unsigned n = STEP * d->low;

  do
    min *= d->tries_floor ? FLOOR_GAIN : GAIN;
  while ((n *= 2) <= d->phase_max);
  return rate >= min;
}

/* A batch of a trial has ended. */
static void
note_trial (struct depth *d, uint64_t bytes, unsigned in_flight, uint64_t now)
{
  const unsigned depth = depth_limit (d);
  const unsigned min = max_u64 (depth, d->tries_floor ? MIN_PHASE : 0);
  double rate;
  bool gained;

  /* It became so slow that the estimate tells more, and sooner. */
  if (!may_take_long (d) && now >= d->phase_began + MAX_PHASE_NS) {
    note_loss (d, now);
    return;
  }
  if (d->phase_skips > 0) { /* it began before the phase */
    if (--d->phase_skips == 0)
      d->phase_began = now;
    return;
  }
  d->phase_bytes += bytes;
  d->phase_max = max_u64 (d->phase_max, in_flight);
  if (++d->phase_batches < min || (d->phase_batches < PHASE_ROUNDS * depth &&
                                   now < d->phase_began + PHASE_NS))
    return;
  if (d->phase_max < needed (d)) {
    change_nothing (d, now);
    return;
  }
  rate = d->phase_bytes / (double) max_u64 (now - d->phase_began, 1);
  gained = is_gain (d, rate);
  if (!is_high (d)) {
    /* The higher depth has to beat the better of the two. */
    if (d->tries_floor || d->phase == 1 || rate > d->rate_low)
      d->rate_low = rate;
  }
  else if (d->phase == PHASES || gained == d->tries_floor) {
    if (gained)
      note_gain (d, now);
    else
      note_loss (d, now);
    return;
  }
  begin_phase (d, d->phase + 1, d->phase_max, now);
}

static bool
is_probe_due (const struct depth *d, uint64_t now)
{
  /* A surprise lets a trial end first. */
  const bool soon = d->surprised && d->phase == 0;

  return d->probe_ends == 0 ||
         now >= d->probe_began + (soon ? SURPRISED_NS : PERIOD_NS);
}

static void
begin_probe (struct depth *d, uint64_t now)
{
  if (d->surprised || d->probe_ends == 0) {
    d->doubted = d->leaps = false;
    d->trial_interval = FIRST_TRIAL_NS;
    d->trial_due = now + PROBE_NS + d->trial_interval;
  }
  d->probe_began = now;
  d->probe_ends = now + PROBE_NS;
  d->limit_probed = d->limit;
  d->probing = d->limit >= 2;
  d->surprised = false;
  d->phase = 0;
  begin_samples (d);
}

static void
end_samples (struct depth *d, uint64_t now)
{
  const unsigned max = d->in_flight_max;
  const double before = d->limit;

  adapt_limit (d);
  begin_samples (d);
  if (d->limit > STEP * d->floor)
    d->floor = 0; /* needed no more, and soon wrong if the limit falls */
  if (now >= d->trial_due && d->limit < STEADY * before)
    try_depths (d, max, before < STEADY * d->limit, now);
}

void
depth_sample (struct depth *d, uint64_t bytes, bool fua, uint64_t latency,
              unsigned in_flight, uint64_t now)
{
  double *alone = &d->alone[size_class (bytes, fua)];

  if (!d->automatic)
    return;
  if (is_probe_due (d, now))
    begin_probe (d, now);
  else if (d->probing && now >= d->probe_ends) {
    d->probing = false;
    begin_samples (d);
  }

  if (in_flight == 1)
    note_alone (d, alone, latency);
  d->is_quick = *alone > 0 && *alone < QUICK_NS;
  if (d->probing) /* what began before it ends in it, and counts for nothing */
    return;
  if (d->phase > 0) {
    note_trial (d, bytes, in_flight, now);
    return;
  }
  if (*alone == 0) { /* nor does a class that was never seen alone */
    if (++d->unknown >= MIN_WINDOW)
      d->surprised = true;
    return;
  }
  d->ratio_sum += latency / *alone;
  d->in_flight_sum += in_flight;
  d->in_flight_max = max_u64 (d->in_flight_max, in_flight);
  if (++d->samples >= max_u64 (MIN_WINDOW, depth_limit (d)))
    end_samples (d, now);
}
