/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the eviction policy: the order in which entries leave, and how
 * much a victim costs.
 */

#include <config.h>

#include "policy.h"

static void
test_zeroed_entry_is_in_no_queue (void **state)
{
  struct policy *c = policy_new (16);

  assert_int_equal (c->frames[3].entry.queue, EVICT_NONE);
  evict_forget (c->ev, &c->frames[3].entry);
  assert_int_equal (evict_count (c->ev), 0);
  assert_null (evict_victim (c->ev, policy_may_go, c));
  assert_int_equal (c->questions, 0);
  policy_free (c);
}

static void
test_single_uses_leave_in_order (void **state)
{
  struct policy *c = policy_new (1000);

  for (uint64_t key = 0; key < 5000; ++key)
    assert_false (policy_use (c, key, ADMIT_READ));
  /* All were used once: a FIFO. */
  assert_int_equal (policy_count (c, 4000, 5000), 1000);
  policy_free (c);
}

static void
test_scan_leaves_hot_pages (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key = 1000;

  /* 500 hot pages, used again and again among single uses. */
  for (unsigned round = 0; round < 20; ++round)
    for (uint64_t hot = 0; hot < 500; ++hot) {
      policy_use (c, hot, ADMIT_READ);
      if (hot % 4 == 0)
        policy_use (c, key++, ADMIT_READ);
    }
  assert_int_equal (policy_count (c, 0, 500), 500);
  /* A scan of ten times the cache. */
  for (unsigned i = 0; i < 10000; ++i)
    policy_use (c, key++, ADMIT_READ);
  assert_true (policy_count (c, 0, 500) >= 490);
  policy_free (c);
}

/* Keys 0..999 fill a cache of 1000; 1..500 are used again, late or soon. */
static size_t
survivors_of_uses (bool late)
{
  struct policy *c = policy_new (1000);
  size_t n;

  for (uint64_t key = 0; key < 1000; ++key) {
    policy_use (c, key, ADMIT_READ);
    if (!late && key >= 20 && key < 520)
      assert_true (policy_use (c, key - 20, ADMIT_READ));
  }
  if (late)
    for (uint64_t key = 0; key < 500; ++key)
      assert_true (policy_use (c, key, ADMIT_READ));
  for (uint64_t key = 1000; key < 2000; ++key)
    policy_use (c, key, ADMIT_READ);
  n = policy_count (c, 0, 500);
  policy_free (c);
  return n;
}

static void
test_use_saves_a_page (void **state)
{
  assert_int_equal (survivors_of_uses (true), 500);
}

static void
test_correlated_use_does_not (void **state)
{
  assert_int_equal (survivors_of_uses (false), 0);
}

/* The count stops at its most, and uses that come together count once. */
static void
test_hits_are_counted (void **state)
{
  struct policy *c = policy_new (1000);
  struct frame *frame = policy_admit (c, 7, ADMIT_READ);
  uint64_t key = 100;

  for (unsigned round = 0; round < 6; ++round) {
    for (unsigned i = 0; i < 100; ++i)
      policy_use (c, key++, ADMIT_READ);
    for (unsigned i = 0; i < 10; ++i)
      evict_hit (c->ev, &frame->entry);
    assert_int_equal (frame->entry.uses & EVICT_USES,
                      round < 3 ? round + 1 : 3);
  }
  policy_free (c);
}

static void
test_ghost_admits_to_main (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key = 1000;

  for (; key < 2000; ++key)
    policy_use (c, key, ADMIT_READ);
  for (uint64_t back = 0; back < 100; ++back)
    policy_use (c, back, ADMIT_READ);
  for (unsigned i = 0; i < 1000; ++i)
    policy_use (c, key++, ADMIT_READ);
  /* They have left, and come back soon enough to be remembered. */
  assert_int_equal (policy_count (c, 0, 100), 0);
  for (uint64_t back = 0; back < 100; ++back) {
    policy_use (c, back, ADMIT_READ);
    assert_int_equal (c->index[back]->entry.queue, EVICT_MAIN);
  }
  for (unsigned i = 0; i < 500; ++i)
    policy_use (c, key++, ADMIT_READ);
  assert_int_equal (policy_count (c, 0, 100), 100);
  policy_free (c);
}

