/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of loans: a dead connection among healthy ones.  The guest joins
 * last, so helpers find it first.
 */

#include <config.h>

#include <errno.h>

#include "guest.h"

#define SIZE (8 * MiB)

/* Whether helpers borrow this connection. */
static bool
is_lent (struct guest *g, enum need need)
{
  struct loan loan;

  must (loans_borrow (&loan, g->client.export, need) != NULL);
  loans_return (&loan);
  return loan.connection == &g->connection;
}

/* A stack whose client holds dirty data, and a guest that is dead. */
static struct stack *
stack_with_a_dead_guest (const struct stack_options *o, struct guest *g)
{
  struct stack *s = stack_new (o);

  assert_int_equal (stack_write (s, 0, 64 * KiB, 1, false), 0);
  guest_join (g, s, &o->traits);
  assert_true (is_lent (g, NEED_WRITE));
  guest_die (&g->backend);
  return s;
}

/* Laws 6, 12 and 22. */
static void
test_write_back_beside_a_dead_connection (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  assert_false (atomic_load (&s->export->writeback.refusing));
  guest_leave (&g);
  stack_free (s);
}

/* The dead connection's own client flushes what others wrote. */
static void
test_flush_of_a_dead_connection (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  assert_false (atomic_load (&s->export->writeback.refusing));
  guest_leave (&g);
  stack_free (s);
}

static void
test_suspect_lends_again_after_a_success (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_false (is_lent (&g, NEED_WRITE));
  array_connect (s->array, &g.backend); /* it was not dead */
  assert_false (is_lent (&g, NEED_WRITE));
  guest_get (&g.client, MiB);
  assert_true (is_lent (&g, NEED_WRITE));
  guest_leave (&g);
  stack_free (s);
}

/* A suspect is better than none. */
static void
test_suspect_is_the_last_one (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  assert_int_equal (writeback_flush (s->export, NULL), 0);
  stack_leave (s, 0);
  assert_true (is_lent (&g, NEED_WRITE));
  stack_come (s, 0);
  guest_leave (&g);
  stack_free (s);
}

/* The other has died since: the suspect is asked before a client hears of it.
 */
static void
test_suspect_does_what_the_other_cannot (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  array_connect (s->array, &g.backend); /* it was not dead */
  loans_suspect (&g.connection);
  guest_die (&s->backends[0]);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  assert_false (loans_is_suspect (&g.connection));
  assert_true (loans_is_suspect (&s->connections[0]));
  guest_leave (&g);
  stack_free (s);
}

/* Where both fail it is the backend's error, and none is suspect. */
static void
test_both_connections_fail (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct stack *s = stack_new (&o);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &o.traits);
  array_fail (s->array, ARRAY_WRITE, 0, 2, ENOSPC);
  assert_int_equal (writeback_flush (s->export, NULL), ENOSPC);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_true (is_lent (&g, NEED_WRITE));
  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  guest_leave (&g);
  stack_free (s);
}

/* A client's own request gets its own connection's error. */
static void
test_own_request_fails_alone (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);

  assert_int_not_equal (guest_put (&g.client, MiB, 4096, 2, true), 0);
  assert_int_equal (stack_write (s, MiB, 4096, 3, true), 0);
  guest_leave (&g);
  stack_free (s);
}

static void
test_reads_ahead_beside_a_dead_connection (void **state)
{
  const struct stack_options o = stack_options (SIZE);
  struct guest g;
  struct stack *s = stack_with_a_dead_guest (&o, &g);
  struct backend *b;
  struct loan loan;
  unsigned reads;

  b = loans_borrow (&loan, s->export, NEED_READ);
  assert_ptr_equal (loan.connection, &g.connection);
  assert_int_equal (fetch_range (s->export, b, MiB, 64 * KiB, ADMIT_AHEAD), 0);
  loans_return (&loan);
  reads = array_calls (s->array, ARRAY_READ);
  guest_get (s->client, MiB);
  assert_int_equal (array_calls (s->array, ARRAY_READ), reads);
  guest_leave (&g);
  stack_free (s);
}

