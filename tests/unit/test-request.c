/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of requests over the whole stack: what each asks of the backend,
 * what errors leave behind, and random requests against a shadow.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "stack.h"

#define SIZE (2 * MiB)

static struct stack *
stack (void)
{
  const struct stack_options o = stack_options (SIZE);

  return stack_new (&o);
}

static unsigned
calls (struct stack *s, enum array_op op)
{
  return array_calls (s->array, op);
}

static uint64_t
bytes (struct stack *s, enum array_op op)
{
  return array_bytes (s->array, op);
}

/* The backend's bytes of a range become one value, as if written before. */
static void
set_backend (struct stack *s, uint64_t offset, uint32_t len, int value)
{
  memset (s->array->seen + offset, value, len);
  memset (s->array->durable + offset, value, len);
}

/* ---- reads ---- */

static void
test_read_again_is_a_hit (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 8192, 5);
  assert_int_equal (stack_read (s, 100, 5000), 5);
  assert_int_equal (calls (s, ARRAY_READ), 1);
  assert_int_equal (stack_read (s, 0, 8192), 5);
  assert_int_equal (calls (s, ARRAY_READ), 1);
  stack_free (s);
}

static void
test_fill_is_at_least_the_option (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  (void) state;
  o.settings.fill = 65536;
  s = stack_new (&o);
  set_backend (s, 0, 131072, 5);
  assert_int_equal (stack_read (s, 70000, 1), 5);
  assert_int_equal (bytes (s, ARRAY_READ), 65536);
  assert_int_equal (array_call (s->array, ARRAY_READ, 0).offset, 65536);
  assert_int_equal (stack_read (s, 65536, 65536), 5);
  assert_int_equal (calls (s, ARRAY_READ), 1);
  stack_free (s);
}

static void
test_read_asks_only_for_what_is_missing (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 3 * 4096, 5);
  stack_read (s, 4096, 4096);
  assert_int_equal (stack_read (s, 0, 3 * 4096), 5);
  assert_int_equal (calls (s, ARRAY_READ), 3);
  assert_int_equal (bytes (s, ARRAY_READ), 3 * 4096);
  stack_free (s);
}

static void
test_read_error_is_told_and_not_cached (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 4096, 5);
  array_fail (s->array, ARRAY_READ, 0, 1, ENOSPC);
  assert_int_equal (stack_read (s, 0, 4096), -ENOSPC);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  stack_free (s);
}

/* An error in bytes that no client asked for is not reported. */
static void
test_error_beside_the_request_is_none (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  (void) state;
  o.settings.fill = 65536;
  o.traits.maximum = 4096;
  s = stack_new (&o);
  set_backend (s, 0, 65536, 5);
  array_fail_range (s->array, ARRAY_READ, 32768, 4096, EIO);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  stack_free (s);
}

/* Law 14. */
static void
test_two_readers_one_backend_read (void **state)
{
  struct stack *s = stack ();
  struct request a = { .s = s, .what = DO_READ, .offset = 0, .len = 4096 };
  struct request b = { .s = s, .what = DO_READ, .offset = 512, .len = 512 };

  (void) state;
  set_backend (s, 0, 4096, 5);
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_READ, 1);
  request_start (&b);
  wait_until (stack_page_waits (s, 0));
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&a), 0);
  assert_int_equal (request_join (&b), 0);
  assert_int_equal (a.value, 5);
  assert_int_equal (b.value, 5);
  assert_int_equal (calls (s, ARRAY_READ), 1);
  stack_free (s);
}

/* Law 14: one that joined a fill waits for that page alone.  More pages than
 * there are queues to wait in: some share one.
 */
static void
test_joiner_waits_for_its_own_page (void **state)
{
  enum { PAGES = 65 };
  struct stack *s = stack ();
  struct request *fills = calloc (2 * PAGES, sizeof *fills);
  struct request *joiners = fills + PAGES;
  unsigned i;

  (void) state;
  must (fills != NULL);
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  for (i = 0; i < PAGES; ++i) {
    fills[i] = (struct request){
      .s = s, .what = DO_READ, .offset = i * 16 * KiB, .len = 512
    };
    joiners[i] = fills[i];
    set_backend (s, fills[i].offset, 512, 5);
    request_start (&fills[i]);
    array_wait_gate (s->array, ARRAY_READ, i + 1);
    request_start (&joiners[i]);
    wait_until (stack_page_waits (s, i * 16 * KiB));
  }
  for (i = 0; i < PAGES; ++i) {
    array_let_by (s->array, ARRAY_READ);
    array_wait_gate (s->array, ARRAY_READ, PAGES - i - 1);
  }
  array_open (s->array, ARRAY_READ);
  for (i = 0; i < 2 * PAGES; ++i)
    assert_int_equal (request_join (&fills[i]), 0);
  assert_int_equal (calls (s, ARRAY_READ), PAGES);
  free (fills);
  stack_free (s);
}

/* Law 8: if a fill that it joined fails, it reads for itself. */
static void
test_joiner_of_failed_fill_reads_itself (void **state)
{
  struct stack *s = stack ();
  struct request a = { .s = s, .what = DO_READ, .offset = 0, .len = 4096 };
  struct request b = { .s = s, .what = DO_READ, .offset = 512, .len = 512 };

  (void) state;
  set_backend (s, 0, 4096, 5);
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  array_fail (s->array, ARRAY_READ, 0, 1, EIO);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_READ, 1);
  request_start (&b);
  wait_until (stack_page_waits (s, 0));
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&a), EIO);
  assert_int_equal (request_join (&b), 0);
  assert_int_equal (b.value, 5);
  stack_free (s);
}

