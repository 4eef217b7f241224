/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of lost zeroes that are done again in parts. */

#include <config.h>

#include <errno.h>
#include <limits.h>

#include "stack.h"

#define SIZE   (8 * MiB)
#define ZEROED (64 * KiB)
#define MIDDLE (32 * KiB)

/* A range was zeroed and lost; a page in its middle was written since. */
static struct stack *
stack_with_lost_zeroes (void)
{
  struct stack *s = stack_sized (SIZE);

  assert_int_equal (request_zero (s->client, ZEROED, 0, 0), 0);
  assert_int_equal (stack_write (s, MIDDLE, 4096, 1, false), 0);
  zeroes_lose (&s->export->pc.zeroes, held_epoch (&s->export->pc.held));
  array_forget_calls (s->array);
  return s;
}

/* Law 21: it keeps writes from its own blocks alone. */
static void
test_redo_that_hangs_holds_its_part (void **state)
{
  struct stack *s = stack_with_lost_zeroes ();
  struct request flush = { .s = s, .what = DO_FLUSH };

  array_shut (s->array, ARRAY_ZERO, GATE_BEFORE);
  request_start (&flush);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  assert_int_equal (stack_write (s, MIDDLE, 4096, 2, false), 0);
  assert_int_equal (stack_write (s, MIDDLE + 4096, 4096, 3, false), 0);
  array_open (s->array, ARRAY_ZERO);
  assert_int_equal (request_join (&flush), 0);
  stack_free (s);
}

/* What was done again is not lost any more when a later part fails. */
static void
test_redo_goes_on_where_it_failed (void **state)
{
  struct stack *s = stack_with_lost_zeroes ();
  struct backend *b = s->client->own;

  array_fail (s->array, ARRAY_ZERO, 1, 1, EIO);
  assert_int_equal (clear_redo_zeroes (&s->export->submit, b), EIO);
  assert_int_equal (clear_redo_zeroes (&s->export->submit, b), 0);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), 3);
  assert_int_equal (array_call (s->array, ARRAY_ZERO, 0).offset, 0);
  assert_int_equal (array_call (s->array, ARRAY_ZERO, 0).len, MIDDLE);
  assert_int_equal (array_call (s->array, ARRAY_ZERO, 2).offset, MIDDLE + 4096);
  stack_free (s);
}

/* A zero that fails loses only what it may have changed. */
static void
test_failure_loses_its_part (void **state)
{
  struct stack *s = stack_sized (SIZE);
  uint64_t offset = 0, len;

  assert_int_equal (request_zero (s->client, ZEROED, 0, 0), 0);
  array_fail (s->array, ARRAY_ZERO, 0, UINT_MAX, EIO);
  assert_int_equal (request_zero (s->client, 4096, MIDDLE, 0), EIO);
  array_heal (s->array);
  assert_true (zeroes_next_lost (&s->export->pc.zeroes, &offset, &len));
  assert_int_equal (offset, MIDDLE);
  assert_int_equal (len, 4096);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_redo_that_hangs_holds_its_part),
    cmocka_unit_test (test_redo_goes_on_where_it_failed),
    cmocka_unit_test (test_failure_loses_its_part),
  };

  return cmocka_run_group_tests_name ("redo", tests, NULL, NULL);
}