/* Law 4. */
static void
test_zeroes_are_redone_beside_a_dead_connection (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s = stack_new (&o);
  struct guest g;

  s->array->forgets = true;
  assert_int_equal (request_zero (s->client, 64 * KiB, 0, 0), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  guest_join (&g, s, &o.traits);
  guest_die (&g.backend);
  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 0));
  guest_leave (&g);
  stack_free (s);
}

/* Law 12: the one that can zero is dead, and the other can only write. */
static void
test_zeroes_are_redone_by_writing (void **state)
{
  struct stack_options o = stack_options (SIZE);
  const struct backend_traits zeroing = o.traits;
  struct stack *s;
  struct guest g;

  o.traits.can_zero = false;
  s = stack_new (&o);
  stack_set_backend (s, 0, 64 * KiB, 5);
  s->array->forgets = true;
  guest_join (&g, s, &zeroing);
  assert_int_equal (request_zero (&g.client, 64 * KiB, 0, 0), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 2, EIO);
  assert_int_equal (request_flush (&g.client), EIO);
  array_heal (s->array);
  guest_die (&g.backend);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 0));
  assert_true (loans_is_suspect (&g.connection));
  guest_leave (&g);
  stack_free (s);
}

/* Each write has the flag: no connection can flush. */
static void
test_write_back_with_fua_beside_a_dead_connection (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  struct guest g;

  o.traits.can_flush = false;
  s = stack_with_a_dead_guest (&o, &g);
  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  guest_leave (&g);
  stack_free (s);
}

/* Law 12: a write without FUA is the same by each connection that can flush. */
static void
test_another_with_fua_of_another_kind_is_asked (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits other = o.traits;
  struct stack *s = stack_new (&o);
  struct guest g;

  other.fua = o.traits.fua == FUA_NONE ? FUA_EMULATED : FUA_NONE;
  assert_int_equal (stack_write (s, 0, 64 * KiB, 1, false), 0);
  guest_join (&g, s, &other);
  assert_true (is_lent (&g, NEED_WRITE));
  guest_die (&g.backend);
  assert_int_equal (writeback_flush (s->export, NULL), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  assert_false (is_lent (&g, NEED_WRITE));
  guest_leave (&g);
  stack_free (s);
}

/* Law 22: the other can neither flush nor FUA, so it would lose the writes. */
static void
test_another_that_can_do_less_is_not_asked (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct stack *s = stack_new (&o);
  struct guest g;

  less.can_flush = false;
  less.fua = FUA_NONE;
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &less);
  array_fail (s->array, ARRAY_WRITE, 0, 1, ENOSPC);
  assert_int_equal (writeback_flush (s->export, NULL), ENOSPC);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 1);
  guest_leave (&g);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_write_back_beside_a_dead_connection),
    cmocka_unit_test (test_flush_of_a_dead_connection),
    cmocka_unit_test (test_suspect_lends_again_after_a_success),
    cmocka_unit_test (test_suspect_is_the_last_one),
    cmocka_unit_test (test_suspect_does_what_the_other_cannot),
    cmocka_unit_test (test_both_connections_fail),
    cmocka_unit_test (test_own_request_fails_alone),
    cmocka_unit_test (test_reads_ahead_beside_a_dead_connection),
    cmocka_unit_test (test_zeroes_are_redone_beside_a_dead_connection),
    cmocka_unit_test (test_zeroes_are_redone_by_writing),
    cmocka_unit_test (test_write_back_with_fua_beside_a_dead_connection),
    cmocka_unit_test (test_another_with_fua_of_another_kind_is_asked),
    cmocka_unit_test (test_another_that_can_do_less_is_not_asked),
  };

  return cmocka_run_group_tests_name ("loans", tests, NULL, NULL);
}
