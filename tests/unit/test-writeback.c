/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of write-back: the bound, a backend that refuses, age, and drains.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (8 * MiB)

/* ---- the bound ---- */

static struct stack *
stack_with_bound (uint64_t bound)
{
  struct stack_options o = stack_options (SIZE);

  o.settings.dirty_max = bound;
  return stack_new (&o);
}

/* Law 6: no request waits for the whole cache to be written. */
static void
test_at_the_bound_writes_are_durable (void **state)
{
  struct stack *s = stack_with_bound (256 * KiB);
  struct request write = {
    .s = s, .what = DO_WRITE, .offset = 2 * MiB, .len = 4096, .value = 9
  };

  /* Background write-back stops at the gate.  Beyond the bound the write asks
   * for a flush, and one that is durable hears that this failed.
   */
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  array_fail (s->array, ARRAY_FLUSH, 0, ~0U, EIO);
  assert_int_equal (stack_write (s, 0, 256 * KiB, 1, false), 0);
  request_start (&write);
  wait_until (array_was_called (s->array, ARRAY_WRITE, 2 * MiB));
  assert_true (stack_amounts (s).held <= (int64_t) (256 + 4) * 1024);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&write), EIO);
  array_heal (s->array);
  stack_wait_idle (s);
  assert_int_equal (stack_read (s, 0, 256 * KiB), 1);
  stack_free (s);
}

static void
test_bound_is_kept (void **state)
{
  struct stack *s = stack_with_bound (128 * KiB);
  struct amounts a;
  struct random r;
  unsigned i;

  random_seed (&r, 1);
  for (i = 0; i < 3000; ++i) {
    must (stack_write (s, random_below (&r, SIZE / 4096) * 4096, 4096, i,
                       false) == 0);
    a = stack_amounts (s);
    must (a.dirty <= 128 * 1024);
    must (a.held <= 2 * 128 * 1024);
  }
  assert_int_equal (request_flush (s->client), 0);
  stack_free (s);
}

struct durable_writer {
  struct stack *s;
  _Atomic unsigned ended;
};

static void
write_durable (void *arg)
{
  struct durable_writer *w = arg;
  unsigned i;

  for (i = 0; i < 100; ++i) {
    must (stack_write (w->s, 4096 * i, 4096, i, true) == 0);
    must (stack_keeps (w->s, 4096 * i, 4096, i));
    w->ended++;
  }
}

/* A write that ends while a flush is under way may stay unstable after it: but
 * not any number of them.  They may wait for the flush.
 */
static void
test_durable_writes_during_a_flush_are_bounded (void **state)
{
  struct stack *s = stack_with_bound (128 * KiB);
  struct request f = { .s = s, .what = DO_FLUSH };
  struct durable_writer w = { s, 0 };
  unsigned ended = 0, idle;
  struct thread t;

  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  request_start (&f);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  thread_start (&t, write_durable, &w);
  /* Until it has ended, or gets no further. */
  for (idle = 0; w.ended < 100 && idle < 100000; ++idle) {
    if (w.ended != ended)
      idle = 0;
    ended = w.ended;
    sched_yield ();
  }
  assert_true (stack_amounts (s).held <= 2 * 128 * 1024);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (request_join (&f), 0);
  thread_join (&t);
  stack_wait_idle (s);
  stack_free (s);
}

/* Unstable data is bounded as well: a flush is begun. */
static void
test_unstable_data_is_flushed_in_time (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  unsigned i;

  o.settings.dirty_max = 128 * KiB;
  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  for (i = 0; i < 512; ++i)
    must (stack_write (s, i * 4096, 4096, i, false) == 0);
  stack_wait_idle (s);
  assert_true (stack_calls (s, ARRAY_FLUSH) >= 1);
  /* Writes that come while the work just ends are for the clock. */
  writeback_tick (s->export, NULL);
  stack_wait_idle (s);
  assert_true (stack_amounts (s).unstable <= 128 * 1024);
  stack_free (s);
}

static void
test_background_brings_the_amount_down (void **state)
{
  struct stack *s = stack_with_bound (1 * MiB);
  unsigned i;

  for (i = 0; i < 160; ++i) /* more than half of it */
    must (stack_write (s, i * 4096, 4096, i, false) == 0);
  stack_wait_idle (s);
  assert_true (stack_amounts (s).dirty <= 512 * 1024);
  assert_true (stack_calls (s, ARRAY_WRITE) >= 1);
  stack_free (s);
}

/* ---- a backend that refuses ---- */

