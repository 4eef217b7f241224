/* SPDX-License-Identifier: BSD-3-Clause */

/* How soon the depth and the choice between FUA and write + flush settle when
 * a backend changes while it runs: writers, the queue of submit.c and a backend
 * in simulated time, around the filter's own depth.c and choice.c.
 *
 * Each writer has one write under way, and begins the next when it has ended.
 * A write waits for a place in flight, then for the backend, which serves some
 * requests at once, in the order in which they came.  Flushes are shared as in
 * durable.c.  Nothing is merged.  Time is a number, and the random deviations
 * have seeds, so a run is the same each time.
 */

#include <config.h>

#include "submit/choice.h"
#include "submit/depth.h"
#include "unit.h"

#define MS           UINT64_C (1000000)
#define MOST_WRITERS 128
#define HICCUP       (30 * MS)
#define NEVER        UINT64_MAX

/* A flush waits for writes under way as long as this many flushes last. */
#define COMPANY 4

enum state { WAITS, AT_BACKEND, SERVED, WANTS_FLUSH, BEING_FLUSHED };

struct job {
  enum state state;
  uint64_t came, began, ends, turn;
  unsigned in_flight; /* when it began */
  enum way way;
};

struct simulation {
  struct depth depth;
  struct choice choice;
  struct random random;
  uint64_t now, turns;

  /* The backend. */
  unsigned serve;
  uint64_t write, flush; /* ns of service, less or more by a tenth */
  unsigned hiccups;      /* of so many services, one takes HICCUP more */

  /* The load. */
  unsigned writers;
  bool durable;
  int fixed_way; /* -1: by choice */

  struct job jobs[MOST_WRITERS];
  unsigned in_flight, at_backend;
  struct job flush_job; /* WAITS: there is none */
  uint64_t company_ends;

  /* Of the time that is being measured. */
  uint64_t ended, by_flush, limit_time, above_time, since;
};

static uint64_t
service (struct simulation *s, uint64_t ns)
{
  const bool hiccup =
      s->hiccups > 0 && random_below (&s->random, s->hiccups) == 0;

  return ns * (90 + random_below (&s->random, 21)) / 100 + hiccup * HICCUP;
}

/* Counts how long the limit was what it is, probes included. */
static void
advance (struct simulation *s, uint64_t to)
{
  s->limit_time += (to - s->now) * depth_limit (&s->depth);
  if (depth_limit (&s->depth) > 2 * s->serve)
    s->above_time += to - s->now;
  s->now = to;
}

static void
to_backend (struct simulation *s, struct job *job)
{
  job->state = AT_BACKEND;
  job->began = s->now;
  job->turn = ++s->turns;
}

/* The longest in a state, or NULL. */
static struct job *
oldest (struct simulation *s, enum state state)
{
  struct job *job = NULL;
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->jobs[i].state == state &&
        (job == NULL || s->jobs[i].turn < job->turn))
      job = &s->jobs[i];
  return job;
}

static void
begin_writes (struct simulation *s)
{
  struct job *job;

  while (s->in_flight < depth_limit (&s->depth) &&
         (job = oldest (s, WAITS)) != NULL) {
    job->in_flight = ++s->in_flight;
    job->way = BY_FLAG;
    if (s->durable)
      job->way = s->fixed_way >= 0
                     ? (enum way) s->fixed_way
                     : choice_way (&s->choice, s->writers, s->now);
    to_backend (s, job);
  }
}

/* Writes of which a flush that begins later is to take care. */
static bool
a_client_writes (struct simulation *s)
{
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->jobs[i].state < WANTS_FLUSH)
      return true;
  return false;
}

static void
begin_flush (struct simulation *s)
{
  unsigned i;

  if (s->flush_job.state != WAITS || !oldest (s, WANTS_FLUSH))
    return;
  if (s->company_ends == NEVER)
    s->company_ends = s->now + COMPANY * s->flush;
  if (a_client_writes (s) && s->now < s->company_ends)
    return;
  s->company_ends = NEVER;
  for (i = 0; i < s->writers; ++i)
    if (s->jobs[i].state == WANTS_FLUSH)
      s->jobs[i].state = BEING_FLUSHED;
  to_backend (s, &s->flush_job);
}

static uint64_t
service_of (struct simulation *s, const struct job *job)
{
  if (job == &s->flush_job)
    return service (s, s->flush);
  return service (s, s->write +
                         (s->durable && job->way == BY_FLAG ? s->flush : 0));
}

