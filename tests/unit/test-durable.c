/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of durability below requests: how a write, zero or trim becomes
 * durable on each kind of backend, flushes that are shared, and operations that
 * a flush waits for.
 */

#include <config.h>

#include <errno.h>

#include "setup.h"

/* ---- what makes a write durable ---- */

static const struct {
  enum fua_kind fua;
  bool can_flush;
  bool flag, flush; /* of a durable write */
  bool plain_flag;  /* of an ordinary one */
} matrix[] = {
  { FUA_NATIVE, true, true, false, false },
  { FUA_NATIVE, false, true, false, true },
  { FUA_EMULATED, true, false, true, false },
  { FUA_EMULATED, false, true, false, true },
  { FUA_NONE, true, false, true, false },
  { FUA_NONE, false, false, false, false },
};

static struct setup *
setup_row (size_t i)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);

  traits.fua = matrix[i].fua;
  traits.can_flush = matrix[i].can_flush;
  return setup_traits (&traits, true, 4);
}

static void
test_durable_write (void **state)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (setup_write (s, 512, 512, 7, true), 0);
    assert_int_equal (array_calls (s->array, ARRAY_WRITE), 1);
    assert_int_equal (array_bytes (s->array, ARRAY_WRITE), 512);
    assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), matrix[i].flush);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (setup_has (s, true, 512, 512, 7));
    assert_int_equal (setup_amounts (s).held, 0); /* stable */
    setup_free (s);
  }
}

static void
test_ordinary_write (void **state)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (setup_write (s, 512, 512, 7, false), 0);
    assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags,
                      matrix[i].plain_flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 0);
    assert_int_equal (setup_amounts (s).unstable,
                      matrix[i].can_flush ? 512 : 0);
    assert_int_equal (setup_amounts (s).held, setup_amounts (s).unstable);
    setup_free (s);
  }
}

static void
test_durable_zero_and_trim (void **state)
{
  struct backend *b;
  size_t i;

  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    b = &s->array->backend;
    assert_int_equal (
        clear_range (&s->submit, b, 0, 4096, CLEAR_ZEROED, ZERO_FUA), 0);
    assert_int_equal (
        clear_range (&s->submit, b, 8192, 4096, CLEAR_UNKNOWN, ZERO_FUA), 0);
    assert_int_equal (array_call (s->array, ARRAY_ZERO, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_call (s->array, ARRAY_TRIM, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2 * matrix[i].flush);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (setup_has (s, true, 0, 4096, 0));
    assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
    setup_free (s);
  }
}

static void
test_write_past_is_durable (void **state)
{
  uint8_t bytes[4096];
  size_t i;

  memset (bytes, 3, sizeof bytes);
  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (clear_write_past (&s->submit, &s->array->backend, bytes,
                                        512, sizeof bytes),
                      0);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (setup_has (s, true, 512, sizeof bytes, 3));
    setup_free (s);
  }
}

/* ---- flushes ---- */

static unsigned
flush_waiters (struct setup *s)
{
  struct flush_waiter *w;
  unsigned n = 0;

  lock_take (&s->submit.lock);
  for (w = s->submit.waiters; w; w = w->next)
    n++;
  lock_drop (&s->submit.lock);
  return n;
}

static void
test_flush_settles (void **state)
{
  struct setup *s = setup_new (4);

  setup_write (s, 0, 4096, 1, false);
  assert_int_equal (setup_amounts (s).unstable, 4096);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_int_equal (setup_amounts (s).held, 0);
  assert_true (setup_has (s, true, 0, 4096, 1));
  setup_free (s);
}

/* One in flight began too early for those that come then: a second serves all
 * of them.
 */
static void
share_flushes (int error, unsigned succeed)
{
  struct setup *s = setup_new (4);
  struct flusher first, others[10];
  unsigned i;

  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  flusher_start (&first, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  setup_write (s, 0, 512, 1, false);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    flusher_start (&others[i], s);
  wait_until (flush_waiters (s) == ARRAY_LEN (others));
  if (error)
    array_fail (s->array, ARRAY_FLUSH, succeed, 1, error);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (flusher_join (&first), 0);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    assert_int_equal (flusher_join (&others[i]), error);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2);
  assert_int_equal (s->array->max_at_once[ARRAY_FLUSH], 1);
  assert_int_equal (setup_amounts (s).dirty, error ? 512 : 0);
  assert_int_equal (setup_amounts (s).unstable, 0);
  setup_free (s);
}

static void
test_waiters_share_a_flush (void **state)
{
  share_flushes (0, 0);
}

