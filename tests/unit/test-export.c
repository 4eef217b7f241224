/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of exports: which backends may be called, and which connections
 * share a cache.
 */

#include <config.h>

#include <errno.h>

#include "stack.h"

#define SIZE (2 * MiB)

/* ---- which backends may be called ---- */

static void
test_only_what_is_lent_is_borrowed (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct connection c;
  struct backend b;
  struct loan loan;

  stack_leave (s, 0);
  assert_null (loans_borrow (&loan, s->export, NEED_READ));
  array_connect (s->array, &b);
  b.traits.can_write = false;
  connections_join (&c, s->export, &b);
  /* No data request yet. */
  assert_null (loans_borrow (&loan, s->export, NEED_READ));
  connections_lend (&c);
  assert_null (loans_borrow (&loan, s->export, NEED_WRITE));
  assert_non_null (loans_borrow (&loan, s->export, NEED_READ));
  assert_ptr_equal (loan.connection, &c);
  loans_return (&loan);
  connections_leave (&c);
  stack_come (s, 0);
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

  stack_leave (w->s, 0);
  w->ended = true;
}

static void
test_withdrawal_waits_for_borrowers (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct withdrawal w = { s, false };
  struct loan loan, another;
  struct thread t;

  assert_non_null (loans_borrow (&loan, s->export, NEED_WRITE));
  thread_start (&t, withdraw, &w);
  wait_until (loans_borrow (&another, s->export, NEED_WRITE) == NULL ||
              (loans_return (&another), false));
  assert_false (w.ended);
  loans_return (&loan);
  thread_join (&t);
  stack_come (s, 0);
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
  struct stack *s = stack_sized (SIZE);
  struct export *same, *other, *tls, *none;

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
  struct stack *s = stack_sized (SIZE);
  struct connection connection;
  struct export *other;
  struct array *array;
  struct client c;
  uint8_t buf[4096];

  array = array_new (&s->array->backend.traits);
  assert_int_equal (open_export ("other", false, SIZE, &other), 0);
  connections_join (&connection, other, &array->backend);
  connections_lend (&connection);
  c = (struct client){ .export = other, .own = &connection.backend };
  stack_write (s, 0, 4096, 7, false);
  assert_int_equal (request_read (&c, buf, sizeof buf, 0), 0);
  assert_true (array_sees (array, 0, buf, sizeof buf));
  connections_leave (&connection);
  close_export (other);
  array_free (array);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_only_what_is_lent_is_borrowed),
    cmocka_unit_test (test_withdrawal_waits_for_borrowers),
    cmocka_unit_test (test_who_shares_a_cache),
    cmocka_unit_test (test_exports_are_apart),
  };

  return cmocka_run_group_tests_name ("export", tests, NULL, NULL);
}
