/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of connections that differ, and of connections that end: every
 * call that the backend has not allowed to a connection ends the program, and a
 * flush by one that is not multi-conn covers only what it wrote itself.
 */

#include <config.h>

#include <errno.h>

#include "guest.h"

#define SIZE (8 * MiB)

static unsigned
flushes (struct stack *s)
{
  return array_calls (s->array, ARRAY_FLUSH);
}

/* ---- what a connection that ends owes ---- */

static void
run_leave (void *arg)
{
  guest_leave (arg);
}

/* Whether it may be borrowed. */
static bool
is_lent (struct guest *c)
{
  struct loan loan;

  loans_borrow (&loan, c->client.export, NEED_WRITE);
  loans_return (&loan);
  return loan.connection == &c->connection;
}

/* Laws 2 and 20: a helper writes by a connection that ends meanwhile. */
static void
test_flush_covers_a_write_by_a_connection_that_ends (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct guest ends;
  struct request flush;
  struct thread t;
  struct stack *s;
  unsigned i;

  o.traits.can_multi_conn = false;
  o.memory = 64 * MiB; /* with buffers for two batches */
  s = stack_new (&o);
  guest_join (&ends, s, &o.traits);
  assert_true (is_lent (&ends));
  for (i = 0; i < 2; ++i)
    assert_int_equal (stack_write (s, i * MiB, 64 * KiB, 1, false), 0);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  flush = (struct request){ .s = s, .what = DO_FLUSH };
  request_start (&flush);
  array_wait_gate (s->array, ARRAY_WRITE, 2); /* one by a helper */
  thread_start (&t, run_leave, &ends);
  wait_until (!is_lent (&ends));
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (request_join (&flush), 0);
  for (i = 0; i < 2; ++i)
    assert_true (stack_keeps (s, i * MiB, 64 * KiB, 1));
  thread_join (&t);
  stack_free (s);
}

/* A stack whose connections are not multi-conn, with one that has written. */
static struct stack *
stack_with_a_writer (struct guest *c)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.traits.can_multi_conn = false;
  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  guest_join (c, s, &o.traits);
  assert_int_equal (guest_put (&c->client, 0, 4096, 1, false), 0);
  return s;
}

/* Law 2: a later flush does not reach it any more. */
static void
test_connection_that_ends_is_flushed (void **state)
{
  struct guest c;
  struct stack *s = stack_with_a_writer (&c);

  guest_leave (&c);
  assert_int_equal (flushes (s), 1);
  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (flushes (s), 2);
  assert_true (stack_keeps (s, 0, 4096, 1));
  stack_free (s);
}

static void
test_connection_that_owes_nothing_is_not_flushed (void **state)
{
  struct guest c;
  struct stack *s = stack_with_a_writer (&c);

  assert_int_equal (request_flush (s->client), 0);
  assert_int_equal (flushes (s), 2); /* of each one */
  guest_leave (&c);
  assert_int_equal (flushes (s), 2);
  stack_free (s);
}

/* Law 4: what it wrote is written again, by another. */
static void
test_connection_that_ends_and_fails (void **state)
{
  struct guest c;
  struct stack *s = stack_with_a_writer (&c);

  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  guest_leave (&c);
  assert_int_equal (stack_amounts (s).dirty, 4096);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  stack_free (s);
}

/* Law 22: multi-conn, but those that stay cannot flush.  Not in series, where a
 * connection that can flush stays.
 */
static void
test_last_connection_that_can_flush (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct guest one, two;
  struct stack *s;

  o.settings.mode = MODE_PROMPT;
  less.can_flush = false;
  less.fua = FUA_NONE;
  s = stack_new (&o);
  stack_leave (s, 0);
  s->backends[0].traits = less;
  stack_come (s, 0);
  guest_join (&one, s, &o.traits);
  guest_join (&two, s, &o.traits);
  assert_int_equal (guest_put (&one.client, 0, 4096, 1, false), 0);
  guest_leave (&one);
  assert_int_equal (flushes (s), 0);
  guest_leave (&two);
  assert_int_equal (flushes (s), 1);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_int_equal (request_flush (s->client), 0);
  stack_free (s);
}

