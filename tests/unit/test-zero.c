/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of zeroes, trims and discards over the whole stack. */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (2 * MiB)

/* ---- zero and trim ---- */

static void
test_zero (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 4096, 4096, 6, false);
  assert_int_equal (request_zero (s->client, 20000, 100, 0), 0);
  assert_int_equal (stack_read (s, 0, 100), 5);
  assert_int_equal (stack_read (s, 100, 20000), 0);
  assert_int_equal (stack_read (s, 20100, 20000), 5);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 100, 5));
  assert_true (stack_keeps (s, 100, 20000, 0));
  assert_true (stack_keeps (s, 20100, 20000, 5));
  stack_free (s);
}

static void
test_durable_zero (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  assert_int_equal (request_zero (s->client, 20000, 100, ZERO_FUA), 0);
  assert_true (stack_keeps (s, 100, 20000, 0));
  assert_int_equal (request_zero (s->client, 100, 30000, ZERO_FUA), 0);
  assert_true (stack_keeps (s, 30000, 100, 0));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Law 9: nothing has changed when ENOTSUP comes back. */
static void
test_fast_zero_refused (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 4096, 4096, 6, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOTSUP);
  assert_int_equal (request_zero (s->client, 20000, 100, ZERO_FAST), ENOTSUP);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (stack_read (s, 4096, 4096), 6);
  assert_int_equal (stack_read (s, 8192, 20000), 5);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 0);
  stack_free (s);
}

/* Law 9: after the middle was zeroed, or a part of a block perhaps, ENOTSUP
 * would be untrue.
 */
static void
test_fast_zero_whose_edge_is_refused (void **state)
{
  struct stack *s = stack_sized (SIZE);

  array_fail (s->array, ARRAY_WRITE, 0, 1000, ENOTSUP);
  assert_int_equal (request_zero (s->client, 20000, 100, ZERO_FAST | ZERO_FUA),
                    EIO);
  assert_int_equal (request_zero (s->client, 100, 100, ZERO_FAST | ZERO_FUA),
                    EIO);
  array_heal (s->array);
  stack_free (s);
}

/* Law 9: failure leaves clean blocks unknown and acknowledged ones dirty. */
static void
test_failed_zero (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 4096, 4096, 6, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  assert_int_equal (request_zero (s->client, 16384, 0, 0), EIO);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (stack_read (s, 4096, 4096), 6);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 4096, 4096, 6));
  stack_free (s);
}

static void
test_trim (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 0, 65536, 6, false);
  assert_int_equal (request_trim (s->client, 20000, 100, false), 0);
  assert_int_equal (stack_read (s, 0, 512), 6); /* blocks covered in part */
  assert_int_equal (stack_read (s, 512, 19456), 0xff);
  assert_int_equal (stack_read (s, 19968, 1000), 6);
  assert_int_equal (request_trim (s->client, 100, 30000, false), 0);
  assert_int_equal (stack_read (s, 30000, 100), 6);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 19456, 0xff));
  stack_free (s);
}

/* Law 9: a zero waits for a write in flight, which does not land after it. */
static void
test_zero_waits_for_writes_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 512, .value = 7
  };
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };

  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&zero);
  wait_until (atomic_load (&s->export->pc.zeroes.nr_exclusive) == 1);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&zero), 0);
  assert_int_equal (stack_read (s, 0, 4096), 0);
  stack_free (s);
}

