/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of failures of one connection beside another client's: in a batch
 * that carries writes of both, in a flush where no helper is free or that is
 * slow, and beside a trim.
 */

#include <config.h>

#include <errno.h>

#include "guest.h"

#define SIZE (8 * MiB)

/* Laws 2 and 22: a flush has to reach the connection that wrote, and there is
 * no helper to call it.  This test is the first: none has been begun before it.
 */
static void
test_failure_of_a_flush_without_a_helper (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct guest dies;
  struct stack *s;

  o.traits.can_multi_conn = false;
  o.serial = true;
  s = stack_new (&o);
  registry.parallel = true;
  guest_join (&dies, s, &o.traits);
  assert_int_equal (guest_put (&dies.client, 0, 4096, 1, false), 0);
  assert_int_equal (request_flush (&dies.client), 0);
  assert_int_equal (guest_put (&dies.client, 0, 4096, 2, true), 0);
  assert_int_equal (guest_put (&dies.client, 4096, 4096, 2, false), 0);
  assert_int_equal (writeback_flush (s->export, &dies.connection.backend), 0);
  atomic_store (&dies.connection.owes, true);
  guest_die (&dies.backend);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (loans_is_suspect (&dies.connection));
  assert_true (stack_keeps (s, 0, 8192, 2));
  guest_leave (&dies);
  stack_free (s);
}

/* ---- batches of several connections ---- */

/* Two durable writes that adjoin, of clients A and B, come while another write
 * holds the only place: they go as one batch by the connection of A, which came
 * first.
 */
struct pair {
  struct stack *s;
  struct request first, a, b;
};

#define PLACE MiB

static void
begin_pair (struct pair *p, struct stack *s, struct client *a, struct client *b)
{
  memset (p, 0, sizeof *p);
  p->s = s;
  p->first = p->a = p->b =
      (struct request){ .s = s, .what = DO_FUA, .len = 4096, .value = 2 };
  p->a.client = a;
  p->a.offset = PLACE;
  p->b.client = b;
  p->b.offset = PLACE + 4096;
  /* Batches last for days: none at a gate is taken to hang. */
  s->export->submit.policy.usual[0].latency =
      s->export->submit.policy.usual[1].latency = UINT64_C (100000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  request_start (&p->first);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  request_start (&p->a);
  wait_until (stack_waiting (s) == 1);
  request_start (&p->b);
  wait_until (stack_waiting (s) == 2);
}

static void
end_pair (struct pair *p, int a, int b)
{
  array_open (p->s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&p->first), 0);
  assert_int_equal (request_join (&p->a), a);
  assert_int_equal (request_join (&p->b), b);
}

static struct stack *
stack_with_one_place (void)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.settings.depth = 1;
  o.clients = 2;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, PLACE, 8192, 1, true), 0);
  return s;
}

/* Law 22: B's remote is there, and B does not hear that A's is gone. */
static void
test_batch_by_a_dead_connection (void **state)
{
  struct stack *s = stack_with_one_place ();
  struct guest dies;
  struct pair p;

  guest_join (&dies, s, &s->backends[0].traits);
  begin_pair (&p, s, &dies.client, &s->clients[1]);
  guest_die (&dies.backend);
  end_pair (&p, ESHUTDOWN, 0);
  assert_true (stack_keeps (s, PLACE + 4096, 4096, 2));
  assert_int_equal (stack_read (s, PLACE, 4096), 1);
  assert_int_equal (stack_read (s, PLACE + 4096, 4096), 2);
  guest_leave (&dies);
  stack_free (s);
}

/* Laws 12 and 22: neither does A hear of a place that B alone writes. */
static void
test_batch_with_a_bad_place (void **state)
{
  struct stack *s = stack_with_one_place ();
  struct pair p;

  begin_pair (&p, s, &s->clients[0], &s->clients[1]);
  array_fail_range (s->array, ARRAY_WRITE, PLACE + 4096, 4096, ENOSPC);
  end_pair (&p, 0, ENOSPC);
  assert_true (array_calls (s->array, ARRAY_WRITE) == 2 + 1 + 2);
  assert_true (stack_keeps (s, PLACE, 4096, 2));
  assert_int_equal (stack_read (s, PLACE, 4096), 2);
  array_heal (s->array);
  assert_int_equal (stack_read (s, PLACE + 4096, 4096), 1);
  stack_free (s);
}

/* Laws 11 and 13: if all fails, each is told, and a flush can save what was
 * there before.
 */
static void
test_batch_that_fails_again (void **state)
{
  struct stack *s = stack_with_one_place ();
  struct pair p;

  begin_pair (&p, s, &s->clients[0], &s->clients[1]);
  array_fail_range (s->array, ARRAY_WRITE, PLACE, 8192, EIO);
  end_pair (&p, EIO, EIO);
  array_heal (s->array);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (stack_read (s, PLACE, 8192), 1);
  assert_true (stack_keeps (s, PLACE, 8192, 1));
  stack_free (s);
}