/* Law 14: a hit never waits for a miss, nor for memory. */
static void
test_hit_does_not_wait_for_a_miss (void **state)
{
  struct stack *s = stack ();
  struct request miss = { .s = s, .what = DO_READ, .offset = 4096, .len = 512 };

  (void) state;
  set_backend (s, 0, 8192, 5);
  stack_read (s, 0, 4096);
  stack_write (s, 4096 + 512, 512, 5, false); /* of the very page */
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  request_start (&miss);
  array_wait_gate (s->array, ARRAY_READ, 1);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (stack_read (s, 4096 + 512, 512), 5);
  assert_false (miss.ended);
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&miss), 0);
  stack_free (s);
}

/* Law 8: what the backend read before the write is older. */
static void
test_write_during_fill_stays (void **state)
{
  struct stack *s = stack ();
  struct request read = { .s = s, .what = DO_READ, .offset = 0, .len = 512 };

  (void) state;
  set_backend (s, 0, 4096, 5);
  array_shut (s->array, ARRAY_READ, GATE_AFTER);
  request_start (&read);
  array_wait_gate (s->array, ARRAY_READ, 1);
  assert_int_equal (stack_write (s, 0, 512, 6, false), 0);
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&read), 0);
  assert_int_equal (stack_read (s, 0, 512), 6);
  assert_int_equal (stack_read (s, 512, 3584), 5);
  stack_free (s);
}

/* Law 8: nor does anybody join a fill that a failed write overtook. */
static void
test_fua_during_fill_stays (void **state)
{
  struct stack *s = stack ();
  struct request read = { .s = s, .what = DO_READ, .offset = 0, .len = 512 };

  (void) state;
  set_backend (s, 0, 4096, 5);
  array_shut (s->array, ARRAY_READ, GATE_AFTER);
  request_start (&read);
  array_wait_gate (s->array, ARRAY_READ, 1);
  assert_int_equal (stack_write (s, 0, 512, 6, true), 0);
  assert_int_equal (request_trim (s->client, 512, 512, false), 0);
  array_open (s->array, ARRAY_READ);
  assert_int_equal (request_join (&read), 0);
  assert_int_equal (stack_read (s, 0, 512), 6);
  assert_int_equal (stack_read (s, 512, 512), 0xff);
  stack_free (s);
}

static void
test_prefetch (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 100000, 5);
  assert_int_equal (
      fetch_range (s->export, s->client->own, 100, 90000, ADMIT_READ), 0);
  array_forget_calls (s->array);
  assert_int_equal (stack_read (s, 100, 90000), 5);
  assert_int_equal (calls (s, ARRAY_READ), 0);
  array_fail_range (s->array, ARRAY_READ, 200000, 512, EIO);
  assert_int_equal (
      fetch_range (s->export, s->client->own, 200000, 1, ADMIT_READ), EIO);
  stack_free (s);
}

/* Law 15: a request larger than the cache works. */
static void
test_request_larger_than_the_cache (void **state)
{
  struct stack_options o = stack_options (8 * MiB);
  struct stack *s;

  (void) state;
  o.memory = 1 * MiB;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 1, 8 * MiB - 2, 7, false), 0);
  assert_int_equal (stack_read (s, 1, 8 * MiB - 2), 7);
  assert_int_equal (stack_write (s, 0, 8 * MiB, 8, true), 0);
  assert_int_equal (stack_read (s, 0, 8 * MiB), 8);
  assert_true (stack_keeps (s, 0, 8 * MiB, 8));
  assert_true (registry.memory.used <= o.memory);
  stack_free (s);
}

/* ---- ordinary writes ---- */

static void
test_ordinary_write_calls_no_backend (void **state)
{
  struct stack *s = stack ();

  (void) state;
  assert_int_equal (stack_write (s, 512, 10240, 7, false), 0);
  assert_int_equal (stack_read (s, 512, 10240), 7);
  assert_int_equal (calls (s, ARRAY_READ) + calls (s, ARRAY_WRITE), 0);
  assert_int_equal (stack_amounts (s).dirty, 10240);
  stack_free (s);
}

/* Law 8: only the blocks that it covers in part. */
static void
test_partial_write_reads_its_edges (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 8192, 5);
  assert_int_equal (stack_write (s, 100, 5000, 7, false), 0);
  assert_int_equal (bytes (s, ARRAY_READ), 1024);
  assert_int_equal (stack_read (s, 0, 100), 5);
  assert_int_equal (stack_read (s, 100, 5000), 7);
  assert_int_equal (stack_read (s, 5100, 20), 5);
  assert_int_equal (stack_write (s, 120, 1, 8, false), 0); /* uptodate now */
  assert_int_equal (stack_write (s, 5099, 20, 8, false), 0);
  assert_int_equal (bytes (s, ARRAY_READ), 1024);
  stack_free (s);
}

/* Law 8: everything that can fail is done before the first byte changes. */
static void
edge_fails (uint64_t bad, bool durable)
{
  struct stack *s = stack ();

  set_backend (s, 0, 65536, 5);
  stack_write (s, 8192, 512, 6, false); /* dirty, in the midst of it */
  array_fail_range (s->array, ARRAY_READ, bad, 512, EIO);
  assert_int_equal (stack_write (s, 100, 20000, 7, durable), EIO);
  array_heal (s->array);
  assert_int_equal (stack_read (s, 0, 8192), 5);
  assert_int_equal (stack_read (s, 8192, 512), 6);
  assert_int_equal (stack_read (s, 8704, 20000), 5);
  assert_int_equal (calls (s, ARRAY_WRITE), 0);
  assert_int_equal (stack_amounts (s).held, 512);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 8192, 512, 6));
  assert_true (stack_keeps (s, 0, 8192, 5));
  stack_free (s);
}