/* All slots for zeroes are in use, and a flush has failed. */
static struct stack *
full_of_lost_zeroes (void)
{
  struct stack_options o = stack_options (ZEROES_MAX * 8192);
  struct stack *s = stack_new (&o);
  unsigned i;

  for (i = 0; i < ZEROES_MAX; ++i)
    assert_int_equal (request_zero (s->client, 4096, i * 8192, 0), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  array_heal (s->array);
  array_forget_calls (s->array);
  return s;
}

/* A trim that splits a lost range makes all of them durable first. */
static void
test_trim_in_too_many_lost_zeroes (void **state)
{
  struct stack *s = full_of_lost_zeroes ();
  struct request trim = { .s = s, .what = DO_TRIM, .offset = 512, .len = 512 };
  struct request flush = { .s = s, .what = DO_FLUSH };

  request_start (&trim);
  wait_until (trim.ended);
  assert_int_equal (request_join (&trim), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (stack_calls (s, ARRAY_ZERO), ZEROES_MAX);
  assert_int_equal (stack_read (s, 512, 512), 0xff);
  assert_int_equal (stack_read (s, 1024, 512), 0);
  request_start (&flush);
  wait_until (flush.ended);
  assert_int_equal (request_join (&flush), 0);
  assert_true (stack_keeps (s, 0, 512, 0));
  assert_true (stack_keeps (s, 512, 512, 0xff));
  assert_true (stack_keeps (s, 1024, 3072, 0));
  stack_free (s);
}

/* If the backend goes on refusing, the trim fails, and nothing has changed. */
static void
test_trim_in_zeroes_that_stay_lost (void **state)
{
  struct stack *s = full_of_lost_zeroes ();
  struct request trim = { .s = s, .what = DO_TRIM, .offset = 512, .len = 512 };

  array_fail (s->array, ARRAY_FLUSH, 0, ~0U, ENOSPC);
  request_start (&trim);
  wait_until (trim.ended);
  assert_int_equal (request_join (&trim), ENOSPC);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (stack_calls (s, ARRAY_TRIM), 0);
  assert_int_equal (stack_read (s, 0, 4096), 0);
  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 0));
  stack_free (s);
}

/* Law 10: a zero has reached the backend after a fill has read there.  A read
 * that goes past the fill sees the zero, so all later ones do.
 */
static void
test_fill_that_is_read_past (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct pagecache *pc = &s->export->pc;
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };
  const struct part part = { .len = 512 };
  uint8_t old[512];
  struct span ours;
  struct page *p;

  stack_set_backend (s, 0, 4096, 5);
  memset (old, 5, sizeof old);
  p = page_pin (pc, 0, ADMIT_READ);
  assert_non_null (p);
  assert_int_equal (fill_begin (pc, p, &part, &ours), FILL_OURS);
  array_shut (s->array, ARRAY_ZERO, GATE_AFTER);
  request_start (&zero);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  assert_int_equal (stack_read (s, 0, 4096), 0);
  fill_end (pc, p, ours, old, 0);
  page_unpin (pc, p);
  assert_int_equal (stack_read (s, 0, 512), 0);
  array_open (s->array, ARRAY_ZERO);
  assert_int_equal (request_join (&zero), 0);
  stack_free (s);
}

static void
test_write_waits_for_zero_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };
  struct request write = {
    .s = s, .what = DO_WRITE, .offset = 512, .len = 512, .value = 7
  };

  array_shut (s->array, ARRAY_ZERO, GATE_BEFORE);
  request_start (&zero);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  request_start (&write);
  assert_int_equal (stack_write (s, 4096, 512, 8, false), 0); /* not in it */
  array_open (s->array, ARRAY_ZERO);
  assert_int_equal (request_join (&zero), 0);
  assert_int_equal (request_join (&write), 0);
  assert_int_equal (stack_read (s, 0, 512), 0);
  assert_int_equal (stack_read (s, 512, 512), 7);
  stack_free (s);
}

static bool
is_pinned (struct stack *s, uint64_t index)
{
  struct pagecache *pc = &s->export->pc;
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  bool pinned;

  if (p == NULL)
    return false;
  pinned = p->pins > 0;
  word_lock_drop (&p->lock);
  return pinned;
}

/* Law 10: also one that finds all its blocks in one cached page. */
static void
test_fua_waits_for_zero_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };
  struct request write = {
    .s = s, .what = DO_FUA, .offset = 512, .len = 512, .value = 7
  };

  stack_set_backend (s, 0, 4096, 5);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  array_shut (s->array, ARRAY_ZERO, GATE_BEFORE);
  request_start (&zero);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  request_start (&write);
  wait_until (write.ended || is_pinned (s, 0));
  assert_false (write.ended); /* it holds its page, and waits */
  array_open (s->array, ARRAY_ZERO);
  assert_int_equal (request_join (&zero), 0);
  assert_int_equal (request_join (&write), 0);
  assert_int_equal (stack_read (s, 0, 512), 0);
  assert_true (stack_keeps (s, 512, 512, 7));
  stack_free (s);
}

/* ---- discard ---- */

struct discard {
  struct stack *s;
  uint64_t offset, len, held, zeroed;
  int error;
  struct thread thread;
};

static void
run_discard (void *arg)
{
  struct discard *d = arg;

  d->error = clear_discard (&d->s->export->submit, d->offset, d->len, &d->held,
                            &d->zeroed);
}

/* Law 3: only a discard drops acknowledged bytes; law 5: then what the backend
 * has is read.
 */
