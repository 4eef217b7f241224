/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the depth where a write that waits for a place costs more: its
 * thread sleeps and has to be woken.  Two processors do that work, in virtual
 * time, and the backend serves any number at once.
 *
 *     waits for a place ──> a processor ──> the backend ──> comes again
 *
 * With 64 writers every write waits unless 64 places are free.  So a few places
 * more change nothing, and latencies tell of two processors only.
 */

#include <config.h>

#include "submit/depth.h"
#include "unit.h"

#define US         UINT64_C (1000)
#define MS         (1000 * US)
#define WRITERS    64
#define PROCESSORS 2

struct writer {
  enum { WAITS, RUNNABLE, RUNS, AT_BACKEND } state;
  bool waited;   /* for a place, this time */
  uint64_t turn; /* to get a place, or a processor */
  uint64_t came, began, ends;
  unsigned in_flight; /* when it began */
};

struct simulation {
  struct depth depth;
  struct random random;
  uint64_t now, turns;
  uint64_t work, wake, service; /* ns: of each write; more if it waited */
  struct writer all[WRITERS];
  unsigned in_flight, running;
  uint64_t ended;
};

static uint64_t
about (struct simulation *s, uint64_t time)
{
  return time * (90 + random_below (&s->random, 21)) / 100;
}

/* The writer whose turn it is in a state, or NULL. */
static struct writer *
first (struct simulation *s, int state)
{
  struct writer *w = NULL;
  unsigned i;

  for (i = 0; i < WRITERS; ++i)
    if ((int) s->all[i].state == state &&
        (w == NULL || s->all[i].turn < w->turn))
      w = &s->all[i];
  return w;
}

static void
pass_places (struct simulation *s)
{
  struct writer *w;

  while (s->in_flight < depth_limit (&s->depth) &&
         (w = first (s, WAITS)) != NULL) {
    w->state = RUNNABLE;
    w->waited = w->came < s->now;
    w->began = s->now;
    w->in_flight = ++s->in_flight;
    w->turn = ++s->turns;
  }
}

static void
pass_processors (struct simulation *s)
{
  struct writer *w;

  for (; s->running < PROCESSORS && (w = first (s, RUNNABLE)) != NULL;
       s->running++) {
    w->state = RUNS;
    w->ends = s->now + about (s, s->work + (w->waited ? s->wake : 0));
  }
}

static void
come (struct simulation *s, struct writer *w)
{
  w->state = WAITS;
  w->came = s->now;
  w->turn = ++s->turns;
}

/* To the next event. */
static void
step (struct simulation *s)
{
  struct writer *w = NULL;
  unsigned i;

  pass_places (s);
  pass_processors (s);
  for (i = 0; i < WRITERS; ++i)
    if (s->all[i].state >= RUNS && (w == NULL || s->all[i].ends < w->ends))
      w = &s->all[i];
  must (w != NULL);
  s->now = w->ends;
  if (w->state == RUNS) {
    s->running--;
    w->state = AT_BACKEND;
    w->ends = s->now + about (s, s->service);
    return;
  }
  s->in_flight--;
  s->ended++;
  depth_sample (&s->depth, 4096, true, s->now - w->began, w->in_flight, s->now);
  come (s, w);
}

static uint64_t
ended_in (struct simulation *s, uint64_t ns)
{
  const uint64_t ends = s->now + ns;

  s->ended = 0;
  while (s->now < ends)
    step (s);
  return s->ended;
}

static void
begin (struct simulation *s, unsigned fixed, uint64_t work, uint64_t wake,
       uint64_t service)
{
  unsigned i;

  memset (s, 0, sizeof *s);
  random_seed (&s->random, work + wake + service);
  depth_init (&s->depth, fixed);
  s->now = 1;
  s->work = work;
  s->wake = wake;
  s->service = service;
  for (i = 0; i < WRITERS; ++i)
    come (s, &s->all[i]);
}

/* From 2 s after the start on it writes PERCENT of what it could. */
static void
assert_finds (uint64_t work, uint64_t wake, uint64_t service, unsigned percent)
{
  struct simulation s;
  uint64_t best, n;

  begin (&s, DEPTH_MAX, work, wake, service);
  ended_in (&s, 100 * MS);
  best = ended_in (&s, 1000 * MS);
  begin (&s, 0, work, wake, service);
  ended_in (&s, 2000 * MS);
  n = ended_in (&s, 1000 * MS);
  if (n * 100 < best * percent)
    fail_msg ("%lu us, %lu more if it waited, backend %lu us: %lu of %lu",
              (unsigned long) (work / US), (unsigned long) (wake / US),
              (unsigned long) (service / US), (unsigned long) n,
              (unsigned long) best);
}

static void
test_waiting_costs (void **state)
{
  assert_finds (15 * US, 15 * US, 200 * US, 95);
  assert_finds (25 * US, 8 * US, 200 * US, 95);
}

static void
test_waiting_costs_over_a_backend_that_answers_at_once (void **state)
{
  assert_finds (8 * US, 15 * US, 20 * US, 95);
  assert_finds (8 * US, 8 * US, 20 * US, 95);
}

static void
test_waiting_costs_nothing (void **state)
{
  assert_finds (15 * US, 0, 200 * US, 97);
  assert_finds (15 * US, 0, 20 * US, 97);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_waiting_costs),
    cmocka_unit_test (test_waiting_costs_over_a_backend_that_answers_at_once),
    cmocka_unit_test (test_waiting_costs_nothing),
  };

  return cmocka_run_group_tests_name ("depth-wait", tests, NULL, NULL);
}
