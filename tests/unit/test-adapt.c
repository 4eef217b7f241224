/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of how the eviction policy adapts: to sizes that change, to what
 * the ghosts say, and with a CLOCK; then at random.
 */

#include <config.h>

#include "policy.h"

/* Ghost hits whose pages are not used after that lose the policy's trust. */
static void
test_ghost_loses_trust (void **state)
{
  struct policy *c = policy_new (1000);
  size_t trusted[2] = { 0, 0 }; /* at the start, at the end */

  /* Pages that are used twice, the second time when they are in the ghost,
   * beside hot ones, for the main queue to have some that are used.
   */
  for (uint64_t i = 0; i < 40000; ++i) {
    policy_use (c, i % 300, ADMIT_READ);
    policy_use (c, 1000 + i, ADMIT_READ);
    if (i < 500 || policy_use (c, 1000 + i - 500, ADMIT_READ))
      continue;
    if (c->index[1000 + i - 500]->entry.queue == EVICT_MAIN) {
      trusted[0] += i < 2000;
      trusted[1] += i >= 38000;
    }
  }
  assert_true (trusted[0] > 1000);
  assert_true (trusted[1] < 2000 / 5);
  assert_int_equal (policy_count (c, 0, 300), 300);
  policy_free (c);
}

static void
test_resize (void **state)
{
  struct policy *c = policy_new_max (1000, 4000);
  uint64_t key = 0;

  for (; key < 2000; ++key)
    policy_use (c, key, ADMIT_READ);
  evict_resize (c->ev, 4000);
  c->capacity = 4000;
  for (; key < 8000; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_int_equal (evict_count (c->ev), 4000);
  assert_int_equal (policy_count (c, 4000, 8000), 4000);

  evict_resize (c->ev, 100);
  while (evict_count (c->ev) > 100)
    assert_non_null (policy_victim (c));
  /* The newest pages are left, and those used once still leave in order. */
  assert_int_equal (policy_count (c, 7900, 8000), 100);
  policy_free (c);
}

/* The ghost of a cache that became much smaller forgets in its new terms. */
static void
test_ghost_after_shrinking (void **state)
{
  struct policy *c = policy_new_max (16, 40000);
  size_t wrong = 0;

  for (unsigned round = 0; round < 2000; ++round)
    for (uint64_t key = 0; key < 60; ++key) {
      policy_use (c, key, ADMIT_READ);
      wrong += c->index[key]->entry.queue == EVICT_MAIN;
    }
  /* A loop of 60 pages: each comes back 44 evictions after it left. */
  assert_true (wrong < 100);
  policy_free (c);
}

/* The ghost's time is counted in few bits.  Pages that left so long ago that
 * they have gone round must have been swept away, also from a table that was
 * made for a much larger cache.
 */
static void
test_ghost_time_wraps (void **state)
{
  const uint64_t bits_of_time = 4096;
  struct policy *c = policy_new_max (16, 100000);
  size_t wrong = 0;

  for (unsigned round = 0; round < 8; ++round)
    for (uint64_t key = 0; key < bits_of_time + 20; ++key) {
      policy_use (c, key, ADMIT_READ);
      wrong += c->index[key]->entry.queue == EVICT_MAIN;
    }
  assert_true (wrong < 100);
  policy_free (c);
}

/* Pages in steady use that the main queue has not quite room for make the
 * small queue shorter, until they all stay.
 */
static void
test_small_queue_adapts (void **state)
{
  struct policy *c = policy_new (4000);
  const uint64_t hot = 3800;
  uint64_t key = 0;
  size_t misses = 0; /* in the last rounds, of pages in steady use */

  for (uint64_t i = 0; i < 400 * hot; ++i) {
    misses += !policy_use (c, i % hot, ADMIT_READ) && i >= 390 * hot;
    if (i % 64 == 0)
      policy_use (c, hot + key++ % 50000, ADMIT_READ);
  }
  assert_int_equal (misses, 0);
  policy_free (c);
}

/* Fills a cache with pages that are used twice, and then with new ones. */
static uint64_t
fill_main (struct policy *c, uint64_t pages)
{
  uint64_t key;

  for (key = 0; key < pages; ++key)
    policy_use (c, key, ADMIT_READ);
  for (key = 0; key < pages; ++key)
    policy_use (c, key, ADMIT_READ);
  for (; key < 3 * pages; ++key)
    policy_use (c, key, ADMIT_READ);
  return key;
}

/* Pages of the main queue that nothing uses leave, if the mode is widen: here
 * those that were used twice, a little apart, and never again.
 */
static void
test_widen_thaws_main (void **state)
{
  size_t left[2];

  for (unsigned widen = 0; widen < 2; ++widen) {
    struct policy *c = policy_new (1000);
    uint64_t key;

    for (key = 100; key < 5000; ++key) {
      policy_use (c, key, ADMIT_READ);
      policy_use (c, key - 80, ADMIT_READ);
    }
    assert_true (policy_count (c, 0, 5000) > 850);
    if (widen)
      evict_order (c->ev, EVICT_WIDEN, evict_share (c->ev));
    for (; key < 45000; ++key)
      policy_use (c, key, ADMIT_READ);
    left[widen] = policy_count (c, 0, 5000);
    policy_free (c);
  }
  assert_true (left[0] > 800);
  assert_true (left[1] < 200);
}

/* Nor do they leave if they are used. */
static void
test_widen_spares_a_main_in_use (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key = fill_main (c, 800);

  evict_order (c->ev, EVICT_WIDEN, evict_share (c->ev));
  for (unsigned i = 0; i < 80000; ++i) {
    policy_use (c, i % 800, ADMIT_READ);
    if (i % 4 == 0)
      policy_use (c, key++, ADMIT_READ);
  }
  assert_int_equal (policy_count (c, 0, 800), 800);
  policy_free (c);
}

/* In the mode clock all pages enter main, and the small queue leaves first. */
static void
test_clock (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key;

  for (key = 0; key < 1000; ++key)
    policy_use (c, key, ADMIT_READ);
  evict_order (c->ev, EVICT_CLOCK, evict_share (c->ev));
  for (; key < 1500; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_int_equal (policy_count (c, 500, 1500), 1000);
  for (uint64_t new = 1001; new < 1500; ++new)
    assert_int_equal (c->index[new]->entry.queue, EVICT_MAIN);
  /* Back: the small queue has the share that was ordered. */
  evict_order (c->ev, EVICT_USUAL, EVICT_WHOLE / 4);
  for (; key < 4500; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_int_equal (evict_share (c->ev), EVICT_WHOLE / 4);
  assert_int_equal (policy_count (c, 4250, 4500), 250);
  assert_int_equal (c->index[4400]->entry.queue, EVICT_SMALL);
  policy_free (c);
}

static void
test_forget_is_not_remembered (void **state)
{
  struct policy *c = policy_new (16);
  struct frame *frame;

  for (uint64_t key = 0; key < 16; ++key)
    policy_admit (c, key, ADMIT_READ);
  frame = c->index[5];
  evict_forget (c->ev, &frame->entry);
  assert_int_equal (frame->entry.queue, EVICT_NONE);
  assert_int_equal (evict_count (c->ev), 15);
  c->index[5] = NULL;
  /* In again: as a new page. */
  frame->entry.key = 5;
  c->index[5] = frame;
  evict_admit (c->ev, &frame->entry, ADMIT_READ);
  assert_int_equal (frame->entry.queue, EVICT_SMALL);
  assert_int_equal (evict_count (c->ev), 16);
  policy_free (c);
}

static void
test_sixteen_pages (void **state)
{
  struct policy *c = policy_new (16);
  size_t hits = 0;

  /* Four pages in steady use beside single uses stay. */
  for (uint64_t key = 100; key < 10000; ++key) {
    policy_use (c, key, ADMIT_READ);
    hits += policy_use (c, key % 4, ADMIT_READ);
  }
  assert_true (hits > 9800);
  policy_free (c);
}

static void
test_memory (void **state)
{
  struct evict *ev;
  struct evict_entry none;
  const size_t max = 10 * 1000 * 1000;

  ev = evict_new (max, max, &none, sizeof none);
  assert_non_null (ev);
  assert_true (evict_memory (ev) <= 6 * max);
  evict_free (ev);
  evict_free (NULL);
}

/* Follow the links of all queues: each page that the checker thinks cached
 * must be in just one, in both directions.
 */
static void
check_links (const struct policy *c)
{
  size_t queued = 0, ends[EVICT_QUEUES] = { 0 }, starts[EVICT_QUEUES] = { 0 };

  for (size_t i = 0; i < c->max; ++i) {
    const struct evict_entry *e = &c->frames[i].entry;

    if (e->queue == EVICT_NONE)
      continue;
    assert_ptr_equal (c->index[e->key], &c->frames[i]);
    queued++;
    if (e->newer == UINT32_MAX)
      ends[e->queue]++;
    else {
      assert_int_equal (c->frames[e->newer].entry.older, i);
      assert_int_equal (c->frames[e->newer].entry.queue, e->queue);
    }
    if (e->older == UINT32_MAX)
      starts[e->queue]++;
    else
      assert_int_equal (c->frames[e->older].entry.newer, i);
  }
  for (unsigned q = 0; q < EVICT_QUEUES; ++q) {
    assert_true (ends[q] <= 1);
    assert_int_equal (ends[q], starts[q]);
  }
  assert_int_equal (queued, evict_count (c->ev));
}

/* A long run of everything, checked against what the caller knows. */
static void
random_run (uint32_t seed, size_t max)
{
  struct policy *c = policy_new_max (max, max);
  struct frame **free_pages = calloc (max, sizeof *free_pages);
  size_t free_count = 0, cached = 0, steps = 200000;
  struct frame *frame;

  assert_non_null (free_pages);
  c->random = seed;
  for (size_t i = 0; i < max; ++i)
    free_pages[free_count++] = &c->frames[i];

  while (steps-- > 0) {
    /* Half of the uses go to a tenth of the keys. */
    const uint64_t key =
        policy_any (c, policy_any (c, 2) ? max * 4 : max * 4 / 10);
    const uint32_t what = policy_any (c, 1000);

    frame = c->index[key];
    if (what < 4) {
      c->capacity = 1 + policy_any (c, max);
      evict_resize (c->ev, c->capacity);
    }
    else if (what < 24 && frame != NULL) {
      evict_forget (c->ev, &frame->entry);
      c->index[key] = NULL;
      free_pages[free_count++] = frame;
      cached--;
      continue;
    }
    else if (what < 124 && frame != NULL)
      frame->stays = policy_any (c, 3) == 0;

    if (frame != NULL)
      evict_hit (c->ev, &frame->entry);
    else {
      while (cached >= c->capacity && (frame = policy_victim (c)) != NULL) {
        assert_false (frame->stays);
        free_pages[free_count++] = frame;
        cached--;
      }
      if (cached < c->capacity) {
        frame = free_pages[--free_count];
        frame->entry.key = key;
        frame->stays = false;
        c->index[key] = frame;
        evict_admit (c->ev, &frame->entry, policy_any (c, 3));
        cached++;
      }
    }
    assert_int_equal (evict_count (c->ev), cached);
    if (steps % 1000 == 0)
      check_links (c);
  }
  free (free_pages);
  policy_free (c);
}

static void
test_random_runs (void **state)
{
  random_run (1, 16);
  random_run (2, 100);
  random_run (3, 1000);
  random_run (4, 5000);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_ghost_loses_trust),
    cmocka_unit_test (test_resize),
    cmocka_unit_test (test_ghost_after_shrinking),
    cmocka_unit_test (test_ghost_time_wraps),
    cmocka_unit_test (test_small_queue_adapts),
    cmocka_unit_test (test_widen_thaws_main),
    cmocka_unit_test (test_widen_spares_a_main_in_use),
    cmocka_unit_test (test_clock),
    cmocka_unit_test (test_forget_is_not_remembered),
    cmocka_unit_test (test_sixteen_pages),
    cmocka_unit_test (test_memory),
    cmocka_unit_test (test_random_runs),
  };

  return cmocka_run_group_tests_name ("adapt", tests, NULL, NULL);
}