static void
test_failed_edge_changes_nothing (void **state)
{
  (void) state;
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

  (void) state;
  assert_int_equal (stack_write (s, SIZE, 700, 7, false), 0);
  assert_int_equal (calls (s, ARRAY_READ), 0);
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

  (void) state;
  assert_int_equal (stack_write (s, 512, 1024, 7, false), 0);
  assert_true (stack_sees (s, 512, 1024, 7));
  assert_int_equal (bytes (s, ARRAY_WRITE), 1024);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags, 0);
  assert_int_equal (stack_amounts (s).unstable, 1024);
  assert_int_equal (stack_read (s, 512, 1024), 7);
  assert_int_equal (calls (s, ARRAY_READ), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 512, 1024, 7));
  stack_free (s);
}

static void
test_writethrough_is_durable_and_stays (void **state)
{
  struct stack *s = stack_in_mode (MODE_WRITETHROUGH);

  (void) state;
  assert_int_equal (stack_write (s, 512, 1024, 7, false), 0);
  assert_true (stack_keeps (s, 512, 1024, 7));
  assert_int_equal (request_zero (s->client, 8192, 4096, 0), 0);
  assert_true (stack_keeps (s, 4096, 8192, 0));
  assert_int_equal (request_zero (s->client, 100, 520, 0), 0);
  assert_true (stack_keeps (s, 520, 100, 0));
  assert_int_equal (stack_read (s, 1024, 512), 7);
  assert_int_equal (calls (s, ARRAY_READ), 0);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

static void
test_writearound_leaves_once_stable (void **state)
{
  struct stack *s = stack_in_mode (MODE_WRITEAROUND);

  (void) state;
  assert_int_equal (stack_write (s, 0, 4096, 7, true), 0);
  assert_int_equal (stack_read (s, 0, 4096), 7);
  assert_int_equal (calls (s, ARRAY_READ), 1);
  assert_int_equal (stack_write (s, 8192, 4096, 8, false), 0);
  assert_true (stack_keeps (s, 8192, 4096, 8));
  assert_int_equal (stack_read (s, 8192, 4096), 8);
  assert_int_equal (calls (s, ARRAY_READ), 2);
  stack_free (s);
}

/* ---- durable writes ---- */

/* Law 1: nothing else is forced out for it. */
static void
test_fua_writes_its_own_blocks_only (void **state)
{
  struct stack *s = stack ();

  (void) state;
  stack_write (s, 0, 4096, 1, false);
  stack_write (s, 8192, 4096, 1, false);
  assert_int_equal (stack_write (s, 512, 512, 2, true), 0);
  assert_int_equal (bytes (s, ARRAY_WRITE), 512);
  assert_int_equal (calls (s, ARRAY_FLUSH), 0);
  assert_true (stack_keeps (s, 512, 512, 2));
  assert_int_equal (stack_amounts (s).dirty, 8192 - 512);
  stack_free (s);
}

/* A part of a dirty block goes with the rest of it. */
static void
test_fua_of_part_of_a_dirty_block (void **state)
{
  struct stack *s = stack ();

  (void) state;
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
  struct stack *s = stack ();
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };

  (void) state;
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
  struct stack *s = stack ();
  struct request a = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };
  struct request b = {
    .s = s, .what = DO_FUA, .offset = 512, .len = 512, .value = 8
  };

  (void) state;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&b);
  wait_until (stack_page_waits (s, 0));
  assert_int_equal (calls (s, ARRAY_WRITE), 1);
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
  struct stack *s = stack ();
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 4096, .value = 7
  };

  (void) state;
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

/* ---- law 5 ---- */

static void
test_failed_fua_of_clean_asks_the_backend (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 4096, 5);
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
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 4096, 5);
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

  (void) state;
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
  struct stack *s = stack ();
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 1024, .value = 7
  };

  (void) state;
  set_backend (s, 0, 4096, 5);
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

  (void) state;
  o.memory = 64 * MiB;
  s = stack_new (&o);
  array_fail_range (s->array, ARRAY_WRITE, 0, 512, EIO);
  assert_int_equal (stack_write (s, 0, 16 * MiB, 7, true), EIO);
  assert_true (bytes (s, ARRAY_WRITE) <= 1 * MiB);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* ---- zero and trim ---- */

static void
test_zero (void **state)
{
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 65536, 5);
  stack_write (s, 4096, 4096, 6, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOTSUP);
  assert_int_equal (request_zero (s->client, 20000, 100, ZERO_FAST), ENOTSUP);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (stack_read (s, 4096, 4096), 6);
  assert_int_equal (stack_read (s, 8192, 20000), 5);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (calls (s, ARRAY_WRITE), 0);
  stack_free (s);
}

/* Law 9: after the middle was zeroed, or a part of a block perhaps, ENOTSUP
 * would be untrue.
 */
static void
test_fast_zero_whose_edge_is_refused (void **state)
{
  struct stack *s = stack ();

  (void) state;
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
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 512, .value = 7
  };
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };

  (void) state;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&fua);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&zero);
  wait_until (atomic_load (&s->export->pc.zeroes.nr_exclusive) == 1);
  assert_int_equal (calls (s, ARRAY_ZERO), 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&fua), 0);
  assert_int_equal (request_join (&zero), 0);
  assert_int_equal (stack_read (s, 0, 4096), 0);
  stack_free (s);
}

