/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of pools: the index, eviction under pressure, pools that share
 * one budget, and threads that pin, look up and evict at once.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "unit.h"

struct setup {
  struct memory memory;
  struct pools pools;
};

static struct setup *
setup_new (uint64_t limit)
{
  struct setup *s = calloc (1, sizeof *s);

  must (s != NULL);
  must (memory_init (&s->memory, limit) == 0);
  pools_init (&s->pools, &s->memory);
  return s;
}

static void
setup_free (struct setup *s)
{
  must (s->memory.used <= s->memory.limit);
  pools_destroy (&s->pools);
  memory_destroy (&s->memory);
  free (s);
}

static struct page *
pin (struct setup *s, struct pool *pool, uint64_t key)
{
  return pools_pin_page (&s->pools, pool, key, ADMIT_READ);
}

/* As pagecache.c does for a page that has something in it. */
static void
unpin (struct page *p)
{
  word_lock_take (&p->lock, RANK_PAGE);
  must (p->pins > 0);
  p->pins--;
  word_lock_drop (&p->lock);
}

static void
touch (struct setup *s, struct pool *pool, uint64_t key)
{
  struct page *p = pin (s, pool, key);

  must (p != NULL);
  unpin (p);
}

static bool
is_there (struct pool *pool, uint64_t key)
{
  struct page *p = pool_lock_page (pool, key);

  if (p)
    word_lock_drop (&p->lock);
  return p != NULL;
}

static unsigned
count_pages (struct pool *pool)
{
  struct pool_walk w;
  struct page *p;
  unsigned n = 0;

  pool_walk_begin (pool, &w, 1, UINT64_MAX);
  while ((p = pool_walk_next (pool, &w)) != NULL) {
    word_lock_drop (&p->lock);
    n++;
  }
  return n;
}

static void
test_same_key_same_page (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  struct page *p = pin (s, pool, 7), *q;

  assert_int_equal (page_key (p), 7);
  assert_int_equal (p->pins, 1);
  assert_ptr_equal (pin (s, pool, 7), p);
  assert_int_equal (p->pins, 2);
  assert_ptr_equal (pool_find (pool, 7), p);
  assert_ptr_equal (pool_lock_page (pool, 7), p);
  word_lock_drop (&p->lock);
  q = pin (s, pool, 8);
  assert_ptr_not_equal (p, q);
  assert_ptr_not_equal (pool_frame (pool, p), pool_frame (pool, q));
  setup_free (s);
}

static void
test_unknown_key_is_not_found (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);

  touch (s, pool, 7);
  assert_null (pool_find (pool, 8));
  assert_null (pool_lock_page (pool, 8));
  setup_free (s);
}

static void
test_one_pool_a_page_size (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);

  assert_ptr_equal (pools_get (&s->pools, 4096), pool);
  assert_ptr_not_equal (pools_get (&s->pools, 8192), pool);
  setup_free (s);
}

static void
test_discarded_page_is_gone (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  struct page *p = pin (s, pool, 7);

  unpin (p);
  word_lock_take (&p->lock, RANK_PAGE);
  pool_discard (pool, p);
  assert_false (is_there (pool, 7));
  assert_ptr_equal (pin (s, pool, 9), p); /* its frame is used again */
  setup_free (s);
}

