/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of requests that find no memory, and of bytes that were never
 * acknowledged.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (2 * MiB)

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

  o.memory = 1 * MiB;
  s = stack_new (&o);
  pc = &s->export->pc;
  stack_set_backend (s, 0, 65536, 5);
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

  o.memory = 1 * MiB;
  s = a.s = b.s = stack_new (&o);
  pc = &s->export->pc;
  stack_set_backend (s, 65536, 512, 5);
  while ((pages[n] = page_pin (pc, 300 + n, ADMIT_READ)) != NULL)
    n++;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&a);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&b);
  for (i = 0; i < 1000; ++i)
    assert_int_equal (stack_read (s, 65536, 512), 5);
  assert_int_equal (stack_calls (s, ARRAY_WRITE), 1);
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

/* Bytes written there are newer than the zeroes, which may yet be lost and done
 * again.
 */
static void
test_write_without_memory_in_remembered_zeroes (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct pagecache *pc;
  struct page *pages[512];
  unsigned n = 0;
  struct stack *s;

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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_requests_without_memory),
    cmocka_unit_test (test_writes_without_memory_one_by_one),
    cmocka_unit_test (test_write_without_memory_pins_nothing),
    cmocka_unit_test (test_write_without_memory_in_remembered_zeroes),
    cmocka_unit_test (test_half_a_failed_write_is_read_again),
    cmocka_unit_test (test_what_was_trimmed_is_read_again),
    cmocka_unit_test (test_what_is_sure_stays_cached),
  };

  return cmocka_run_group_tests_name ("request", tests, NULL, NULL);
}