/* ---- giving up ---- */

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
  struct stack *s = stack ();
  struct discard d = { .s = s, .offset = 4096, .len = 4096 };

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();
  struct discard d = { .s = s, .len = 4096 };
  struct request fua = {
    .s = s, .what = DO_FUA, .offset = 0, .len = 512, .value = 7
  };
  struct request write = {
    .s = s, .what = DO_WRITE, .offset = 512, .len = 512, .value = 8
  };

  (void) state;
  set_backend (s, 0, 65536, 5);
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
  struct stack *s = stack ();
  struct discard d = { .s = s, .offset = 4096, .len = 4096 };

  (void) state;
  set_backend (s, 0, 65536, 5);
  assert_int_equal (request_zero (s->client, 12288, 0, 0), 0);
  run_discard (&d);
  assert_int_equal (d.zeroed, 4096);
  set_backend (s, 4096, 4096, 9);
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
  struct stack_options o = stack_options (ZEROES_MOST * 8192);
  struct stack *s = stack_new (&o);
  struct discard d = { .s = s, .offset = 512, .len = 512 };
  unsigned i;

  (void) state;
  for (i = 0; i < ZEROES_MOST; ++i)
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

/* All slots for zeroes are in use, and a flush has failed. */
static struct stack *
full_of_lost_zeroes (void)
{
  struct stack_options o = stack_options (ZEROES_MOST * 8192);
  struct stack *s = stack_new (&o);
  unsigned i;

  for (i = 0; i < ZEROES_MOST; ++i)
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

  (void) state;
  request_start (&trim);
  wait_until (trim.ended);
  assert_int_equal (request_join (&trim), 0);
  assert_int_equal (calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (calls (s, ARRAY_ZERO), ZEROES_MOST);
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

  (void) state;
  array_fail (s->array, ARRAY_FLUSH, 0, ~0U, ENOSPC);
  request_start (&trim);
  wait_until (trim.ended);
  assert_int_equal (request_join (&trim), ENOSPC);
  assert_int_equal (calls (s, ARRAY_FLUSH), 1);
  assert_int_equal (calls (s, ARRAY_TRIM), 0);
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
  struct stack *s = stack ();
  struct pagecache *pc = &s->export->pc;
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };
  const struct part part = { .len = 512 };
  uint8_t old[512];
  struct span ours;
  struct page *p;

  (void) state;
  set_backend (s, 0, 4096, 5);
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
  struct stack *s = stack ();
  struct request zero = { .s = s, .what = DO_ZERO, .offset = 0, .len = 4096 };
  struct request write = {
    .s = s, .what = DO_WRITE, .offset = 512, .len = 512, .value = 7
  };

  (void) state;
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

/* ---- no memory ---- */

/* All frames are taken: requests go past the cache, in order with it. */
static void
test_requests_without_memory (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct pagecache *pc;
  struct page *pages[512];
  unsigned n = 0;
  struct stack *s;

  (void) state;
  o.memory = 1 * MiB;
  s = stack_new (&o);
  pc = &s->export->pc;
  set_backend (s, 0, 65536, 5);
  stack_write (s, 8192, 4096, 6, false);
  while ((pages[n] = page_pin (pc, 300 + n, ADMIT_READ)) != NULL)
    n++;

  assert_int_equal (stack_read (s, 100, 5000), 5);
  assert_int_equal (stack_read (s, 8292, 2000), 6);
  assert_int_equal (stack_write (s, 100, 5000, 7, false), 0);
  assert_true (stack_keeps (s, 100, 5000, 7));
  assert_true (stack_keeps (s, 0, 100, 5));
  assert_int_equal (stack_write (s, 8000, 1000, 8, true), 0);
  assert_int_equal (stack_read (s, 8000, 1000), 8);
  assert_int_equal (stack_read (s, 9000, 3000), 6);
  assert_int_equal (request_zero (s->client, 300, 16500, ZERO_FUA), 0);
  assert_int_equal (stack_read (s, 16500, 300), 0);
  assert_int_equal (stack_read (s, 16800, 300), 5);
  array_fail (s->array, ARRAY_WRITE, 0, 1, ENOSPC);
  assert_int_equal (stack_write (s, 20480, 512, 9, false), ENOSPC);
  assert_int_equal (stack_read (s, 20480, 512), 5);

  while (n > 0)
    page_unpin (pc, pages[--n]);
  assert_int_equal (stack_read (s, 9000, 3000), 6);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 9000, 3000, 6));
  stack_free (s);
}

/* Bytes written there are newer than the zeroes, which may yet be lost and done
 * again.
 */
/* Two that find no memory, over one block: the array says if both are there. */
static void
test_writes_without_memory_one_by_one (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct request a = { .what = DO_WRITE, .offset = 0, .len = 4096, .value = 7 };
  struct request b = { .what = DO_FUA, .offset = 512, .len = 512, .value = 8 };
  struct pagecache *pc;
  struct page *pages[512];
  unsigned n = 0, i;
  struct stack *s;

  (void) state;
  o.memory = 1 * MiB;
  s = a.s = b.s = stack_new (&o);
  pc = &s->export->pc;
  set_backend (s, 65536, 512, 5);
  while ((pages[n] = page_pin (pc, 300 + n, ADMIT_READ)) != NULL)
    n++;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&b);
  for (i = 0; i < 1000; ++i)
    assert_int_equal (stack_read (s, 65536, 512), 5);
  assert_int_equal (calls (s, ARRAY_WRITE), 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&a), 0);
  assert_int_equal (request_join (&b), 0);
  assert_true (stack_keeps (s, 0, 512, 7));
  assert_true (stack_keeps (s, 512, 512, 8));
  while (n > 0)
    page_unpin (pc, pages[--n]);
  stack_free (s);
}

