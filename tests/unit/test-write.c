/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of writes over the whole stack: ordinary ones in each mode,
 * durable ones, and the states of blocks when a backend write fails.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (2 * MiB)

/* ---- ordinary writes ---- */

static void
test_ordinary_write_calls_no_backend (void **state)
{
  struct stack *s = stack_sized (SIZE);

  assert_int_equal (stack_write (s, 512, 10240, 7, false), 0);
  assert_int_equal (stack_read (s, 512, 10240), 7);
  assert_int_equal (stack_calls (s, ARRAY_READ) + stack_calls (s, ARRAY_WRITE),
                    0);
  assert_int_equal (stack_amounts (s).dirty, 10240);
  stack_free (s);
}

/* Law 8: only the blocks that it covers in part. */
static void
test_partial_write_reads_its_edges (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 8192, 5);
  assert_int_equal (stack_write (s, 100, 5000, 7, false), 0);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 1024);
  assert_int_equal (stack_read (s, 0, 100), 5);
  assert_int_equal (stack_read (s, 100, 5000), 7);
  assert_int_equal (stack_read (s, 5100, 20), 5);
  assert_int_equal (stack_write (s, 120, 1, 8, false), 0); /* uptodate now */
  assert_int_equal (stack_write (s, 5099, 20, 8, false), 0);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 1024);
  stack_free (s);
}

/* Law 8: everything that can fail is done before the first byte changes. */
static void
edge_fails (uint64_t bad, bool durable)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 8192, 512, 6, false); /* dirty, in the midst of it */
  array_fail_range (s->array, ARRAY_READ, bad, 512, EIO);
  assert_int_equal (stack_write (s, 100, 20000, 7, durable), EIO);
  array_heal (s->array);
  assert_int_equal (stack_read (s, 0, 8192), 5);
  assert_int_equal (stack_read (s, 8192, 512), 6);
  assert_int_equal (stack_read (s, 8704, 20000), 5);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 0);
  assert_int_equal (stack_amounts (s).held, 512);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 8192, 512, 6));
  assert_true (stack_keeps (s, 0, 8192, 5));
  stack_free (s);
}

static void
test_failed_edge_changes_nothing (void **state)
{
  edge_fails (0, false);
  edge_fails (20100 / 512 * 512, false);
  edge_fails (0, true);
  edge_fails (20100 / 512 * 512, true);
}

static void
test_last_block_is_short (void **state)
{
  struct stack_options o = stack_options (SIZE + 700);
  struct stack *s = stack_new (&o);

  assert_int_equal (stack_write (s, SIZE, 700, 7, false), 0);
  assert_int_equal (stack_calls (s, ARRAY_READ), 0);
  assert_int_equal (stack_write (s, SIZE + 600, 100, 8, true), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, SIZE, 600, 7));
  assert_true (stack_keeps (s, SIZE + 600, 100, 8));
  assert_int_equal (stack_read (s, SIZE + 600, 100), 8);
  stack_free (s);
}

/* ---- modes ---- */

static struct stack *
stack_in_mode (enum mode mode)
{
  struct stack_options o = stack_options (SIZE);

  o.settings.mode = mode;
  return stack_new (&o);
}

static void
test_through_goes_at_once_and_stays (void **state)
{
  struct stack *s = stack_in_mode (MODE_PROMPT);

  assert_int_equal (stack_write (s, 512, 1024, 7, false), 0);
  assert_true (stack_sees (s, 512, 1024, 7));
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), 1024);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags, 0);
  assert_int_equal (stack_amounts (s).unstable, 1024);
  assert_int_equal (stack_read (s, 512, 1024), 7);
  assert_int_equal (stack_calls (s, ARRAY_READ), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 1024, 7));
  stack_free (s);
}

static void
test_writethrough_is_durable_and_stays (void **state)
{
  struct stack *s = stack_in_mode (MODE_WRITETHROUGH);

  assert_int_equal (stack_write (s, 512, 1024, 7, false), 0);
  assert_true (stack_keeps (s, 512, 1024, 7));
  assert_int_equal (request_zero (s->client, 8192, 4096, 0), 0);
  assert_true (stack_keeps (s, 4096, 8192, 0));
  assert_int_equal (request_zero (s->client, 100, 520, 0), 0);
  assert_true (stack_keeps (s, 520, 100, 0));
  assert_int_equal (stack_read (s, 1024, 512), 7);
  assert_int_equal (stack_calls (s, ARRAY_READ), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

static void
test_writearound_leaves_once_stable (void **state)
{
  struct stack *s = stack_in_mode (MODE_WRITEAROUND);

  assert_int_equal (stack_write (s, 0, 4096, 7, true), 0);
  assert_int_equal (stack_read (s, 0, 4096), 7);
  assert_int_equal (stack_calls (s, ARRAY_READ), 1);
  assert_int_equal (stack_write (s, 8192, 4096, 8, false), 0);
  assert_true (stack_keeps (s, 8192, 4096, 8));
  assert_int_equal (stack_read (s, 8192, 4096), 8);
  assert_int_equal (stack_calls (s, ARRAY_READ), 2);
  stack_free (s);
}

/* ---- durable writes ---- */

/* Law 1: nothing else is forced out for it. */
static void
test_fua_writes_its_own_blocks_only (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 4096, 1, false);
  stack_write (s, 8192, 4096, 1, false);
  assert_int_equal (stack_write (s, 512, 512, 2, true), 0);
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), 512);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 0);
  assert_true (stack_keeps (s, 512, 512, 2));
  assert_int_equal (stack_amounts (s).dirty, 8192 - 512);
  stack_free (s);
}

