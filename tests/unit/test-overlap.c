/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of operations that overlap: failures beside a flush or a durable
 * write, and durable writes that hang.
 */

#include <config.h>

#include <errno.h>

#include "setup.h"

/* ---- failures that overlap ---- */

static void
test_failed_flush_fails_durable_write (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct setup *s;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (setup_write (s, 0, 512, 1, true), EIO);
  assert_int_equal (setup_amounts (s).held, 0);
  assert_false (block_is (s->cache, 0, UPTODATE));
  setup_free (s);
}

/* Law 4: any error of a FUA operation makes what is unstable dirty. */
static void
test_failed_fua_makes_dirty (void **state)
{
  struct backend *b;
  struct setup *s = setup_new (4);

  b = &s->array->backend;
  setup_write (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (setup_write (s, 4096, 512, 2, true), EIO);
  assert_int_equal (setup_amounts (s).dirty, 512);

  setup_write (s, 8192, 512, 1, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  assert_int_equal (
      clear_range (&s->submit, b, 65536, 512, CLEAR_ZEROED, ZERO_FUA), EIO);
  assert_int_equal (setup_amounts (s).dirty, 1024);

  setup_write (s, 16384, 512, 1, false);
  array_fail (s->array, ARRAY_TRIM, 0, 1, EIO);
  assert_int_equal (
      clear_range (&s->submit, b, 65536, 512, CLEAR_UNKNOWN, ZERO_FUA), EIO);
  assert_int_equal (setup_amounts (s).dirty, 1536);
  assert_int_equal (setup_amounts (s).unstable, 0);
  setup_free (s);
}

static void
test_failed_ordinary_write_is_its_own_affair (void **state)
{
  struct setup *s = setup_new (4);

  setup_write (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (setup_write (s, 4096, 512, 2, false), EIO);
  assert_int_equal (setup_amounts (s).dirty, 0);
  assert_int_equal (setup_amounts (s).unstable, 512);
  setup_free (s);
}

/* The error may have been told to the FUA operation alone. */
static void
test_flush_does_not_count_if_fua_beside_it_failed (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  setup_write (s, 0, 512, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, 4096, 512, EIO);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  flusher_start (&f, s);
  wait_until (array_calls (s->array, ARRAY_FLUSH) == 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&w), EIO);
  assert_int_equal (flusher_join (&f), EAGAIN);
  assert_int_equal (setup_amounts (s).dirty, 512);
  setup_free (s);
}

static void
test_flush_counts_if_fua_beside_it_succeeds (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  setup_write (s, 0, 512, 1, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  flusher_start (&f, s);
  wait_until (array_calls (s->array, ARRAY_FLUSH) == 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&w), 0);
  assert_int_equal (flusher_join (&f), 0);
  assert_false (block_is (s->cache, 0, UNSTABLE));
  setup_free (s);
}

/* A durable write is repeated if another request's failure overlapped it. */
static void
test_durable_write_is_repeated (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  writer_start (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  flusher_start (&f, s);
  assert_int_equal (flusher_join (&f), EIO);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&w), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_true (setup_has (s, true, 4096, 512, w.value));
  setup_free (s);
}

/* The same for one that is durable by a flush: the write itself as well, since
 * the failed flush may have dropped it.
 */
static void
test_write_and_flush_are_repeated (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct flusher f;
  struct setup *s;
  struct writer w;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  s->array->forgets = true;
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  writer_start (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  flusher_start (&f, s);
  assert_int_equal (flusher_join (&f), EIO);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&w), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_true (setup_has (s, true, 4096, 512, w.value));
  setup_free (s);
}

static void
run_write_past (void *arg)
{
  struct writer *w = arg;

  w->bytes = malloc (w->len);
  must (w->bytes != NULL);
  memset (w->bytes, w->value, w->len);
  w->error = clear_write_past (&w->s->submit, &w->s->array->backend, w->bytes,
                               w->offset, w->len);
  free (w->bytes);
  LOCK_FOR_SCOPE (&w->s->submit.lock);
  w->ended++;
}

static void
run_durable_zero (void *arg)
{
  struct writer *w = arg;

  w->error = clear_range (&w->s->submit, &w->s->array->backend, w->offset,
                          w->len, CLEAR_ZEROED, ZERO_FUA);
}

static bool
ended_or_waits (struct setup *s, const struct writer *w)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return w->ended > 0 || s->submit.fua_waiters > 0;
}

/* Bytes that are cached nowhere cannot be written again later: so it is
 * acknowledged when all that could take it back has ended.
 */
static void
test_write_past_waits_for_what_overlaps (void **state)
{
  struct setup *s = setup_new (4);
  struct writer zero = { .s = s, .offset = 0, .len = 512 };
  struct writer past = { .s = s, .offset = 4096, .len = 512, .value = 7 };

  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  array_shut (s->array, ARRAY_ZERO, GATE_AFTER);
  thread_start (&zero.thread, run_durable_zero, &zero);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  thread_start (&past.thread, run_write_past, &past);
  wait_until (ended_or_waits (s, &past));
  assert_int_equal (past.ended, 0);
  array_open (s->array, ARRAY_ZERO);
  thread_join (&zero.thread);
  thread_join (&past.thread);
  assert_int_equal (zero.error, EIO);
  assert_int_equal (past.error, 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  setup_free (s);
}

/* ---- what hangs ---- */

/* The block of which a write hangs until it is let go. */
#define HUNG_AT 4096

static struct {
  int (*write) (struct backend *b, const void *bytes, uint32_t len,
                uint64_t offset, bool fua);
  _Atomic bool holds, hangs;
} hang;

static int
write_that_hangs (struct backend *b, const void *bytes, uint32_t len,
                  uint64_t offset, bool fua)
{
  if (offset == HUNG_AT) {
    hang.hangs = true;
    wait_until (!hang.holds);
  }
  return hang.write (b, bytes, len, offset, fua);
}

/* A FUA write that hangs, and is soon taken to. */
static void
start_hung_fua (struct setup *s, struct writer *w)
{
  s->submit.policy.usual[0].latency = s->submit.policy.usual[1].latency = 0;
  hang.write = s->array->backend.write;
  hang.holds = true;
  hang.hangs = false;
  s->array->backend.write = write_that_hangs;
  writer_start (w, s, HUNG_AT, 512, true);
  wait_until (hang.hangs);
}

/* It ends; returns its error. */
static int
join_hung (struct writer *w)
{
  hang.holds = false;
  return writer_join (w);
}

static bool
is_flushing (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.flushing;
}

/* A client's flush covers what ended before it.  So neither it nor a flush that
 * it shares waits for a durable write that would want a flush, too.
 */
static void
test_client_flush_waits_for_no_company (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct writer in_progress, waits;
  struct flusher f;
  struct setup *s;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  s->submit.flush_latency = UINT64_C (1000000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&in_progress, s, 0, 512, true);
  writer_start (&waits, s, 8192, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_let_by (s->array, ARRAY_WRITE);
  wait_until (is_flushing (s));
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 0);
  flusher_start (&f, s);
  assert_int_equal (flusher_join (&f), 0);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&in_progress), 0);
  assert_int_equal (writer_join (&waits), 0);
  setup_free (s);
}

