/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of large requests over the whole stack: their parts go to the
 * backend side by side, one flush follows, and the first error ends them.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (4 * MiB)
#define PART (64 * KiB)

/* A backend that takes PART bytes at once. */
static struct stack_options
options_in_parts (void)
{
  struct stack_options o = stack_options (SIZE);

  o.traits.maximum = PART;
  return o;
}

/* ---- zero and trim ---- */

/* Law 9: in parts, all of them at once. */
static void
clear_goes_side_by_side (int what, enum array_op op)
{
  const struct stack_options o = options_in_parts ();
  struct stack *s = stack_new (&o);
  struct request clear = { .s = s, .what = what, .len = 8 * PART };

  array_shut (s->array, op, GATE_BEFORE);
  request_start (&clear);
  wait_until (stack_calls (s, op) == 8);
  array_open (s->array, op);
  assert_int_equal (request_join (&clear), 0);
  assert_int_equal (stack_calls (s, op), 8);
  assert_int_equal (stack_bytes (s, op), 8 * PART);
  assert_int_equal (stack_read (s, 0, 8 * PART), what == DO_ZERO ? 0 : 0xff);
  stack_free (s);
}

static void
test_zero_goes_side_by_side (void **state)
{
  clear_goes_side_by_side (DO_ZERO, ARRAY_ZERO);
}

static void
test_trim_goes_side_by_side (void **state)
{
  clear_goes_side_by_side (DO_TRIM, ARRAY_TRIM);
}

static pthread_t own_thread;

static int
must_be_own_thread (struct array *a, struct array_watched *w, bool ended,
                    int error)
{
  must (pthread_equal (pthread_self (), own_thread));
  return error;
}

/* Law 20: all calls are the request's own thread's, though others are there. */
static struct stack *
stack_of_one_thread (struct stack_options *o)
{
  struct stack *s;

  stack_free (stack_new (o)); /* which begins the filter's threads */
  o->serial = true;
  s = stack_new (o);
  own_thread = pthread_self ();
  s->array->watch = must_be_own_thread;
  return s;
}

static void
test_serial_zero_goes_in_turn (void **state)
{
  struct stack_options o = options_in_parts ();
  struct stack *s = stack_of_one_thread (&o);

  assert_int_equal (request_zero (s->client, 8 * PART, 0, 0), 0);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), 8);
  stack_free (s);
}

/* Law 1: one flush after the last of them. */
static void
test_zero_in_parts_has_one_flush (void **state)
{
  struct stack_options o = options_in_parts ();
  struct stack *s;

  o.traits.fua = FUA_EMULATED;
  s = stack_new (&o);
  assert_int_equal (request_zero (s->client, 8 * PART, 0, ZERO_FUA), 0);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), 8);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_true (stack_keeps (s, 0, 8 * PART, 0));
  assert_int_equal (request_trim (s->client, 8 * PART, 8 * PART, true), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 2);
  assert_true (stack_keeps (s, 8 * PART, 8 * PART, 0xff));
  stack_free (s);
}

/* Law 11: after an error no part is begun, and none is waited for in vain. */
static void
test_zero_ends_at_the_first_error (void **state)
{
  struct stack_options o = options_in_parts ();
  struct stack *s;

  o.serial = true;
  s = stack_new (&o);
  stack_write (s, 0, 512, 5, true);
  array_fail (s->array, ARRAY_ZERO, 2, 1, ENOSPC);
  assert_int_equal (request_zero (s->client, 8 * PART, 0, 0), ENOSPC);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), 3);
  assert_int_equal (stack_read (s, 0, PART), 0); /* as the backend has it */
  assert_int_equal (request_flush (s->client), 0);
  stack_free (s);
}

/* Law 9: a part has changed, so ENOTSUP of the next would be untrue. */
static void
test_fast_zero_with_a_part_refused (void **state)
{
  struct stack_options o = options_in_parts ();
  struct stack *s;

  o.serial = true;
  s = stack_new (&o);
  array_fail (s->array, ARRAY_ZERO, 2, 1, ENOTSUP);
  assert_int_equal (request_zero (s->client, 4 * PART, 0, ZERO_FAST), 0);
  assert_true (stack_sees (s, 0, 4 * PART, 0));
  assert_int_equal (array_call (s->array, ARRAY_ZERO, 0).flags & ZERO_FAST,
                    ZERO_FAST);
  assert_int_equal (array_call (s->array, ARRAY_ZERO, 3).flags & ZERO_FAST, 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_zero_goes_side_by_side),
    cmocka_unit_test (test_trim_goes_side_by_side),
    cmocka_unit_test (test_serial_zero_goes_in_turn),
    cmocka_unit_test (test_zero_in_parts_has_one_flush),
    cmocka_unit_test (test_zero_ends_at_the_first_error),
    cmocka_unit_test (test_fast_zero_with_a_part_refused),
  };

  return cmocka_run_group_tests_name ("large", tests, NULL, NULL);
}
