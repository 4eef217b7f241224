/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of flushes over the whole stack: what they write, failures beside
 * them, and what they wait for.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>

#include "stack.h"

#define SIZE (8 * MiB)

static void
test_flush_makes_all_durable (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 100, 10000, 1, false);
  stack_write (s, 1 * MiB, 512, 2, false);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 100, 10000, 1));
  assert_true (stack_keeps (s, 1 * MiB, 512, 2));
  assert_int_equal (stack_amounts (s).held, 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  stack_free (s);
}

static void
test_flush_of_nothing_flushes_the_backend (void **state)
{
  struct stack *s = stack_sized (SIZE);

  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 0);
  stack_free (s);
}

/* Many small writes become few large ones, each byte once. */
static void
test_flush_writes_in_batches (void **state)
{
  struct stack *s = stack_sized (SIZE);
  const uint64_t batch = memory_batch_size (&registry.memory);
  unsigned i;

  for (i = 0; i < 256; ++i)
    stack_write (s, (i * 37 % 256) * 2048, 2048, i, false);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), 512 * KiB);
  assert_true (stack_calls (s, ARRAY_WRITE) <= 2 * (512 * KiB / batch) + 2);
  stack_free (s);
}

static void
test_flush_writes_dirty_blocks_only (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_read (s, 0, 1);
  stack_write (s, 512, 512, 1, false);
  stack_write (s, 2048, 1024, 1, false);
  stack_write (s, 64 * KiB, 512, 1, false);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), 2048);
  stack_free (s);
}

static void
test_batches_keep_to_the_maximum (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.traits.maximum = 5 * 512; /* the array checks */
  s = stack_new (&o);
  stack_write (s, 512, 100 * KiB, 1, false);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 100 * KiB, 1));
  stack_free (s);
}

static void
test_short_last_block_is_written_to_its_end (void **state)
{
  struct stack_options o = stack_options (SIZE + 300);
  struct stack *s = stack_new (&o);

  stack_write (s, SIZE - 1000, 1300, 1, false);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, SIZE - 1000, 1300, 1));
  stack_free (s);
}

/* Law 2: it tries every block, and reports the first error. */
static void
test_flush_goes_on_after_an_error (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 4096, 1, false);
  stack_write (s, 1 * MiB, 4096, 2, false);
  stack_write (s, 2 * MiB, 4096, 3, false);
  array_fail_range (s->array, ARRAY_WRITE, 1 * MiB, 512, ENOSPC);
  assert_int_equal (request_flush (s->client), ENOSPC);
  assert_true (stack_sees (s, 0, 4096, 1));
  assert_true (stack_sees (s, 2 * MiB, 4096, 3));
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (stack_read (s, 1 * MiB, 4096), 2); /* law 3 */
  assert_int_equal (request_flush (s->client),
                    ENOSPC); /* as long as it is not durable */
  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_true (stack_keeps (s, 1 * MiB, 4096, 2));
  stack_free (s);
}

/* Law 4: an error is told once only, and the disk has forgotten. */
static void
test_failed_flush_is_made_good (void **state)
{
  struct stack *s = stack_sized (SIZE);

  s->array->forgets = true;
  stack_write (s, 0, 64 * KiB, 1, false);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_false (stack_sees (s, 0, 4096, 1));
  assert_int_equal (stack_amounts (s).dirty, 64 * KiB);
  assert_int_equal (stack_read (s, 0, 64 * KiB), 1);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  stack_free (s);
}

static void
test_lost_zeroes_are_made_good (void **state)
{
  struct stack *s = stack_sized (SIZE);

  s->array->forgets = true;
  assert_int_equal (request_zero (s->client, 64 * KiB, 0, 0), 0);
  stack_write (s, 8192, 512, 1, false);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_int_equal (stack_read (s, 0, 8192), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 8192, 0));
  assert_true (stack_keeps (s, 8192, 512, 1));
  assert_true (stack_keeps (s, 9216, 64 * KiB - 9216, 0));
  stack_free (s);
}

/* While a failed flush is under way another client's waits for the next: that
 * one succeeds, but does not bring back what the first has lost.
 */