/* Law 21: where flushes take long, and a write hangs that would want one too.
 */
static void
test_durable_write_waits_for_no_company_that_hangs (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct setup *s;
  struct writer w;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  s->submit.flush_latency = UINT64_C (1000000000000000);
  start_hung_fua (s, &w);
  assert_int_equal (setup_write (s, MiB, 512, 1, true), 0);
  assert_true (setup_has (s, true, MiB, 512, 1));
  assert_int_equal (join_hung (&w), 0);
  setup_free (s);
}

/* A flush ends beside a FUA write that hangs; if that fails, what the flush
 * covered is still there and is written again.
 */
static void
test_flush_beside_hung_fua_that_fails (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;

  setup_write (s, 0, 512, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, HUNG_AT, 512, EIO);
  start_hung_fua (s, &w);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_true (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (s->submit.kept, 512);
  assert_int_equal (join_hung (&w), EIO);
  assert_true (block_is (s->cache, 0, DIRTY));
  assert_int_equal (s->submit.kept, 0);
  setup_free (s);
}

/* If it ends well, the next flush makes all of it stable.  However many there
 * were meanwhile, their numbers have not wrapped round.
 */
static void
test_flush_beside_hung_fua_that_succeeds (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;
  unsigned i;

  setup_write (s, 0, 512, 1, false);
  start_hung_fua (s, &w);
  for (i = 0; i < 40000; ++i)
    assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_true (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (join_hung (&w), 0);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_int_equal (setup_amounts (s).held, 0);
  setup_free (s);
}

/* Kept bytes stay within the bound: beyond it, a flush that has succeeded
 * counts.
 */
static void
test_flush_beyond_the_bound_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;

  setup_write (s, 0, 512, 1, false);
  start_hung_fua (s, &w);
  s->cache->pc.bound = 512; /* the block that hangs is held, too */
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_false (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (join_hung (&w), 0);
  setup_free (s);
}

/* Durable writes that share a flush go on beside one that hangs: it holds no
 * place and stands in no trial.  If it fails, they are written again.
 */
static void
test_durable_writes_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (1);
  struct writer w;
  unsigned i;

  array_fail_range (s->array, ARRAY_WRITE, HUNG_AT, 512, EIO);
  start_hung_fua (s, &w);
  s->submit.policy.choice.chosen = BY_FLUSH;
  for (i = 0; i < 8; ++i) {
    assert_int_equal (setup_write (s, MiB + i * 8192, 512, 1, true), 0);
    assert_true (setup_has (s, true, MiB + i * 8192, 512, 1));
  }
  assert_true (array_calls (s->array, ARRAY_FLUSH) > 0);
  lock_take (&s->submit.lock);
  assert_int_equal (s->submit.policy.in_flight, 0);
  assert_int_equal (s->submit.policy.durable, 0);
  assert_int_equal (s->submit.policy.unwritten, 0);
  lock_drop (&s->submit.lock);
  assert_int_equal (setup_amounts (s).unstable, 8 * 512);
  assert_int_equal (join_hung (&w), EIO);
  assert_int_equal (setup_amounts (s).dirty, 8 * 512);
  setup_free (s);
}

/* A write past the cache leaves nothing to be written again: it does not wait
 * for what hangs either.
 */
static void
test_write_past_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (4);
  uint8_t bytes[512] = { 7 };
  struct writer w;

  start_hung_fua (s, &w);
  assert_int_equal (clear_write_past (&s->submit, &s->array->backend, bytes,
                                      MiB, sizeof bytes),
                    0);
  assert_true (array_keeps (s->array, MiB, bytes, sizeof bytes));
  assert_int_equal (join_hung (&w), 0);
  setup_free (s);
}

