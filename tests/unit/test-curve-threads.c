/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the estimated miss ratios when several threads tell of their
 * reads.
 */

#include <config.h>

#include "pagecache/curve.h"
#include "unit.h"

#define PAGES 8192 /* of the cache whose curve is estimated */

static struct curve *
curve_of (size_t pages)
{
  struct curve *c = curve_new (pages);

  assert_non_null (c);
  curve_resize (c, pages);
  return c;
}

#define THREADS 4
#define NOTES   200000

static void
note_many (void *arg)
{
  struct curve *c = arg;
  struct random random = { .state = (uintptr_t) &random };
  uint64_t n, key;

  for (n = 0; n < NOTES; ++n) {
    do
      key = random_below (&random, 8 * PAGES);
    while (!curve_samples (c, key));
    curve_note (c, key, CURVE_MISS);
  }
}

static void
test_threads (void **state)
{
  struct curve *c = curve_of (PAGES);
  struct thread threads[THREADS];
  struct curve_counts counts;
  unsigned i;

  for (i = 0; i < THREADS; ++i)
    thread_start (&threads[i], note_many, c);
  for (i = 0; i < 50; ++i) {
    curve_get (c, &counts);
    curve_resize (c, PAGES / 2 + i * 64);
  }
  for (i = 0; i < THREADS; ++i)
    thread_join (&threads[i]);
  curve_get (c, &counts);
  assert_int_equal (counts.sampled_reads, THREADS * NOTES);
  print_message ("# dropped %llu of %u\n", (unsigned long long) counts.dropped,
                 THREADS * NOTES);
  assert_true (counts.misses[0] > 0);
  curve_free (c);
}

/* Threads that take turns, each with pages of its own. */
#define TELLERS   16
#define OWN_PAGES 6
#define AT_ONCE   4 /* uses in a turn */
#define TURNS     1000

struct teller {
  struct curve *curve;
  struct event may_go, *next;
  struct random random;
  uint64_t keys[OWN_PAGES];
};

static void
take_turn (struct teller *t)
{
  unsigned i;

  for (i = 0; i < AT_ONCE; ++i)
    curve_note (t->curve, t->keys[random_below (&t->random, OWN_PAGES)],
                CURVE_MISS);
}

static void
take_turns (void *arg)
{
  struct teller *t = arg;
  unsigned i;

  for (i = 0; i < TURNS; ++i) {
    must (event_wait_until (&t->may_go, wait_deadline ()));
    take_turn (t);
    event_set (t->next);
  }
}

/* Sampled pages for each, and a curve of all that they are told to. */
static struct curve *
give_pages (struct teller *tellers)
{
  struct curve *c = curve_of (PAGES);
  uint64_t key = 1;
  unsigned i, n;

  memset (tellers, 0, TELLERS * sizeof *tellers);
  for (i = 0; i < TELLERS; ++i) {
    tellers[i].curve = c;
    tellers[i].next = &tellers[(i + 1) % TELLERS].may_go;
    tellers[i].random.state = i + 1;
    for (n = 0; n < OWN_PAGES; ++key)
      if (curve_samples (c, key))
        tellers[i].keys[n++] = key;
  }
  return c;
}

/* The smallest of the simulated caches has room for two thirds of the pages.
 * Pages that the threads use in turn must not seem to be used by one after the
 * other, which would need room for the pages of a few at a time.
 */
static void
test_threads_in_turn (void **state)
{
  struct teller tellers[TELLERS];
  struct thread threads[TELLERS];
  struct curve_counts by_one, by_many;
  struct curve *c = give_pages (tellers);
  unsigned i;

  for (i = 0; i < TELLERS * TURNS; ++i)
    take_turn (&tellers[i % TELLERS]);
  curve_get (c, &by_one);
  curve_free (c);

  c = give_pages (tellers);
  for (i = 0; i < TELLERS; ++i)
    thread_start (&threads[i], take_turns, &tellers[i]);
  event_set (&tellers[0].may_go);
  for (i = 0; i < TELLERS; ++i)
    thread_join (&threads[i]);
  curve_get (c, &by_many);
  curve_free (c);

  print_message ("# %g misses, told by %u threads %g\n", by_one.misses[0],
                 TELLERS, by_many.misses[0]);
  assert_int_equal (by_many.sampled_reads, by_one.sampled_reads);
  assert_int_equal (by_many.dropped, 0);
  assert_between (by_many.misses[0], 0.8 * by_one.misses[0],
                  1.2 * by_one.misses[0]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_threads_in_turn),
  };

  return cmocka_run_group_tests_name ("curve-threads", tests, NULL, NULL);
}