static void
test_flush_after_the_failure_of_another (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct request a = { .what = DO_FLUSH }, b = { .what = DO_FLUSH };
  struct stack *s;

  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  a.s = b.s = s;
  s->array->forgets = true;
  stack_write (s, 0, 4096, 1, false); /* unstable */
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  request_start (&b);
  wait_until (stack_flush_waits (s));
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (request_join (&a), EIO);
  if (request_join (&b) == 0)
    assert_true (stack_keeps (s, 0, 4096, 1));
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  stack_free (s);
}

/* A flush that has ended its pass and waits until another has ended, while
 * something stands at the gate of OP and then fails.
 */
struct beside {
  struct stack *s;
  enum array_op op;
  struct request first, second; /* flushes */
};

static void
beside_init (struct beside *d, struct stack *s, enum array_op op)
{
  *d = (struct beside){ .s = s, .op = op };
  d->first = d->second = (struct request){ .s = s, .what = DO_FLUSH };
  s->array->tears = true;
  array_fail (s->array, op, 0, 1, EIO);
  array_shut (s->array, op, GATE_BEFORE);
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
}

/* Something is at the gate: begins the flushes, and opens it. */
static void
beside_fail (struct beside *d)
{
  array_wait_gate (d->s->array, d->op, 1);
  request_start (&d->first);
  array_wait_gate (d->s->array, ARRAY_FLUSH, 1);
  request_start (&d->second);
  wait_until (stack_flush_waits (d->s));
  array_open (d->s->array, d->op);
}

/* It has failed: both flushes succeed, and the first LEN bytes are durable. */
static void
beside_end (struct beside *d, uint32_t len, int value)
{
  struct stack *s = d->s;

  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (request_join (&d->first), 0);
  assert_int_equal (request_join (&d->second), 0);
  assert_true (stack_keeps (s, 0, len, value));
  assert_int_equal (stack_read (s, 0, len), value);
  stack_free (s);
}

static void
flush_beside (struct request *r, enum array_op op, uint32_t len, int value)
{
  struct beside d;

  beside_init (&d, r->s, op);
  request_start (r);
  beside_fail (&d);
  assert_int_equal (request_join (r), EIO);
  beside_end (&d, len, value);
}

static struct stack *
unstable_stack (void)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_int_equal (stack_amounts (s).unstable, 4096);
  return s;
}

static void
test_flush_beside_a_failed_zero (void **state)
{
  struct request zero = { .what = DO_ZERO, .len = 4096 };

  zero.s = unstable_stack ();
  flush_beside (&zero, ARRAY_ZERO, 4096, 1);
}

static void
test_flush_beside_a_failed_trim (void **state)
{
  struct request trim = { .what = DO_TRIM, .len = 4096 };

  trim.s = unstable_stack ();
  flush_beside (&trim, ARRAY_TRIM, 4096, 1);
}

/* The acknowledged bytes here are the zeroes around the trim. */
static void
test_flush_beside_a_failed_trim_of_zeroes (void **state)
{
  struct request trim = { .what = DO_TRIM, .offset = 8192, .len = 8192 };

  trim.s = stack_sized (SIZE);
  assert_int_equal (request_zero (trim.s->client, 64 * KiB, 0, 0), 0);
  flush_beside (&trim, ARRAY_TRIM, 64 * KiB, 0);
}

/* A write past the cache, of the blocks that are cached and unstable. */
struct past {
  struct stack *s;
  struct thread thread;
  int error;
};

static void
run_past (void *arg)
{
  struct past *p = arg;
  struct submit *submit = &p->s->export->submit;
  struct zeroes *z = &p->s->export->pc.zeroes;
  struct backend *b = p->s->client->own;
  uint8_t bytes[4096];
  struct exclusive x;

  memset (bytes, 9, sizeof bytes);
  exclusive_begin (z, &x, 0, sizeof bytes);
  p->error = clear_write_past (submit, b, bytes, 0, sizeof bytes);
  exclusive_end (z, &x);
}

/* The backend makes a write durable by a flush: its own failure is no failed
 * operation with FUA.
 */