/* One that finds memory for some of its pages has none of them meanwhile. */
static void
test_write_without_memory_pins_nothing (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct request w = {
    .what = DO_WRITE, .offset = 0, .len = 16384, .value = 7
  };
  struct pagecache *pc;
  struct page *pages[512];
  unsigned n = 0, free = 2;
  struct stack *s;

  (void) state;
  o.memory = 1 * MiB;
  s = w.s = stack_new (&o);
  pc = &s->export->pc;
  while ((pages[n] = page_pin (pc, 300 + n, ADMIT_READ)) != NULL)
    n++;
  while (free-- > 0)
    page_unpin (pc, pages[--n]);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&w);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  for (free = 0; free < 2; ++free) {
    pages[n] = page_pin (pc, 300 + n, ADMIT_READ);
    assert_non_null (pages[n++]);
  }
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&w), 0);
  assert_true (stack_keeps (s, 0, 16384, 7));
  while (n > 0)
    page_unpin (pc, pages[--n]);
  stack_free (s);
}

static void
test_write_without_memory_in_remembered_zeroes (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct pagecache *pc;
  struct page *pages[512];
  unsigned n = 0;
  struct stack *s;

  (void) state;
  o.memory = 1 * MiB;
  s = stack_new (&o);
  pc = &s->export->pc;
  s->array->forgets = true;
  assert_int_equal (request_zero (s->client, 65536, 0, 0), 0);
  while ((pages[n] = page_pin (pc, 300 + n, ADMIT_READ)) != NULL)
    n++;
  assert_int_equal (stack_write (s, 4096, 4096, 7, false), 0);
  while (n > 0)
    page_unpin (pc, pages[--n]);
  assert_int_equal (stack_read (s, 4096, 4096), 7);
  assert_int_equal (stack_read (s, 0, 4096), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 0));
  assert_true (stack_keeps (s, 4096, 4096, 7));
  assert_true (stack_keeps (s, 8192, 65536 - 8192, 0));
  stack_free (s);
}

/* ---- bytes that were never acknowledged ---- */

#define TRIMMED 0xff /* what array.c makes of a trim */

static struct stack *
stack_that_forgets (void)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.traits.fua = FUA_EMULATED;
  s = stack_new (&o);
  s->array->forgets = s->array->tears = true;
  must (stack_write (s, 0, 65536, 1, true) == 0);
  return s;
}

/* Half of a write that failed is read into the cache; then the backend drops
 * it, and the cache must not go on with it.
 */
static void
test_half_a_failed_write_is_read_again (void **state)
{
  struct stack *s = stack_that_forgets ();

  (void) state;
  array_fail_range (s->array, ARRAY_WRITE, 4096, 8192, EIO);
  assert_int_equal (stack_write (s, 4096, 8192, 2, true), EIO);
  assert_int_equal (stack_read (s, 4096, 4096), 2);
  assert_int_equal (stack_read (s, 8192, 4096), 1);

  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (stack_write (s, 32768, 512, 3, true), EIO);
  assert_true (stack_sees (s, 4096, 8192, 1));
  assert_int_equal (stack_read (s, 4096, 8192), 1);
  stack_free (s);
}

/* The same with what a trim made of its range. */
static void
test_what_was_trimmed_is_read_again (void **state)
{
  struct stack *s = stack_that_forgets ();

  (void) state;
  assert_int_equal (request_trim (s->client, 8192, 4096, 0), 0);
  assert_int_equal (stack_read (s, 8192, 4096), TRIMMED);

  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_true (stack_sees (s, 4096, 8192, 1));
  assert_int_equal (stack_read (s, 4096, 8192), 1);
  stack_free (s);
}

/* Bytes that a flush has covered stay, whatever fails later, and so does all
 * that is not in doubt.
 */
