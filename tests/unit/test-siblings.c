/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of two caches over one disk, of plain clients and of TLS clients.
 * The stack's own client is plain and stays.
 */

#include <config.h>

#include <errno.h>

#include "guest.h"

#define SIZE (8 * MiB)

/* A TLS client. */
static void
come_by_tls (struct guest *g, struct stack *s,
             const struct backend_traits *traits)
{
  struct open_result result;
  unsigned i;

  must (export_open ("export", true, true, traits, traits->can_write,
                     &result) == 0);
  must (result.export != s->export);
  array_connect (s->array, &g->backend);
  g->backend.traits = *traits;
  guest_come (g, result.export);
  for (i = 0; i < result.nr_siblings; ++i)
    export_let_go (result.siblings[i]);
}

/* Law 17: and not for ever. */
static void
test_holds_again_when_the_other_has_left (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct guest g;

  come_by_tls (&g, s, &s->backends[0].traits);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_true (stack_sees (s, 0, 4096, 1));
  guest_leave (&g);
  assert_int_equal (stack_write (s, 0, 4096, 2, false), 0);
  assert_false (stack_sees (s, 0, 4096, 2));
  come_by_tls (&g, s, &s->backends[0].traits);
  assert_int_equal (stack_write (s, 4096, 4096, 3, false), 0);
  assert_true (stack_sees (s, 4096, 4096, 3));
  guest_leave (&g);
  stack_free (s);
}

/* Two TLS clients: the first that leaves ends nothing. */
static void
test_holds_nothing_while_another_stays (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct guest g, h;

  come_by_tls (&g, s, &s->backends[0].traits);
  come_by_tls (&h, s, &s->backends[0].traits);
  guest_leave (&g);
  assert_int_equal (stack_write (s, 0, 4096, 1, false), 0);
  assert_true (stack_sees (s, 0, 4096, 1));
  guest_leave (&h);
  stack_free (s);
}

/* Law 3: what waits for the next TLS client may not be overtaken. */
static void
test_holds_nothing_while_the_other_holds (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct guest g;

  come_by_tls (&g, s, &s->backends[0].traits);
  assert_int_equal (guest_put (&g.client, 0, 4096, 1, false), 0);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  guest_leave (&g);
  assert_int_equal (pagecache_amounts (&g.client.export->pc).dirty, 4096);
  assert_int_equal (stack_write (s, 8192, 4096, 2, false), 0);
  assert_true (stack_sees (s, 8192, 4096, 2));
  pagecache_clear (&g.client.export->pc, 0, SIZE, CLEAR_UNKNOWN);
  stack_free (s);
}

/* Law 17: after the writer has left its bytes are read, in strict sequence. */
static void
test_reads_what_the_other_wrote (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct guest g;

  come_by_tls (&g, s, &s->backends[0].traits);
  guest_get (s->client, 0);
  assert_int_equal (guest_put (&g.client, 0, 4096, 9, true), 0);
  guest_leave (&g);
  assert_int_equal (guest_get (s->client, 0), 9);
  stack_free (s);
}

/* A reader has overwritten nothing. */
static void
test_keeps_its_pages_when_a_reader_leaves (void **state)
{
  struct stack *s = stack_sized (SIZE);
  struct backend_traits reads = s->backends[0].traits;
  struct guest g;
  unsigned calls;

  reads.can_write = reads.can_zero = reads.can_fast_zero = reads.can_trim =
      false;
  come_by_tls (&g, s, &reads);
  guest_get (s->client, 0);
  guest_leave (&g);
  calls = array_calls (s->array, ARRAY_READ);
  guest_get (s->client, 0);
  assert_int_equal (array_calls (s->array, ARRAY_READ), calls);
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_holds_again_when_the_other_has_left),
    cmocka_unit_test (test_holds_nothing_while_another_stays),
    cmocka_unit_test (test_holds_nothing_while_the_other_holds),
    cmocka_unit_test (test_reads_what_the_other_wrote),
    cmocka_unit_test (test_keeps_its_pages_when_a_reader_leaves),
  };

  return cmocka_run_group_tests_name ("siblings", tests, NULL, NULL);
}
