/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of a remote that dies and returns: the connections to it fail, new
 * ones succeed, and its volatile data is gone.  All connections say multi-conn.
 *
 * The stack's own client is connected first, so every guest came later.
 */

#include <config.h>

#include <errno.h>

#include "guest.h"

#define SIZE (8 * MiB)

/* Writes reach the remote at once, and stay unstable until a flush. */
static struct stack *
stack_of_a_remote (unsigned clients)
{
  struct stack_options o = stack_options (SIZE);

  o.settings.mode = MODE_PROMPT;
  o.clients = clients;
  return stack_new (&o);
}

/* The remote dies, with the volatile data and the first connection, and
 * returns.
 */
static void
restart (struct stack *s)
{
  array_crash (s->array);
  guest_die (&s->backends[0]);
}

static unsigned
writes (struct stack *s)
{
  return array_calls (s->array, ARRAY_WRITE);
}

static unsigned
flushes (struct stack *s)
{
  return array_calls (s->array, ARRAY_FLUSH);
}

/* Laws 2 and 4. */
static void
test_flush_after_the_remote_returned (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 64 * KiB, 1, false), 0);
  restart (s);
  guest_join (&g, s, &s->backends[0].traits);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 1));
  guest_leave (&g);
  stack_free (s);
}

static void
test_zeroes_after_the_remote_returned (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (request_zero (s->client, 64 * KiB, 0, 0), 0);
  restart (s);
  guest_join (&g, s, &s->backends[0].traits);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 64 * KiB, 0));
  guest_leave (&g);
  stack_free (s);
}

/* Law 1: a flush that durable writes share finds it out, and none of them
 * fails.
 */
static void
test_durable_write_after_the_remote_returned (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  struct guest g;

  o.settings.mode = MODE_PROMPT;
  o.traits.fua = FUA_EMULATED;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  restart (s);
  guest_join (&g, s, &o.traits);
  assert_int_equal (guest_put (&g.client, 8192, 4096, 2, true), 0);
  assert_true (stack_keeps (s, 8192, 4096, 2));
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  guest_leave (&g);
  stack_free (s);
}

/* Law 2: the connection that wrote has left, and no flush came after. */
static void
test_writer_left_before_the_remote_died (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &s->backends[0].traits);
  stack_leave (s, 0);
  assert_int_equal (flushes (s), 1);
  array_crash (s->array);
  assert_true (stack_keeps (s, 0, 4096, 1));
  stack_come (s, 0);
  guest_leave (&g);
  stack_free (s);
}

/* … or its last flush failed: the newer connection writes it again. */
static void
test_writer_left_after_the_remote_died (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  restart (s);
  guest_join (&g, s, &s->backends[0].traits);
  stack_leave (s, 0);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  stack_come (s, 0);
  guest_leave (&g);
  stack_free (s);
}

/* Law 4: it came after the flush had begun that settles nothing of what ended
 * meanwhile.
 */
static void
test_connection_comes_during_a_flush (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct request flush = { .s = s, .what = DO_FLUSH };
  struct guest g;

  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  request_start (&flush);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &s->backends[0].traits);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (request_join (&flush), 0);
  restart (s);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  guest_leave (&g);
  stack_free (s);
}

/* It is written once: all connections there were cover what is left. */
static void
test_connections_cost_no_writes (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest guests[8];
  unsigned i;

  for (i = 0; i < 8; ++i) {
    assert_int_equal (stack_write (s, i * 64 * KiB, 4096, 1, false), 0);
    guest_join (&guests[i], s, &s->backends[0].traits);
    assert_int_equal (request_flush (&guests[i].client), 0);
    assert_int_equal (flushes (s), i + 1);
  }
  for (i = 0; i < 8; ++i) {
    assert_int_equal (guest_put (&guests[i].client, i * 4096, 4096, 2, false),
                      0);
    assert_int_equal (request_flush (&guests[i ^ 1].client), 0);
    guest_leave (&guests[i]);
  }
  assert_int_equal (writes (s), 16);
  assert_int_equal (flushes (s), 16);
  assert_int_equal (stack_amounts (s).held, 0);
  stack_free (s);
}