/* A part of a dirty block goes with the rest of it. */
static void
test_fua_of_part_of_a_dirty_block (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 512, 1, false);
  assert_int_equal (stack_write (s, 100, 100, 2, true), 0);
  assert_true (stack_keeps (s, 0, 100, 1));
  assert_true (stack_keeps (s, 100, 100, 2));
  assert_true (stack_keeps (s, 200, 312, 1));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Law 7: readers never wait for writeback, and see the bytes. */
static void
test_reader_does_not_wait_for_writethrough (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };

  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (stack_read (s, 0, 4096), 7);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  stack_free (s);
}

/* Law 7: one write over a block at a time, and the later one wins. */
static void
test_second_fua_waits_for_the_first (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request a = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };
  struct request b = {
    .s = s, .what = DO_FUA, .offset = 512, .len = 512, .value = 8
  };

  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&b);
  wait_until (stack_page_waits (s, 0));
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&a), 0);
  assert_int_equal (request_join (&b), 0);
  assert_true (stack_keeps (s, 0, 512, 7));
  assert_true (stack_keeps (s, 512, 512, 8));
  stack_free (s);
}

/* An ordinary write does not wait; the bytes in flight do not change (the
 * array sees to that), and its own go with the next flush.
 */
static void
test_ordinary_write_over_fua_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };

  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (stack_write (s, 512, 512, 8, false), 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (stack_read (s, 512, 512), 8);
  assert_true (stack_keeps (s, 0, 4096, 7));
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 512, 8));
  stack_free (s);
}

/* ---- failed durable writes ---- */

static void
test_failed_fua_of_clean_asks_the_backend (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 4096, 5);
  stack_read (s, 0, 4096);
  array_fail (s->array, ARRAY_WRITE, 0, 1, ENOSPC);
  assert_int_equal (stack_write (s, 0, 512, 7, true), ENOSPC);
  assert_int_equal (stack_amounts (s).held, 0);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 5));
  stack_free (s);
}

/* A torn write: only the backend knows what it has now. */
static void
test_failed_fua_shows_what_the_backend_has (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 4096, 5);
  s->array->tears = true;
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (stack_write (s, 0, 4096, 7, true), EIO);
  assert_int_equal (stack_read (s, 0, 2048), 7);
  assert_int_equal (stack_read (s, 2048, 2048), 5);
  stack_free (s);
}

/* Before it: dirty, or unstable.  Acknowledged bytes are not lost by it. */
static void
test_failed_fua_of_acknowledged_is_dirty (void **state)
{
  struct stack_options o = stack_options (SIZE);
  enum mode mode;
  struct stack *s;

  for (mode = MODE_WRITEBACK; mode <= MODE_PROMPT; ++mode) {
    o.settings.mode = mode;
    s = stack_new (&o);
    assert_int_equal (stack_write (s, 0, 1024, 6, false), 0);
    array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
    assert_int_equal (stack_write (s, 100, 100, 7, true), EIO);
    assert_true (stack_amounts (s).dirty >= 512);
    assert_int_equal (stack_read (s, 0, 100), 6);
    assert_int_equal (stack_read (s, 200, 824), 6);
    assert_int_equal (request_flush (s->client), 0);
    assert_true (stack_keeps (s, 0, 100, 6));
    assert_true (stack_keeps (s, 200, 824, 6));
    stack_free (s);
  }
}

static void
test_ordinary_write_during_failing_fua_stays (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 1024, .value = 7
  };

  stack_set_backend (s, 0, 4096, 5);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (stack_write (s, 512, 512, 8, false), 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), EIO);
  assert_int_equal (stack_read (s, 0, 512), 5);
  assert_int_equal (stack_read (s, 512, 512), 8);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 512, 8));
  stack_free (s);
}

/* Law 11: after the first error no further piece is begun. */
static void
test_error_in_the_first_piece_ends_the_request (void **state)
{
  struct stack_options o = stack_options (16 * MiB);
  struct stack *s;

  o.memory = 64 * MiB;
  o.serial = true;
  s = stack_new (&o);
  array_fail_range (s->array, ARRAY_WRITE, 0, 512, EIO);
  assert_int_equal (stack_write (s, 0, 16 * MiB, 7, true), EIO);
  assert_true (stack_bytes (s, ARRAY_WRITE) <= 1 * MiB);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_ordinary_write_calls_no_backend),
    cmocka_unit_test (test_partial_write_reads_its_edges),
    cmocka_unit_test (test_failed_edge_changes_nothing),
    cmocka_unit_test (test_last_block_is_short),
    cmocka_unit_test (test_through_goes_at_once_and_stays),
    cmocka_unit_test (test_writethrough_is_durable_and_stays),
    cmocka_unit_test (test_writearound_leaves_once_stable),
    cmocka_unit_test (test_fua_writes_its_own_blocks_only),
    cmocka_unit_test (test_fua_of_part_of_a_dirty_block),
    cmocka_unit_test (test_reader_does_not_wait_for_writethrough),
    cmocka_unit_test (test_second_fua_waits_for_the_first),
    cmocka_unit_test (test_ordinary_write_over_fua_in_flight),
    cmocka_unit_test (test_failed_fua_of_clean_asks_the_backend),
    cmocka_unit_test (test_failed_fua_shows_what_the_backend_has),
    cmocka_unit_test (test_failed_fua_of_acknowledged_is_dirty),
    cmocka_unit_test (test_ordinary_write_during_failing_fua_stays),
    cmocka_unit_test (test_error_in_the_first_piece_ends_the_request),
  };

  return cmocka_run_group_tests_name ("write", tests, NULL, NULL);
}
