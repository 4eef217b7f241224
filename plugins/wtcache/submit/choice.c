/* SPDX-License-Identifier: BSD-3-Clause */

/* Which of two ways to make writes durable is cheaper: the FUA flag on each,
 * or plain writes and one flush that they share.
 *
 * It depends on the backend, on how many writes come at once, and on time; so
 * it is measured.  A trial gives each way two windows of writes in turn, first
 * the one in use.  The better of a way's windows counts, since what disturbs a
 * machine only ever makes one worse; the way with the smaller mean latency is
 * used until the next trial.  A trial that speaks for a change is repeated
 * before it is believed, unless the difference is too large for a disturbance.
 * The flag is kept unless the flush is clearly better, and comes back for
 * writes that come one by one.
 *
 * A trial of a way that is many times worse is what all of this costs.  So it
 * ends as soon as that shows: after a few latencies of the way in use, when
 * fewer than half as many writes ended as would have by that.  And one that
 * changes nothing is repeated after twice the time, unless the latency of the
 * way in use, which is always looked at, tells that something has changed.
 *
 * Policy alone: the caller serialises the calls and reads the clock.
 */

#include <config.h>

#include <string.h>

#include "base/util.h"
#include "submit/choice.h"

#define WINDOW       16 /* the least of writes of a way in a trial, */
#define WINDOW_MAX   256
#define WINDOWS      (2 * WAYS)
#define WATCHED      64 /* and outside, to see whether something has changed */
#define PATIENCE     3  /* latencies until a trial may be given up */
#define HANG         16 /* and without any, */
#define HANG_NS      UINT64_C (100000000) /* at least so long */
#define PLAIN        4 /* times worse, and another window is not needed */
#define INTERVAL_NS  UINT64_C (1000000000)
#define SOON_NS      (INTERVAL_NS / 10)
#define INTERVAL_MAX (8 * INTERVAL_NS)

static void
begin_window (struct choice *c, enum way way, uint64_t now)
{
  c->way = way;
  c->began = now;
  c->sum = 0;
  c->samples = c->passed = 0;
}

static void
begin_trial (struct choice *c, uint64_t now)
{
  c->trials = WINDOWS;
  c->mean[BY_FLAG] = c->mean[BY_FLUSH] = 0;
  begin_window (c, c->chosen, now);
}

/* Whether a trial is due. */
static bool
is_due (const struct choice *c, uint64_t now)
{
  return now >= c->tried + (c->surprised ? c->again : c->interval);
}

static bool
is_better_by_flush (const struct choice *c)
{
  /* Staying with the flush needs less than changing to it: no swinging. */
  const double part = c->chosen == BY_FLUSH ? 0.95 : 0.8;

  return c->mean[BY_FLUSH] < part * c->mean[BY_FLAG];
}

/* After one window of each way: no disturbance makes such a difference. */
static bool
is_plain (const struct choice *c)
{
  const uint64_t min = min_u64 (c->mean[BY_FLAG], c->mean[BY_FLUSH]);
  const uint64_t max = max_u64 (c->mean[BY_FLAG], c->mean[BY_FLUSH]);

  return min > 0 && max > PLAIN * min;
}

static void
end_trial (struct choice *c, uint64_t now)
{
  const enum way better = is_better_by_flush (c) ? BY_FLUSH : BY_FLAG;
  const bool changed = better != c->chosen;

  /* One trial may have been disturbed. */
  c->unsure = changed && !c->unsure && !is_plain (c);
  if (c->unsure) {
    begin_trial (c, now);
    return;
  }
  c->trials = 0;
  c->tried = now;
  c->chosen = better;
  /* A trial that was disturbed shows soon in what follows. */
  c->again = changed ? SOON_NS : INTERVAL_NS;
  c->interval = c->surprised || changed
                    ? INTERVAL_NS
                    : clamp_u64 (2 * c->interval, INTERVAL_NS, INTERVAL_MAX);
  c->surprised = false;
  begin_window (c, c->chosen, now);
}

/* The end of a window of a trial. */
static void
end_window (struct choice *c, uint64_t now)
{
  const uint64_t mean = c->sum / c->samples;

  if (c->mean[c->way] == 0 || mean < c->mean[c->way])
    c->mean[c->way] = mean;
  if (--c->trials == 0 || is_plain (c)) {
    end_trial (c, now);
    return;
  }
  if (c->way == c->chosen)
    c->rate = c->passed / (double) max_u64 (now - c->began, 1);
  begin_window (c, c->way == BY_FLAG ? BY_FLUSH : BY_FLAG, now);
}

/* The other way is on trial, for longer than PATIENCE, and so bad that more
 * need not be known.
 */
static bool
is_hopeless (const struct choice *c, uint64_t patience, uint64_t now)
{
  const uint64_t time = now - c->began;

  return c->trials > 0 && c->way != c->chosen && time > patience &&
         c->passed < c->rate * time / 2;
}

static void
give_up (struct choice *c, uint64_t now)
{
  if (c->mean[c->way] == 0)
    c->mean[c->way] = 2 * c->mean[c->chosen];
  end_trial (c, now);
}

/* Outside of trials: notes whether the latency is as it was. */
static void
watch (struct choice *c, uint64_t now)
{
  const uint64_t mean = c->sum / c->samples;
  const uint64_t expected = c->mean[c->chosen];

  if (mean > expected * 5 / 4 || mean < expected * 7 / 8)
    c->surprised = true;
  begin_window (c, c->chosen, now);
}

void
choice_sample (struct choice *c, enum way way, uint64_t came, uint64_t now)
{
  c->passed++;
  if (way == c->way && came >= c->began) {
    c->sum += now - came;
    c->samples++;
  }
  if (c->trials == 0) {
    if (c->samples >= WATCHED)
      watch (c, now);
  }
  else if (c->samples >= c->window)
    end_window (c, now);
  else if (is_hopeless (c, PATIENCE * c->mean[c->chosen], now))
    give_up (c, now);
}

/* How many writes go at once, by the most of late.  When a shared flush has
 * ended its writers come back one after another, so IN_FLIGHT alone says
 * little.
 */
static void
note_crowd (struct choice *c, unsigned in_flight)
{
  c->crowd = c->crowd * (WINDOW_MAX - 1) / WINDOW_MAX;
  if (c->crowd < in_flight)
    c->crowd = in_flight;
}

enum way
choice_way (struct choice *c, unsigned in_flight, uint64_t now)
{
  note_crowd (c, in_flight);
  if (in_flight < 2) {
    /* The first of many comes alone too, but not one after another. */
    if (++c->alone >= WINDOW) {
      c->chosen = BY_FLAG;
      return BY_FLAG;
    }
  }
  else {
    c->alone = 0;
    if (c->trials == 0 && is_due (c, now)) {
      /* The first of them still wait for what went the other way. */
      c->window = clamp_u64 (2 * c->crowd, WINDOW, WINDOW_MAX);
      begin_trial (c, now);
    }
  }
  /* Writes that hang give no sample; those that share a flush, many at once. */
  if (is_hopeless (c, max_u64 (HANG * c->mean[c->chosen], HANG_NS), now))
    give_up (c, now);
  return c->trials > 0 ? c->way : c->chosen;
}
