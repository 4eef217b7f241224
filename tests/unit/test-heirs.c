/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of what the backend refused of connections that do not share, and
 * that have left: the cache that inherits it, and which connections join that.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>

#include "guest.h"

#define SIZE  (8 * MiB)
#define BYTES 4096

/* No two connections share. */
static struct stack *
stack_apart (bool serial)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;

  o.traits.can_multi_conn = false;
  o.serial = serial;
  s = stack_new (&o);
  stack_set_backend (s, 0, MiB, 9);
  return s;
}

/* Another export than the stack's own, over the same disk. */
static void
come (struct guest *g, struct stack *s, bool can_write)
{
  struct backend_traits traits = s->backends[0].traits;
  struct open_result result;

  if (!can_write)
    traits.can_write = traits.can_zero = traits.can_fast_zero =
        traits.can_trim = false;
  must (export_open ("disk", false, false, &traits, can_write, &result) == 0);
  must (result.nr_siblings == 0);
  array_connect (s->array, &g->backend);
  g->backend.traits = traits;
  guest_come (g, result.export);
}

static bool
is_one_cache (const struct guest *a, const struct guest *b)
{
  return a->client.export == b->client.export;
}

static int64_t
held (const struct guest *g)
{
  return pagecache_amounts (&g->client.export->pc).held;
}

static void
refuse (struct stack *s)
{
  array_fail (s->array, ARRAY_FLUSH, 0, UINT_MAX, EIO);
}

/* The backend works again, and has lost what was not durable. */
static void
recover (struct stack *s)
{
  array_heal (s->array);
  array_forget (s->array);
}

/* A connection leaves what the backend refused, and the backend recovers. */
static void
leave_refused (struct stack *s, struct guest *g)
{
  refuse (s);
  guest_leave (g);
  recover (s);
}

/* Law 10: each of two connections leaves data that was refused. */
static void
test_next_connection_has_the_data_of_two (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c;

  come (&a, s, true);
  come (&b, s, true);
  assert_false (is_one_cache (&a, &b));
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  assert_int_equal (guest_put (&b.client, BYTES, BYTES, 2, false), 0);
  refuse (s);
  guest_leave (&a);
  guest_leave (&b);
  recover (s);
  come (&c, s, true);
  assert_int_equal (guest_get (&c.client, 0), 1);
  assert_int_equal (guest_get (&c.client, BYTES), 2);
  assert_int_equal (writeback_flush (c.client.export, c.client.own), 0);
  assert_true (stack_keeps (s, 0, BYTES, 1));
  assert_true (stack_keeps (s, BYTES, BYTES, 2));
  guest_leave (&c);
  stack_free (s);
}

/* Law 3: a connection that stays writes it. */
static void
test_writer_that_stays_inherits (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  assert_int_equal (writeback_flush (b.client.export, b.client.own), 0);
  assert_true (stack_keeps (s, 0, BYTES, 1));
  guest_leave (&b);
  stack_free (s);
}

/* One that can only read is no help: the next one writes it. */
static void
test_reader_does_not_inherit (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c;

  come (&a, s, true);
  come (&b, s, false);
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  assert_int_equal (held (&b), 0);
  come (&c, s, true);
  assert_false (is_one_cache (&b, &c));
  assert_int_equal (guest_get (&c.client, 0), 1);
  guest_leave (&b);
  assert_int_equal (writeback_flush (c.client.export, c.client.own), 0);
  guest_leave (&c);
  stack_free (s);
}

/* Data that the heir holds itself stays. */
static void
test_own_bytes_of_the_heir_stay (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (guest_put (&a.client, 0, 4 * BYTES, 1, false), 0);
  assert_int_equal (guest_put (&b.client, BYTES, 512, 2, false), 0);
  leave_refused (s, &a);
  assert_int_equal (held (&b), 4 * BYTES);
  assert_int_equal (guest_get (&b.client, 0), 1);
  assert_int_equal (guest_get (&b.client, BYTES), 2);
  assert_int_equal (guest_get (&b.client, BYTES + 512), 1);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (writeback_flush (b.client.export, b.client.own), EIO);
  assert_int_equal (writeback_flush (b.client.export, b.client.own), 0);
  assert_true (stack_keeps (s, BYTES, 512, 2));
  assert_true (stack_keeps (s, BYTES + 512, 512, 1));
  guest_leave (&b);
  stack_free (s);
}

/* A zero is done again round the blocks that were written in it. */
static void
test_zeroes_are_inherited (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (guest_get (&b.client, BYTES), 9); /* is cached */
  assert_int_equal (request_zero (&a.client, 64 * KiB, 0, 0), 0);
  assert_int_equal (guest_put (&a.client, 8 * BYTES, BYTES, 1, false), 0);
  leave_refused (s, &a);
  assert_int_equal (guest_get (&b.client, 0), 0);
  assert_int_equal (guest_get (&b.client, BYTES), 0);
  assert_int_equal (guest_get (&b.client, 8 * BYTES), 1);
  assert_int_equal (writeback_flush (b.client.export, b.client.own), 0);
  assert_true (stack_keeps (s, 0, 8 * BYTES, 0));
  assert_true (stack_keeps (s, 8 * BYTES, BYTES, 1));
  assert_true (stack_keeps (s, 9 * BYTES, 64 * KiB - 9 * BYTES, 0));
  guest_leave (&b);
  stack_free (s);
}