static void
serve (struct simulation *s)
{
  unsigned i, served = s->flush_job.state == SERVED;
  struct job *job;

  for (i = 0; i < s->writers; ++i)
    served += s->jobs[i].state == SERVED;
  for (; served < s->serve; ++served) {
    job = oldest (s, AT_BACKEND);
    if (s->flush_job.state == AT_BACKEND &&
        (job == NULL || s->flush_job.turn < job->turn))
      job = &s->flush_job;
    if (job == NULL)
      return;
    job->state = SERVED;
    job->ends = s->now + service_of (s, job);
  }
}

static void
end_job (struct simulation *s, struct job *job)
{
  if (s->durable)
    choice_sample (&s->choice, job->way, job->came, s->now);
  s->by_flush += s->durable && job->way == BY_FLUSH;
  s->ended++;
  *job = (struct job){ .state = WAITS, .came = s->now, .turn = ++s->turns };
}

static void
end_write (struct simulation *s, struct job *job)
{
  const bool fua = s->durable && job->way == BY_FLAG;

  s->in_flight--;
  depth_sample (&s->depth, 4096, fua, s->now - job->began, job->in_flight,
                s->now);
  if (s->durable && job->way == BY_FLUSH)
    job->state = WANTS_FLUSH;
  else
    end_job (s, job);
}

static void
end_flush (struct simulation *s)
{
  unsigned i;

  s->flush_job.state = WAITS;
  for (i = 0; i < s->writers; ++i)
    if (s->jobs[i].state == BEING_FLUSHED)
      end_job (s, &s->jobs[i]);
}

static void
step (struct simulation *s)
{
  struct job *next = NULL;
  unsigned i;

  begin_writes (s);
  begin_flush (s);
  serve (s);
  for (i = 0; i < s->writers; ++i)
    if (s->jobs[i].state == SERVED &&
        (next == NULL || s->jobs[i].ends < next->ends))
      next = &s->jobs[i];
  if (s->flush_job.state == SERVED &&
      (next == NULL || s->flush_job.ends < next->ends))
    next = &s->flush_job;
  if (next == NULL || s->company_ends < next->ends) {
    must (s->company_ends != NEVER);
    advance (s, s->company_ends);
    return;
  }
  advance (s, next->ends);
  if (next == &s->flush_job)
    end_flush (s);
  else
    end_write (s, next);
}

static void
run_for (struct simulation *s, uint64_t ns)
{
  const uint64_t ends = s->now + ns;

  s->ended = s->by_flush = s->limit_time = s->above_time = 0;
  s->since = s->now;
  while (s->now < ends)
    step (s);
}

static double
mean_limit (const struct simulation *s)
{
  return (double) s->limit_time / (s->now - s->since);
}

static double
rate (const struct simulation *s)
{
  return s->ended * 1e9 / (s->now - s->since);
}

static void
begin (struct simulation *s, unsigned serve, uint64_t write, uint64_t flush,
       unsigned writers, bool durable)
{
  unsigned i;

  memset (s, 0, sizeof *s);
  random_seed (&s->random, serve * 1000 + writers);
  depth_init (&s->depth, 0);
  s->now = 1;
  s->serve = serve;
  s->write = write;
  s->flush = flush;
  s->writers = writers;
  s->durable = durable;
  s->fixed_way = -1;
  s->company_ends = NEVER;
  for (i = 0; i < writers; ++i)
    s->jobs[i] = (struct job){ .state = WAITS, .came = 1, .turn = ++s->turns };
}

/* The number of calls that the backend admits at once; each change among them,
 * and back.
 */
static const unsigned admitted[] = { 1, 4, 32, 1, 32, 4, 1 };

/* From 2 s after a change on the limit is within a factor of 2 of what the
 * backend serves at once, without trials of more but for moments, and next to
 * nothing of the throughput is lost.
 */
static void
assert_depth_settled (struct simulation *s)
{
  unsigned i;

  run_for (s, 2000 * MS);
  for (i = 0; i < 8; ++i) {
    run_for (s, 500 * MS);
    if (mean_limit (s) < s->serve / 2.0 || mean_limit (s) > s->serve * 2.0)
      fail_msg ("%u at once, %.1f ms: %.1f in flight", s->serve, s->write / 1e6,
                mean_limit (s));
    if (s->above_time > (s->now - s->since) / 20)
      fail_msg ("%u at once, %.1f ms: above twice that for %.0f ms", s->serve,
                s->write / 1e6, s->above_time / 1e6);
    if (rate (s) < 0.9 * s->serve * 1e9 / s->write)
      fail_msg ("%u at once, %.1f ms: %.0f a second", s->serve, s->write / 1e6,
                rate (s));
  }
}

static void
depth_settles (uint64_t write)
{
  struct simulation s;
  size_t i;

  begin (&s, 4, write, 0, MOST_WRITERS, false);
  for (i = 0; i < ARRAY_LEN (admitted); ++i) {
    s.serve = admitted[i];
    assert_depth_settled (&s);
  }
}