/* Law 12: the writes of one client have one error. */
static void
test_batch_of_one_connection (void **state)
{
  struct stack *s = stack_with_one_place ();
  struct pair p;

  begin_pair (&p, s, &s->clients[0], &s->clients[0]);
  array_fail_range (s->array, ARRAY_WRITE, PLACE + 4096, 4096, ENOSPC);
  end_pair (&p, ENOSPC, ENOSPC);
  array_heal (s->array);
  assert_int_equal (stack_read (s, PLACE, 8192), 1);
  stack_free (s);
}

/* ---- a backend that has become slow ---- */

static int (*flush_of_array) (struct backend *b);

/* Longer than any flush may take at first. */
static int
slow_flush (struct backend *b)
{
  const struct timespec time = { .tv_sec = 1, .tv_nsec = 300000000 };

  nanosleep (&time, NULL);
  return flush_of_array (b);
}

/* Law 22: a flush by another client's connection that takes as long as the last
 * ones is not late: nothing is written again.
 */
static void
test_slow_flush_by_another (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  struct guest g;
  unsigned i;

  o.settings.mode = MODE_PROMPT; /* at the backend, and not durable */
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 0, 4096, 9, false), 0);
  assert_int_equal (request_flush (s->client), 0); /* is quick */
  flush_of_array = s->backends[0].flush;
  s->backends[0].flush = slow_flush;
  for (i = 0; i < 4; ++i) {
    assert_int_equal (stack_write (s, 0, 4096, i, false), 0);
    if (i < 3)
      assert_int_equal (request_flush (s->client), 0);
  }
  guest_join (&g, s, &s->backends[0].traits);
  array_forget_calls (s->array);
  assert_int_equal (request_flush (&g.client), 0);
  assert_true (stack_keeps (s, 0, 4096, 3));
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 1);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 0);
  assert_false (loans_is_suspect (&s->connections[0]));
  guest_leave (&g);
  stack_free (s);
}

static _Atomic bool hangs;

static int
hung_flush (struct backend *b)
{
  wait_until (!atomic_load (&hangs));
  return flush_of_array (b);
}

/* Laws 2 and 22: the guest's connection is late, and its client's flush goes by
 * the other one.  That is slow from its first flush on; but none is free to do
 * better, so the client has no error.
 */
static void
test_slow_flush_beside_a_late_one (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  struct guest g;

  o.settings.mode = MODE_PROMPT;
  o.traits.can_multi_conn = false;
  s = stack_new (&o);
  guest_join (&g, s, &o.traits);
  flush_of_array = s->backends[0].flush;
  s->backends[0].flush = slow_flush;
  g.backend.flush = hung_flush;
  atomic_store (&hangs, true);
  assert_int_equal (guest_put (&g.client, 0, 4096, 1, false), 0);
  assert_int_equal (connections_flush (s->export, s->client->own), EAGAIN);
  assert_true (loans_is_suspect (&g.connection));
  assert_int_equal (connections_flush (s->export, g.client.own), 0);
  atomic_store (&hangs, false);
  guest_leave (&g);
  stack_free (s);
}

/* Law 22: each connection takes writes, so that none stays suspect, and fails
 * each flush.  A flush that is repeated for the turn of one asks that one, so
 * the repeat is the last.
 */
static void
test_each_flush_fails (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  struct guest g;
  int err, last = 0;
  unsigned i;

  o.traits.can_multi_conn = false;
  s = stack_new (&o);
  guest_join (&g, s, &o.traits);
  array_fail (s->array, ARRAY_FLUSH, 0, 1000, EIO);
  for (i = 0; i < 20; ++i) {
    err = connections_flush (s->export, g.client.own);
    assert_true (err == EIO || (err == EAGAIN && last != EAGAIN));
    loans_trust (&g.connection);
    loans_trust (&s->connections[0]);
    last = err;
  }
  array_heal (s->array);
  guest_leave (&g);
  stack_free (s);
}

/* ---- a durable trim ---- */

struct trim {
  struct stack *s;
  int error;
};

static void
run_trim (void *arg)
{
  struct trim *t = arg;

  t->error = request_trim (t->s->client, 64 * KiB, 0, true);
}

/* No client is promised what a trim leaves, so failures beside it undo nothing
 * of it, however long it takes.
 */
static void
test_durable_trim_is_not_undone (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct trim trim = { .s = s };
  struct thread t;

  array_shut (s->array, ARRAY_TRIM, GATE_BEFORE);
  thread_start (&t, run_trim, &trim);
  array_wait_gate (s->array, ARRAY_TRIM, 1);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (stack_write (s, MiB, 4096, 1, true), EIO);
  array_open (s->array, ARRAY_TRIM);
  thread_join (&t);
  assert_int_equal (trim.error, 0);
  assert_int_equal (array_calls (s->array, ARRAY_TRIM), 1);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_failure_of_a_flush_without_a_helper),
    cmocka_unit_test (test_batch_by_a_dead_connection),
    cmocka_unit_test (test_batch_with_a_bad_place),
    cmocka_unit_test (test_batch_that_fails_again),
    cmocka_unit_test (test_batch_of_one_connection),
    cmocka_unit_test (test_slow_flush_by_another),
    cmocka_unit_test (test_slow_flush_beside_a_late_one),
    cmocka_unit_test (test_each_flush_fails),
    cmocka_unit_test (test_durable_trim_is_not_undone),
  };

  return cmocka_run_group_tests_name ("apart", tests, NULL, NULL);
}