/* ---- connections that differ ---- */

/* Law 1: nbdkit says of a read-only connection that it cannot FUA. */
static void
test_fua_write_after_a_read_only_connection (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct guest c;
  struct backend_traits writes;
  struct stack *s;

  o.traits.can_flush = false;
  writes = o.traits;
  o.traits.can_write = o.traits.can_zero = o.traits.can_trim = false;
  o.traits.can_fast_zero = false;
  o.traits.fua = FUA_NONE;
  s = stack_new (&o);
  guest_join (&c, s, &writes);
  assert_int_equal (guest_put (&c.client, 0, 4096, 1, true), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_int_equal (guest_put (&c.client, 4096, 4096, 2, false), 0);
  assert_int_equal (request_flush (&c.client), 0);
  assert_true (stack_keeps (s, 4096, 4096, 2));
  guest_leave (&c);
  stack_free (s);
}

/* All that a client may ask by a connection, beside the first. */
static void
use (struct stack *s, struct guest *c, bool durable)
{
  struct client *mine = &c->client;

  assert_int_equal (guest_put (mine, 0, 4096, 1, true), 0);
  assert_true (!durable || stack_keeps (s, 0, 4096, 1));
  assert_int_equal (guest_put (mine, 8192, 4096, 2, false), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 8192, 4096, 2));
  assert_int_equal (stack_write (s, 64 * KiB, 4096, 3, false), 0);
  assert_int_equal (request_flush (mine), 0);
  assert_true (stack_keeps (s, 64 * KiB, 4096, 3));
  if (c->backend.traits.can_trim)
    assert_int_equal (request_trim (mine, 4096, MiB, true), 0);
  if (c->backend.traits.can_zero) {
    assert_int_equal (request_zero (mine, 4096, 2 * MiB, ZERO_FUA), 0);
    assert_true (!durable || stack_keeps (s, 2 * MiB, 4096, 0));
  }
}

/* Laws 1, 2 and 22, multi-conn and not. */
static void
test_connections_that_can_do_less (void **state)
{
  static const struct {
    enum fua_kind fua;
    bool can_flush;
  } kinds[] = { { FUA_NATIVE, true },
                { FUA_NATIVE, false },
                { FUA_EMULATED, true },
                { FUA_NONE, true },
                { FUA_NONE, false } };
  struct stack_options o = stack_options (SIZE);
  struct guest c;
  struct stack *s;
  unsigned i;

  for (i = 0; i < 4 * ARRAY_LEN (kinds); ++i) {
    struct backend_traits t = o.traits;

    t.fua = kinds[i / 4].fua;
    t.can_flush = kinds[i / 4].can_flush;
    t.maximum = 8192;
    t.can_zero = t.can_fast_zero = t.can_trim = i & 1;
    t.can_multi_conn = o.traits.can_multi_conn = i & 2;
    s = stack_new (&o);
    guest_join (&c, s, &t);
    use (s, &c, t.can_flush || t.fua != FUA_NONE);
    guest_leave (&c);
    stack_free (s);
  }
}

/* Law 22: writes of two connections wait side by side.  That which goes first
 * can neither flush nor FUA.
 */
static void
test_batches_are_of_one_way (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct request requests[3];
  struct guest c;
  struct stack *s;
  unsigned i;

  o.settings.depth = 1;
  less.fua = FUA_NONE;
  less.can_flush = false;
  s = stack_new (&o);
  guest_join (&c, s, &less);
  s->export->submit.policy.usual[0].latency =
      s->export->submit.policy.usual[1].latency =
          UINT64_C (100000000000000); /* so they wait */
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  for (i = 0; i < 3; ++i) {
    requests[i] = (struct request){ .s = s,
                                    .client = i == 1 ? &c.client : NULL,
                                    .what = DO_FUA,
                                    .offset = MiB + (i > 0) * i * 4096,
                                    .len = 4096,
                                    .value = 1 };
    if (i == 0)
      requests[i].offset = 0;
    request_start (&requests[i]);
    if (i == 0)
      array_wait_gate (s->array, ARRAY_WRITE, 1);
    else
      wait_until (stack_waiting (s) == i);
  }
  array_open (s->array, ARRAY_WRITE);
  for (i = 0; i < 3; ++i)
    assert_int_equal (request_join (&requests[i]), 0);
  assert_true (stack_keeps (s, MiB + 8192, 4096, 1));
  guest_leave (&c);
  stack_free (s);
}