static void
test_flush_beside_a_failed_write_past (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct past past = { .error = 0 };
  struct beside d;

  o.settings.mode = MODE_PROMPT;
  o.traits.fua = FUA_EMULATED;
  past.s = stack_new (&o);
  assert_int_equal (stack_write (past.s, 0, 4096, 1, false), 0);
  beside_init (&d, past.s, ARRAY_WRITE);
  thread_start (&past.thread, run_past, &past);
  beside_fail (&d);
  thread_join (&past.thread);
  assert_int_equal (past.error, EIO);
  beside_end (&d, 4096, 1);
}

/* Law 2: those in writeback included. */
static void
test_flush_covers_what_is_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 100, .value = 2
  };
  struct request f = { .s = s, .what = DO_FLUSH };

  stack_write (s, 0, 512, 1, false); /* acknowledged; the FUA write takes it */
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&f);
  wait_until (stack_waits_for_open (s));
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 0);
  assert_false (f.ended);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&f), 0);
  assert_true (stack_keeps (s, 100, 412, 1));
  stack_free (s);
}

/* … and if that fails, the flush writes it itself. */
static void
test_flush_writes_what_failed_in_flight (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 100, .value = 2
  };
  struct request f = { .s = s, .what = DO_FLUSH };

  stack_write (s, 0, 512, 1, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&f);
  wait_until (stack_waits_for_open (s));
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), EIO);
  assert_int_equal (request_join (&f), 0);
  assert_true (stack_keeps (s, 100, 412, 1));
  stack_free (s);
}

/* Law 2: it does not wait for later writes: nothing of theirs was replied to.
 * The backend's flush has to wait for a FUA call, so this one goes without.
 */
static void
test_flush_does_not_wait_for_unanswered_writes (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct request write = {
    .what = DO_WRITE, .offset = 0, .len = 512, .value = 2
  };
  struct stack *s;

  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  write.s = s;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&write);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (request_flush (s->client), 0);
  assert_false (write.ended);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&write), 0);
  stack_free (s);
}

/* Written again while write-back has it: the newer bytes are covered too if
 * they came before the flush, and never overtaken by the older ones.
 */
static void
test_rewrite_during_writeback (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request f = { .s = s, .what = DO_FLUSH };

  stack_write (s, 0, 4096, 1, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&f);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (stack_write (s, 0, 4096, 2, false), 0); /* no waiting */
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&f), 0);
  assert_int_equal (stack_read (s, 0, 4096), 2);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 2));
  stack_free (s);
}

/* Law 17: a flush of one covers what others wrote. */
static void
test_flush_of_every_connection_that_wrote (void **state)
{
  struct stack_options o = stack_options (SIZE);
  uint8_t buf[4096];
  struct stack *s;

  o.traits.can_multi_conn = false;
  o.settings.mode = MODE_PROMPT;
  o.clients = 4;
  s = stack_new (&o);
  memset (buf, 1, sizeof buf);
  request_write (&s->clients[1], buf, sizeof buf, 0, false);
  request_write (&s->clients[2], buf, sizeof buf, 8192, false);
  assert_int_equal (request_flush (&s->clients[0]), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 3); /* its own among them */
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_true (stack_keeps (s, 8192, 4096, 1));
  assert_int_equal (request_flush (&s->clients[3]), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 4);
  stack_free (s);
}

/* A backend such as a plugin that relies on nbdkit's threads. */
static struct {
  int (*write) (struct backend *b, const void *bytes, uint32_t len,
                uint64_t offset, bool fua);
  _Atomic bool blocks_signals;
} plugin;

/* clang has no such warning. */
#ifndef __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstack-usage="
#endif
static int
write_with_large_stack (struct backend *b, const void *bytes, uint32_t len,
                        uint64_t offset, bool fua)
{
  volatile uint8_t local[512 * KiB];
  sigset_t now;
  size_t i;

  for (i = 0; i < sizeof local; i += 512)
    local[sizeof local - 1 - i] = i;
  must (pthread_sigmask (SIG_BLOCK, NULL, &now) == 0);
  if (sigismember (&now, SIGTERM) || sigismember (&now, SIGALRM))
    plugin.blocks_signals = true;
  return plugin.write (b, bytes, len, offset, fua);
}
#ifndef __clang__
#pragma GCC diagnostic pop
#endif

