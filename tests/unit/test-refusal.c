/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of what the log says of failures that go on: of requests, and of a
 * backend that refuses write-back, over the array.  The time is the tests' own.
 */

#include <config.h>

#include <errno.h>

#include "export/refusal.h"
#include "stack.h"

#define SIZE   (8 * MiB)
#define TICK   UINT64_C (100000000)
#define SECOND UINT64_C (1000000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

/* ---- an operation that is retried ---- */

static void
test_a_retried_operation_is_told_once_an_hour (void **state)
{
  struct repeat r = { 0 };
  uint64_t now = SECOND, lines = 0;

  assert_int_equal (repeat_note (&r, false, now), REPEAT_SILENT);
  assert_int_equal (repeat_note (&r, true, now), REPEAT_BEGAN);
  for (; now < SECOND + 10 * HOUR; now += 2 * SECOND)
    lines += repeat_note (&r, true, now) == REPEAT_GOES_ON;
  assert_int_equal (lines, 9);
  assert_int_equal (repeat_note (&r, false, now), REPEAT_ENDED);
  assert_int_equal (r.count, 1 + 10 * 1800);
  assert_int_equal (repeat_note (&r, false, now), REPEAT_SILENT);
}

/* One that fails and succeeds in turn takes no line for each turn. */
static void
test_what_fails_in_turn_is_not_told_each_time (void **state)
{
  struct repeat r = { 0 };
  uint64_t now = SECOND, end = now + HOUR;
  unsigned lines = 0;
  bool failed;

  for (failed = true; now < end; now += SECOND, failed = !failed)
    lines += repeat_note (&r, failed, now) != REPEAT_SILENT;
  assert_int_equal (lines, 3); /* began, ended, began */
  assert_int_equal (repeat_note (&r, true, now), REPEAT_SILENT);
  assert_int_equal (repeat_note (&r, false, now + MINUTE - 1), REPEAT_SILENT);
  assert_int_equal (repeat_note (&r, false, now + MINUTE), REPEAT_ENDED);
}

/* ---- requests that fail ---- */

static void
test_a_burst_is_told_twice (void **state)
{
  struct burst b = { 0 };
  uint64_t now = SECOND, count, lasted;
  unsigned i, lines = 0;

  for (i = 0; i < 5000; ++i, now += TICK / 100) {
    lines += burst_note (&b, now);
    if (i % 100 == 0)
      assert_int_equal (burst_look (&b, now, false, &count, &lasted),
                        REPEAT_SILENT);
  }
  assert_int_equal (lines, 1);
  now += MINUTE;
  assert_int_equal (burst_look (&b, now, false, &count, &lasted), REPEAT_ENDED);
  assert_int_equal (count, 5000);
  assert_int_equal (burst_look (&b, now, false, &count, &lasted),
                    REPEAT_SILENT);
  assert_true (burst_note (&b, now)); /* a burst of its own */
}

/* The line of one failure alone has said it all. */
static void
test_one_failure_alone_is_told_once (void **state)
{
  struct burst b = { 0 };
  uint64_t now, count, lasted;

  assert_true (burst_note (&b, SECOND));
  for (now = SECOND; now < SECOND + 2 * MINUTE; now += TICK)
    assert_int_equal (burst_look (&b, now, false, &count, &lasted),
                      REPEAT_SILENT);
  assert_true (burst_note (&b, now));
  assert_int_equal (burst_look (&b, now, true, &count, &lasted), REPEAT_SILENT);
}

static void
test_a_burst_without_end_is_told_each_hour (void **state)
{
  struct burst b = { 0 };
  uint64_t now, count, lasted;
  unsigned lines = 0;

  for (now = SECOND; now < 3 * HOUR + MINUTE; now += 30 * SECOND) {
    burst_note (&b, now);
    lines += burst_look (&b, now, false, &count, &lasted) == REPEAT_GOES_ON;
  }
  assert_int_equal (lines, 3);
  assert_int_equal (lasted / HOUR, 3);
  assert_int_equal (burst_look (&b, now, true, &count, &lasted), REPEAT_ENDED);
}

/* ---- a backend that refuses write-back ---- */

/* Looks as the clock does, from *NOW on for a time; how many lines that are. */
static unsigned
look_for (struct stack *s, uint64_t *now, uint64_t time, char *text)
{
  const uint64_t end = *now + time;
  unsigned lines = 0;

  for (; *now < end; *now += TICK)
    lines += refusal_look (s->export, *now, text);
  return lines;
}

static void
test_a_refusal_is_told_at_its_begin_and_end (void **state)
{
  struct stack *s = stack_sized (SIZE);
  char text[REFUSAL_BYTES] = "";
  uint64_t now = HOUR;

  assert_int_equal (stack_write (s, 0, 64 * KiB, 1, false), 0);
  assert_int_equal (look_for (s, &now, SECOND, text), 0);
  array_fail (s->array, ARRAY_WRITE, 0, ~0U, ENOSPC);
  assert_int_equal (request_flush (s->client), ENOSPC);
  assert_int_equal (look_for (s, &now, SECOND, text), 1);
  assert_non_null (strstr (text, "export \"export\": "));
  assert_non_null (strstr (text, "refuses write-back since 20"));
  assert_non_null (strstr (text, strerror (ENOSPC)));
  assert_non_null (strstr (text, " 65536 bytes wait"));

  assert_int_equal (request_flush (s->client), ENOSPC);
  assert_int_equal (look_for (s, &now, 3 * HOUR, text), 3);
  assert_non_null (strstr (text, "(failed attempts: 2)"));

  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (look_for (s, &now, HOUR, text), 1);
  assert_non_null (
      strstr (text, "takes write-back again (failed attempts: 2)"));
  assert_non_null (strstr (text, " 0 bytes are still dirty"));
  stack_free (s);
}

/* Between two looks of the clock. */
static void
test_a_short_refusal_is_told (void **state)
{
  struct stack *s = stack_sized (SIZE);
  char text[REFUSAL_BYTES] = "";
  uint64_t now = HOUR;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (refusal_look (s->export, now, text));
  assert_non_null (strstr (text, strerror (EIO)));
  assert_true (refusal_look (s->export, now + TICK, text));
  assert_non_null (strstr (text, "again (failed attempts: 1)"));
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_a_retried_operation_is_told_once_an_hour),
    cmocka_unit_test (test_what_fails_in_turn_is_not_told_each_time),
    cmocka_unit_test (test_a_burst_is_told_twice),
    cmocka_unit_test (test_one_failure_alone_is_told_once),
    cmocka_unit_test (test_a_burst_without_end_is_told_each_hour),
    cmocka_unit_test (test_a_refusal_is_told_at_its_begin_and_end),
    cmocka_unit_test (test_a_short_refusal_is_told),
  };

  return cmocka_run_group_tests_name ("refusal", tests, NULL, NULL);
}
