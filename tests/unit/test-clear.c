/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of zeroes below requests: they are remembered until a flush, and
 * done again if it fails.
 */

#include <config.h>

#include <errno.h>

#include "setup.h"

static void
test_zero_is_remembered_until_flushed (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  assert_int_equal (clear_range (&s->submit, b, 0, 64 * KiB, CLEAR_ZEROED, 0),
                    0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 64 * KiB);
  assert_int_equal (durable_flush (&s->submit, b), 0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
  assert_true (setup_has (s, true, 0, 64 * KiB, 0));
  setup_free (s);
}

static void
test_zero_goes_durable_when_too_many_are_remembered (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;
  unsigned i;

  for (i = 0; i < ZEROES_MAX + 3; ++i)
    assert_int_equal (
        clear_range (&s->submit, b, i * 8192, 512, CLEAR_ZEROED, 0), 0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 512 * ZEROES_MAX);
  for (i = ZEROES_MAX; i < ZEROES_MAX + 3; ++i)
    assert_true (setup_has (s, true, i * 8192, 512, 0));
  setup_free (s);
}

static void
test_fast_zero_refused_changes_nothing (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  setup_write (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOTSUP);
  assert_int_equal (
      clear_range (&s->submit, b, 0, 4096, CLEAR_ZEROED, ZERO_FAST | ZERO_FUA),
      ENOTSUP);
  assert_true (block_is (s->cache, 0, UPTODATE));
  assert_int_equal (setup_amounts (s).unstable, 512);
  assert_int_equal (setup_amounts (s).dirty, 0);
  setup_free (s);
}

/* All round the blocks that are held: those are newer. */
static void
test_lost_zeroes_are_done_again (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  s->array->forgets = true;
  clear_range (&s->submit, b, 0, 64 * KiB, CLEAR_ZEROED, 0);
  setup_write (s, 4096 + 512, 1024, 7, true);
  setup_write (s, 64 * KiB - 512, 512, 8, true);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (durable_flush (&s->submit, b), EIO);
  assert_false (setup_has (s, false, 0, 4096, 0)); /* the disk forgot */
  assert_int_equal (clear_redo_zeroes (&s->submit, b), 0);
  assert_int_equal (durable_flush (&s->submit, b), 0);
  assert_true (setup_has (s, true, 0, 4096 + 512, 0));
  assert_true (setup_has (s, true, 4096 + 512, 1024, 7));
  assert_true (setup_has (s, true, 4096 + 1536, 64 * KiB - 512 - 5632, 0));
  assert_true (setup_has (s, true, 64 * KiB - 512, 512, 8));
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
  setup_free (s);
}

static void
test_failed_redo_is_told_and_tried_again (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;
  uint64_t offset = 0, len;

  clear_range (&s->submit, b, 0, 4096, CLEAR_ZEROED, 0);
  zeroes_lose (&s->cache->pc.zeroes, 0);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOSPC);
  assert_int_equal (clear_redo_zeroes (&s->submit, b), ENOSPC);
  assert_true (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  assert_int_equal (clear_redo_zeroes (&s->submit, b), 0);
  assert_false (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  setup_free (s);
}

/* A backend to which something fails beside every zero. */
static struct pagecache *failing_beside;
static int (*zero_alone) (struct backend *, uint32_t, uint64_t, unsigned);

static int
zero_beside_a_failure (struct backend *b, uint32_t len, uint64_t offset,
                       unsigned flags)
{
  const int err = zero_alone (b, len, offset, flags);

  ledger_fail (failing_beside, held_epoch (&failing_beside->held));
  return err;
}

/* Else it would go on for as long as others fail. */
static void
test_redo_zeroes_each_range_once (void **state)
{
  struct setup *s = setup_new (4);
  struct backend b = s->array->backend;
  uint64_t offset = 0, len;
  unsigned i;

  for (i = 0; i < 5; ++i)
    clear_range (&s->submit, &b, i * 8192, 4096, CLEAR_ZEROED, 0);
  zeroes_lose (&s->cache->pc.zeroes, 0);
  array_forget_calls (s->array);
  failing_beside = &s->cache->pc;
  zero_alone = b.zero;
  b.zero = zero_beside_a_failure;
  assert_int_equal (clear_redo_zeroes (&s->submit, &b), 0);
  assert_int_equal (array_calls (s->array, ARRAY_ZERO), 5);
  assert_true (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  assert_int_equal (offset, 0);
  b.zero = zero_alone;
  assert_int_equal (clear_redo_zeroes (&s->submit, &b), 0);
  assert_false (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  setup_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_zero_is_remembered_until_flushed),
    cmocka_unit_test (test_zero_goes_durable_when_too_many_are_remembered),
    cmocka_unit_test (test_fast_zero_refused_changes_nothing),
    cmocka_unit_test (test_lost_zeroes_are_done_again),
    cmocka_unit_test (test_failed_redo_is_told_and_tried_again),
    cmocka_unit_test (test_redo_zeroes_each_range_once),
  };

  return cmocka_run_group_tests_name ("clear", tests, NULL, NULL);
}
