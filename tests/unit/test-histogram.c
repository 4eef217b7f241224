/* SPDX-License-Identifier: BSD-3-Clause */

/* Histograms: bounds, sums, and readers beside writers. */

#include <config.h>

#include "base/histogram.h"
#include "unit.h"

#define WRITERS 4
#define VALUES  20000

static void
test_empty (void **state)
{
  struct histogram h = { 0 };
  const struct histogram_view v = histogram_view (&h, &latency_scale);
  unsigned i;

  for (i = 0; i <= latency_scale.count; ++i)
    assert_int_equal (v.up_to[i], 0);
  assert_int_equal (v.sum, 0);
  assert_int_equal (histogram_count (&v, &latency_scale), 0);
}

static void
test_scales_rise (void **state)
{
  static const struct scale *const scales[] = { &latency_scale, &number_scale };
  unsigned i, s;

  for (s = 0; s < 2; ++s) {
    assert_true (scales[s]->count <= HISTOGRAM_BOUNDS);
    for (i = 1; i < scales[s]->count; ++i)
      assert_true (scales[s]->bounds[i - 1] < scales[s]->bounds[i]);
  }
  assert_int_equal (latency_scale.bounds[0], 100000);
  assert_int_equal (latency_scale.bounds[latency_scale.count - 1],
                    UINT64_C (60000000000));
}

/* A bound belongs to its own bucket. */
static void
test_bounds (void **state)
{
  const struct scale *scale = &number_scale;
  struct histogram_view v;
  unsigned i;

  for (i = 0; i < scale->count; ++i) {
    struct histogram h = { 0 };

    histogram_note (&h, scale, scale->bounds[i]);
    histogram_note (&h, scale, scale->bounds[i] + 1);
    v = histogram_view (&h, scale);
    if (i > 0)
      assert_int_equal (v.up_to[i - 1], 0);
    assert_int_equal (v.up_to[i], 1);
    assert_int_equal (v.up_to[i + 1], 2);
    assert_int_equal (histogram_count (&v, scale), 2);
    assert_int_equal (v.sum, 2 * scale->bounds[i] + 1);
  }
}

static void
test_far_values (void **state)
{
  struct histogram h = { 0 };
  struct histogram_view v;

  histogram_note (&h, &latency_scale, 0);
  histogram_note (&h, &latency_scale, UINT64_C (3600000000000));
  v = histogram_view (&h, &latency_scale);
  assert_int_equal (v.up_to[0], 1);
  assert_int_equal (v.up_to[latency_scale.count - 1], 1);
  assert_int_equal (histogram_count (&v, &latency_scale), 2);
}

static void
write_values (void *arg)
{
  struct random r;
  unsigned i;

  random_seed (&r, 1);
  for (i = 0; i < VALUES; ++i)
    histogram_note (arg, &number_scale, random_below (&r, 200));
}

/* A reader meanwhile sees rising buckets; no value is lost. */
static void
test_readers_and_writers (void **state)
{
  static struct histogram h;
  struct thread threads[WRITERS];
  struct histogram_view v;
  uint64_t count, last = 0;
  unsigned i, n;

  for (i = 0; i < WRITERS; ++i)
    thread_start (&threads[i], write_values, &h);
  for (n = 0; n < 1000; ++n) {
    v = histogram_view (&h, &number_scale);
    for (i = 1; i <= number_scale.count; ++i)
      assert_true (v.up_to[i - 1] <= v.up_to[i]);
    count = histogram_count (&v, &number_scale);
    assert_true (count >= last);
    last = count;
  }
  for (i = 0; i < WRITERS; ++i)
    thread_join (&threads[i]);
  v = histogram_view (&h, &number_scale);
  assert_int_equal (histogram_count (&v, &number_scale), WRITERS * VALUES);
  assert_int_equal (v.sum % WRITERS, 0);
}

/* A value of one thread stands for many, and views add up. */
static void
test_weights (void **state)
{
  struct histogram h = { 0 };
  struct histogram_view v;

  histogram_note_own (&h, &request_scale, 5000, 1024);
  histogram_note_own (&h, &request_scale, 5000, 1);
  v = histogram_view (&h, &request_scale);
  assert_int_equal (v.up_to[1], 0); /* 3 us */
  assert_int_equal (v.up_to[2], 1025);
  assert_int_equal (histogram_count (&v, &request_scale), 1025);
  assert_int_equal (v.sum, 1025 * 5000);
  histogram_add (&v, &h, &request_scale);
  assert_int_equal (v.up_to[1], 0);
  assert_int_equal (histogram_count (&v, &request_scale), 2050);
  assert_int_equal (v.sum, 2050 * 5000);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_empty),
    cmocka_unit_test (test_scales_rise),
    cmocka_unit_test (test_bounds),
    cmocka_unit_test (test_far_values),
    cmocka_unit_test (test_readers_and_writers),
    cmocka_unit_test (test_weights),
  };

  return cmocka_run_group_tests_name ("histogram", tests, NULL, NULL);
}
