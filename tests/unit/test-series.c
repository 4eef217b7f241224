/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of large durable writes by the FUA flag: to the rest of the filter
 * the pieces of one are one operation.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define PIECE  MiB /* with this memory */
#define MEMORY (64 * MiB)
#define PIECES 6
#define SPAN   (PIECES * PIECE)
#define SIZE   (64 * MiB)
#define OTHER  (48 * MiB) /* not in the large write */

static struct stack *
stack_of_blocks (uint32_t block)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.traits.block = block;
  o.traits.preferred = max_u64 (4096, block);
  o.memory = MEMORY;
  o.settings.dirty_max = MEMORY / 2;
  s = stack_new (&o);
  array_hang_write (s->array, UINT64_MAX);
  return s;
}

static struct stack *
stack_of_pieces (void)
{
  return stack_of_blocks (512);
}

/* However busy the machine is, no write is so old that it hangs: that would
 * part the series.
 */
static void
call_none_hung (struct stack *s)
{
  unsigned i;

  for (i = 0; i < 2; ++i)
    s->export->submit.policy.usual[i].latency = 1e15;
}

/* All its pieces are at the backend at once, before one ends. */
static void
start_side_by_side (struct stack *s, struct request *large, unsigned pieces)
{
  const unsigned before = stack_calls (s, ARRAY_WRITE);

  call_none_hung (s);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (large);
  wait_until (stack_calls (s, ARRAY_WRITE) == before + pieces);
}

/* Writes that carried FUA. */
static unsigned
count_flags (struct stack *s)
{
  const unsigned calls = stack_calls (s, ARRAY_WRITE);
  unsigned i, count = 0;

  for (i = 0; i < calls; ++i)
    count += (array_call (s->array, ARRAY_WRITE, i).flags & ZERO_FUA) != 0;
  return count;
}

/* Its pieces overlap each other, and nothing else: so nothing can take them
 * back, and no flush has to follow.
 */
static void
test_meets_none (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request large = {
    .s = s, .what = DO_FUA, .offset = 100, .len = SPAN, .value = 7
  };

  stack_set_backend (s, 0, SIZE, 5);
  start_side_by_side (s, &large, PIECES + 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&large), 0);
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_int_equal (count_flags (s), PIECES + 2);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* More pieces than a series has places for, and beyond the bound: some end
 * while the first is in progress.
 */
static void
test_with_many_pieces (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request large = {
    .s = s, .what = DO_FUA, .len = 40 * PIECE, .value = 7
  };

  call_none_hung (s);
  array_hang_write (s->array, 0);
  request_start (&large);
  wait_until (stack_calls (s, ARRAY_FLUSH) > 0 ||
              stack_calls (s, ARRAY_WRITE) == 40);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&large), 0);
  assert_true (stack_keeps (s, 0, 40 * PIECE, 7));
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* Its first and last block need a buffer each, and are operations of their own:
 * by a flush, since the other pieces overlap them.
 */
static void
test_with_large_blocks (void **state)
{
  struct stack *s = stack_of_blocks (8192);
  struct request large = {
    .s = s, .what = DO_FUA, .offset = 100, .len = SPAN, .value = 7
  };

  stack_set_backend (s, 0, SIZE, 5);
  start_side_by_side (s, &large, PIECES + 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&large), 0);
  assert_true (stack_keeps (s, 0, 100, 5));
  assert_true (stack_keeps (s, 100, SPAN, 7));
  assert_int_equal (count_flags (s), PIECES);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* The pieces go as small writes do. */
static void
test_by_a_flush (void **state)
{
  struct stack *s = stack_of_pieces ();

  s->export->submit.policy.choice.chosen = BY_FLUSH;
  assert_int_equal (stack_write (s, 0, SPAN, 7, true), 0);
  assert_true (stack_keeps (s, 0, SPAN, 7));
  assert_int_equal (count_flags (s), 0);
  assert_int_equal (stack_calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* A FUA write elsewhere is in progress when the large one ends. */
static void
end_beside_another (struct stack *s, struct request *other)
{
  *other = (struct request){
    .s = s, .what = DO_FUA, .offset = OTHER, .len = 512, .value = 8
  };
  array_hang_write (s->array, OTHER);
  request_start (other);
  wait_until (array_was_called (s->array, ARRAY_WRITE, OTHER));
  assert_int_equal (stack_write (s, 0, SPAN, 7, true), 0);
  assert_true (stack_keeps (s, 0, SPAN, 7));
}

/* Law 4: it stays unstable until a flush has covered it. */
static void
test_meets_one_that_succeeds (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request other;

  end_beside_another (s, &other);
  assert_int_equal (stack_amounts (s).unstable, SPAN);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&other), 0);
  assert_int_equal (stack_amounts (s).dirty, 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  assert_int_equal (stack_bytes (s, ARRAY_WRITE), SPAN + 512);
  stack_free (s);
}

/* Law 4: the backend may have dropped it, so it is written again. */
static void
test_meets_one_that_fails (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request other;

  array_fail_range (s->array, ARRAY_WRITE, OTHER, 512, EIO);
  end_beside_another (s, &other);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&other), EIO);
  assert_int_equal (stack_amounts (s).dirty, SPAN);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  assert_true (stack_bytes (s, ARRAY_WRITE) >= 2 * SPAN);
  stack_free (s);
}

