/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the warm list over the array backend: what is listed, and what
 * is fetched of a list, in which order, and when not.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "request/warm.h"
#include "stack.h"

#define SIZE (16 * MiB)
#define PAGE 4096

static struct stack *
setup_memory (uint64_t memory)
{
  struct stack_options o = stack_options (SIZE);

  o.memory = memory;
  o.settings.fill = PAGE;
  return stack_new (&o);
}

static struct stack *
setup (void)
{
  return setup_memory (64 * MiB);
}

/* Starts with a list of these lines. */
static void
start (const char *lines)
{
  const char *first = "version 1\nexport plain 16777216 4096 =export\n";
  char *text = malloc (strlen (first) + strlen (lines) + 20), why[200];
  size_t len;

  must (text != NULL);
  len = sprintf (text, "%s%s", first, lines);
  len += sprintf (text + len, "end %08x\n", crc32c (0, text, len));
  must (warm_start (text, len, why, sizeof why) == 0);
}

static struct warm_progress
progress (void)
{
  return warm_progress ("export", false);
}

static bool
has_ended (void)
{
  warm_tick ();
  return progress ().state != WARM_LOADING;
}

/* Fetches all of the list. */
static void
load (struct stack *s)
{
  warm_begin (s->export);
  wait_until (has_ended ());
}

static void
end (struct stack *s)
{
  for (enum array_op op = 0; op < ARRAY_OPS; ++op)
    array_open (s->array, op);
  atomic_store (&registry.stopping, true);
  wait_until (has_ended ());
  wait_until (s->export->keepers == 0);
  warm_stop ();
  stack_free (s);
}

static void
read_page (struct stack *s, uint64_t page)
{
  uint8_t bytes[PAGE];

  must (request_read (s->client, bytes, sizeof bytes, page * PAGE) == 0);
  must (array_sees (s->array, page * PAGE, bytes, sizeof bytes));
}

static struct array_call
read_call (struct stack *s, unsigned n)
{
  return array_call (s->array, ARRAY_READ, n);
}

/* All heats are fetched, in one call each. */
static void
test_hottest_first (void **state)
{
  struct stack *s = setup ();

  start ("4 0 100+2 8 30\n3 0 7\n0 0 200+3\n");
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  warm_begin (s->export);
  warm_tick ();
  array_wait_gate (s->array, ARRAY_READ, 5);
  array_open (s->array, ARRAY_READ);
  wait_until (has_ended ());
  assert_int_equal (progress ().state, WARM_DONE);
  assert_int_equal (progress ().listed, 8 * PAGE);
  assert_int_equal (progress ().fetched, 8 * PAGE);
  assert_int_equal (stack_calls (s, ARRAY_READ), 5);

  read_page (s, 100);
  read_page (s, 101);
  read_page (s, 110);
  read_page (s, 141);
  read_page (s, 7);
  read_page (s, 202);
  assert_int_equal (stack_calls (s, ARRAY_READ), 5);
  end (s);
}

/* A run of 3 MiB is twelve reads; what is cached is not read again. */
static void
test_large_runs (void **state)
{
  struct stack *s = setup ();
  uint64_t before;

  start ("4 0 0+768\n");
  read_page (s, 767);
  before = stack_bytes (s, ARRAY_READ);
  load (s);
  assert_int_equal (progress ().state, WARM_DONE);
  assert_int_equal (stack_bytes (s, ARRAY_READ) - before, 767 * PAGE);
  assert_int_equal (stack_calls (s, ARRAY_READ), 1 + 12);
  end (s);
}

static char *
text_of (struct stack *s)
{
  char *text = warm_text ();

  must (text != NULL);
  must (strncmp (text, "version 1\n", 10) == 0);
  (void) s;
  return text;
}

/* Pages that were used again are hotter than those that were read once; all are
 * listed while there is room for all.
 */