/* Threads of the filter have the stack and the signals of others. */
static void
test_helpers_are_like_other_threads (void **state)
{
  struct stack *s = stack_sized (SIZE);

  plugin.blocks_signals = false;
  plugin.write = s->backends[0].write;
  s->backends[0].write = write_with_large_stack;
  stack_write (s, 0, 512, 1, false);
  assert_int_equal (writeback_drain (s->export, NULL), 0);
  assert_true (stack_calls (s, ARRAY_WRITE) > 0);
  assert_false (plugin.blocks_signals);
  s->backends[0].write = plugin.write;
  stack_free (s);
}

/* At each flush of the backend another client's FUA write fails. */
static struct {
  struct stack *s;
  int (*flush) (struct backend *b);
  struct thread thread;
  bool runs;
  _Atomic bool ended;
} failing;

static void
run_failing_write (void *arg)
{
  uint8_t b[512] = { 0 };

  (void) arg;
  must (request_write (failing.s->client, b, sizeof b, MiB, true) == EIO);
  failing.ended = true;
}

static bool
has_failed_or_waits (void)
{
  struct submit *s = &failing.s->export->submit;

  LOCK_FOR_SCOPE (&s->lock);
  return failing.ended || s->alone_waiters > 0;
}

static int
flush_beside_failing_write (struct backend *b)
{
  if (!failing.runs) {
    failing.ended = false;
    failing.runs = true;
    thread_start (&failing.thread, run_failing_write, NULL);
  }
  wait_until (has_failed_or_waits ());
  if (failing.ended) {
    thread_join (&failing.thread);
    failing.runs = false;
  }
  return failing.flush (b);
}

/* A flush never has the error of other clients' writes, however often those
 * fail: its last attempt keeps them from beginning.
 */
static void
test_undone_flush_runs_alone (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_write (s, 0, 512, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, MiB, 512, EIO);
  failing.s = s;
  failing.runs = false;
  failing.flush = s->backends[0].flush;
  s->backends[0].flush = flush_beside_failing_write;
  s->export->submit.policy.usual[0].latency =
      s->export->submit.policy.usual[1].latency = UINT64_C (1000000000000000);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 512, 1));
  assert_true (stack_calls (s, ARRAY_FLUSH) <= 5);
  if (failing.runs)
    thread_join (&failing.thread);
  s->backends[0].flush = failing.flush;
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_flush_makes_all_durable),
    cmocka_unit_test (test_flush_of_nothing_flushes_the_backend),
    cmocka_unit_test (test_flush_writes_in_batches),
    cmocka_unit_test (test_flush_writes_dirty_blocks_only),
    cmocka_unit_test (test_batches_keep_to_the_maximum),
    cmocka_unit_test (test_short_last_block_is_written_to_its_end),
    cmocka_unit_test (test_flush_goes_on_after_an_error),
    cmocka_unit_test (test_failed_flush_is_made_good),
    cmocka_unit_test (test_lost_zeroes_are_made_good),
    cmocka_unit_test (test_flush_after_the_failure_of_another),
    cmocka_unit_test (test_flush_beside_a_failed_zero),
    cmocka_unit_test (test_flush_beside_a_failed_trim),
    cmocka_unit_test (test_flush_beside_a_failed_trim_of_zeroes),
    cmocka_unit_test (test_flush_beside_a_failed_write_past),
    cmocka_unit_test (test_flush_covers_what_is_in_flight),
    cmocka_unit_test (test_flush_writes_what_failed_in_flight),
    cmocka_unit_test (test_flush_does_not_wait_for_unanswered_writes),
    cmocka_unit_test (test_rewrite_during_writeback),
    cmocka_unit_test (test_flush_of_every_connection_that_wrote),
    cmocka_unit_test (test_helpers_are_like_other_threads),
    cmocka_unit_test (test_undone_flush_runs_alone),
  };

  return cmocka_run_group_tests_name ("flush", tests, NULL, NULL);
}