static void
test_discard (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct discard d = { .s = s, .offset = 4096, .len = 4096 };

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 0, 12288, 6, false);
  run_discard (&d);
  assert_int_equal (d.error, 0);
  assert_int_equal (d.held, 4096);
  assert_int_equal (stack_amounts (s).held, 8192);
  assert_int_equal (stack_read (s, 0, 4096), 6);
  assert_int_equal (stack_read (s, 4096, 4096), 5);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 6));
  assert_true (stack_keeps (s, 4096, 4096, 5));
  run_discard (&d); /* what is durable stays */
  assert_int_equal (d.held, 0);
  assert_int_equal (stack_read (s, 0, 4096), 6);
  stack_free (s);
}

/* Laws 7 and 9: a write on its way ends first, one that comes waits. */
static void
test_discard_waits_for_writes_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct discard d = { .s = s, .len = 4096 };
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 512, .value = 7
  };
  struct request write = {
    .s = s, .what = DO_WRITE, .offset = 512, .len = 512, .value = 8
  };

  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 1024, 512, 6, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  thread_start (&d.thread, run_discard, &d);
  wait_until (atomic_load (&s->export->pc.zeroes.nr_exclusive) == 1);
  request_start (&write);
  assert_int_equal (stack_read (s, 1024, 512), 6); /* readers do not wait */
  assert_false (atomic_load (&write.ended));
  array_open (s->array, ARRAY_WRITE);
  thread_join (&d.thread);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&write), 0);
  assert_int_equal (d.held, 512);
  assert_int_equal (stack_read (s, 0, 512), 7);
  assert_int_equal (stack_read (s, 512, 512), 8);
  assert_int_equal (stack_read (s, 1024, 512), 5);
  stack_free (s);
}

/* Zeroes that are given up are not done again after a failed flush, and no
 * longer hide what the backend has.
 */
static void
test_discard_of_zeroes (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct discard d = { .s = s, .offset = 4096, .len = 4096 };

  stack_set_backend (s, 0, 65536, 5);
  assert_int_equal (request_zero (s->client, 12288, 0, 0), 0);
  run_discard (&d);
  assert_int_equal (d.zeroed, 4096);
  stack_set_backend (s, 4096, 4096, 9);
  assert_int_equal (stack_read (s, 4096, 4096), 9);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 0));
  assert_true (stack_keeps (s, 4096, 4096, 9));
  assert_true (stack_keeps (s, 8192, 4096, 0));
  stack_free (s);
}

/* Where no more ranges can be remembered none can be split. */
static void
test_discard_of_too_many_zeroes (void **state)
{
  struct stack_options o = stack_options (ZEROES_MAX * 8192);
  struct stack *s = stack_new (&o);
  struct discard d = { .s = s, .offset = 512, .len = 512 };
  unsigned i;

  for (i = 0; i < ZEROES_MAX; ++i)
    assert_int_equal (request_zero (s->client, 4096, i * 8192, 0), 0);
  stack_write (s, 512, 512, 6, false);
  run_discard (&d);
  assert_int_equal (d.error, ENOSPC);
  assert_int_equal (stack_read (s, 512, 512), 6); /* nothing has changed */
  d.offset = 0;
  d.len = 4096;
  run_discard (&d);
  assert_int_equal (d.error, 0);
  assert_int_equal (d.held, 512);
  assert_int_equal (d.zeroed, 4096);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_zero),
    cmocka_unit_test (test_durable_zero),
    cmocka_unit_test (test_fast_zero_refused),
    cmocka_unit_test (test_fast_zero_whose_edge_is_refused),
    cmocka_unit_test (test_failed_zero),
    cmocka_unit_test (test_trim),
    cmocka_unit_test (test_zero_waits_for_writes_in_flight),
    cmocka_unit_test (test_trim_in_too_many_lost_zeroes),
    cmocka_unit_test (test_trim_in_zeroes_that_stay_lost),
    cmocka_unit_test (test_fill_that_is_read_past),
    cmocka_unit_test (test_write_waits_for_zero_in_flight),
    cmocka_unit_test (test_fua_waits_for_zero_in_flight),
    cmocka_unit_test (test_discard),
    cmocka_unit_test (test_discard_waits_for_writes_in_flight),
    cmocka_unit_test (test_discard_of_zeroes),
    cmocka_unit_test (test_discard_of_too_many_zeroes),
  };

  return cmocka_run_group_tests_name ("zero", tests, NULL, NULL);
}
