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

/* ---- reads and writes ---- */

#define LARGE  (16 * MiB)
#define PIECE  MiB /* with this memory */
#define MEMORY (64 * MiB)
#define PIECES 8
#define SPAN   (PIECES * PIECE)

static struct stack *
stack_of_pieces (enum fua_kind fua)
{
  struct stack_options o = stack_options (LARGE);

  o.memory = MEMORY;
  o.traits.fua = fua;
  return stack_new (&o);
}

static void
test_read_goes_side_by_side (void **state)
{
  struct stack *s = stack_of_pieces (FUA_NATIVE);
  struct request read = { .s = s, .what = DO_READ, .len = SPAN };

  stack_set_backend (s, 0, LARGE, 5);
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  request_start (&read);
  wait_until (stack_calls (s, ARRAY_READ) == PIECES);
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&read), 0);
  assert_int_equal (read.value, 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), PIECES);
  assert_int_equal (stack_read (s, 0, SPAN), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), PIECES);
  stack_free (s);
}

/* From and to the client's own buffer: only two blocks are read before, which
 * it covers in part.
 */
static void
test_write_goes_side_by_side (void **state)
{
  struct stack *s = stack_of_pieces (FUA_NATIVE);
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 100, .len = SPAN, .value = 7
  };

  stack_set_backend (s, 0, LARGE, 5);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  wait_until (stack_calls (s, ARRAY_WRITE) == PIECES + 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 1024);
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), SPAN + 512);
  assert_true (stack_keeps (s, 0, 100, 5));
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_true (stack_keeps (s, 100 + SPAN, 1000, 5));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Law 1: one flush, which began after the last of them. */
static void
test_write_in_pieces_has_one_flush (void **state)
{
  struct stack *s = stack_of_pieces (FUA_EMULATED);

  stack_set_backend (s, 0, LARGE, 5);
  assert_int_equal (stack_write (s, 100, SPAN, 7, true), 0);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), PIECES + 2);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_true (stack_keeps (s, 0, 100, 5));
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Law 20. */
static void
test_serial_request_goes_in_turn (void **state)
{
  struct stack_options o = stack_options (LARGE);
  struct stack *s;

  o.memory = MEMORY;
  o.traits.fua = FUA_EMULATED;
  s = stack_of_one_thread (&o);
  assert_int_equal (stack_write (s, 0, SPAN, 7, true), 0);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), PIECES);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  stack_set_backend (s, SPAN, SPAN, 5);
  assert_int_equal (stack_read (s, SPAN, SPAN), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), PIECES);
  stack_free (s);
}

/* Law 5: a block that was dirty before is dirty again, and for all others the
 * backend has to be asked.
 */
static void
test_flush_of_a_large_write_fails (void **state)
{
  struct stack *s = stack_of_pieces (FUA_EMULATED);

  stack_set_backend (s, 0, LARGE, 5);
  stack_write (s, 3 * PIECE, 4096, 6, false);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, ENOSPC);
  assert_int_equal (stack_write (s, 0, SPAN, 7, true), ENOSPC);
  assert_int_equal (stack_amounts (s).held, 4096);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 3 * PIECE, 4096, 7));
  stack_free (s);
}

/* Law 11: after an error no piece is begun, and those before it are undone. */
static void
test_error_in_the_middle_piece (void **state)
{
  struct stack_options o = stack_options (LARGE);
  struct stack *s;

  o.memory = MEMORY;
  o.traits.fua = FUA_EMULATED;
  o.serial = true;
  s = stack_new (&o);
  stack_write (s, 512, 512, 6, true);
  array_forget_calls (s->array);
  array_fail_range (s->array, ARRAY_WRITE, 3 * PIECE, 512, ENOSPC);
  assert_int_equal (stack_write (s, 0, SPAN, 7, true), ENOSPC);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 4);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  array_heal (s->array);
  assert_int_equal (stack_read (s, 0, PIECE), 7); /* as the backend has it */
  assert_int_equal (request_flush (s->client), 0);
  stack_free (s);
}

/* ---- pieces that wait, hang, or are undone ---- */

static struct stack *
stack_with_hang (uint64_t at)
{
  struct stack *s = stack_of_pieces (FUA_EMULATED);

  array_hang_write (s->array, at);
  return s;
}

/* A small durable write to piece 0 ends while another piece cannot. */
static void
must_let_by (struct stack *s)
{
  struct request small = {
    .s = s, .what = DO_FUA, .offset = 4096, .len = 512, .value = 8
  };

  request_start (&small);
  wait_until (small.ended);
  assert_int_equal (request_join (&small), 0);
  assert_true (stack_keeps (s, 4096, 512, 8));
}

/* A piece that waits for a block in flight keeps no other from being written,
 * and the request keeps no block meanwhile.
 */
