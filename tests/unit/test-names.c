/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of names: a client opens one export after another, each of another
 * name (law 23).
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "guest.h"

#define SIZE MiB

/* A client opens an export, and reads so many bytes. */
static int
visit (struct stack *s, const char *name, uint32_t bytes)
{
  const struct backend_traits *t = &s->backends[0].traits;
  struct open_result result;
  uint8_t buf[4096];
  struct guest g;
  int err = export_open (name, false, true, t, true, &result);

  if (err != 0)
    return err;
  array_connect (s->array, &g.backend);
  guest_come (&g, result.export);
  if (bytes > 0)
    err = request_read (&g.client, buf, bytes, 0);
  guest_leave (&g);
  return err;
}

static int
visit_number (struct stack *s, unsigned number, uint32_t bytes)
{
  char name[32];

  snprintf (name, sizeof name, "disk%u", number);
  return visit (s, name, bytes);
}

static unsigned
count_exports (void)
{
  struct export *e;
  unsigned n = 0;

  LOCK_FOR_SCOPE (&registry.lock);
  for (e = registry.first; e; e = e->next)
    n++;
  return n;
}

static struct stack *
stack_with_memory (uint64_t memory)
{
  struct stack_options o = stack_options (SIZE);

  o.memory = memory;
  return stack_new (&o);
}

/* A client that only asks for names costs the others nothing. */
static void
test_names_without_requests (void **state)
{
  struct stack *s = stack_with_memory (MiB);
  uint64_t used;
  unsigned i;

  guest_get (s->client, 0);
  used = memory_used (&registry.memory);
  for (i = 0; i < 9000; ++i)
    assert_int_equal (visit_number (s, i, 0), 0);
  assert_int_equal (count_exports (), 1);
  assert_int_equal (memory_used (&registry.memory), used);
  stack_free (s);
}

/* Idle exports are freed when memory is wanted: none is refused. */
static void
test_names_with_requests (void **state)
{
  struct stack *s = stack_with_memory (2 * MiB);
  unsigned i;

  for (i = 0; i < 3000; ++i)
    assert_int_equal (visit_number (s, i, 512), 0);
  assert_true (count_exports () < 200);
  stack_free (s);
}

/* Exports that only take memory go before pages that a client uses. */
static void
test_pages_outlive_empty_exports (void **state)
{
  struct stack *s = stack_with_memory (MiB);
  unsigned i, reads;

  for (i = 0; i < 300; ++i) {
    assert_int_equal (visit_number (s, i, 512), 0);
    guest_get (s->client, 0);
  }
  reads = array_calls (s->array, ARRAY_READ);
  guest_get (s->client, 0);
  assert_int_equal (array_calls (s->array, ARRAY_READ), reads);
  stack_free (s);
}

/* At most 1,000 that nothing uses are kept. */
static void
test_idle_exports_are_bounded (void **state)
{
  struct stack *s = stack_with_memory (64 * MiB);
  unsigned i;

  for (i = 0; i < 1200; ++i)
    assert_int_equal (visit_number (s, i, 512), 0);
  assert_int_equal (count_exports (), 1001);
  stack_free (s);
}

static unsigned freed;

static void
note_freed (struct export *e)
{
  freed++;
}

/* The first 100 keep their label until they are freed, and then hand on what
 * they have counted.
 */
static void
test_labels_are_bounded (void **state)
{
  struct stack *s = stack_with_memory (64 * MiB);
  struct export *e;
  unsigned i, labelled = 0;

  registry.note_freed = note_freed;
  freed = 0;
  for (i = 0; i < 150; ++i)
    assert_int_equal (visit_number (s, i, 512), 0);
  for (e = registry.first; e; e = e->next)
    labelled += e->labelled;
  assert_int_equal (labelled, 100);
  assert_int_equal (registry.labelled, 100);
  assert_int_equal (freed, 0);
  for (; i < 1200; ++i)
    assert_int_equal (visit_number (s, i, 512), 0);
  assert_int_equal (freed, 200);
  assert_int_equal (registry.labelled, 100);
  registry.note_freed = NULL;
  stack_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_names_without_requests),
    cmocka_unit_test (test_names_with_requests),
    cmocka_unit_test (test_pages_outlive_empty_exports),
    cmocka_unit_test (test_idle_exports_are_bounded),
    cmocka_unit_test (test_labels_are_bounded),
  };

  return cmocka_run_group_tests_name ("names", tests, NULL, NULL);
}