static void
test_what_is_sure_stays_cached (void **state)
{
  struct stack *s = stack_that_forgets ();
  unsigned reads;

  (void) state;
  assert_int_equal (request_trim (s->client, 4096, 4096, 0), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (request_trim (s->client, 8192, 16384, 0), 0);
  assert_int_equal (stack_read (s, 4096, 4096), TRIMMED);
  assert_int_equal (stack_read (s, 16384, 4096), TRIMMED);
  assert_int_equal (stack_read (s, 0, 4096), 1);

  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  reads = array_calls (s->array, ARRAY_READ);
  assert_int_equal (stack_read (s, 4096, 4096), TRIMMED);
  assert_int_equal (stack_read (s, 0, 4096), 1);
  assert_int_equal (array_calls (s->array, ARRAY_READ), reads);
  assert_int_equal (stack_read (s, 16384, 4096), 1);
  assert_int_equal (array_calls (s->array, ARRAY_READ), reads + 1);
  stack_free (s);
}

/* ---- which backends may be called ---- */

static void
test_only_what_is_lent_is_borrowed (void **state)
{
  struct stack *s = stack ();
  struct backend b;

  (void) state;
  leases_withdraw (s->export, &s->backends[0]);
  assert_null (leases_borrow (s->export, NEED_READ));
  array_connect (s->array, &b);
  b.traits.can_write = false;
  leases_attach (s->export, &b);
  assert_null (leases_borrow (s->export, NEED_READ)); /* no data request yet */
  leases_lend (s->export, &b);
  assert_null (leases_borrow (s->export, NEED_WRITE));
  assert_ptr_equal (leases_borrow (s->export, NEED_READ), &b);
  leases_return (s->export, &b);
  leases_withdraw (s->export, &b);
  leases_attach (s->export, &s->backends[0]);
  stack_free (s);
}

struct withdrawal {
  struct stack *s;
  _Atomic bool ended;
};

static void
withdraw (void *arg)
{
  struct withdrawal *w = arg;

  leases_withdraw (w->s->export, &w->s->backends[0]);
  w->ended = true;
}

static void
test_withdrawal_waits_for_borrowers (void **state)
{
  struct stack *s = stack ();
  struct withdrawal w = { s, false };
  struct backend *b = leases_borrow (s->export, NEED_WRITE);
  struct thread t;

  (void) state;
  assert_non_null (b);
  thread_start (&t, withdraw, &w);
  wait_until (leases_borrow (s->export, NEED_WRITE) == NULL ||
              (leases_return (s->export, b), false));
  assert_false (w.ended);
  leases_return (s->export, b);
  thread_join (&t);
  leases_attach (s->export, b);
  stack_free (s);
}

/* ---- identity ---- */

static int
open_export (const char *name, bool tls, uint64_t size, struct export **e)
{
  const struct backend_traits traits = array_traits (size);
  struct open_result result;
  const int err = export_open (name, tls, true, &traits, true, &result);

  *e = result.export;
  return err;
}

static void
close_export (struct export *e)
{
  export_end_writer (e);
  export_close (e);
}

/* Laws 16 to 18. */
static void
test_who_shares_a_cache (void **state)
{
  struct stack *s = stack ();
  struct export *same, *other, *tls, *none;

  (void) state;
  assert_int_equal (open_export ("export", false, SIZE, &same), 0);
  assert_int_equal (open_export ("other", false, SIZE, &other), 0);
  assert_ptr_equal (same, s->export);
  assert_ptr_not_equal (other, s->export);
  assert_int_equal (open_export ("export", false, SIZE / 2, &none), ESTALE);
  assert_true (atomic_load (&s->export->holds));
  assert_int_equal (open_export ("export", true, SIZE, &tls), 0);
  assert_ptr_not_equal (tls, s->export);
  assert_false (atomic_load (&s->export->holds));
  assert_false (atomic_load (&tls->holds));
  close_export (same);
  close_export (other);
  close_export (tls);
  stack_free (s);
}

static void
test_exports_are_apart (void **state)
{
  struct stack *s = stack ();
  struct export *other;
  struct array *array;
  struct client c;
  uint8_t buf[4096];

  (void) state;
  array = array_new (&s->array->backend.traits);
  assert_int_equal (open_export ("other", false, SIZE, &other), 0);
  leases_attach (other, &array->backend);
  c = (struct client){ .export = other, .own = &array->backend };
  stack_write (s, 0, 4096, 7, false);
  assert_int_equal (request_read (&c, buf, sizeof buf, 0), 0);
  assert_true (array_sees (array, 0, buf, sizeof buf));
  leases_withdraw (other, &array->backend);
  close_export (other);
  array_free (array);
  stack_free (s);
}

/* ---- random requests against a shadow ---- */

struct shadow {
  struct stack *s;
  struct client *client;
  struct random random;
  uint8_t *is;    /* what each byte must be */
  bool *known;    /* … if that is known: a trim makes it unknown */
  uint64_t size;  /* of the export */
  uint64_t block; /* of the backend */
  bool faults;

  /* Its own part: stripes of so many bytes, every so manyth of them. */
  uint64_t stripe;
  unsigned number, count;
};

static void
pick_range (struct shadow *d, uint64_t *offset, uint64_t *len)
{
  const uint64_t stripes = (d->size + d->stripe - 1) / d->stripe;
  uint64_t n = stripes / d->count + (d->number < stripes % d->count);
  uint64_t start, most;

  n = random_below (&d->random, n) * d->count + d->number;
  start = n * d->stripe;
  most = min_u64 (d->stripe, d->size - start);
  if (random_chance (&d->random, 50))
    most = min_u64 (most, 3000);
  *len = 1 + random_below (&d->random, most);
  *offset =
      start + random_below (&d->random,
                            min_u64 (d->stripe, d->size - start) - *len + 1);
  if (random_chance (&d->random, 40)) { /* whole blocks, as far as it goes */
    const uint64_t end = *offset + *len;

    if (round_down (*offset, d->block) >= start)
      *offset = round_down (*offset, d->block);
    *len = end - *offset;
    if (*len > d->block)
      *len = round_down (*len, d->block);
  }
}

/* A request that failed has changed each byte or not; from now on each has the
 * value that is read.  But a backend that forgets may yet forget what it took
 * of it: bytes that were never acknowledged are not written again.
 */
static void
adopt (struct shadow *d, uint64_t offset, uint64_t len, const uint8_t *wrote)
{
  uint8_t *read = malloc (len);
  uint64_t i;

  must (read != NULL);
  must (request_read (d->client, read, len, offset) == 0);
  for (i = 0; i < len; ++i) {
    must (!d->known[offset + i] || read[i] == d->is[offset + i] ||
          read[i] == (wrote ? wrote[i] : 0));
    if (d->s->array->forgets && read[i] != d->is[offset + i])
      d->known[offset + i] = false;
    d->is[offset + i] = read[i];
  }
  free (read);
}

static void
expect (struct shadow *d, uint64_t offset, const uint8_t *read, uint64_t len)
{
  uint64_t i;

  if (memcmp (read, d->is + offset, len) == 0)
    return;
  for (i = 0; i < len; ++i)
    if (d->known[offset + i] && read[i] != d->is[offset + i]) {
      fprintf (stderr, "byte %llu (of %llu+%llu) is %u instead of %u\n",
               (unsigned long long) (offset + i), (unsigned long long) offset,
               (unsigned long long) len, read[i], d->is[offset + i]);
      must (!"equal to the shadow");
    }
}

static void
shadow_read (struct shadow *d, uint64_t offset, uint64_t len)
{
  uint8_t *read = malloc (len);

  must (read != NULL);
  must (request_read (d->client, read, len, offset) == 0);
  expect (d, offset, read, len);
  free (read);
}

/* Compares the bytes that are durable now, as far as they are known. */
static void
expect_kept (struct shadow *d, uint64_t offset, uint64_t len)
{
  const struct backend_traits *t = &d->s->array->backend.traits;

  pthread_mutex_lock (&d->s->array->lock);
  expect (d, offset,
          (t->can_flush || t->fua != FUA_NONE ? d->s->array->durable
                                              : d->s->array->seen) +
              offset,
          len);
  pthread_mutex_unlock (&d->s->array->lock);
}

static void
shadow_write (struct shadow *d, uint64_t offset, uint64_t len)
{
  const bool durable = random_chance (&d->random, 30);
  const uint64_t seed = random_below (&d->random, UINT64_MAX);
  uint8_t *new = malloc (len);
  uint64_t i;
  int err;

  must (new != NULL);
  for (i = 0; i < len; ++i)
    new[i] = seed *(2 * i + 1) >> 56;
  err = request_write (d->client, new, len, offset, durable);
  must (err == 0 || d->faults);
  if (err != 0)
    adopt (d, offset, len, new);
  else {
    memcpy (d->is + offset, new, len);
    memset (d->known + offset, true, len);
    if (durable)
      expect_kept (d, offset, len);
  }
  free (new);
}

static void
shadow_zero (struct shadow *d, uint64_t offset, uint64_t len)
{
  const unsigned flags = random_below (&d->random, 8);
  const int err = request_zero (d->client, len, offset, flags);

  must (err == 0 || d->faults);
  if (err != 0)
    adopt (d, offset, len, NULL);
  else {
    memset (d->is + offset, 0, len);
    memset (d->known + offset, true, len);
    if (flags & ZERO_FUA)
      expect_kept (d, offset, len);
  }
}

static void
shadow_trim (struct shadow *d, uint64_t offset, uint64_t len)
{
  const int err =
      request_trim (d->client, len, offset, random_chance (&d->random, 30));

  must (err == 0 || d->faults);
  memset (d->known + offset, false, len);
}

static void
shadow_flush (struct shadow *d)
{
  const int err = request_flush (d->client);
  uint64_t at;

  must (err == 0 || d->faults);
  if (err == 0)
    for (at = d->number * d->stripe; at < d->size; at += d->count * d->stripe)
      expect_kept (d, at, min_u64 (d->stripe, d->size - at));
}

/* Something will fail soon; sometimes, nothing any more. */
static void
shadow_fault (struct shadow *d)
{
  static const enum array_op ops[] = { ARRAY_WRITE, ARRAY_WRITE, ARRAY_FLUSH,
                                       ARRAY_ZERO, ARRAY_TRIM };
  struct array *a = d->s->array;
  struct array_fault f = { .op = ops[random_below (&d->random, 5)],
                           .end = UINT64_MAX,
                           .skip = random_below (&d->random, 4),
                           .count = 1 + random_below (&d->random, 3),
                           .error = EIO };

  pthread_mutex_lock (&a->lock);
  if (a->nr_faults == ARRAY_FAULTS || random_chance (&d->random, 30))
    a->nr_faults = 0;
  else
    a->faults[a->nr_faults++] = f;
  pthread_mutex_unlock (&a->lock);
}

static void
shadow_step (struct shadow *d)
{
  uint64_t offset, len;

  pick_range (d, &offset, &len);
  switch (random_below (&d->random, 100)) {
  case 0 ... 39:
    shadow_read (d, offset, len);
    break;
  case 40 ... 84:
    shadow_write (d, offset, len);
    break;
  case 85 ... 90:
    shadow_zero (d, offset, len);
    break;
  case 91 ... 93:
    shadow_trim (d, offset, len);
    break;
  case 94 ... 96:
    shadow_flush (d);
    break;
  case 97:
    must (fetch_range (d->s->export, d->client->own, offset, len,
                       ADMIT_AHEAD) == 0);
    break;
  default:
    if (d->faults)
      shadow_fault (d);
  }
}

/* In the end nothing fails: all is written, and survives a power cut. */
static void
shadow_end (struct shadow *d)
{
  struct array *a = d->s->array;

  array_heal (a);
  must (request_flush (d->client) == 0);
  must (stack_amounts (d->s).dirty == 0);
  must (stack_amounts (d->s).unstable == 0);
  d->number = 0;
  d->count = 1;
  expect_kept (d, 0, d->size);
  shadow_read (d, 0, d->size);
}

static void
shadow_begin (struct shadow *d, struct stack *s, uint64_t seed)
{
  memset (d, 0, sizeof *d);
  d->s = s;
  d->client = s->client;
  d->size = s->array->backend.traits.size;
  d->block = s->array->backend.traits.block;
  d->is = malloc (d->size);
  d->known = malloc (d->size);
  must (d->is && d->known);
  memcpy (d->is, s->array->seen, d->size);
  memset (d->known, true, d->size);
  d->stripe = d->size;
  d->count = 1;
  random_seed (&d->random, seed);
}

static void
shadow_free (struct shadow *d)
{
  free (d->is);
  free (d->known);
}

/* The kinds of backend, and of settings, that are run through. */
static struct stack_options
random_options (struct random *r)
{
  static const uint32_t blocks[] = { 512, 512, 4096, 65536 };
  static const uint32_t pages[] = { 4096, 4096, 16384, 65536 };
  struct stack_options o = stack_options (1 * MiB + random_below (r, 100000));

  o.traits.block = blocks[random_below (r, 4)];
  o.traits.preferred = max_u64 (4096, o.traits.block);
  if (random_chance (r, 50))
    o.traits.maximum = o.traits.block * (1 + random_below (r, 8));
  o.traits.fua = random_below (r, 3);
  o.traits.can_flush = random_chance (r, 80);
  o.traits.can_multi_conn = random_chance (r, 70);
  o.settings.mode = random_below (r, 3);
  o.settings.page_size = pages[random_below (r, 4)];
  o.settings.depth = random_below (r, 3);
  o.settings.fill = random_chance (r, 50) ? 65536 : 0;
  o.memory = random_chance (r, 50) ? 1 * MiB : 8 * MiB;
  if (random_chance (r, 50))
    o.settings.dirty_max = 128 * KiB;
  return o;
}

static void
random_requests (uint64_t seed, bool faults, bool serial)
{
  struct random r;
  struct stack_options o;
  struct shadow d;
  struct stack *s;
  unsigned i;

  random_seed (&r, seed);
  o = random_options (&r);
  o.serial = serial;
  s = stack_new (&o);
  s->array->forgets = faults && random_chance (&r, 50);
  s->array->tears = faults && random_chance (&r, 20);
  shadow_begin (&d, s, seed);
  d.faults = faults;
  for (i = 0; i < 300; ++i)
    shadow_step (&d);
  shadow_end (&d);
  shadow_free (&d);
  stack_free (s);
}

static void
test_random_requests (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 1; seed <= 25; ++seed)
    random_requests (seed, false, false);
}

