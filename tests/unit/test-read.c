/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of reads over the whole stack: hits, misses, fills that several
 * readers join, and writes that overtake a fill.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (2 * MiB)

static void
test_read_again_is_a_hit (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 8192, 5);
  assert_int_equal (stack_read (s, 100, 5000), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 1);
  assert_int_equal (stack_read (s, 0, 8192), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 1);
  stack_free (s);
}

/* Four times the memory is read: no miss keeps its page from leaving. */
static void
test_pages_leave_for_new_ones (void **state)
{
  const uint64_t size = 16 * MiB;
  struct stack *s = stack_sized (size);
  unsigned calls;
  uint64_t at;

  stack_set_backend (s, 0, size, 5);
  for (at = 0; at < size; at += 4096)
    assert_int_equal (stack_read (s, at, 4096), 5);
  calls = stack_calls (s, ARRAY_READ);
  assert_int_equal (stack_read (s, size - 4096, 4096), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), calls);
  stack_free (s);
}

static void
test_fill_is_at_least_the_option (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.fill = 65536;
  s = stack_new (&o);
  stack_set_backend (s, 0, 131072, 5);
  assert_int_equal (stack_read (s, 70000, 1), 5);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 65536);
  assert_int_equal (array_call (s->array, ARRAY_READ, 0).offset, 65536);
  assert_int_equal (stack_read (s, 65536, 65536), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 1);
  stack_free (s);
}

/* Law 21: what is filled along comes in the call that the client waits for, so
 * it waits for no other.
 */
static void
test_fill_ends_at_what_is_cached (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.fill = 65536;
  s = stack_new (&o);
  stack_set_backend (s, 0, 65536, 5);
  stack_write (s, 8192, 4096, 7, false);       /* a page */
  stack_write (s, 32768, 512, 7, false);       /* the first block of one */
  stack_write (s, 49152 - 512, 512, 7, false); /* the last block of one */
  assert_int_equal (stack_read (s, 0, 4096), 5);
  assert_int_equal (stack_read (s, 12288, 512), 5);
  assert_int_equal (stack_read (s, 61440, 4096), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 3);
  assert_int_equal (array_call (s->array, ARRAY_READ, 0).offset, 0);
  assert_int_equal (array_call (s->array, ARRAY_READ, 1).offset, 12288);
  assert_int_equal (array_call (s->array, ARRAY_READ, 2).offset, 49152);
  assert_int_equal (stack_bytes (s, ARRAY_READ),
                    8192 + (32768 - 12288) + (65536 - 49152));
  stack_free (s);
}

static void
test_read_asks_only_for_what_is_missing (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 3 * 4096, 5);
  stack_read (s, 4096, 4096);
  assert_int_equal (stack_read (s, 0, 3 * 4096), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 3);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 3 * 4096);
  stack_free (s);
}

static void
test_read_error_is_told_and_not_cached (void **state)
{
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 4096, 5);
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

  o.settings.fill = 65536;
  o.traits.maximum = 4096;
  s = stack_new (&o);
  stack_set_backend (s, 0, 65536, 5);
  array_fail_range (s->array, ARRAY_READ, 32768, 4096, EIO);
  assert_int_equal (stack_read (s, 0, 4096), 5);
  stack_free (s);
}

/* Law 14. */
static void
test_two_readers_one_backend_read (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request a = { .s = s, .what = DO_READ, .offset = 0, .len = 4096 };
  struct request b = { .s = s, .what = DO_READ, .offset = 512, .len = 512 };

  stack_set_backend (s, 0, 4096, 5);
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
  assert_int_equal (stack_calls (s, ARRAY_READ), 1);
  stack_free (s);
}

/* Law 14: one that joined a fill waits for that page alone.  More pages than
 * there are queues to wait in: some share one.
 */
static void
test_joiner_waits_for_its_own_page (void **state)
{
  enum { PAGES = 65 };
  struct stack *s = stack_sized (SIZE);
  struct request *fills = calloc (2 * PAGES, sizeof *fills);
  struct request *joiners = fills + PAGES;
  unsigned i;

  must (fills != NULL);
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  for (i = 0; i < PAGES; ++i) {
    fills[i] = (struct request){
      .s = s, .what = DO_READ, .offset = i * 16 * KiB, .len = 512
    };
    joiners[i] = fills[i];
    stack_set_backend (s, fills[i].offset, 512, 5);
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
  assert_int_equal (stack_calls (s, ARRAY_READ), PAGES);
  free (fills);
  stack_free (s);
}

/* Law 8: if a fill that it joined fails, it reads for itself. */
static void
test_joiner_of_failed_fill_reads_itself (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request a = { .s = s, .what = DO_READ, .offset = 0, .len = 4096 };
  struct request b = { .s = s, .what = DO_READ, .offset = 512, .len = 512 };

  stack_set_backend (s, 0, 4096, 5);
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
  struct stack *s = stack_sized (SIZE);
  struct request miss = { .s = s, .what = DO_READ, .offset = 4096, .len = 512 };

  stack_set_backend (s, 0, 8192, 5);
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
  struct stack *s = stack_sized (SIZE);
  struct request read = { .s = s, .what = DO_READ, .offset = 0, .len = 512 };

  stack_set_backend (s, 0, 4096, 5);
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

/* Law 8: nor does a reader join a fill that a failed write overtook. */
static void
test_fua_during_fill_stays (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct request read = { .s = s, .what = DO_READ, .offset = 0, .len = 512 };

  stack_set_backend (s, 0, 4096, 5);
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
  struct stack *s = stack_sized (SIZE);

  stack_set_backend (s, 0, 100000, 5);
  assert_int_equal (
      fetch_range (s->export, s->client->own, 100, 90000, ADMIT_READ), 0);
  array_forget_calls (s->array);
  assert_int_equal (stack_read (s, 100, 90000), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), 0);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_read_again_is_a_hit),
    cmocka_unit_test (test_pages_leave_for_new_ones),
    cmocka_unit_test (test_fill_is_at_least_the_option),
    cmocka_unit_test (test_fill_ends_at_what_is_cached),
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
  };

  return cmocka_run_group_tests_name ("read", tests, NULL, NULL);
}