static void
test_ghost_forgets (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key = 1000;

  for (uint64_t back = 0; back < 100; ++back)
    policy_use (c, back, ADMIT_READ);
  for (unsigned i = 0; i < 20000; ++i)
    policy_use (c, key++, ADMIT_READ);
  for (uint64_t back = 0; back < 100; ++back) {
    policy_use (c, back, ADMIT_READ);
    assert_int_equal (c->index[back]->entry.queue, EVICT_SMALL);
  }
  policy_free (c);
}

/* A key that was never in the cache is all but never taken for one that was:
 * fewer than one in a hundred.
 */
static void
test_ghost_knows_strangers (void **state)
{
  struct policy *c = policy_new (1000);
  size_t wrong = 0;

  for (uint64_t key = 0; key < POLICY_KEYS; ++key) {
    policy_use (c, key, ADMIT_READ);
    wrong += c->index[key]->entry.queue == EVICT_MAIN;
  }
  assert_true (wrong < POLICY_KEYS / 100);
  policy_free (c);
}

static void
test_unused_readahead_goes_first (void **state)
{
  struct policy *c = policy_new (1000);

  for (uint64_t key = 0; key < 100; ++key)
    policy_admit (c, key, ADMIT_AHEAD);
  for (uint64_t key = 1000; key < 1900; ++key)
    policy_use (c, key, ADMIT_READ);
  /* Two in three of it are read. */
  for (uint64_t key = 0; key < 100; ++key)
    if (key % 3 != 0)
      assert_true (policy_use (c, key, ADMIT_READ));
  for (uint64_t key = 2000; key < 2034; ++key)
    policy_use (c, key, ADMIT_READ);
  for (uint64_t key = 0; key < 100; ++key)
    assert_int_equal (c->index[key] != NULL, key % 3 != 0);
  assert_int_equal (policy_count (c, 1000, 1900), 900);
  policy_free (c);
}

/* Pages that were just read ahead are not evicted before their turn. */
static void
test_fresh_readahead_stays (void **state)
{
  struct policy *c = policy_new (1000);
  uint64_t key = 1000;

  for (; key < 2000; ++key)
    policy_use (c, key, ADMIT_READ);
  for (uint64_t ahead = 0; ahead < 100; ++ahead)
    policy_admit (c, ahead, ADMIT_AHEAD);
  for (unsigned i = 0; i < 100; ++i)
    policy_use (c, key++, ADMIT_READ);
  assert_int_equal (policy_count (c, 0, 100), 100);
  policy_free (c);
}

static void
test_readahead_does_not_flood (void **state)
{
  struct policy *c = policy_new (1000);

  for (uint64_t key = 0; key < 1000; ++key)
    policy_use (c, key, ADMIT_READ);
  for (uint64_t ahead = 2000; ahead < 12000; ++ahead)
    policy_admit (c, ahead, ADMIT_AHEAD);
  assert_true (policy_count (c, 0, 1000) >= 700);
  policy_free (c);
}

static void
test_null_if_none_may_go (void **state)
{
  static const size_t sizes[] = { 16, 100, 256 };

  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    struct policy *c = policy_new (sizes[i]);

    for (uint64_t key = 0; key < sizes[i]; ++key)
      policy_admit (c, key, key % 5 == 0 ? ADMIT_AHEAD : ADMIT_READ)->stays =
          true;
    for (unsigned round = 0; round < 5; ++round) {
      /* With references, and from whatever queues the last round left. */
      for (uint64_t key = 0; key < sizes[i]; ++key)
        if (policy_any (c, 2))
          policy_use (c, key, ADMIT_READ);
      for (uint64_t key = 0; key < sizes[i]; ++key)
        c->index[key]->asked = false;
      assert_null (policy_victim (c));
      for (uint64_t key = 0; key < sizes[i]; ++key)
        assert_true (c->index[key]->asked);
      assert_int_equal (evict_count (c->ev), sizes[i]);
    }
    /* One that may go is found, wherever it is. */
    c->index[sizes[i] / 2]->stays = false;
    assert_int_equal (policy_victim (c)->entry.key, sizes[i] / 2);
    assert_null (policy_victim (c));
    policy_free (c);
  }
}

static void
test_refused_work_is_bounded (void **state)
{
  struct policy *c = policy_new (50000);
  unsigned calls = 0;
  struct frame *frame;

  for (uint64_t key = 0; key < 50000; ++key)
    policy_admit (c, key, ADMIT_WRITE)->stays = true;
  /* All are referenced, and one in the middle may go. */
  for (unsigned i = 0; i < 3; ++i)
    for (uint64_t key = 0; key < 50000; ++key)
      policy_use (c, key, ADMIT_WRITE);
  c->index[25000]->stays = false;
  do {
    c->questions = 0;
    frame = policy_victim (c);
    assert_true (c->questions <= 1024);
    assert_true (++calls < 1000);
  } while (frame == NULL);
  assert_int_equal (frame->entry.key, 25000);
  assert_true (calls > 1);
  assert_int_equal (evict_count (c->ev), 49999);
  policy_free (c);
}