static void
test_piece_waits_for_a_block (void **state)
{
  struct stack *s = stack_with_hang (5 * PIECE);
  struct request before = {
    .s = s, .what = DO_FUA, .offset = 5 * PIECE, .len = 512, .value = 6
  };
  struct request fua = { .s = s, .what = DO_FUA, .len = SPAN, .value = 7 };

  request_start (&before);
  wait_until (stack_calls (s, ARRAY_WRITE) == 1);
  request_start (&fua);
  wait_until (stack_calls (s, ARRAY_WRITE) == PIECES);
  wait_until (stack_page_waits (s, 5 * PIECE));
  must_let_by (s);
  assert_false (fua.ended);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&before), 0);
  assert_int_equal (request_join (&fua), 0);
  assert_true (stack_keeps (s, 5 * PIECE, PIECE, 7));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Law 21: a piece that hangs delays its own blocks. */
static void
test_piece_hangs (void **state)
{
  struct stack *s = stack_with_hang (3 * PIECE);
  struct request fua = { .s = s, .what = DO_FUA, .len = SPAN, .value = 7 };

  request_start (&fua);
  wait_until (stack_calls (s, ARRAY_WRITE) == PIECES);
  must_let_by (s);
  assert_false (fua.ended);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&fua), 0);
  assert_true (stack_keeps (s, 3 * PIECE, PIECE, 7));
  stack_free (s);
}

static struct pagecache *failing;
static atomic_bool has_failed;

/* Others' flush fails while the fourth piece is written. */
static int
fail_beside (struct array *a, struct array_watched *w, bool ended, int error)
{
  struct pagecache *pc = failing;

  if (w->op == ARRAY_WRITE && !ended && w->offset == 3 * PIECE &&
      !atomic_exchange (&has_failed, true)) {
    array_forget (a);
    ledger_fail (pc, held_epoch (&pc->held));
  }
  return error;
}

/* Law 4: what it may have lost is written again, from the same bytes. */
static void
test_pieces_are_written_again (void **state)
{
  struct stack *s = stack_of_pieces (FUA_EMULATED);

  failing = &s->export->pc;
  atomic_store (&has_failed, false);
  s->array->watch = fail_beside;
  assert_int_equal (stack_write (s, 100, SPAN, 7, true), 0);
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_true (stack_calls (s, ARRAY_WRITE) > PIECES + 2);
  assert_int_equal (stack_read (s, 100, SPAN), 7);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* ---- several at once ---- */

/* Two large writes that overlap, and small ones between, end, and each block
 * has the bytes of one of them.
 */
static void
overlap_large_writes (enum fua_kind fua)
{
  struct stack *s = stack_of_pieces (fua);
  struct request large[2] = {
    { .s = s, .what = DO_FUA, .len = SPAN, .value = 1 },
    { .s = s,
      .what = DO_FUA,
      .offset = SPAN / 2 + 512,
      .len = SPAN,
      .value = 2 },
  };
  struct request small[8];
  uint8_t *bytes = malloc (LARGE);
  unsigned i, round;
  uint64_t at;

  must (bytes != NULL);
  s->array->unsteady = true;
  for (round = 0; round < 10; ++round) {
    for (i = 0; i < 2; ++i)
      request_start (&large[i]);
    for (i = 0; i < ARRAY_LEN (small); ++i) {
      small[i] = (struct request){ .s = s,
                                   .what = DO_FUA,
                                   .offset = SPAN / 2 - 4096 + i * PIECE,
                                   .len = 8192,
                                   .value = 3 + i };
      request_start (&small[i]);
    }
    for (i = 0; i < 2; ++i)
      assert_int_equal (request_join (&large[i]), 0);
    for (i = 0; i < ARRAY_LEN (small); ++i)
      assert_int_equal (request_join (&small[i]), 0);
    assert_int_equal (stack_amounts (s).writeback, 0);
    assert_int_equal (request_read (s->client, bytes, LARGE, 0), 0);
    assert_true (array_keeps (s->array, 0, bytes, LARGE));
    for (at = 0; at < LARGE; at += 512)
      must (at + 512 > SPAN * 3 / 2 ||
            memcmp (bytes + at, bytes + at + 1, 511) == 0);
  }
  free (bytes);
  stack_free (s);
}

static void
test_large_writes_overlap (void **state)
{
  overlap_large_writes (FUA_EMULATED);
  overlap_large_writes (FUA_NATIVE);
}

/* Law 15: larger than the cache. */
static void
test_requests_larger_than_the_cache (void **state)
{
  struct stack_options o = stack_options (LARGE);
  struct stack *s;

  o.traits.fua = FUA_EMULATED;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 100, SPAN, 7, true), 0);
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_int_equal (stack_read (s, 100, SPAN), 7);
  assert_int_equal (stack_amounts (s).held, 0);
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
    cmocka_unit_test (test_read_goes_side_by_side),
    cmocka_unit_test (test_write_goes_side_by_side),
    cmocka_unit_test (test_write_in_pieces_has_one_flush),
    cmocka_unit_test (test_serial_request_goes_in_turn),
    cmocka_unit_test (test_flush_of_a_large_write_fails),
    cmocka_unit_test (test_error_in_the_middle_piece),
    cmocka_unit_test (test_piece_waits_for_a_block),
    cmocka_unit_test (test_piece_hangs),
    cmocka_unit_test (test_pieces_are_written_again),
    cmocka_unit_test (test_large_writes_overlap),
    cmocka_unit_test (test_requests_larger_than_the_cache),
  };

  return cmocka_run_group_tests_name ("large", tests, NULL, NULL);
}