static void
test_random_requests_in_series (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 101; seed <= 115; ++seed)
    random_requests (seed, false, true);
}

static void
test_random_faults (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 201; seed <= 230; ++seed)
    random_requests (seed, true, false);
}

static void
test_random_faults_in_series (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 301; seed <= 315; ++seed)
    random_requests (seed, true, true);
}

/* ---- from several threads ---- */

#define THREADS 4

static void
run_shadow (void *arg)
{
  struct shadow *d = arg;
  unsigned i;

  for (i = 0; i < 150; ++i)
    shadow_step (d);
}

/* Stripes that are no multiple of a block: threads share blocks, and each has
 * its own bytes of them.
 */
static void
random_threads (uint64_t seed, uint64_t stripe, bool faults)
{
  struct shadow shadows[THREADS], d;
  struct thread threads[THREADS];
  struct stack_options o;
  struct random r;
  struct stack *s;
  unsigned i;

  random_seed (&r, seed);
  o = random_options (&r);
  o.clients = random_chance (&r, 50) ? THREADS : 1;
  s = stack_new (&o);
  s->array->unsteady = true;
  s->array->forgets = faults && random_chance (&r, 50);
  shadow_begin (&d, s, seed);
  for (i = 0; i < THREADS; ++i) {
    shadows[i] = d;
    shadows[i].client = &s->clients[i % o.clients];
    shadows[i].random.state = seed * 1000 + i;
    shadows[i].number = i;
    shadows[i].count = THREADS;
    shadows[i].stripe = stripe;
    shadows[i].faults = faults;
    thread_start (&threads[i], run_shadow, &shadows[i]);
  }
  for (i = 0; i < THREADS; ++i)
    thread_join (&threads[i]);
  shadow_end (&d);
  shadow_free (&d);
  stack_free (s);
}

