/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of readahead: what is read for which requests, and by which
 * thread.
 *
 * The filter's threads are the test's own here: a task waits until the test
 * runs it, so that a thread may come as late as it likes.
 */

#include <config.h>

#include <errno.h>

#include "request/readahead.h"
#include "stack.h"

#define SIZE      (64 * MiB)
#define CHUNK     (256 * KiB)
#define MAX_TASKS 32

static struct task *tasks[MAX_TASKS];
static unsigned nr_tasks;
static bool no_threads;

void
workers_start (unsigned shared)
{
  (void) shared;
}

bool
workers_reserve (unsigned crew)
{
  (void) crew;
  return true;
}

void
workers_release (unsigned crew)
{
  (void) crew;
}

uint64_t
workers_cost (void)
{
  return 64 * KiB;
}

bool
workers_try (unsigned crew, struct task *t, enum urgency urgency)
{
  (void) crew;
  (void) urgency;
  if (no_threads)
    return false;
  must (nr_tasks < MAX_TASKS);
  tasks[nr_tasks++] = t;
  return true;
}

void
workers_run (unsigned crew, struct task *t)
{
  must (workers_try (crew, t, URGENCY_NEEDED));
}

static void
run_tasks (void)
{
  unsigned i;

  for (i = 0; i < nr_tasks; ++i)
    tasks[i]->run (tasks[i]);
  nr_tasks = 0;
}

static struct stack *
setup_memory (uint64_t max, uint64_t fill, uint64_t memory)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.memory = memory;
  o.settings.fill = fill;
  o.settings.readahead = max;
  s = stack_new (&o);
  s->client->ahead = readahead_new (s->export);
  must (s->client->ahead != NULL);
  return s;
}

static struct stack *
setup_fill (uint64_t max, uint64_t fill)
{
  return setup_memory (max, fill, 32 * MiB);
}

static struct stack *
setup_new (uint64_t max)
{
  return setup_fill (max, 4096);
}

static void
setup_free (struct stack *s)
{
  run_tasks ();
  readahead_free (s->client->ahead);
  stack_free (s);
}

/* Reads one page, rightly. */
static void
read_page (struct stack *s, uint64_t offset)
{
  uint8_t bytes[4096];

  must (request_read (s->client, bytes, sizeof bytes, offset) == 0);
  must (array_sees (s->array, offset, bytes, sizeof bytes));
}

static unsigned
reads (struct stack *s)
{
  return array_calls (s->array, ARRAY_READ);
}

static struct array_call
read_call (struct stack *s, unsigned n)
{
  return array_call (s->array, ARRAY_READ, n);
}

/* Reads pages from OFFSET on, until something is to be read ahead. */
static uint64_t
begin_stream (struct stack *s, uint64_t offset, int64_t step)
{
  unsigned i;

  for (i = 0; i < 40 && nr_tasks == 0; ++i, offset += step)
    read_page (s, offset);
  must (nr_tasks > 0);
  return offset;
}

static void
test_random_reads_begin_nothing (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  unsigned i;

  for (i = 0; i < 100; ++i)
    read_page (s, i * 7919 % 1000 * 12288);
  assert_int_equal (nr_tasks, 0);
  setup_free (s);
}

/* All that a stream reads was read before, in whole chunks. */
static void
check_stream (uint64_t from, int64_t step, uint64_t fill)
{
  struct stack *s = setup_fill (2 * MiB, fill);
  uint64_t offset = begin_stream (s, from, step);
  unsigned i, before;

  for (i = 0; i < 2000; ++i, offset += step) {
    run_tasks ();
    before = reads (s);
    read_page (s, offset);
    assert_int_equal (reads (s), before);
  }
  run_tasks ();
  for (i = 40; i < reads (s); ++i) {
    assert_int_equal (read_call (s, i).offset % CHUNK, 0);
    assert_int_equal (read_call (s, i).len, CHUNK);
  }
  assert_between (array_bytes (s->array, ARRAY_READ), 2000 * 4096,
                  2000 * 4096 + 3 * MiB);
  setup_free (s);
}

static void
test_stream_forward (void **state)
{
  check_stream (3 * 4096, 4096, 4096);
}

static void
test_stream_backward (void **state)
{
  check_stream (SIZE - 5 * 4096, -4096, 4096);
}

/* A miss fills more than was asked for: the next of the stream comes after
 * hits, and somewhere else than where the last ended.
 */
