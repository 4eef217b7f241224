/* SPDX-License-Identifier: BSD-3-Clause */

/* How many critical sections of the export a write takes on its way: the locks
 * of submit.c and open.c are counted where they are taken.
 */

#include <config.h>

#include "setup.h"
#include "stack.h"

extern void __real_lock_take (struct lock *l);
extern void __wrap_lock_take (struct lock *l);

static __thread unsigned taken; /* by this thread */

void
__wrap_lock_take (struct lock *l)
{
  taken += l->rank == RANK_SUBMIT || l->rank == RANK_OPEN;
  __real_lock_take (l);
}

static unsigned
sections_of (struct setup *s, bool durable)
{
  taken = 0;
  assert_int_equal (setup_write (s, 0, 4096, 1, durable), 0);
  return taken;
}

/* A write by the flag that meets no other has two: it begins, and it ends. */
static void
test_fua_write_has_two (void **state)
{
  struct setup *s = setup_new (4);

  assert_int_equal (sections_of (s, true), 2);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags, ZERO_FUA);
  assert_int_equal (sections_of (s, true), 2);
  setup_free (s);
}

static void
test_ordinary_write_has_two (void **state)
{
  struct setup *s = setup_new (4);

  assert_int_equal (sections_of (s, false), 2);
  setup_free (s);
}

static unsigned
sections_of_request (struct stack *s, bool durable)
{
  taken = 0;
  assert_int_equal (stack_write (s, 0, 4096, 1, durable), 0);
  return taken;
}

/* The same through the whole filter, over a page that is cached and clean; over
 * a dirty one the write is open meanwhile: that takes two more.
 */
static void
test_fua_request_has_two (void **state)
{
  struct stack *s = stack_sized (1 * MiB);

  assert_int_equal (stack_write (s, 0, 4096, 1, true), 0);
  assert_int_equal (sections_of_request (s, true), 2);
  assert_int_equal (sections_of_request (s, false), 0);
  assert_int_equal (sections_of_request (s, true), 4);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_fua_write_has_two),
    cmocka_unit_test (test_ordinary_write_has_two),
    cmocka_unit_test (test_fua_request_has_two),
  };

  return cmocka_run_group_tests_name ("sections", tests, NULL, NULL);
}
