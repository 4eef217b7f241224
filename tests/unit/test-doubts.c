/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the ranges that are in doubt. */

#include <config.h>

#include "pagecache/doubts.h"
#include "unit.h"

static struct doubts *
doubts_new (void)
{
  struct doubts *d = malloc (sizeof *d);

  must (d != NULL);
  doubts_init (d);
  return d;
}

static void
release (struct doubts *d)
{
  doubts_destroy (d);
  free (d);
}

static bool
is_in_doubt (struct doubts *d, uint64_t offset)
{
  struct doubt all[DOUBTS_MAX];
  const unsigned count = doubts_fail (d, 0, all);
  unsigned i;

  for (i = 0; i < count; ++i)
    if (offset >= all[i].offset && offset < all[i].end)
      return true;
  return false;
}

static void
test_what_overlaps_is_one (void **state)
{
  struct doubt all[DOUBTS_MAX];
  struct doubts *d = doubts_new ();

  assert_int_equal (doubts_fail (d, 0, all), 0);
  doubts_add (d, 4096, 4096, 0, 0);
  doubts_add (d, 8191, 513, 0, 0);
  doubts_add (d, 0, 4097, 0, 0);
  doubts_add (d, 8704, 1, 0, 0);
  assert_int_equal (doubts_fail (d, 0, all), 2);
  assert_int_equal (all[0].offset, 0);
  assert_int_equal (all[0].end, 8704);
  assert_true (is_in_doubt (d, 8704));
  assert_false (is_in_doubt (d, 8705));
  release (d);
}

/* Flush number 3 covers what arose when two had begun, not what came later. */
static void
test_flush_begun_later_settles (void **state)
{
  struct doubts *d = doubts_new ();

  doubts_add (d, 0, 512, 2, 0);
  doubts_add (d, 4096, 512, 3, 0);
  doubts_add (d, 8192, 512, 2, 0);
  doubts_add (d, 8192, 1024, 3, 0);
  doubts_add (d, 8192, 512, 2, 0);
  doubts_settle (d, 3);
  assert_false (is_in_doubt (d, 0));
  assert_true (is_in_doubt (d, 4096));
  assert_true (is_in_doubt (d, 8192));
  doubts_settle (d, 4);
  assert_false (is_in_doubt (d, 4096));
  assert_false (is_in_doubt (d, 8192));
  release (d);
}

/* A failure begun in epoch 5 makes an end of what arose before that epoch. */
static void
test_failure_begun_later_ends (void **state)
{
  struct doubt all[DOUBTS_MAX];
  struct doubts *d = doubts_new ();

  doubts_add (d, 0, 512, 0, 4);
  doubts_add (d, 4096, 512, 0, 5);
  assert_int_equal (doubts_fail (d, 5, all), 2);
  assert_false (is_in_doubt (d, 0));
  assert_true (is_in_doubt (d, 4096));
  doubts_add (d, 4096, 512, 0, 6);
  assert_int_equal (doubts_fail (d, 6, all), 1);
  assert_int_equal (doubts_fail (d, 7, all), 1);
  assert_int_equal (doubts_fail (d, 8, all), 0);
  release (d);
}

/* However many there are, each stays in doubt. */
static void
test_too_many_are_merged (void **state)
{
  struct doubts *d = doubts_new ();
  uint64_t offset;

  for (offset = 0; offset < 3 * DOUBTS_MAX; ++offset)
    doubts_add (d, offset * 1000003 % 1009 * 8192, 512, 0, 0);
  for (offset = 0; offset < 3 * DOUBTS_MAX; ++offset)
    assert_true (is_in_doubt (d, offset * 1000003 % 1009 * 8192));
  release (d);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_what_overlaps_is_one),
    cmocka_unit_test (test_flush_begun_later_settles),
    cmocka_unit_test (test_failure_begun_later_ends),
    cmocka_unit_test (test_too_many_are_merged),
  };

  return cmocka_run_group_tests_name ("doubts", tests, NULL, NULL);
}