/* Law 4: one that failed after some pieces had been written, and before the
 * last was.
 */
static void
test_meets_one_that_failed_before_its_end (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request large = { .s = s, .what = DO_FUA, .len = SPAN, .value = 7 };

  s->array->forgets = true;
  array_fail_range (s->array, ARRAY_WRITE, OTHER, 512, EIO);
  array_hang_write (s->array, 3 * PIECE);
  request_start (&large);
  wait_until (stack_calls (s, ARRAY_WRITE) == PIECES);
  assert_int_equal (stack_write (s, OTHER, 512, 8, true), EIO);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&large), 0);
  assert_true (stack_keeps (s, 0, SPAN, 7));
  assert_int_equal (stack_amounts (s).dirty, 0);
  stack_free (s);
}

/* Law 5: a block that was dirty before is dirty again, and for all others the
 * backend has to be asked.
 */
static void
test_one_piece_fails (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request large = { .s = s, .what = DO_FUA, .len = SPAN, .value = 7 };

  stack_set_backend (s, 0, SIZE, 5);
  stack_write (s, 4 * PIECE, 4096, 6, false);
  array_fail_range (s->array, ARRAY_WRITE, 3 * PIECE, 512, ENOSPC);
  start_side_by_side (s, &large, PIECES);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&large), ENOSPC);
  assert_int_equal (stack_amounts (s).held, 4096);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 4 * PIECE, 4096, 7));
  stack_free (s);
}

/* A piece that waits for a block in flight: the request keeps no block
 * meanwhile, and no other piece waits.
 */
static void
test_piece_waits_for_a_block (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct request large = { .s = s, .what = DO_FUA, .len = SPAN, .value = 7 };
  struct request before = {
    .s = s, .what = DO_FUA, .offset = 5 * PIECE, .len = 512, .value = 6
  };

  array_hang_write (s->array, 5 * PIECE);
  request_start (&before);
  wait_until (stack_calls (s, ARRAY_WRITE) == 1);
  request_start (&large);
  wait_until (stack_calls (s, ARRAY_WRITE) == PIECES);
  wait_until (stack_page_waits (s, 5 * PIECE));
  assert_int_equal (stack_write (s, 4096, 512, 8, true), 0);
  assert_true (stack_keeps (s, 4096, 512, 8));
  assert_false (large.ended);
  array_hang_write (s->array, UINT64_MAX);
  assert_int_equal (request_join (&before), 0);
  assert_int_equal (request_join (&large), 0);
  assert_true (stack_keeps (s, 5 * PIECE, PIECE, 7));
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* A piece over acknowledged bytes is open until it is settled. */
static void
put_over_dirty (struct stack *s, struct series *r)
{
  struct pagecache *pc = &s->export->pc;
  const struct part part = { .len = 4096 };
  uint8_t bytes[4096];
  struct series_write *w;
  struct page *p;

  assert_int_equal (stack_write (s, 0, part.len, 6, false), 0);
  memset (bytes, 7, sizeof bytes);
  p = page_pin (pc, 0, ADMIT_WRITE);
  assert_int_equal (page_claim (pc, p, &part), 0);
  w = series_take (r);
  page_write_claimed (pc, p, &part, bytes, &w->open);
  page_unpin (pc, p);
  assert_ptr_equal (pc->oldest_open, &w->open);
  w->w.offset = 0;
  w->w.len = part.len;
  w->w.bytes = bytes;
  w->w.turn = 0;
  assert_int_equal (submit_write (r->s, r->b, &w->w), 0);
  assert_int_equal (series_put (r, w, 0), 0);
  assert_int_equal (series_part (r), 0);
  assert_null (pc->oldest_open);
}

/* Law 2: the second piece has the place that the first had. */
static void
test_place_used_again (void **state)
{
  struct stack *s = stack_of_pieces ();
  struct completion request;
  struct series r;

  completion_init (&request);
  series_init (&r, &s->export->submit, s->client->own, &request);
  put_over_dirty (s, &r);
  put_over_dirty (s, &r);
  series_destroy (&r);
  completion_destroy (&request);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_meets_none),
    cmocka_unit_test (test_with_many_pieces),
    cmocka_unit_test (test_with_large_blocks),
    cmocka_unit_test (test_by_a_flush),
    cmocka_unit_test (test_meets_one_that_succeeds),
    cmocka_unit_test (test_meets_one_that_fails),
    cmocka_unit_test (test_meets_one_that_failed_before_its_end),
    cmocka_unit_test (test_one_piece_fails),
    cmocka_unit_test (test_piece_waits_for_a_block),
    cmocka_unit_test (test_place_used_again),
  };

  return cmocka_run_group_tests_name ("series", tests, NULL, NULL);
}