static void
test_stream_of_large_fills (void **state)
{
  check_stream (3 * 4096, 4096, 64 * KiB);
  check_stream (SIZE - 5 * 4096, -4096, 64 * KiB);
}

/* Reads so many pages in order, and what is read ahead of them. */
static void
read_run (struct stack *s, uint64_t offset, unsigned pages)
{
  for (; pages > 0; --pages, offset += 4096) {
    read_page (s, offset);
    run_tasks ();
  }
}

/* One of 1,000 places, the next of which is somewhere else. */
static uint64_t
place (unsigned i)
{
  return i * 7919 % 1000 * 64 * KiB;
}

static uint64_t
bytes_read (struct stack *s)
{
  return array_bytes (s->array, ARRAY_READ);
}

/* A window is read again, twice as large, when half of it was used. */
static void
test_window_doubles_when_half_was_used (void **state)
{
  static const unsigned pages_read[] = { 1,  6,  6,  12, 12, 12, 12, 24, 24,
                                         24, 24, 24, 24, 24, 24, 48, 48 };
  struct stack *s = setup_new (2 * MiB);
  unsigned i;

  for (i = 0; i < ARRAY_LEN (pages_read); ++i) {
    read_run (s, i * 4096, 1);
    assert_int_equal (bytes_read (s), pages_read[i] * 4096);
  }
  setup_free (s);
}

/* Runs at random places: what is read is at most three times what was asked
 * for.
 */
static void
test_short_runs (void **state)
{
  static const unsigned pages[] = { 2, 3, 4, 5, 6, 15 };
  struct stack *s;
  unsigned n, i;

  for (n = 0; n < ARRAY_LEN (pages); ++n) {
    s = setup_new (2 * MiB);
    for (i = 0; i < 100; ++i)
      read_run (s, place (i), pages[n]);
    assert_true (bytes_read (s) <= 3 * 100 * pages[n] * 4096);
    setup_free (s);
  }
}

/* Where streams end within their first windows, these become smaller; and
 * larger again where they do not.
 */
static void
test_waste_shrinks_first_windows (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  uint64_t before;
  unsigned i;

  for (i = 0; i < 500; ++i)
    read_run (s, place (i), 2);
  before = bytes_read (s);
  for (; i < 600; ++i)
    read_run (s, place (i), 2);
  assert_true (bytes_read (s) - before <= 100 * 3 * 4096);
  for (; i < 900; ++i)
    read_run (s, place (i), 4);
  before = bytes_read (s);
  read_run (s, place (i), 2);
  assert_int_equal (bytes_read (s) - before, 6 * 4096);
  setup_free (s);
}

/* Of eight pages one is asked for: no large window is read ahead. */
static void
test_waste_shrinks_a_window (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  uint64_t offset;

  read_run (s, 0, 2);
  for (offset = 32 * KiB; offset < 16 * MiB; offset += 32 * KiB)
    read_run (s, offset, 1);
  assert_true (bytes_read (s) > 15 * MiB);
  assert_true (bytes_read (s) < 16 * MiB + 512 * KiB);
  setup_free (s);
}

/* Streams in turn, a page each: after the first pages nothing is missed. */
static void
check_streams (struct stack *s, unsigned streams, uint64_t from, unsigned first,
               unsigned pages)
{
  const uint64_t apart = round_down ((SIZE - from) / streams, 4096);
  unsigned i, stream, before;

  for (i = 0; i < pages; ++i)
    for (stream = 0; stream < streams; ++stream) {
      before = reads (s);
      read_page (s, from + stream * apart + i * 4096);
      if (i >= first)
        assert_int_equal (reads (s), before);
      run_tasks ();
    }
}

static void
test_many_streams (void **state)
{
  static const unsigned streams[] = { 12, 32, 100 };
  struct stack *s;
  unsigned i;

  for (i = 0; i < ARRAY_LEN (streams); ++i) {
    s = setup_new (2 * MiB);
    check_streams (s, streams[i], 0, 2, 150);
    setup_free (s);
  }
}

/* Together they read no more ahead than a small cache keeps. */
static void
test_streams_share_a_small_cache (void **state)
{
  struct stack *s = setup_memory (2 * MiB, 4096, 4 * MiB);

  check_streams (s, 16, 0, 2, 1000);
  assert_true (bytes_read (s) < 16 * 1000 * 4096 + MiB);
  setup_free (s);
}