/* Laws 3 and 6: acknowledged bytes wait; a later write gets its own error. */
static void
test_refused_writeback (void **state)
{
  struct stack *s = stack_with_bound (256 * KiB);

  array_fail_range (s->array, ARRAY_WRITE, 0, 1 * MiB, ENOSPC);
  /* Three quarters of the bound: work begins in the background. */
  assert_int_equal (stack_write (s, 0, 48 * 4096, 1, false), 0);
  stack_wait_idle (s);
  assert_true (atomic_load (&s->export->writeback.refusing));
  assert_int_equal (stack_amounts (s).dirty, 48 * 4096);
  assert_int_equal (stack_write (s, 512 * KiB, 4096, 2, false), ENOSPC);
  assert_int_equal (stack_write (s, 2 * MiB, 4096, 2, false), 0);
  assert_true (stack_keeps (s, 2 * MiB, 4096, 2));
  assert_int_equal (stack_read (s, 0, 48 * 4096), 1);
  assert_int_equal (request_flush (s->client), ENOSPC);
  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 48 * 4096, 1));
  assert_int_equal (stack_write (s, 512 * KiB, 4096, 2, false), 0);
  assert_int_equal (stack_amounts (s).dirty, 4096); /* as before */
  stack_free (s);
}

static void
test_without_a_connection_data_waits (void **state)
{
  struct stack *s = stack_with_bound (256 * KiB);

  stack_write (s, 0, 64 * KiB, 1, false);
  stack_leave (s, 0);
  assert_int_equal (writeback_drain (s->export, NULL), ENOTCONN);
  assert_int_equal (stack_amounts (s).dirty, 64 * KiB);
  assert_false (atomic_load (&s->export->writeback.refusing));
  stack_come (s, 0);
  assert_int_equal (writeback_drain (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  stack_free (s);
}

/* ---- age ---- */

static void
test_old_data_is_written (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.dirty_age = 1;
  s = stack_new (&o);
  stack_write (s, 0, 64 * KiB, 1, false);
  writeback_tick (s->export, NULL);
  stack_wait_idle (s);
  assert_int_equal (stack_amounts (s).dirty, 0);
  assert_true (stack_sees (s, 0, 64 * KiB, 1));
  stack_free (s);
}

static void
test_young_data_stays (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 64 * KiB, 1, false);
  writeback_tick (s->export, NULL);
  stack_wait_idle (s);
  assert_int_equal (stack_amounts (s).dirty, 64 * KiB);
  stack_free (s);
}

static uint64_t
dirty_since (struct stack *s)
{
  return atomic_load (&s->export->pc.dirty_since);
}

/* The age of what is dirty is not that of what a flush has made durable. */
static void
test_flush_ends_the_age (void **state)
{
  struct stack *s = stack_sized (SIZE);
  uint64_t now;

  stack_write (s, 0, 4096, 1, false);
  assert_int_equal (request_flush (s->client), 0);
  now = now_ns ();
  stack_write (s, 4096, 4096, 2, false);
  assert_true (dirty_since (s) >= now);
  stack_free (s);
}

/* Clients write all the time: at no moment is nothing dirty.  Here a block is
 * dirtied during the flush, as if an older one had been dirty until then.
 */
static void
test_flush_ends_the_age_beside_writes (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request f = { .s = s, .what = DO_FLUSH };
  const uint64_t before = now_ns ();

  stack_write (s, 0, 4096, 1, false);
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  request_start (&f);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  stack_write (s, 4096, 4096, 2, false);
  atomic_store (&s->export->pc.dirty_since, before);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (request_join (&f), 0);
  assert_true (stack_amounts (s).dirty > 0);
  assert_true (dirty_since (s) > before);
  stack_free (s);
}

/* A pass over all old data has passed a page, in which another block becomes
 * dirty while one is still waiting for its write: that one has an age, too.
 */
static void
test_block_behind_a_pass_has_an_age (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.dirty_age = 1;
  s = stack_new (&o);
  stack_write (s, 512, 512, 1, false);
  stack_write (s, 5 * 512, 512, 1, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writeback_tick (s->export, NULL);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  stack_write (s, 0, 512, 2, false);
  array_open (s->array, ARRAY_WRITE);
  stack_wait_idle (s);
  assert_true (stack_amounts (s).dirty == 0 || dirty_since (s) != 0);
  stack_free (s);
}

/* Law 20: over a serial stack it acts at the next request, in its thread. */
static void
test_old_data_is_written_at_the_next_request (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.dirty_age = 1;
  o.serial = true;
  s = stack_new (&o);
  stack_write (s, 0, 4096, 1, false);
  stack_write (s, 1 * MiB, 4096, 1, false);
  assert_true (stack_sees (s, 0, 4096, 1));
  stack_free (s);
}

/* ---- drains ---- */

static void
test_drain (void **state)
{
  bool serial;

  for (serial = false;; serial = true) {
    struct stack_options o = stack_options (SIZE);
    struct stack *s;

    o.serial = serial;
    s = stack_new (&o);
    stack_write (s, 0, 512 * KiB, 1, false);
    assert_int_equal (writeback_drain (s->export, s->client->own), 0);
    assert_true (stack_keeps (s, 0, 512 * KiB, 1));
    assert_false (dirty_is_held (s->export));
    stack_free (s);
    if (serial)
      break;
  }
}

static void
test_drain_tries_again (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 64 * KiB, 1, false);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (writeback_drain (s->export, s->client->own), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  stack_free (s);
}

static void
test_drain_gives_up_in_time (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.drain = 300000000;
  s = stack_new (&o);
  stack_write (s, 0, 64 * KiB, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, 0, SIZE, ENOSPC);
  /* ENOSPC, or ETIMEDOUT if the time was over before anything was tried. */
  assert_int_not_equal (writeback_drain (s->export, s->client->own), 0);
  assert_int_equal (stack_amounts (s).dirty, 64 * KiB); /* it waits */
  assert_true (dirty_is_held (s->export));
  array_heal (s->array);
  assert_int_equal (writeback_drain (s->export, s->client->own), 0);
  stack_free (s);
}

/* Law 3: from then on helpers write, and nothing more is held back. */
static void
test_drain_at_the_request_to_stop (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 64 * KiB, 1, false);
  atomic_store (&registry.stopping, true);
  export_for_each (writeback_begin_drain, NULL);
  stack_wait_idle (s);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  stack_write (s, 1 * MiB, 4096, 2, false);
  assert_true (stack_keeps (s, 1 * MiB, 4096, 2));
  stack_free (s);
}

/* Law 24: what is acknowledged later is durable, as no drain follows that could
 * save it.  Also where writes go through and wait for a flush, and each zero.
 */
static void
test_nothing_waits_for_a_flush_after_the_stop (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  int serial;

  for (serial = 0; serial <= 1; ++serial) {
    o.serial = serial;
    o.settings.mode = serial ? MODE_PROMPT : MODE_WRITEBACK;
    s = stack_new (&o);
    stack_set_backend (s, 0, 64 * KiB, 5);
    atomic_store (&registry.stopping, true);
    assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
    assert_true (stack_keeps (s, 0, 4096, 1));
    assert_int_equal (request_zero (s->client, 8000, 16000, 0), 0);
    assert_true (stack_keeps (s, 16000, 8000, 0));
    assert_false (dirty_is_held (s->export));
    stack_free (s);
  }
}

/* Where two caches may be over one disk nothing is held back. */
static void
test_nothing_is_held_if_told_so (void **state)
{
  struct stack *s = stack_sized (SIZE);

  atomic_store (&s->export->holds, false);
  stack_write (s, 0, 4096, 1, false);
  assert_true (stack_sees (s, 0, 4096, 1));
  assert_int_equal (stack_amounts (s).dirty, 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_at_the_bound_writes_are_durable),
    cmocka_unit_test (test_bound_is_kept),
    cmocka_unit_test (test_durable_writes_during_a_flush_are_bounded),
    cmocka_unit_test (test_unstable_data_is_flushed_in_time),
    cmocka_unit_test (test_background_brings_the_amount_down),
    cmocka_unit_test (test_refused_writeback),
    cmocka_unit_test (test_without_a_connection_data_waits),
    cmocka_unit_test (test_old_data_is_written),
    cmocka_unit_test (test_young_data_stays),
    cmocka_unit_test (test_flush_ends_the_age),
    cmocka_unit_test (test_flush_ends_the_age_beside_writes),
    cmocka_unit_test (test_block_behind_a_pass_has_an_age),
    cmocka_unit_test (test_old_data_is_written_at_the_next_request),
    cmocka_unit_test (test_drain),
    cmocka_unit_test (test_drain_tries_again),
    cmocka_unit_test (test_drain_gives_up_in_time),
    cmocka_unit_test (test_drain_at_the_request_to_stop),
    cmocka_unit_test (test_nothing_waits_for_a_flush_after_the_stop),
    cmocka_unit_test (test_nothing_is_held_if_told_so),
  };

  return cmocka_run_group_tests_name ("writeback", tests, NULL, NULL);
}