static void
test_list_of_a_cache_with_room (void **state)
{
  struct stack *s = setup_memory (16 * MiB);
  unsigned i, round;
  char *text;

  for (i = 0; i < 1000; ++i) {
    read_page (s, 2000 + i);
    if (i % 200 == 199)
      for (round = 0; round < 8; ++round)
        read_page (s, round);
  }
  text = text_of (s);
  assert_non_null (strstr (text, "export plain 16777216 4096 =export\n"));
  assert_non_null (strstr (text, "\n3 0 0+8\n"));
  assert_non_null (strstr (text, "\n0 0 2000+1000\n"));
  free (text);
  end (s);
}

/* A full cache does not list pages without a second use. */
static void
test_list_of_a_full_cache (void **state)
{
  struct stack *s = setup_memory (4 * MiB);
  unsigned i, round;
  char *text;

  for (i = 0; i < 2000; ++i) {
    read_page (s, 2000 + i);
    if (i % 100 == 99)
      for (round = 0; round < 8; ++round)
        read_page (s, round);
  }
  text = text_of (s);
  assert_non_null (strstr (text, " 0+8\n"));
  assert_null (strstr (text, "\n0 0 "));
  free (text);
  end (s);
}

/* A server fetches the pages that the one before it listed. */
static void
test_restart (void **state)
{
  struct stack *s = setup ();
  char *text, why[200];
  unsigned i, calls;

  for (i = 0; i < 1000; ++i)
    read_page (s, 3 * i);
  text = text_of (s);
  end (s);

  s = setup ();
  must (warm_start (text, strlen (text), why, sizeof why) == 0);
  load (s);
  assert_int_equal (progress ().state, WARM_DONE);
  calls = stack_calls (s, ARRAY_READ);
  for (i = 0; i < 1000; ++i)
    read_page (s, 3 * i);
  assert_int_equal (stack_calls (s, ARRAY_READ), calls);
  end (s);
}

/* Fetched pages are as hot as they were: they are listed so, and stay where
 * others are evicted.
 */
static void
test_heat_is_kept (void **state)
{
  struct stack *s = setup_memory (4 * MiB);
  unsigned i, calls;
  char *text;

  start ("4 0 0+20\n2 0 30+20\n0 0 100\n");
  load (s);
  text = text_of (s);
  assert_non_null (strstr (text, "\n4 0 0+20\n"));
  assert_non_null (strstr (text, "\n2 0 30+20\n"));
  free (text);
  for (i = 0; i < 2000; ++i)
    read_page (s, 2000 + i);
  calls = stack_calls (s, ARRAY_READ);
  for (i = 0; i < 20; ++i)
    read_page (s, i);
  assert_int_equal (stack_calls (s, ARRAY_READ), calls);
  end (s);
}

/* No page is evicted for the list. */
static void
test_full (void **state)
{
  struct stack *s = setup_memory (4 * MiB);
  unsigned i, calls;

  for (i = 0; i < 100; ++i)
    read_page (s, 3000 + i);
  start ("4 0 0+2900\n");
  load (s);
  assert_int_equal (progress ().state, WARM_FULL);
  assert_true (progress ().fetched > 0);
  assert_int_equal (atomic_load (&s->export->pc.counts->evicted), 0);
  calls = stack_calls (s, ARRAY_READ);
  for (i = 0; i < 100; ++i)
    read_page (s, 3000 + i);
  assert_int_equal (stack_calls (s, ARRAY_READ), calls);
  end (s);
}

/* A backend that fails is left alone, and a client gets its own answer. */
static void
test_failing_backend (void **state)
{
  struct stack *s = setup ();
  char lines[2000] = "4 0";
  uint8_t bytes[PAGE];
  unsigned i;

  for (i = 0; i < 40; ++i)
    strcat (lines, " 9");
  strcat (lines, "\n");
  start (lines);
  array_fail (s->array, ARRAY_READ, 0, 1000, EIO);
  load (s);
  assert_int_equal (progress ().state, WARM_FAILED);
  assert_int_equal (request_read (s->client, bytes, PAGE, 0), EIO);
  array_heal (s->array);
  read_page (s, 0);
  end (s);
}

/* The last connection leaves: the rest waits for the next one, and is not lost
 * from the list that is made meanwhile.
 */