/* Random reads do not end streams. */
static void
test_least_useful_stream_leaves (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  unsigned i, stream, before;

  for (i = 0; i < 40; ++i)
    for (stream = 0; stream < 4; ++stream)
      read_run (s, stream * MiB + i * 4096, 1);
  for (i = 0; i < 900; ++i)
    if (place (i) >= 5 * MiB)
      read_page (s, place (i));
  assert_int_equal (nr_tasks, 0);
  for (i = 40; i < 200; ++i)
    for (stream = 0; stream < 4; ++stream) {
      before = reads (s);
      read_page (s, stream * MiB + i * 4096);
      assert_int_equal (reads (s), before);
      run_tasks ();
    }
  setup_free (s);
}

/* Streams that have ended do leave, for others. */
static void
test_ended_streams_leave (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  unsigned i;

  for (i = 0; i < 1000; ++i)
    if (place (i) < 31 * MiB)
      read_run (s, place (i), 7);
  check_streams (s, 32, 32 * MiB, 16, 200);
  setup_free (s);
}

/* Hits where a stream ended look for it, but not for ever. */
static void
test_hits_forget_a_stream (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  unsigned i;

  for (i = 0; i < 8; ++i)
    read_page (s, 512 * KiB + i * 8 * KiB);
  read_run (s, 0, 8);
  for (i = 0; i < 2000; ++i)
    read_page (s, 512 * KiB + i % 8 * 8 * KiB);
  for (i = 8; i < 24; ++i)
    read_page (s, i * 4096);
  assert_int_equal (nr_tasks, 0);
  setup_free (s);
}

static void
test_stream_ends_at_either_end (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  uint64_t offset;

  for (offset = SIZE - 16 * 4096; offset < SIZE; offset += 4096)
    read_page (s, offset);
  run_tasks ();
  for (offset = 16 * 4096; offset > 0; offset -= 4096)
    read_page (s, offset - 4096);
  setup_free (s);
}

/* A read that comes before the thread does its work: one call to the backend
 * for the chunk, and none when the thread comes.
 */
static void
test_read_helps_itself (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  const uint64_t offset = begin_stream (s, 0, 4096);
  const unsigned before = reads (s);
  unsigned i;

  for (i = 0; i < 4; ++i)
    read_page (s, offset + i * 4096);
  assert_int_equal (reads (s), before + 1);
  assert_int_equal (read_call (s, before).len, 4 * 4096);
  tasks[0]->run (tasks[0]);
  assert_int_equal (reads (s), before + 1);
  tasks[0] = tasks[--nr_tasks];
  setup_free (s);
}

/* An error is reported only to a client that asked for the bytes. */
static void
test_error_of_what_is_read_ahead (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  const uint64_t offset = begin_stream (s, 0, 4096);
  uint8_t bytes[4096];

  array_fail_range (s->array, ARRAY_READ, offset + 4096, 4096, EIO);
  read_page (s, offset);
  assert_int_equal (
      request_read (s->client, bytes, sizeof bytes, offset + 4096), EIO);
  read_page (s, offset + 8192);
  array_heal (s->array);
  read_page (s, offset + 4096);
  setup_free (s);
}

static void
test_no_thread_no_readahead (void **state)
{
  struct stack *s = setup_new (2 * MiB);
  unsigned i;

  no_threads = true;
  for (i = 0; i < 20; ++i)
    read_page (s, i * 4096);
  assert_int_equal (reads (s), 20);
  no_threads = false;
  setup_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random_reads_begin_nothing),
    cmocka_unit_test (test_stream_forward),
    cmocka_unit_test (test_stream_backward),
    cmocka_unit_test (test_stream_of_large_fills),
    cmocka_unit_test (test_window_doubles_when_half_was_used),
    cmocka_unit_test (test_short_runs),
    cmocka_unit_test (test_waste_shrinks_first_windows),
    cmocka_unit_test (test_waste_shrinks_a_window),
    cmocka_unit_test (test_many_streams),
    cmocka_unit_test (test_streams_share_a_small_cache),
    cmocka_unit_test (test_least_useful_stream_leaves),
    cmocka_unit_test (test_ended_streams_leave),
    cmocka_unit_test (test_hits_forget_a_stream),
    cmocka_unit_test (test_stream_ends_at_either_end),
    cmocka_unit_test (test_read_helps_itself),
    cmocka_unit_test (test_error_of_what_is_read_ahead),
    cmocka_unit_test (test_no_thread_no_readahead),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