static void
test_depth_of_a_fast_backend (void **state)
{
  depth_settles (MS / 5);
}

static void
test_depth_of_a_remote_backend (void **state)
{
  depth_settles (2 * MS);
}

static void
test_depth_of_a_slow_backend (void **state)
{
  depth_settles (10 * MS);
}

/* The rate of a load whose way is fixed, and with a backend that stays. */
static double
rate_by (enum way way, const struct simulation *like)
{
  struct simulation s;

  begin (&s, like->serve, like->write, like->flush, like->writers, true);
  s.fixed_way = way;
  run_for (&s, 3000 * MS);
  run_for (&s, 3000 * MS);
  return rate (&s);
}

/* From 2 s after a change on the better of the ways is in use: the rate is
 * nearly that of a caller that always uses it, trials included.
 */
static void
assert_choice_settled (struct simulation *s)
{
  const double flag = rate_by (BY_FLAG, s);
  const double flush = rate_by (BY_FLUSH, s);
  unsigned i;

  run_for (s, 2000 * MS);
  for (i = 0; i < 4; ++i) {
    run_for (s, 1000 * MS);
    /* The flag is kept unless the flush is clearly better; a trial falls into
     * some of these seconds.
     */
    if (rate (s) < 0.93 * (flag > flush * 0.75 ? flag : flush))
      fail_msg ("%u at once, write %.1f ms, flush %.1f ms: %.0f a second, by "
                "flag %.0f, by flush %.0f",
                s->serve, s->write / 1e6, s->flush / 1e6, rate (s), flag,
                flush);
  }
}

static void
choice_settles (uint64_t write, uint64_t flush, unsigned writers)
{
  struct simulation s;
  size_t i;

  begin (&s, 4, write, flush, writers, true);
  for (i = 0; i < ARRAY_LEN (admitted); ++i) {
    s.serve = admitted[i];
    assert_choice_settled (&s);
  }
}

static void
test_choice_of_16_writers (void **state)
{
  choice_settles (MS / 5, 2 * MS, 16);
}

static void
test_choice_of_64_writers (void **state)
{
  choice_settles (MS / 5, 2 * MS, 64);
}

static void
test_choice_when_the_flush_is_cheap (void **state)
{
  choice_settles (2 * MS, MS / 5, 16);
}

/* The cost of a flush changes, not how many are served. */
static void
test_choice_when_the_flush_changes (void **state)
{
  static const uint64_t flushes[] = { MS / 10, 4 * MS, MS / 10, 10 * MS };
  struct simulation s;
  size_t i;

  begin (&s, 4, MS / 2, flushes[0], 16, true);
  for (i = 0; i < ARRAY_LEN (flushes); ++i) {
    s.flush = flushes[i];
    assert_choice_settled (&s);
  }
}

/* The machine is busy: a service takes much longer now and then. */
static void
test_choice_on_a_busy_machine (void **state)
{
  struct simulation s;
  unsigned i;

  begin (&s, 1, MS / 5, 2 * MS, 16, true);
  s.hiccups = 80;
  run_for (&s, 2000 * MS);
  run_for (&s, 60000 * MS);
  assert_true (s.by_flush > 0.95 * s.ended);
  s.serve = 32;
  s.flush = MS / 10;
  for (i = 0; i < 2; ++i)
    run_for (&s, 30000 * MS);
  assert_true (s.by_flush < 0.03 * s.ended);
}

/* Lets the last of the writers go, once his write has ended. */
static void
step_down (struct simulation *s)
{
  if (s->jobs[s->writers - 1].state == WAITS)
    s->writers--;
  else
    step (s);
}

/* There is no other request to share a flush with. */
static void
test_choice_of_a_single_writer (void **state)
{
  struct simulation s;

  begin (&s, 1, MS / 5, 2 * MS, 16, true);
  assert_choice_settled (&s);
  assert_int_equal (s.choice.chosen, BY_FLUSH);
  while (s.writers > 1)
    step_down (&s);
  run_for (&s, 2000 * MS);
  run_for (&s, 2000 * MS);
  assert_int_equal (s.by_flush, 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_depth_of_a_fast_backend),
    cmocka_unit_test (test_depth_of_a_remote_backend),
    cmocka_unit_test (test_depth_of_a_slow_backend),
    cmocka_unit_test (test_choice_of_16_writers),
    cmocka_unit_test (test_choice_of_64_writers),
    cmocka_unit_test (test_choice_when_the_flush_is_cheap),
    cmocka_unit_test (test_choice_when_the_flush_changes),
    cmocka_unit_test (test_choice_on_a_busy_machine),
    cmocka_unit_test (test_choice_of_a_single_writer),
  };

  return cmocka_run_group_tests_name ("settling", tests, NULL, NULL);
}
