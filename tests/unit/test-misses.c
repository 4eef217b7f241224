/* SPDX-License-Identifier: BSD-3-Clause */

/* Which locks a read miss takes in a full cache, beside those of its pages and
 * of the index: they are counted where this thread takes them.
 */

#include <config.h>

#include "stack.h"

#define SIZE (16 * MiB) /* four times the memory */

extern void __real_lock_take (struct lock *l);
extern void __wrap_lock_take (struct lock *l);

static __thread unsigned taken[RANK_STATS + 1];

void
__wrap_lock_take (struct lock *l)
{
  taken[l->rank]++;
  __real_lock_take (l);
}

/* Every page has been read once, so the first ones have left. */
static struct stack *
full_cache (void)
{
  struct stack *s = stack_sized (SIZE);
  uint64_t at;

  stack_set_backend (s, 0, SIZE, 5);
  for (at = 0; at < SIZE; at += 64 * KiB)
    assert_int_equal (stack_read (s, at, 64 * KiB), 5);
  stack_wait_idle (s);
  return s;
}

/* Reads what is missing, and expects one call of the backend. */
static void
miss (struct stack *s, uint64_t offset, uint32_t len)
{
  const unsigned calls = stack_calls (s, ARRAY_READ);

  memset (taken, 0, sizeof taken);
  assert_int_equal (stack_read (s, offset, len), 5);
  assert_int_equal (stack_calls (s, ARRAY_READ), calls + 1);
}

/* It takes the frame of a victim, and waits for no helper. */
static void
test_miss_of_one_page (void **state)
{
  struct stack *s = full_cache ();

  miss (s, 8192, 4096);
  assert_int_equal (taken[RANK_EVICT], 1);
  assert_int_equal (taken[RANK_SUBMIT], 0);
  assert_int_equal (taken[RANK_MEMORY], 0);
  stack_free (s);
}

static void
test_miss_of_one_run (void **state)
{
  struct stack *s = full_cache ();

  miss (s, 64 * KiB, 64 * KiB);
  assert_int_equal (taken[RANK_EVICT], 16);
  assert_int_equal (taken[RANK_SUBMIT], 0);
  assert_int_equal (taken[RANK_MEMORY], 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_miss_of_one_page),
    cmocka_unit_test (test_miss_of_one_run),
  };

  return cmocka_run_group_tests_name ("misses", tests, NULL, NULL);
}