/* A new connection beside nothing unstable flushes for itself. */
static void
test_connection_to_a_clean_cache (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  guest_join (&g, s, &s->backends[0].traits);
  guest_die (&s->backends[0]);
  assert_int_equal (guest_put (&g.client, 0, 4096, 1, false), 0);
  assert_int_equal (request_flush (&g.client), 0);
  assert_int_equal (writes (s), 1);
  assert_int_equal (flushes (s), 1);
  guest_leave (&g);
  stack_free (s);
}

/* Two that came before it was written: one may leave without a flush. */
static void
test_one_of_two_old_connections_leaves (void **state)
{
  struct stack *s = stack_of_a_remote (2);

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  stack_leave (s, 0);
  assert_int_equal (flushes (s), 0);
  assert_int_equal (request_flush (&s->clients[1]), 0);
  assert_int_equal (writes (s), 1);
  stack_come (s, 0);
  stack_free (s);
}

/* ---- an old connection that hangs ---- */

static _Atomic bool hangs;

static int
hung_flush (struct backend *b)
{
  (void) b;
  wait_until (!hangs);
  return 0;
}

/* Law 22: it costs the other client no more than the usual time. */
static void
test_old_connection_hangs (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  s->backends[0].flush = hung_flush;
  hangs = true;
  guest_join (&g, s, &s->backends[0].traits);
  array_connect (s->array, &g.backend);
  assert_int_equal (request_flush (&g.client), 0);
  assert_ptr_equal (s->array->writer[0], &g.backend);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_int_equal (guest_put (&g.client, 0, 4096, 2, false), 0);
  assert_int_equal (request_flush (&g.client), 0);
  hangs = false;
  guest_leave (&g);
  stack_free (s);
}

/* Law 12: the client's own has failed before, and is asked all the same: its
 * flush did not fail.
 */
static void
test_old_connection_hangs_after_own_failed (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  guest_join (&g, s, &s->backends[0].traits);
  assert_int_equal (guest_put (&g.client, 0, 4096, 1, false), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (&g.client), 0); /* by the other */
  assert_int_equal (guest_put (&g.client, 0, 4096, 2, false), 0);
  s->backends[0].flush = hung_flush;
  hangs = true;
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 2));
  hangs = false;
  guest_leave (&g);
  stack_free (s);
}

/* ---- a flush that fails by one connection ---- */

/* Law 22: the newer one writes all again. */
static void
test_old_connection_fails_once (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  s->array->forgets = true;
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &s->backends[0].traits);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_int_equal (writes (s), 2);
  guest_leave (&g);
  stack_free (s);
}

/* Law 2: where both fail, the client gets the error. */
static void
test_both_connections_fail (void **state)
{
  struct stack *s = stack_of_a_remote (1);
  struct guest g;

  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  guest_join (&g, s, &s->backends[0].traits);
  array_fail (s->array, ARRAY_FLUSH, 0, 1000, ENOSPC);
  assert_int_equal (request_flush (&g.client), ENOSPC);
  assert_int_equal (flushes (s), 2);
  array_heal (s->array);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  guest_leave (&g);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_flush_after_the_remote_returned),
    cmocka_unit_test (test_zeroes_after_the_remote_returned),
    cmocka_unit_test (test_durable_write_after_the_remote_returned),
    cmocka_unit_test (test_writer_left_before_the_remote_died),
    cmocka_unit_test (test_writer_left_after_the_remote_died),
    cmocka_unit_test (test_connection_comes_during_a_flush),
    cmocka_unit_test (test_connections_cost_no_writes),
    cmocka_unit_test (test_connection_to_a_clean_cache),
    cmocka_unit_test (test_one_of_two_old_connections_leaves),
    cmocka_unit_test (test_old_connection_hangs),
    cmocka_unit_test (test_old_connection_hangs_after_own_failed),
    cmocka_unit_test (test_old_connection_fails_once),
    cmocka_unit_test (test_both_connections_fail),
  };

  return cmocka_run_group_tests_name ("remote", tests, NULL, NULL);
}