static void
test_connection_leaves (void **state)
{
  struct stack *s = setup ();
  char *text;

  start ("4 0 0+768\n3 0 3000+200\n");
  stack_leave (s, 0);
  warm_begin (s->export);
  wait_until (has_ended ());
  assert_int_equal (progress ().state, WARM_WAITING);
  text = text_of (s);
  assert_non_null (strstr (text, "\n4 0 0+768\n3 0 3000+200\n"));
  free (text);
  stack_come (s, 0);
  load (s);
  assert_int_equal (progress ().state, WARM_DONE);
  assert_int_equal (progress ().fetched, 968 * PAGE);
  end (s);
}

/* The export has become smaller: pages past its end are passed over. */
static void
test_smaller_export (void **state)
{
  struct stack *s = setup ();

  start ("4 0 4094+10\n3 0 5000\n2 0 5\n");
  load (s);
  assert_int_equal (progress ().state, WARM_DONE);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 3 * PAGE);
  read_page (s, 4095);
  read_page (s, 5);
  assert_int_equal (stack_bytes (s, ARRAY_READ), 3 * PAGE);
  end (s);
}

static unsigned
reads_in_flight (struct stack *s)
{
  unsigned n;

  pthread_mutex_lock (&s->array->lock);
  n = s->array->now[ARRAY_READ];
  pthread_mutex_unlock (&s->array->lock);
  return n;
}

/* While clients need the backend there is one run in flight, of 256 KiB. */
static void
test_beside_clients (void **state)
{
  struct stack *s = setup ();
  unsigned i;

  start ("4 0 0+2000\n");
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  warm_begin (s->export);
  stats_add (&s->export->stats, COUNT_MISSES, 1);
  for (i = 0; i < 5; ++i) {
    warm_tick ();
    stats_add (&s->export->stats, COUNT_MISSES, 1);
  }
  array_wait_gate (s->array, ARRAY_READ, 1);
  assert_int_equal (reads_in_flight (s), 1);
  assert_int_equal (read_call (s, 0).len, 256 * KiB);

  /* They do not need it any more. */
  warm_tick ();
  warm_tick ();
  array_wait_gate (s->array, ARRAY_READ, 4);
  array_open (s->array, ARRAY_READ);
  wait_until (has_ended ());
  end (s);
}

/* The server is told to stop: no further run begins. */
static void
test_stop (void **state)
{
  struct stack *s = setup ();

  start ("4 0 0+3000\n");
  array_shut (s->array, ARRAY_READ, GATE_BEFORE);
  warm_begin (s->export);
  warm_tick ();
  array_wait_gate (s->array, ARRAY_READ, 4); /* as many as have buffers */
  atomic_store (&registry.stopping, true);
  array_open (s->array, ARRAY_READ);
  wait_until (has_ended ());
  wait_until (s->export->keepers == 0);
  assert_int_equal (progress ().state, WARM_WAITING);
  assert_true (stack_calls (s, ARRAY_READ) <= 16);
  end (s);
}

/* Exports that no client opens are kept in the list. */
static void
test_other_exports_stay (void **state)
{
  struct stack *s = setup ();
  char *text;

  start ("4 0 0+3\n");
  read_page (s, 9);
  text = text_of (s);
  assert_non_null (strstr (text, "\n4 0 0+3\n"));
  assert_null (strstr (text, "0 0 9"));
  free (text);
  load (s);
  text = text_of (s);
  assert_non_null (strstr (text, "\n4 0 0+3\n"));
  assert_non_null (strstr (text, "\n0 0 9\n"));
  free (text);
  end (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_hottest_first),
    cmocka_unit_test (test_large_runs),
    cmocka_unit_test (test_list_of_a_cache_with_room),
    cmocka_unit_test (test_list_of_a_full_cache),
    cmocka_unit_test (test_restart),
    cmocka_unit_test (test_heat_is_kept),
    cmocka_unit_test (test_full),
    cmocka_unit_test (test_failing_backend),
    cmocka_unit_test (test_connection_leaves),
    cmocka_unit_test (test_smaller_export),
    cmocka_unit_test (test_beside_clients),
    cmocka_unit_test (test_stop),
    cmocka_unit_test (test_other_exports_stay),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