/* Law 22: they write what others were promised to be durable after a flush. */
static void
test_helpers_write_by_one_that_can_make_durable (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct guest c;
  struct stack *s;

  less.fua = FUA_NONE;
  less.can_flush = false;
  s = stack_new (&o);
  guest_join (&c, s, &less);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_int_equal (writeback_drain (s->export, NULL), 0);
  assert_ptr_equal (s->array->writer[0], &s->backends[0]);
  assert_true (stack_keeps (s, 0, 4096, 1));
  guest_leave (&c);
  stack_free (s);
}

/* Law 4: what a failed flush may have cost is zeroed again, by writing. */
static void
test_zeroes_are_redone_without_zero (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct guest zeroes;
  struct stack *s;

  less.can_zero = less.can_fast_zero = false;
  s = stack_new (&o);
  stack_leave (s, 0);
  s->backends[0].traits = less;
  stack_come (s, 0);
  s->array->forgets = true;
  guest_join (&zeroes, s, &o.traits);
  assert_int_equal (request_zero (&zeroes.client, 256 * KiB, 0, 0), 0);
  guest_leave (&zeroes);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (request_flush (s->client), EIO);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 256 * KiB, 0));
  stack_free (s);
}

/* Law 4: the same by a connection that can only FUA, after which there is
 * nothing for a flush to cover.
 */
static void
test_zeroes_are_redone_without_flush (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits less = o.traits;
  struct guest zeroes;
  struct stack *s;

  less.can_flush = false;
  s = stack_new (&o);
  stack_leave (s, 0);
  s->backends[0].traits = less;
  stack_come (s, 0);
  s->array->forgets = true;
  guest_join (&zeroes, s, &o.traits);
  assert_int_equal (request_zero (&zeroes.client, 256 * KiB, 0, 0), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  guest_leave (&zeroes);
  assert_false (stack_keeps (s, 0, 256 * KiB, 0));
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 256 * KiB, 0));
  stack_free (s);
}

/* ---- multi-conn that changes ---- */

/* Law 17: two caches over one disk, of which one holds data back, would lose
 * what the other made durable.
 */
static void
test_one_cache_though_multi_conn_changes (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits single = o.traits;
  struct open_result result;
  struct guest c;
  struct stack *s;

  single.can_multi_conn = false;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_int_equal (guest_open (&c, s, &single, false, &result), 0);
  assert_int_equal (guest_get (&c.client, 0), 1);
  assert_int_equal (guest_put (&c.client, 0, 4096, 2, true), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 2));
  assert_ptr_equal (result.export, s->export);
  guest_leave (&c);
  stack_free (s);
}

/* Law 2: one that ended when others' flushes covered it. */
static void
test_flush_after_multi_conn_has_changed (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits single = o.traits;
  struct guest gone, c;
  struct stack *s;

  o.settings.mode = MODE_PROMPT;
  single.can_multi_conn = false;
  s = stack_new (&o);
  guest_join (&gone, s, &o.traits);
  assert_int_equal (guest_put (&gone.client, 0, 4096, 1, false), 0);
  guest_leave (&gone);
  assert_int_equal (flushes (s), 0);
  s->backends[0].traits.can_multi_conn = false; /* covers its own as well */
  guest_join (&c, s, &single);
  assert_int_equal (guest_put (&c.client, 8192, 4096, 2, false), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 1));
  assert_true (stack_keeps (s, 8192, 4096, 2));
  guest_leave (&c);
  stack_free (s);
}