static bool
is_kept_waiting (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.alone_waiters > 0;
}

/* A writer whose write failures of others have undone so often that it runs
 * alone: its next attempt is at the gate.
 */
static void
start_undone_writer (struct setup *s, struct writer *w)
{
  struct flusher f;
  unsigned i;

  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  array_fail (s->array, ARRAY_FLUSH, 0, ~0U, EIO);
  writer_start (w, s, 4096, 512, true);
  for (i = 1; i <= 3; ++i) {
    wait_until (array_calls (s->array, ARRAY_WRITE) == i);
    array_wait_gate (s->array, ARRAY_WRITE, 1);
    flusher_start (&f, s);
    assert_int_equal (flusher_join (&f), EIO);
    array_let_by (s->array, ARRAY_WRITE);
  }
  wait_until (array_calls (s->array, ARRAY_WRITE) == 4);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
}

/* A durable write never has the error of other operations, however often those
 * fail: the last attempt keeps them from beginning.
 */
static void
test_undone_write_runs_alone (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  start_undone_writer (s, &w);
  flusher_start (&f, s);
  wait_until (is_kept_waiting (s));
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&w), 0);
  assert_int_equal (flusher_join (&f), EIO);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 4);
  setup_free (s);
}

/* If it hangs, others go on; and if their failures still undo it, it ends. */
static void
test_write_that_hangs_alone (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;
  unsigned i;

  start_undone_writer (s, &w);
  lock_take (&s->submit.lock);
  s->submit.policy.usual[0].latency = s->submit.policy.usual[1].latency = 0;
  lock_drop (&s->submit.lock);
  for (i = 4; i <= 8; ++i) {
    wait_until (array_calls (s->array, ARRAY_WRITE) == i);
    array_wait_gate (s->array, ARRAY_WRITE, 1);
    flusher_start (&f, s);
    assert_int_equal (flusher_join (&f), EIO);
    array_let_by (s->array, ARRAY_WRITE);
  }
  assert_int_equal (writer_join (&w), EIO);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 8);
  array_open (s->array, ARRAY_WRITE);
  setup_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_failed_flush_fails_durable_write),
    cmocka_unit_test (test_failed_fua_makes_dirty),
    cmocka_unit_test (test_failed_ordinary_write_is_its_own_affair),
    cmocka_unit_test (test_flush_does_not_count_if_fua_beside_it_failed),
    cmocka_unit_test (test_flush_counts_if_fua_beside_it_succeeds),
    cmocka_unit_test (test_durable_write_is_repeated),
    cmocka_unit_test (test_write_and_flush_are_repeated),
    cmocka_unit_test (test_write_past_waits_for_what_overlaps),
    cmocka_unit_test (test_client_flush_waits_for_no_company),
    cmocka_unit_test (test_durable_write_waits_for_no_company_that_hangs),
    cmocka_unit_test (test_flush_beside_hung_fua_that_fails),
    cmocka_unit_test (test_flush_beside_hung_fua_that_succeeds),
    cmocka_unit_test (test_flush_beyond_the_bound_beside_hung_fua),
    cmocka_unit_test (test_durable_writes_beside_hung_fua),
    cmocka_unit_test (test_write_past_beside_hung_fua),
    cmocka_unit_test (test_undone_write_runs_alone),
    cmocka_unit_test (test_write_that_hangs_alone),
  };

  return cmocka_run_group_tests_name ("overlap", tests, NULL, NULL);
}
