/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of what a flush waits for: the blocks that were dirty when it came
 * and that another thread has in flight, not their page, not later writes.
 */

#include <config.h>

#include "stack.h"

#define SIZE (8 * MiB)

/* A durable write needs a flush, so that it can be stopped behind its write. */
static struct stack *
emulated_stack (bool serial)
{
  struct stack_options o = stack_options (SIZE);

  o.traits.fua = FUA_EMULATED;
  o.settings.depth = 16;
  o.memory = 16 * MiB; /* buffers for several batches */
  o.serial = serial;
  return stack_new (&o);
}

/* Begins a durable write of one block that stays in flight until the gate of
 * flushes is opened.
 */
static void
hold_in_flight (struct request *r)
{
  array_shut (r->s->array, ARRAY_FLUSH, GATE_BEFORE);
  request_start (r);
  array_wait_gate (r->s->array, ARRAY_FLUSH, 1);
}

static void
open_all (struct stack *s)
{
  array_open (s->array, ARRAY_WRITE);
  array_open (s->array, ARRAY_FLUSH);
}

/* Block 0 is dirty and in flight, block 1 of the same page is in flight and
 * stays so: the second flush writes block 0 as soon as that has ended.
 */
static void
test_flush_waits_for_blocks_not_for_their_page (void **state)
{
  struct stack *s = emulated_stack (false);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 512, .len = 512, .value = 9
  };
  struct request first = { .s = s, .what = DO_FLUSH };
  struct request second = { .s = s, .what = DO_FLUSH };

  hold_in_flight (&fua);
  assert_int_equal (stack_write (s, 0, 512, 1, false), 0);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&first);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  assert_int_equal (stack_write (s, 0, 512, 2, false), 0);
  request_start (&second);
  wait_until (stack_page_waits (s, 0));
  array_let_by (s->array, ARRAY_WRITE);
  wait_until (array_calls (s->array, ARRAY_WRITE) == 3);
  open_all (s);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&first), 0);
  assert_int_equal (request_join (&second), 0);
  assert_true (stack_keeps (s, 0, 512, 2));
  stack_free (s);
}

/* Law 21: a block of a page that was dirty before becomes dirty after the flush
 * came, and is in flight: the flush does not wait for it.
 */
static void
test_flush_does_not_wait_for_later_blocks (void **state)
{
  struct stack *s = emulated_stack (true);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 5120, .len = 512, .value = 9
  };
  struct request f = { .s = s, .what = DO_FLUSH };

  hold_in_flight (&fua);
  assert_int_equal (stack_write (s, 0, 512, 1, false), 0);
  assert_int_equal (stack_write (s, 4096, 512, 1, false), 0);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&f);
  array_wait_gate (s->array, ARRAY_WRITE, 1); /* the first page */
  assert_int_equal (stack_write (s, 5120, 512, 2, false), 0);
  array_open (s->array, ARRAY_WRITE);
  wait_until (stack_flush_waits (s));
  assert_true (stack_sees (s, 4096, 512, 1));
  open_all (s);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&f), 0);
  assert_true (stack_keeps (s, 4096, 512, 1));
  assert_int_equal (stack_read (s, 5120, 512), 2);
  stack_free (s);
}

struct writer {
  struct stack *s;
  unsigned first; /* block */
  _Atomic bool *stop;
  struct thread thread;
};

/* Writes two blocks of the page in turn: durable, and while that is in flight
 * others of its kind do the same.
 */
static void
run_writer (void *arg)
{
  struct writer *w = arg;
  uint8_t bytes[512] = { 3 };
  unsigned i;

  for (i = 0; !*w->stop; ++i)
    must (request_write (w->s->client, bytes, sizeof bytes,
                         (w->first + i % 2) * UINT64_C (512), i % 3 != 0) == 0);
}

/* Law 2, with many writers of one large page that never pause. */
static void
test_flush_ends_beside_writers_of_its_page (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct writer w[8];
  _Atomic bool stop = false;
  struct stack *s;
  unsigned i;

  o.settings.page_size = 64 * KiB;
  o.settings.depth = 16;
  o.memory = 16 * MiB;
  s = stack_new (&o);
  s->array->unsteady = true;
  for (i = 0; i < ARRAY_LEN (w); ++i) {
    w[i] = (struct writer){ .s = s, .first = 1 + i / 2, .stop = &stop };
    thread_start (&w[i].thread, run_writer, &w[i]);
  }
  for (i = 0; i < 20; ++i) {
    assert_int_equal (stack_write (s, 0, 512, 1 + i, false), 0);
    assert_int_equal (request_flush (s->client), 0);
    assert_true (stack_keeps (s, 0, 512, 1 + i));
  }
  stop = true;
  for (i = 0; i < ARRAY_LEN (w); ++i)
    thread_join (&w[i].thread);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_flush_waits_for_blocks_not_for_their_page),
    cmocka_unit_test (test_flush_does_not_wait_for_later_blocks),
    cmocka_unit_test (test_flush_ends_beside_writers_of_its_page),
  };

  return cmocka_run_group_tests_name ("waits", tests, NULL, NULL);
}