/* Where the heir has no room for a zero, it stays; it is moved later. */
static void
test_zero_waits_for_a_slot (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c;
  unsigned i;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (request_zero (&a.client, BYTES, SIZE - BYTES, 0), 0);
  assert_int_equal (guest_put (&a.client, MiB, BYTES, 1, false), 0);
  for (i = 0; i < ZEROES_MAX; ++i)
    assert_int_equal (request_zero (&b.client, 512, i * KiB, 0), 0);
  refuse (s);
  guest_leave (&a);
  assert_int_equal (held (&b), BYTES);
  assert_int_equal (zeroes_bytes (&b.client.export->pc.zeroes),
                    ZEROES_MAX * 512);
  recover (s);
  assert_int_equal (writeback_flush (b.client.export, b.client.own), 0);
  come (&c, s, true);
  assert_int_equal (guest_get (&c.client, SIZE - BYTES), 0);
  assert_int_equal (writeback_flush (c.client.export, c.client.own), 0);
  assert_true (stack_keeps (s, SIZE - BYTES, BYTES, 0));
  guest_leave (&c);
  guest_leave (&b);
  stack_free (s);
}

/* Law 17: and then each has a cache of its own again. */
static void
test_all_join_the_heir_until_it_is_durable (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c, d;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  come (&c, s, true);
  assert_true (is_one_cache (&b, &c));
  assert_int_equal (guest_put (&b.client, BYTES, BYTES, 2, false), 0);
  assert_int_equal (writeback_flush (c.client.export, c.client.own), 0);
  assert_true (stack_keeps (s, 0, BYTES, 1));
  assert_true (stack_keeps (s, BYTES, BYTES, 2)); /* what B wrote, too */
  assert_int_equal (guest_put (&b.client, BYTES, BYTES, 3, false), 0);
  come (&d, s, true);
  assert_false (is_one_cache (&b, &d));
  guest_leave (&b);
  guest_leave (&c);
  guest_leave (&d);
  stack_free (s);
}

/* Clean pages of the heir may be older than what others have written. */
static void
test_heir_drops_what_it_read (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c;

  come (&a, s, true);
  come (&b, s, true);
  assert_int_equal (guest_get (&b.client, BYTES), 9);
  assert_int_equal (guest_put (&a.client, BYTES, BYTES, 1, true), 0);
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  come (&c, s, true);
  assert_int_equal (guest_get (&c.client, BYTES), 1);
  guest_leave (&c);
  guest_leave (&b);
  stack_free (s);
}

/* One that has a cache of its own, and writes, beside the heir. */
static void
test_heir_drops_what_another_overwrote (void **state)
{
  struct stack *s = stack_apart (false);
  struct guest a, b, c, d;

  come (&a, s, true);
  come (&b, s, true);
  come (&d, s, true);
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  come (&c, s, true);
  assert_int_equal (guest_get (&c.client, BYTES), 9);
  if (is_one_cache (&b, &c))
    guest_put (&d.client, BYTES, BYTES, 2, true);
  else
    guest_put (&b.client, BYTES, BYTES, 2, true);
  guest_leave (is_one_cache (&b, &c) ? &d : &b);
  assert_int_equal (guest_get (&c.client, BYTES), 2);
  guest_leave (is_one_cache (&b, &c) ? &b : &d);
  guest_leave (&c);
  stack_free (s);
}

static unsigned flushes_of_b;

static int (*flush_b) (struct backend *b);

static int
count_flush (struct backend *b)
{
  flushes_of_b++;
  return flush_b (b);
}

/* Laws 2 and 20: over a serial stack only a connection's own client calls it,
 * so what it wrote is written again by the one that flushes.
 */
static void
test_flush_of_several_over_a_serial_stack (void **state)
{
  struct stack *s = stack_apart (true);
  struct guest a, b, c;

  come (&a, s, true);
  come (&b, s, true);
  flush_b = b.backend.flush;
  b.backend.flush = count_flush;
  assert_int_equal (guest_put (&a.client, 0, BYTES, 1, false), 0);
  leave_refused (s, &a);
  come (&c, s, true);
  assert_true (is_one_cache (&b, &c));
  assert_int_equal (guest_put (&b.client, BYTES, BYTES, 2, false), 0);
  flushes_of_b = 0;
  assert_int_equal (writeback_flush (c.client.export, c.client.own), 0);
  assert_true (stack_keeps (s, 0, BYTES, 1));
  assert_true (stack_keeps (s, BYTES, BYTES, 2));
  assert_int_equal (flushes_of_b, 0);
  guest_leave (&b);
  guest_leave (&c);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_next_connection_has_the_data_of_two),
    cmocka_unit_test (test_writer_that_stays_inherits),
    cmocka_unit_test (test_reader_does_not_inherit),
    cmocka_unit_test (test_own_bytes_of_the_heir_stay),
    cmocka_unit_test (test_zeroes_are_inherited),
    cmocka_unit_test (test_zero_waits_for_a_slot),
    cmocka_unit_test (test_all_join_the_heir_until_it_is_durable),
    cmocka_unit_test (test_heir_drops_what_it_read),
    cmocka_unit_test (test_heir_drops_what_another_overwrote),
    cmocka_unit_test (test_flush_of_several_over_a_serial_stack),
  };

  return cmocka_run_group_tests_name ("heirs", tests, NULL, NULL);
}