static void
test_waiters_share_its_error (void **state)
{
  share_flushes (EIO, 1);
}

static void
test_write_during_flush_stays_unstable (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;

  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  flusher_start (&f, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  setup_write (s, 0, 512, 1, false);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (flusher_join (&f), 0);
  assert_int_equal (setup_amounts (s).unstable, 512);
  setup_free (s);
}

/* Durable writes by flush: N of them in one batch, or in flight together,
 * share.
 */
static void
test_durable_writes_share_a_flush (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct writer writers[8];
  struct flusher first;
  struct setup *s;
  unsigned i;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 8);
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  flusher_start (&first, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    writer_start (&writers[i], s, i * 8192, 512, true);
  wait_until (flush_waiters (s) == ARRAY_LEN (writers));
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (flusher_join (&first), 0);
  for (i = 0; i < ARRAY_LEN (writers); ++i) {
    assert_int_equal (writer_join (&writers[i]), 0);
    assert_true (setup_has (s, true, writers[i].offset, 512, writers[i].value));
  }
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2);
  setup_free (s);
}

/* A flush that waits for writes under way serves them, the last too. */
static void
test_one_flush_for_all_under_way (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct writer writers[8];
  struct setup *s;
  unsigned i;

  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, ARRAY_LEN (writers));
  s->submit.flush_latency = UINT64_C (100000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    writer_start (&writers[i], s, i * 8192, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, ARRAY_LEN (writers));
  array_open (s->array, ARRAY_WRITE);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    assert_int_equal (writer_join (&writers[i]), 0);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 1);
  setup_free (s);
}

/* ---- completions and open writes ---- */

static void
test_first_error_wins (void **state)
{
  struct completion c;

  completion_init (&c);
  completion_begin (&c);
  completion_begin (&c);
  completion_end (&c, ENOSPC);
  completion_end (&c, EIO);
  assert_int_equal (completion_wait (&c), ENOSPC);
  completion_destroy (&c);
}

static void
end_one (void *arg)
{
  completion_end (arg, 0);
}

static void
test_completion_waits_for_all (void **state)
{
  struct thread threads[8];
  struct completion c;
  unsigned i;

  completion_init (&c);
  for (i = 0; i < ARRAY_LEN (threads); ++i) {
    completion_begin (&c);
    thread_start (&threads[i], end_one, &c);
  }
  assert_int_equal (completion_wait (&c), 0);
  assert_int_equal (c.outstanding, 0);
  for (i = 0; i < ARRAY_LEN (threads); ++i)
    thread_join (&threads[i]);
  completion_destroy (&c);
}

struct open_waiter {
  struct setup *s;
  _Atomic bool ended;
};

static void
wait_acknowledged (void *arg)
{
  struct open_waiter *w = arg;

  open_wait (&w->s->cache->pc);
  w->ended = true;
}

static bool
waits_for_open (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->cache->pc.open_lock);

  return s->cache->pc.open_waiters > 0;
}

static void
test_flush_waits_for_open_writes_before_it (void **state)
{
  struct setup *s = setup_new (4);
  struct pagecache *pc = &s->cache->pc;
  struct open_waiter w = { s, false };
  struct open_write none = { 0 }, before = { 0 }, after = { 0 };
  struct thread t;

  open_wait (pc); /* none is open */
  open_begin (pc, &before);
  open_begin (pc, &before); /* as for its second page */
  thread_start (&t, wait_acknowledged, &w);
  wait_until (waits_for_open (s));
  open_begin (pc, &after);
  assert_false (w.ended);
  open_end (pc, &before);
  thread_join (&t); /* though another is open, that came later */
  open_end (pc, &after);
  open_end (pc, &none); /* it took nothing */
  setup_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_durable_write),
    cmocka_unit_test (test_ordinary_write),
    cmocka_unit_test (test_durable_zero_and_trim),
    cmocka_unit_test (test_write_past_is_durable),
    cmocka_unit_test (test_flush_settles),
    cmocka_unit_test (test_waiters_share_a_flush),
    cmocka_unit_test (test_waiters_share_its_error),
    cmocka_unit_test (test_write_during_flush_stays_unstable),
    cmocka_unit_test (test_durable_writes_share_a_flush),
    cmocka_unit_test (test_one_flush_for_all_under_way),
    cmocka_unit_test (test_first_error_wins),
    cmocka_unit_test (test_completion_waits_for_all),
    cmocka_unit_test (test_flush_waits_for_open_writes_before_it),
  };

  return cmocka_run_group_tests_name ("durable", tests, NULL, NULL);
}