/* With a quarter of the cache dirty, all of it new, as random writes leave
 * it, a victim costs a few questions.
 */
static void
test_many_dirty_pages_cost_little (void **state)
{
  struct policy *c = policy_new (10000);
  uint64_t key = 0;

  for (; key < 10000; ++key)
    policy_use (c, key, ADMIT_READ);
  for (; key < 12500; ++key)
    policy_admit (c, key, ADMIT_WRITE)->stays = true;
  c->questions = 0;
  for (; key < 42500; ++key) {
    /* As write-back would, the oldest is cleaned as one becomes dirty. */
    c->index[key - 2500]->stays = false;
    policy_admit (c, key, ADMIT_WRITE)->stays = true;
  }
  assert_true (c->questions < 8 * 30000);
  assert_int_equal (evict_count (c->ev), 10000);
  policy_free (c);
}

/* The same when nothing is cleaned for long; and what is cleaned at last
 * leaves before anything else.
 */
static void
test_held_pages (void **state)
{
  struct policy *c = policy_new (10000);
  uint64_t key = 0;

  for (; key < 2500; ++key) {
    policy_admit (c, key, ADMIT_WRITE)->stays = true;
    policy_use (c, 2500 + key, ADMIT_READ);
  }
  for (key = 5000; key < 20000; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_int_equal (policy_count (c, 0, 2500), 2500);
  c->questions = 0;
  for (; key < 30000; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_true (c->questions < 8 * 10000);

  for (uint64_t dirty = 0; dirty < 2500; ++dirty)
    c->index[dirty]->stays = false;
  for (; key < 32500; ++key)
    policy_use (c, key, ADMIT_READ);
  assert_int_equal (policy_count (c, 0, 2500), 0);
  policy_free (c);
}

/* Pages that are used often do not make a victim cost a turn of the CLOCK. */
static void
test_uses_are_bounded (void **state)
{
  struct policy *c = policy_new (20000);
  uint64_t key = 0;
  size_t looks = 0;

  while (key < 16000)
    policy_use (c, key++, ADMIT_READ);
  for (unsigned round = 0; round < 4; ++round) {
    for (uint64_t hot = 0; hot < 16000; ++hot)
      policy_use (c, hot, ADMIT_READ);
    for (unsigned i = 0; i < 1000; ++i)
      policy_use (c, key++, ADMIT_READ);
  }
  /* All of the oldest were used three times: each look would take one use. */
  for (uint64_t hot = 0; hot < 16000; ++hot)
    looks += c->index[hot]->entry.uses & EVICT_USES;
  assert_int_equal (looks, 3 * 16000);
  assert_non_null (policy_victim (c));
  for (uint64_t hot = 0; hot < 16000; ++hot)
    if (c->index[hot] != NULL)
      looks -= c->index[hot]->entry.uses & EVICT_USES;
  assert_true (looks <= 1024);
  policy_free (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_zeroed_entry_is_in_no_queue),
    cmocka_unit_test (test_single_uses_leave_in_order),
    cmocka_unit_test (test_scan_leaves_hot_pages),
    cmocka_unit_test (test_use_saves_a_page),
    cmocka_unit_test (test_correlated_use_does_not),
    cmocka_unit_test (test_hits_are_counted),
    cmocka_unit_test (test_ghost_admits_to_main),
    cmocka_unit_test (test_ghost_forgets),
    cmocka_unit_test (test_ghost_knows_strangers),
    cmocka_unit_test (test_unused_readahead_goes_first),
    cmocka_unit_test (test_fresh_readahead_stays),
    cmocka_unit_test (test_readahead_does_not_flood),
    cmocka_unit_test (test_null_if_none_may_go),
    cmocka_unit_test (test_refused_work_is_bounded),
    cmocka_unit_test (test_many_dirty_pages_cost_little),
    cmocka_unit_test (test_held_pages),
    cmocka_unit_test (test_uses_are_bounded),
  };

  return cmocka_run_group_tests_name ("evict", tests, NULL, NULL);
}