static void
test_states_are_clear_in_a_new_page (void **state)
{
  struct setup *s = setup_new (1 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  const struct span whole = { 0, 8 };
  struct page *p;
  uint64_t key;
  int b;

  for (key = 1; key < 1000; ++key) {
    p = pin (s, pool, key);
    for (b = 0; b < BLOCK_STATES; ++b) {
      assert_false (bits_any (pool_map (pool, p, b), whole));
      pool_map (pool, p, b)[0] = 0xff;
    }
    unpin (p);
  }
  assert_true (s->pools.counts[0].evicted > 500);
  setup_free (s);
}

static void
test_index_under_pressure (void **state)
{
  static const uint32_t page_sizes[] = { 4096, 65536, 1024 * 1024 };
  struct setup *s;
  struct pool *pool;
  struct random r;
  unsigned i, step;
  uint64_t key;

  for (i = 0; i < ARRAY_LEN (page_sizes); ++i) {
    s = setup_new (20 * MiB);
    pool = pools_get (&s->pools, page_sizes[i]);
    random_seed (&r, i + 1);
    for (step = 0; step < 40000; ++step) {
      key = 1 + random_below (&r, 20000);
      touch (s, pool, key);
      must (is_there (pool, key));
      must (s->memory.used <= s->memory.limit);
    }
    /* All of the budget is used: one more page would not fit. */
    must (s->memory.used + page_sizes[i] + pool->stride > s->memory.limit);
    must (count_pages (pool) == evict_count (pool->evict));
    setup_free (s);
  }
}

static void
test_pinned_pages_stay (void **state)
{
  struct setup *s = setup_new (1 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  struct page *pinned[20];
  uint64_t key;

  for (key = 1; key <= 20; ++key)
    pinned[key - 1] = pin (s, pool, key);
  for (key = 100; key < 3000; ++key)
    touch (s, pool, key);
  for (key = 1; key <= 20; ++key) {
    assert_int_equal (page_key (pinned[key - 1]), key);
    assert_ptr_equal (pool_find (pool, key), pinned[key - 1]);
  }
  setup_free (s);
}

static void
test_all_pinned_is_no_page (void **state)
{
  struct setup *s = setup_new (1 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  struct page *p, *last = NULL;
  uint64_t key = 1;

  while ((p = pin (s, pool, key)) != NULL) {
    last = p;
    key++;
  }
  assert_between (key, 100, 256);
  assert_false (is_there (pool, key));
  unpin (last);
  assert_non_null (pin (s, pool, key));
  assert_false (is_there (pool, key - 1));
  setup_free (s);
}

/* ---- two pools ---- */

static void
test_pools_share_the_budget (void **state)
{
  struct setup *s = setup_new (8 * MiB);
  struct pool *small = pools_get (&s->pools, 4096), *large;
  struct page *pages[16];
  uint64_t key;

  for (key = 1; key < 3000; ++key)
    touch (s, small, key);
  large = pools_get (&s->pools, 65536);
  assert_non_null (large);
  /* A piece pins its pages at once: the other pool gives up its own. */
  for (key = 0; key < 16; ++key) {
    pages[key] = pin (s, large, key + 1);
    assert_non_null (pages[key]);
    memset (pool_frame (large, pages[key]), 0xff, 65536);
    assert_true (s->memory.used <= s->memory.limit);
  }
  for (key = 0; key < 16; ++key)
    unpin (pages[key]);
  /* And back again. */
  for (key = 1; key < 3000; ++key)
    touch (s, small, key);
  assert_true (s->memory.used <= s->memory.limit);
  setup_free (s);
}

/* A pool that comes when another has taken all grows, if it is used. */
static void
test_later_pool_gets_a_share (void **state)
{
  struct setup *s = setup_new (8 * MiB);
  struct pool *small = pools_get (&s->pools, 4096), *large;
  uint64_t key, round;

  for (key = 1; key < 3000; ++key)
    touch (s, small, key);
  large = pools_get (&s->pools, 65536);
  for (round = 0; round < 20; ++round)
    for (key = 1; key <= 32; ++key)
      touch (s, large, key);
  assert_true (count_pages (large) >= 16); /* an eighth of the budget */
  setup_free (s);
}

static void
test_no_memory_while_others_are_pinned (void **state)
{
  struct setup *s = setup_new (1 * MiB);
  struct pool *small = pools_get (&s->pools, 4096);
  struct pool *large = pools_get (&s->pools, 65536);
  struct page *p;
  uint64_t key;

  assert_non_null (large);
  for (key = 1; (p = pin (s, small, key)) != NULL; ++key)
    ;
  assert_null (pin (s, large, 1));
  assert_false (is_there (large, 1));
  unpin (pool_find (small, 1));
  assert_null (pin (s, large, 1)); /* one is not enough */
  setup_free (s);
}

static void
test_make_room (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  uint64_t key;

  for (key = 1; key < 2000; ++key)
    touch (s, pool, key);
  assert_true (pools_make_room (&s->pools, 1 * MiB));
  assert_true (s->memory.used <= s->memory.limit);
  memory_give (&s->memory, 1 * MiB);
  assert_false (pools_make_room (&s->pools, 5 * MiB));
  /* Frames that were released are used again. */
  for (key = 1; key < 2000; ++key)
    touch (s, pool, key);
  setup_free (s);
}

/* ---- walks ---- */

/* By key where these are few, else by descriptor. */
static void
check_walk (struct pool *pool, uint64_t last, bool by_key, unsigned pages)
{
  uint64_t sum = 0;
  struct pool_walk w;
  struct page *p;
  unsigned n = 0;

  pool_walk_begin (pool, &w, 10, last);
  assert_int_equal (w.by_key, by_key);
  while ((p = pool_walk_next (pool, &w)) != NULL) {
    sum += page_key (p);
    n++;
    word_lock_drop (&p->lock);
  }
  assert_int_equal (n, pages);
  assert_int_equal (sum, pages * (12 + 12 + 3 * (pages - 1)) / 2);
}

static void
test_walks_see_all_of_a_range (void **state)
{
  struct setup *s = setup_new (4 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  uint64_t key;

  for (key = 1; key <= 300; ++key)
    touch (s, pool, key * 3);
  check_walk (pool, 300, true, 97);
  check_walk (pool, UINT64_C (1) << 50, false, 297);
  setup_free (s);
}

/* ---- threads ---- */

#define KEYS 600

struct load {
  struct setup *s;
  struct pool *pools[2];
  uint64_t seed;
  unsigned steps;
};

/* While it is pinned a page keeps its identity and its bytes. */
static void
use_page (struct load *l, struct random *r)
{
  struct pool *pool = l->pools[random_below (r, 2)];
  const uint64_t key = 1 + random_below (r, KEYS);
  struct page *p = pin (l->s, pool, key);
  uint64_t *stamp;

  if (p == NULL)
    return;
  word_lock_take (&p->lock, RANK_PAGE);
  must (page_key (p) == key);
  stamp = (uint64_t *) pool_frame (pool, p);
  if (bit_get (pool_map (pool, p, UPTODATE), 0)) {
    must (stamp[0] == key);
    must (stamp[pool->page_size / 8 - 1] == key);
  }
  else {
    stamp[0] = stamp[pool->page_size / 8 - 1] = key;
    pool_map (pool, p, UPTODATE)[0] |= 1;
  }
  word_lock_drop (&p->lock);
  must (page_key (p) == key);
  unpin (p);
}

/* As a hit does: what is found without a lock may be anything. */
static void
look_up (struct load *l, struct random *r)
{
  struct pool *pool = l->pools[random_below (r, 2)];
  const uint64_t key = 1 + random_below (r, KEYS);
  struct page *p = pool_find (pool, key);

  if (p == NULL)
    return;
  word_lock_take (&p->lock, RANK_PAGE);
  if (page_key (p) == key && bit_get (pool_map (pool, p, UPTODATE), 0))
    must (*(uint64_t *) pool_frame (pool, p) == key);
  word_lock_drop (&p->lock);
}

static void
discard (struct load *l, struct random *r)
{
  struct pool *pool = l->pools[random_below (r, 2)];
  struct page *p = pool_lock_page (pool, 1 + random_below (r, KEYS));

  if (p == NULL)
    return;
  if (p->pins == 0)
    pool_discard (pool, p);
  else
    word_lock_drop (&p->lock);
}

static void
run_load (void *arg)
{
  struct load *l = arg;
  struct random r = { l->seed };
  unsigned i;

  for (i = 0; i < l->steps; ++i)
    switch (random_below (&r, 20)) {
    case 0 ... 11:
      use_page (l, &r);
      break;
    case 12 ... 18:
      look_up (l, &r);
      break;
    default:
      discard (l, &r);
    }
}

/* More keys than there are frames, of two sizes. */
static void
test_threads (void **state)
{
  struct setup *s = setup_new (2 * MiB);
  struct load loads[4];
  struct thread threads[4];
  unsigned i;

  for (i = 0; i < 4; ++i) {
    loads[i] = (struct load){ .s = s, .seed = i + 1, .steps = 30000 };
    loads[i].pools[0] = pools_get (&s->pools, 4096);
    loads[i].pools[1] = pools_get (&s->pools, 16384);
    thread_start (&threads[i], run_load, &loads[i]);
  }
  for (i = 0; i < 4; ++i)
    thread_join (&threads[i]);
  for (i = 0; i < 2; ++i)
    must (count_pages (loads[0].pools[i]) ==
          evict_count (loads[0].pools[i]->evict));
  setup_free (s);
}

/* ---- another budget while it is used ---- */

static struct setup *
setup_growing (uint64_t limit, uint64_t max)
{
  struct setup *s = setup_new (limit);

  memory_may_grow (&s->memory, max);
  return s;
}

/* How many of pages 1 … N are there. */
static unsigned
count_keys (struct pool *pool, uint64_t n)
{
  unsigned there = 0;

  for (; n > 0; --n)
    there += is_there (pool, n);
  return there;
}

static void
test_shrink_and_grow (void **state)
{
  struct setup *s = setup_growing (8 * MiB, 32 * MiB);
  struct pool *small = pools_get (&s->pools, 4096);
  struct pool *large = pools_get (&s->pools, 65536);
  uint64_t key;
  unsigned n;

  for (key = 1; key <= 4000; ++key)
    touch (s, small, key);
  for (key = 1; key <= 30; ++key)
    touch (s, large, key);
  assert_int_equal (pools_resize (&s->pools, 4 * MiB), 0);
  assert_true (s->memory.used <= 4 * MiB);
  n = count_keys (small, 4000);
  assert_between (n, 100, 900);
  for (key = 1; key <= 4000; ++key)
    touch (s, small, key);
  assert_true (s->memory.used <= 4 * MiB);

  assert_int_equal (pools_resize (&s->pools, 32 * MiB), 0);
  for (key = 1; key <= 4000; ++key)
    touch (s, small, key);
  assert_int_equal (count_keys (small, 4000), 4000);
  assert_int_equal (pools_resize (&s->pools, 33 * MiB), EFBIG);
  assert_int_equal (memory_limit (&s->memory), 32 * MiB);
  setup_free (s);
}

static void
test_shrink_that_does_not_fit (void **state)
{
  struct setup *s = setup_new (8 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);
  struct page *pages[1000];
  uint64_t i;

  for (i = 0; i < ARRAY_LEN (pages); ++i)
    pages[i] = pin (s, pool, i + 1);
  assert_int_equal (pools_resize (&s->pools, 4 * MiB), EBUSY);
  assert_int_equal (memory_limit (&s->memory), 8 * MiB);
  assert_int_equal (count_keys (pool, ARRAY_LEN (pages)), ARRAY_LEN (pages));
  for (i = 0; i < ARRAY_LEN (pages); ++i)
    unpin (pages[i]);
  assert_int_equal (pools_resize (&s->pools, pools_min (&s->pools) - 1), EBUSY);
  assert_int_equal (pools_resize (&s->pools, pools_min (&s->pools)), 0);
  setup_free (s);
}

static void
test_resize_beside_threads (void **state)
{
  struct setup *s = setup_growing (4 * MiB, 16 * MiB);
  struct load loads[3];
  struct thread threads[3];
  unsigned i;

  for (i = 0; i < 3; ++i) {
    loads[i] = (struct load){ .s = s, .seed = i + 1, .steps = 20000 };
    loads[i].pools[0] = pools_get (&s->pools, 4096);
    loads[i].pools[1] = pools_get (&s->pools, 16384);
    thread_start (&threads[i], run_load, &loads[i]);
  }
  for (i = 0; i < 20; ++i)
    assert_int_equal (pools_resize (&s->pools, (3 + i % 5 * 3) * MiB), 0);
  for (i = 0; i < 3; ++i)
    thread_join (&threads[i]);
  for (i = 0; i < 2; ++i)
    must (count_pages (loads[0].pools[i]) ==
          evict_count (loads[0].pools[i]->evict));
  setup_free (s);
}

/* Whether the system may make huge pages where P is; true also if it knows
 * none.
 */
static bool
may_be_huge (const void *p)
{
  FILE *f = fopen ("/proc/self/smaps", "re");
  bool is_there = false, huge = true;
  unsigned long from, to;
  char line[400];

  must (f != NULL);
  while (fgets (line, sizeof line, f))
    if (sscanf (line, "%lx-%lx ", &from, &to) == 2)
      is_there = (uintptr_t) p >= from && (uintptr_t) p < to;
    else if (is_there && strncmp (line, "VmFlags:", 8) == 0)
      huge = strstr (line, " nh") == NULL;
  fclose (f);
  return huge;
}

/* Law 15: where a frame is released, a huge page does not grow again. */
static void
test_released_frames_stay_released (void **state)
{
  struct setup *s = setup_new (1 * MiB);
  struct pool *pool = pools_get (&s->pools, 4096);

  if (access ("/sys/kernel/mm/transparent_hugepage", F_OK) != 0)
    skip ();
  touch (s, pool, 1);
  assert_true (may_be_huge (pool->frames));
  assert_true (pool_shed (pool));
  assert_false (may_be_huge (pool->frames));
  setup_free (s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_same_key_same_page),
    cmocka_unit_test (test_unknown_key_is_not_found),
    cmocka_unit_test (test_one_pool_a_page_size),
    cmocka_unit_test (test_discarded_page_is_gone),
    cmocka_unit_test (test_states_are_clear_in_a_new_page),
    cmocka_unit_test (test_index_under_pressure),
    cmocka_unit_test (test_pinned_pages_stay),
    cmocka_unit_test (test_all_pinned_is_no_page),
    cmocka_unit_test (test_pools_share_the_budget),
    cmocka_unit_test (test_later_pool_gets_a_share),
    cmocka_unit_test (test_no_memory_while_others_are_pinned),
    cmocka_unit_test (test_make_room),
    cmocka_unit_test (test_walks_see_all_of_a_range),
    cmocka_unit_test (test_threads),
    cmocka_unit_test (test_shrink_and_grow),
    cmocka_unit_test (test_shrink_that_does_not_fit),
    cmocka_unit_test (test_resize_beside_threads),
    cmocka_unit_test (test_released_frames_stay_released),
  };

  return cmocka_run_group_tests_name ("pool", tests, NULL, NULL);
}
