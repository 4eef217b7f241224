/* SPDX-License-Identifier: BSD-3-Clause */

/* How soon the depth and the choice between FUA and write + flush settle when
 * a backend changes while it runs, in virtual time: see simulation.c.
 */

#include <config.h>

#include "simulation.h"

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

  simulation_run (s, 2000 * MS);
  for (i = 0; i < 8; ++i) {
    simulation_run (s, 500 * MS);
    if (simulation_limit (s) < s->serve / 2.0 ||
        simulation_limit (s) > s->serve * 2.0)
      fail_msg ("%u at once, %.1f ms: %.1f in flight", s->serve, s->write / 1e6,
                simulation_limit (s));
    if (s->above_time > (s->now - s->since) / 20)
      fail_msg ("%u at once, %.1f ms: above twice that for %.0f ms", s->serve,
                s->write / 1e6, s->above_time / 1e6);
    if (simulation_rate (s) < 0.9 * s->serve * 1e9 / s->write)
      fail_msg ("%u at once, %.1f ms: %.0f a second", s->serve, s->write / 1e6,
                simulation_rate (s));
  }
}

static void
depth_settles (uint64_t write)
{
  static struct simulation s;
  size_t i;

  simulation_begin (&s, 0, 4, write, 0, 128, false);
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
  static struct simulation s;

  simulation_begin (&s, 0, like->serve, like->write, like->flush, like->writers,
                    true);
  s.fixed_way = way;
  simulation_run (&s, 3000 * MS);
  simulation_run (&s, 3000 * MS);
  return simulation_rate (&s);
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

  simulation_run (s, 2000 * MS);
  for (i = 0; i < 4; ++i) {
    simulation_run (s, 1000 * MS);
    /* The flag is kept unless the flush is clearly better; a trial falls into
     * some of these seconds.
     */
    if (simulation_rate (s) < 0.93 * (flag > flush * 0.75 ? flag : flush))
      fail_msg ("%u at once, write %.1f ms, flush %.1f ms: %.0f a second, by "
                "flag %.0f, by flush %.0f",
                s->serve, s->write / 1e6, s->flush / 1e6, simulation_rate (s),
                flag, flush);
  }
}

static void
choice_settles (uint64_t write, uint64_t flush, unsigned writers)
{
  static struct simulation s;
  size_t i;

  simulation_begin (&s, 0, 4, write, flush, writers, true);
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
  static struct simulation s;
  size_t i;

  simulation_begin (&s, 0, 4, MS / 2, flushes[0], 16, true);
  for (i = 0; i < ARRAY_LEN (flushes); ++i) {
    s.flush = flushes[i];
    assert_choice_settled (&s);
  }
}

/* The machine is busy: a service takes much longer now and then. */
static void
test_choice_on_a_busy_machine (void **state)
{
  static struct simulation s;
  unsigned i;

  simulation_begin (&s, 0, 1, MS / 5, 2 * MS, 16, true);
  s.hiccups = 80;
  simulation_run (&s, 2000 * MS);
  simulation_run (&s, 60000 * MS);
  assert_true (s.by_flush > 0.95 * s.ended);
  s.serve = 32;
  s.flush = MS / 10;
  for (i = 0; i < 2; ++i)
    simulation_run (&s, 30000 * MS);
  assert_true (s.by_flush < 0.03 * s.ended);
}

/* There is no other request to share a flush with. */
static void
test_choice_of_a_single_writer (void **state)
{
  static struct simulation s;
  unsigned i;

  simulation_begin (&s, 0, 1, MS / 5, 2 * MS, 16, true);
  assert_choice_settled (&s);
  assert_int_equal (s.policy.choice.chosen, BY_FLUSH);
  for (i = 1; i < s.writers; ++i)
    s.all[i].idle = true;
  simulation_run (&s, 2000 * MS);
  simulation_run (&s, 2000 * MS);
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