/* Law 17: over a serial stack there are two caches. */
static void
test_two_caches_hold_nothing_back (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits single = o.traits;
  struct open_result result;
  struct guest c;
  struct stack *s;

  o.serial = true;
  single.can_multi_conn = false;
  s = stack_new (&o);
  assert_int_equal (guest_open (&c, s, &single, false, &result), 0);
  assert_ptr_not_equal (result.export, s->export);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_true (stack_sees (s, 0, 4096, 1));
  assert_int_equal (guest_put (&c.client, 0, 4096, 2, false), 0);
  assert_int_equal (request_flush (&c.client), 0);
  assert_int_equal (request_flush (s->client), 0);
  assert_true (stack_keeps (s, 0, 4096, 2));
  export_let_go (s->export);
  guest_leave (&c);
  stack_free (s);
}

/* Law 18: bytes that were overwritten past a cache that no connection used. */
static void
test_idle_cache_keeps_nothing_that_another_overwrites (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits single = o.traits;
  struct open_result result;
  struct guest shared, c;
  struct stack *s;
  struct export *e;

  single.can_multi_conn = false;
  s = stack_new (&o); /* of another name than the rest */
  e = s->export;
  assert_int_equal (
      export_open ("other", false, true, &o.traits, true, &result), 0);
  array_connect (s->array, &shared.backend);
  guest_come (&shared, result.export);
  assert_int_not_equal (guest_get (&shared.client, 0), 9);
  guest_leave (&shared);
  assert_int_equal (export_open ("other", false, false, &single, true, &result),
                    0);
  array_connect (s->array, &c.backend);
  guest_come (&c, result.export);
  assert_int_equal (guest_put (&c.client, 0, 4096, 9, true), 0);
  guest_leave (&c);
  assert_int_equal (
      export_open ("other", false, true, &o.traits, true, &result), 0);
  guest_come (&shared, result.export);
  assert_int_equal (guest_get (&shared.client, 0), 9);
  guest_leave (&shared);
  assert_ptr_equal (s->export, e);
  stack_free (s);
}

/* ---- siblings ---- */

/* Law 18: what a sibling holds is written before the new connection reads; its
 * own connections may end meanwhile, and a new one find another size.
 */
static void
test_sibling_is_there_until_it_is_let_go (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct backend_traits larger = o.traits;
  struct open_result tls, plain;
  struct stack *s;

  larger.size *= 2;
  s = stack_new (&o);
  s->export->flushes = 77; /* by which it is known */
  assert_int_equal (export_open ("export", true, true, &o.traits, true, &tls),
                    0);
  assert_ptr_equal (tls.siblings[0], s->export);
  assert_int_equal (tls.nr_siblings, 1);
  export_end_writer (s->export);
  stack_leave (s, 0);
  export_close (s->export);
  assert_int_equal (export_open ("export", false, true, &larger, true, &plain),
                    0);
  assert_ptr_equal (plain.export, s->export);
  assert_int_equal (s->export->flushes, 77);
  export_let_go (s->export);
  export_let_go (tls.export); /* it is the sibling of the other */
  export_end_writer (tls.export);
  export_close (tls.export);
  s->export = plain.export;
  stack_come (s, 0);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_flush_covers_a_write_by_a_connection_that_ends),
    cmocka_unit_test (test_connection_that_ends_is_flushed),
    cmocka_unit_test (test_connection_that_owes_nothing_is_not_flushed),
    cmocka_unit_test (test_connection_that_ends_and_fails),
    cmocka_unit_test (test_last_connection_that_can_flush),
    cmocka_unit_test (test_fua_write_after_a_read_only_connection),
    cmocka_unit_test (test_connections_that_can_do_less),
    cmocka_unit_test (test_batches_are_of_one_way),
    cmocka_unit_test (test_helpers_write_by_one_that_can_make_durable),
    cmocka_unit_test (test_zeroes_are_redone_without_flush),
    cmocka_unit_test (test_zeroes_are_redone_without_zero),
    cmocka_unit_test (test_one_cache_though_multi_conn_changes),
    cmocka_unit_test (test_flush_after_multi_conn_has_changed),
    cmocka_unit_test (test_two_caches_hold_nothing_back),
    cmocka_unit_test (test_idle_cache_keeps_nothing_that_another_overwrites),
    cmocka_unit_test (test_sibling_is_there_until_it_is_let_go),
  };

  return cmocka_run_group_tests_name ("connections", tests, NULL, NULL);
}