static void
test_random_threads (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 401; seed <= 415; ++seed) {
    random_threads (seed, 1000, false);
    random_threads (seed, 77777, false);
  }
}

static void
test_random_threads_and_faults (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 501; seed <= 515; ++seed) {
    random_threads (seed, 1000, true);
    random_threads (seed, 77777, true);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_read_again_is_a_hit),
    cmocka_unit_test (test_fill_is_at_least_the_option),
    cmocka_unit_test (test_read_asks_only_for_what_is_missing),
    cmocka_unit_test (test_read_error_is_told_and_not_cached),
    cmocka_unit_test (test_error_beside_the_request_is_none),
    cmocka_unit_test (test_two_readers_one_backend_read),
    cmocka_unit_test (test_joiner_waits_for_its_own_page),
    cmocka_unit_test (test_joiner_of_failed_fill_reads_itself),
    cmocka_unit_test (test_hit_does_not_wait_for_a_miss),
    cmocka_unit_test (test_write_during_fill_stays),
    cmocka_unit_test (test_fua_during_fill_stays),
    cmocka_unit_test (test_prefetch),
    cmocka_unit_test (test_request_larger_than_the_cache),
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
    cmocka_unit_test (test_discard),
    cmocka_unit_test (test_discard_waits_for_writes_in_flight),
    cmocka_unit_test (test_discard_of_zeroes),
    cmocka_unit_test (test_discard_of_too_many_zeroes),
    cmocka_unit_test (test_requests_without_memory),
    cmocka_unit_test (test_writes_without_memory_one_by_one),
    cmocka_unit_test (test_write_without_memory_pins_nothing),
    cmocka_unit_test (test_write_without_memory_in_remembered_zeroes),
    cmocka_unit_test (test_half_a_failed_write_is_read_again),
    cmocka_unit_test (test_what_was_trimmed_is_read_again),
    cmocka_unit_test (test_what_is_sure_stays_cached),
    cmocka_unit_test (test_only_what_is_lent_is_borrowed),
    cmocka_unit_test (test_withdrawal_waits_for_borrowers),
    cmocka_unit_test (test_who_shares_a_cache),
    cmocka_unit_test (test_exports_are_apart),
    cmocka_unit_test (test_random_requests),
    cmocka_unit_test (test_random_requests_in_series),
    cmocka_unit_test (test_random_faults),
    cmocka_unit_test (test_random_faults_in_series),
    cmocka_unit_test (test_random_threads),
    cmocka_unit_test (test_random_threads_and_faults),
  };

  return cmocka_run_group_tests_name ("request", tests, NULL, NULL);
}
