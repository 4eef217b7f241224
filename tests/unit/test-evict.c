/* SPDX-License-Identifier: BSD-3-Clause */
/* Unit tests of the eviction policy, against arrays of entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pagecache/evict.h"

/* The caller's side: descriptors with an entry in the middle, as a page has,
 * and an index from small keys to descriptors.
 */
#define KEYS 65536

struct page {
  uint64_t before;
  struct evict_entry entry;
  bool stays; /* may_go refuses it */
  bool asked; /* may_go was asked for it */
};

struct cache {
  struct evict *ev;
  struct page *pages;
  size_t most, capacity, used;
  struct page *spare; /* the victim that takes the next key */
  struct page *index[KEYS];
  size_t questions; /* calls of may_go */
  uint32_t random;
};

static struct cache *
cache_new_most (size_t capacity, size_t most)
{
  struct cache *c = calloc (1, sizeof *c);

  assert_non_null (c);
  c->pages = calloc (most, sizeof *c->pages);
  assert_non_null (c->pages);
  c->capacity = capacity;
  c->most = most;
  c->random = 1;
  c->ev = evict_new (capacity, most, &c->pages[0].entry, sizeof *c->pages);
  assert_non_null (c->ev);
  return c;
}

static struct cache *
cache_new (size_t capacity)
{
  return cache_new_most (capacity, capacity);
}

static void
cache_free (struct cache *c)
{
  evict_free (c->ev);
  free (c->pages);
  free (c);
}

static uint32_t
any (struct cache *c, uint32_t below)
{
  c->random = c->random * 1664525 + 1013904223;
  return (uint32_t) (((uint64_t) c->random * below) >> 32);
}

static struct page *
page_of (struct evict_entry *entry)
{
  return (struct page *) ((char *) entry - offsetof (struct page, entry));
}

static bool
may_go (struct evict_entry *entry, void *opaque)
{
  struct cache *c = opaque;

  c->questions++;
  page_of (entry)->asked = true;
  return !page_of (entry)->stays;
}

static struct page *
victim (struct cache *c)
{
  struct evict_entry *entry = evict_victim (c->ev, may_go, c);

  if (entry == NULL)
    return NULL;
  assert_int_equal (entry->queue, EVICT_NONE);
  assert_ptr_equal (c->index[entry->key], page_of (entry));
  c->index[entry->key] = NULL;
  return page_of (entry);
}

/* Bring a key in, in a frame that is free or of a victim. */
static struct page *
admit (struct cache *c, uint64_t key, enum admission why)
{
  struct page *page;

  assert_null (c->index[key]);
  page = c->used < c->capacity ? &c->pages[c->used++] : victim (c);
  assert_non_null (page);
  page->entry.key = key;
  page->stays = false;
  c->index[key] = page;
  evict_admit (c->ev, &page->entry, why);
  assert_int_not_equal (page->entry.queue, EVICT_NONE);
  return page;
}

/* Use a key.  Returns whether it was there. */
static bool
use (struct cache *c, uint64_t key, enum admission why)
{
  if (c->index[key] != NULL) {
    evict_hit (c->ev, &c->index[key]->entry);
    return true;
  }
  admit (c, key, why);
  return false;
}

static size_t
count_cached (const struct cache *c, uint64_t first, uint64_t end)
{
  size_t n = 0;

  for (uint64_t key = first; key < end; ++key)
    n += c->index[key] != NULL;
  return n;
}

/* ---- the cases ---- */

static void
test_zeroed_entry_is_in_no_queue (void **state)
{
  struct cache *c = cache_new (16);

  (void) state;
  assert_int_equal (c->pages[3].entry.queue, EVICT_NONE);
  evict_forget (c->ev, &c->pages[3].entry);
  assert_int_equal (evict_count (c->ev), 0);
  assert_null (evict_victim (c->ev, may_go, c));
  assert_int_equal (c->questions, 0);
  cache_free (c);
}

static void
test_single_uses_leave_in_order (void **state)
{
  struct cache *c = cache_new (1000);

  (void) state;
  for (uint64_t key = 0; key < 5000; ++key)
    assert_false (use (c, key, ADMIT_READ));
  /* All were used once: a FIFO. */
  assert_int_equal (count_cached (c, 4000, 5000), 1000);
  cache_free (c);
}

static void
test_scan_leaves_hot_pages (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key = 1000;

  (void) state;
  /* 500 hot pages, used again and again among single uses. */
  for (unsigned round = 0; round < 20; ++round)
    for (uint64_t hot = 0; hot < 500; ++hot) {
      use (c, hot, ADMIT_READ);
      if (hot % 4 == 0)
        use (c, key++, ADMIT_READ);
    }
  assert_int_equal (count_cached (c, 0, 500), 500);
  /* A scan of ten times the cache. */
  for (unsigned i = 0; i < 10000; ++i)
    use (c, key++, ADMIT_READ);
  assert_true (count_cached (c, 0, 500) >= 490);
  cache_free (c);
}

/* Keys 0..999 fill a cache of 1000; 1..500 are used again, late or soon. */
static size_t
survivors_of_uses (bool late)
{
  struct cache *c = cache_new (1000);
  size_t n;

  for (uint64_t key = 0; key < 1000; ++key) {
    use (c, key, ADMIT_READ);
    if (!late && key >= 20 && key < 520)
      assert_true (use (c, key - 20, ADMIT_READ));
  }
  if (late)
    for (uint64_t key = 0; key < 500; ++key)
      assert_true (use (c, key, ADMIT_READ));
  for (uint64_t key = 1000; key < 2000; ++key)
    use (c, key, ADMIT_READ);
  n = count_cached (c, 0, 500);
  cache_free (c);
  return n;
}

static void
test_use_saves_a_page (void **state)
{
  (void) state;
  assert_int_equal (survivors_of_uses (true), 500);
}

static void
test_correlated_use_does_not (void **state)
{
  (void) state;
  assert_int_equal (survivors_of_uses (false), 0);
}

/* The count stops at its most, and uses that come together count once. */
static void
test_hits_are_counted (void **state)
{
  struct cache *c = cache_new (1000);
  struct page *page = admit (c, 7, ADMIT_READ);
  uint64_t key = 100;

  (void) state;
  for (unsigned round = 0; round < 6; ++round) {
    for (unsigned i = 0; i < 100; ++i)
      use (c, key++, ADMIT_READ);
    for (unsigned i = 0; i < 10; ++i)
      evict_hit (c->ev, &page->entry);
    assert_int_equal (page->entry.uses & EVICT_USES, round < 3 ? round + 1 : 3);
  }
  cache_free (c);
}

static void
test_ghost_admits_to_main (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key = 1000;

  (void) state;
  for (; key < 2000; ++key)
    use (c, key, ADMIT_READ);
  for (uint64_t back = 0; back < 100; ++back)
    use (c, back, ADMIT_READ);
  for (unsigned i = 0; i < 1000; ++i)
    use (c, key++, ADMIT_READ);
  /* They have left, and come back soon enough to be remembered. */
  assert_int_equal (count_cached (c, 0, 100), 0);
  for (uint64_t back = 0; back < 100; ++back) {
    use (c, back, ADMIT_READ);
    assert_int_equal (c->index[back]->entry.queue, EVICT_MAIN);
  }
  for (unsigned i = 0; i < 500; ++i)
    use (c, key++, ADMIT_READ);
  assert_int_equal (count_cached (c, 0, 100), 100);
  cache_free (c);
}

static void
test_ghost_forgets (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key = 1000;

  (void) state;
  for (uint64_t back = 0; back < 100; ++back)
    use (c, back, ADMIT_READ);
  for (unsigned i = 0; i < 20000; ++i)
    use (c, key++, ADMIT_READ);
  for (uint64_t back = 0; back < 100; ++back) {
    use (c, back, ADMIT_READ);
    assert_int_equal (c->index[back]->entry.queue, EVICT_SMALL);
  }
  cache_free (c);
}

/* A key that was never in the cache is all but never taken for one that was:
 * fewer than one in a hundred.
 */
static void
test_ghost_knows_strangers (void **state)
{
  struct cache *c = cache_new (1000);
  size_t wrong = 0;

  (void) state;
  for (uint64_t key = 0; key < KEYS; ++key) {
    use (c, key, ADMIT_READ);
    wrong += c->index[key]->entry.queue == EVICT_MAIN;
  }
  assert_true (wrong < KEYS / 100);
  cache_free (c);
}

static void
test_unused_readahead_goes_first (void **state)
{
  struct cache *c = cache_new (1000);

  (void) state;
  for (uint64_t key = 0; key < 100; ++key)
    admit (c, key, ADMIT_AHEAD);
  for (uint64_t key = 1000; key < 1900; ++key)
    use (c, key, ADMIT_READ);
  /* Two in three of it are read. */
  for (uint64_t key = 0; key < 100; ++key)
    if (key % 3 != 0)
      assert_true (use (c, key, ADMIT_READ));
  for (uint64_t key = 2000; key < 2034; ++key)
    use (c, key, ADMIT_READ);
  for (uint64_t key = 0; key < 100; ++key)
    assert_int_equal (c->index[key] != NULL, key % 3 != 0);
  assert_int_equal (count_cached (c, 1000, 1900), 900);
  cache_free (c);
}

/* Pages that were just read ahead are not evicted before their turn. */
static void
test_fresh_readahead_stays (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key = 1000;

  (void) state;
  for (; key < 2000; ++key)
    use (c, key, ADMIT_READ);
  for (uint64_t ahead = 0; ahead < 100; ++ahead)
    admit (c, ahead, ADMIT_AHEAD);
  for (unsigned i = 0; i < 100; ++i)
    use (c, key++, ADMIT_READ);
  assert_int_equal (count_cached (c, 0, 100), 100);
  cache_free (c);
}

static void
test_readahead_does_not_flood (void **state)
{
  struct cache *c = cache_new (1000);

  (void) state;
  for (uint64_t key = 0; key < 1000; ++key)
    use (c, key, ADMIT_READ);
  for (uint64_t ahead = 2000; ahead < 12000; ++ahead)
    admit (c, ahead, ADMIT_AHEAD);
  assert_true (count_cached (c, 0, 1000) >= 700);
  cache_free (c);
}

static void
test_cold_goes_first (void **state)
{
  struct cache *c = cache_new (1000);

  (void) state;
  for (uint64_t key = 0; key < 1000; ++key)
    use (c, key, ADMIT_WRITE);
  for (uint64_t key = 990; key < 1000; ++key)
    evict_cold (c->ev, &c->index[key]->entry);
  /* One of them is asked for again. */
  assert_true (use (c, 995, ADMIT_READ));
  for (uint64_t key = 2000; key < 2009; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (count_cached (c, 0, 990), 990);
  for (uint64_t key = 990; key < 1000; ++key)
    assert_int_equal (c->index[key] != NULL, key == 995);
  cache_free (c);
}

static void
test_null_if_none_may_go (void **state)
{
  static const size_t sizes[] = { 16, 100, 256 };

  (void) state;
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    struct cache *c = cache_new (sizes[i]);

    for (uint64_t key = 0; key < sizes[i]; ++key)
      admit (c, key, key % 5 == 0 ? ADMIT_AHEAD : ADMIT_READ)->stays = true;
    for (unsigned round = 0; round < 5; ++round) {
      /* With references, and from whatever queues the last round left. */
      for (uint64_t key = 0; key < sizes[i]; ++key)
        if (any (c, 2))
          use (c, key, ADMIT_READ);
      for (uint64_t key = 0; key < sizes[i]; ++key)
        c->index[key]->asked = false;
      assert_null (victim (c));
      for (uint64_t key = 0; key < sizes[i]; ++key)
        assert_true (c->index[key]->asked);
      assert_int_equal (evict_count (c->ev), sizes[i]);
    }
    /* One that may go is found, wherever it is. */
    c->index[sizes[i] / 2]->stays = false;
    assert_int_equal (victim (c)->entry.key, sizes[i] / 2);
    assert_null (victim (c));
    cache_free (c);
  }
}

static void
test_refused_work_is_bounded (void **state)
{
  struct cache *c = cache_new (50000);
  unsigned calls = 0;
  struct page *page;

  (void) state;
  for (uint64_t key = 0; key < 50000; ++key)
    admit (c, key, ADMIT_WRITE)->stays = true;
  /* All are referenced, and one in the middle may go. */
  for (unsigned i = 0; i < 3; ++i)
    for (uint64_t key = 0; key < 50000; ++key)
      use (c, key, ADMIT_WRITE);
  c->index[25000]->stays = false;
  do {
    c->questions = 0;
    page = victim (c);
    assert_true (c->questions <= 1024);
    assert_true (++calls < 1000);
  } while (page == NULL);
  assert_int_equal (page->entry.key, 25000);
  assert_true (calls > 1);
  assert_int_equal (evict_count (c->ev), 49999);
  cache_free (c);
}

/* With a quarter of the cache dirty, all of it new, as random writes leave
 * it, a victim costs a few questions.
 */
static void
test_many_dirty_pages_cost_little (void **state)
{
  struct cache *c = cache_new (10000);
  uint64_t key = 0;

  (void) state;
  for (; key < 10000; ++key)
    use (c, key, ADMIT_READ);
  for (; key < 12500; ++key)
    admit (c, key, ADMIT_WRITE)->stays = true;
  c->questions = 0;
  for (; key < 42500; ++key) {
    /* As write-back would, the oldest is cleaned as one becomes dirty. */
    c->index[key - 2500]->stays = false;
    admit (c, key, ADMIT_WRITE)->stays = true;
  }
  assert_true (c->questions < 8 * 30000);
  assert_int_equal (evict_count (c->ev), 10000);
  cache_free (c);
}

/* The same when nothing is cleaned for long; and what is cleaned at last
 * leaves before anything else.
 */
static void
test_held_pages (void **state)
{
  struct cache *c = cache_new (10000);
  uint64_t key = 0;

  (void) state;
  for (; key < 2500; ++key) {
    admit (c, key, ADMIT_WRITE)->stays = true;
    use (c, 2500 + key, ADMIT_READ);
  }
  for (key = 5000; key < 20000; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (count_cached (c, 0, 2500), 2500);
  c->questions = 0;
  for (; key < 30000; ++key)
    use (c, key, ADMIT_READ);
  assert_true (c->questions < 8 * 10000);

  for (uint64_t dirty = 0; dirty < 2500; ++dirty)
    c->index[dirty]->stays = false;
  for (; key < 32500; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (count_cached (c, 0, 2500), 0);
  cache_free (c);
}

/* Pages that are used often do not make a victim cost a turn of the CLOCK. */
static void
test_uses_are_bounded (void **state)
{
  struct cache *c = cache_new (20000);
  uint64_t key = 0;
  size_t looks = 0;

  (void) state;
  while (key < 16000)
    use (c, key++, ADMIT_READ);
  for (unsigned round = 0; round < 4; ++round) {
    for (uint64_t hot = 0; hot < 16000; ++hot)
      use (c, hot, ADMIT_READ);
    for (unsigned i = 0; i < 1000; ++i)
      use (c, key++, ADMIT_READ);
  }
  /* All of the oldest were used three times: each look would take one use. */
  for (uint64_t hot = 0; hot < 16000; ++hot)
    looks += c->index[hot]->entry.uses & EVICT_USES;
  assert_int_equal (looks, 3 * 16000);
  assert_non_null (victim (c));
  for (uint64_t hot = 0; hot < 16000; ++hot)
    if (c->index[hot] != NULL)
      looks -= c->index[hot]->entry.uses & EVICT_USES;
  assert_true (looks <= 1024);
  cache_free (c);
}

/* Ghost hits whose pages are not used after that lose the policy's trust. */
static void
test_ghost_loses_trust (void **state)
{
  struct cache *c = cache_new (1000);
  size_t trusted[2] = { 0, 0 }; /* at the start, at the end */

  (void) state;
  /* Pages that are used twice, the second time when they are in the ghost,
   * beside hot ones, for the main queue to have some that are used.
   */
  for (uint64_t i = 0; i < 40000; ++i) {
    use (c, i % 300, ADMIT_READ);
    use (c, 1000 + i, ADMIT_READ);
    if (i < 500 || use (c, 1000 + i - 500, ADMIT_READ))
      continue;
    if (c->index[1000 + i - 500]->entry.queue == EVICT_MAIN) {
      trusted[0] += i < 2000;
      trusted[1] += i >= 38000;
    }
  }
  assert_true (trusted[0] > 1000);
  assert_true (trusted[1] < 2000 / 5);
  assert_int_equal (count_cached (c, 0, 300), 300);
  cache_free (c);
}

static void
test_resize (void **state)
{
  struct cache *c = cache_new_most (1000, 4000);
  uint64_t key = 0;

  (void) state;
  for (; key < 2000; ++key)
    use (c, key, ADMIT_READ);
  evict_resize (c->ev, 4000);
  c->capacity = 4000;
  for (; key < 8000; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (evict_count (c->ev), 4000);
  assert_int_equal (count_cached (c, 4000, 8000), 4000);

  evict_resize (c->ev, 100);
  while (evict_count (c->ev) > 100)
    assert_non_null (victim (c));
  /* The newest pages are left, and those used once still leave in order. */
  assert_int_equal (count_cached (c, 7900, 8000), 100);
  cache_free (c);
}

/* The ghost of a cache that became much smaller forgets in its new terms. */
static void
test_ghost_after_shrinking (void **state)
{
  struct cache *c = cache_new_most (16, 40000);
  size_t wrong = 0;

  (void) state;
  for (unsigned round = 0; round < 2000; ++round)
    for (uint64_t key = 0; key < 60; ++key) {
      use (c, key, ADMIT_READ);
      wrong += c->index[key]->entry.queue == EVICT_MAIN;
    }
  /* A loop of 60 pages: each comes back 44 evictions after it left. */
  assert_true (wrong < 100);
  cache_free (c);
}

/* The ghost's time is counted in few bits.  Pages that left so long ago that
 * they have gone round must have been swept away, also from a table that was
 * made for a much larger cache.
 */
static void
test_ghost_time_wraps (void **state)
{
  const uint64_t bits_of_time = 4096;
  struct cache *c = cache_new_most (16, 100000);
  size_t wrong = 0;

  (void) state;
  for (unsigned round = 0; round < 8; ++round)
    for (uint64_t key = 0; key < bits_of_time + 20; ++key) {
      use (c, key, ADMIT_READ);
      wrong += c->index[key]->entry.queue == EVICT_MAIN;
    }
  assert_true (wrong < 100);
  cache_free (c);
}

/* Pages in steady use that the main queue has not quite room for make the
 * small queue shorter, until they all stay.
 */
static void
test_small_queue_adapts (void **state)
{
  struct cache *c = cache_new (4000);
  const uint64_t hot = 3800;
  uint64_t key = 0;
  size_t misses = 0; /* in the last rounds, of pages in steady use */

  (void) state;
  for (uint64_t i = 0; i < 400 * hot; ++i) {
    misses += !use (c, i % hot, ADMIT_READ) && i >= 390 * hot;
    if (i % 64 == 0)
      use (c, hot + key++ % 50000, ADMIT_READ);
  }
  assert_int_equal (misses, 0);
  cache_free (c);
}

/* Fills a cache with pages that are used twice, and then with new ones. */
static uint64_t
fill_main (struct cache *c, uint64_t pages)
{
  uint64_t key;

  for (key = 0; key < pages; ++key)
    use (c, key, ADMIT_READ);
  for (key = 0; key < pages; ++key)
    use (c, key, ADMIT_READ);
  for (; key < 3 * pages; ++key)
    use (c, key, ADMIT_READ);
  return key;
}

/* Pages of the main queue that nothing uses leave, if the mode is widen: here
 * those that were used twice, a little apart, and never again.
 */
static void
test_widen_thaws_main (void **state)
{
  size_t left[2];

  (void) state;
  for (unsigned widen = 0; widen < 2; ++widen) {
    struct cache *c = cache_new (1000);
    uint64_t key;

    for (key = 100; key < 5000; ++key) {
      use (c, key, ADMIT_READ);
      use (c, key - 80, ADMIT_READ);
    }
    assert_true (count_cached (c, 0, 5000) > 850);
    if (widen)
      evict_order (c->ev, EVICT_WIDEN, evict_share (c->ev));
    for (; key < 45000; ++key)
      use (c, key, ADMIT_READ);
    left[widen] = count_cached (c, 0, 5000);
    cache_free (c);
  }
  assert_true (left[0] > 800);
  assert_true (left[1] < 200);
}

/* Nor do they leave if they are used. */
static void
test_widen_spares_a_main_in_use (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key = fill_main (c, 800);

  (void) state;
  evict_order (c->ev, EVICT_WIDEN, evict_share (c->ev));
  for (unsigned i = 0; i < 80000; ++i) {
    use (c, i % 800, ADMIT_READ);
    if (i % 4 == 0)
      use (c, key++, ADMIT_READ);
  }
  assert_int_equal (count_cached (c, 0, 800), 800);
  cache_free (c);
}

/* In the mode clock all pages enter main, and the small queue leaves first. */
static void
test_clock (void **state)
{
  struct cache *c = cache_new (1000);
  uint64_t key;

  (void) state;
  for (key = 0; key < 1000; ++key)
    use (c, key, ADMIT_READ);
  evict_order (c->ev, EVICT_CLOCK, evict_share (c->ev));
  for (; key < 1500; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (count_cached (c, 500, 1500), 1000);
  for (uint64_t new = 1001; new < 1500; ++new)
    assert_int_equal (c->index[new]->entry.queue, EVICT_MAIN);
  /* Back: the small queue has the share that was ordered. */
  evict_order (c->ev, EVICT_USUAL, EVICT_WHOLE / 4);
  for (; key < 4500; ++key)
    use (c, key, ADMIT_READ);
  assert_int_equal (evict_share (c->ev), EVICT_WHOLE / 4);
  assert_int_equal (count_cached (c, 4250, 4500), 250);
  assert_int_equal (c->index[4400]->entry.queue, EVICT_SMALL);
  cache_free (c);
}

static void
test_forget_is_not_remembered (void **state)
{
  struct cache *c = cache_new (16);
  struct page *page;

  (void) state;
  for (uint64_t key = 0; key < 16; ++key)
    admit (c, key, ADMIT_READ);
  page = c->index[5];
  evict_forget (c->ev, &page->entry);
  assert_int_equal (page->entry.queue, EVICT_NONE);
  assert_int_equal (evict_count (c->ev), 15);
  c->index[5] = NULL;
  /* In again: as a new page. */
  page->entry.key = 5;
  c->index[5] = page;
  evict_admit (c->ev, &page->entry, ADMIT_READ);
  assert_int_equal (page->entry.queue, EVICT_SMALL);
  assert_int_equal (evict_count (c->ev), 16);
  cache_free (c);
}

static void
test_sixteen_pages (void **state)
{
  struct cache *c = cache_new (16);
  size_t hits = 0;

  (void) state;
  /* Four pages in steady use beside single uses stay. */
  for (uint64_t key = 100; key < 10000; ++key) {
    use (c, key, ADMIT_READ);
    hits += use (c, key % 4, ADMIT_READ);
  }
  assert_true (hits > 9800);
  cache_free (c);
}

static void
test_memory (void **state)
{
  struct evict *ev;
  struct evict_entry none;
  const size_t most = 10 * 1000 * 1000;

  (void) state;
  ev = evict_new (most, most, &none, sizeof none);
  assert_non_null (ev);
  assert_true (evict_memory (ev) <= 6 * most);
  evict_free (ev);
  evict_free (NULL);
}

/* Follow the links of all queues: each page that the checker thinks cached
 * must be in just one, in both directions.
 */
static void
check_links (const struct cache *c)
{
  size_t queued = 0, ends[EVICT_QUEUES] = { 0 }, starts[EVICT_QUEUES] = { 0 };

  for (size_t i = 0; i < c->most; ++i) {
    const struct evict_entry *e = &c->pages[i].entry;

    if (e->queue == EVICT_NONE)
      continue;
    assert_ptr_equal (c->index[e->key], &c->pages[i]);
    queued++;
    if (e->newer == UINT32_MAX)
      ends[e->queue]++;
    else {
      assert_int_equal (c->pages[e->newer].entry.older, i);
      assert_int_equal (c->pages[e->newer].entry.queue, e->queue);
    }
    if (e->older == UINT32_MAX)
      starts[e->queue]++;
    else
      assert_int_equal (c->pages[e->older].entry.newer, i);
  }
  for (unsigned q = 0; q < EVICT_QUEUES; ++q) {
    assert_true (ends[q] <= 1);
    assert_int_equal (ends[q], starts[q]);
  }
  assert_int_equal (queued, evict_count (c->ev));
}

/* A long run of everything, checked against what the caller knows. */
static void
random_run (uint32_t seed, size_t most)
{
  struct cache *c = cache_new_most (most, most);
  struct page **free_pages = calloc (most, sizeof *free_pages);
  size_t free_count = 0, cached = 0, steps = 200000;
  struct page *page;

  assert_non_null (free_pages);
  c->random = seed;
  for (size_t i = 0; i < most; ++i)
    free_pages[free_count++] = &c->pages[i];

  while (steps-- > 0) {
    /* Half of the uses go to a tenth of the keys. */
    const uint64_t key = any (c, any (c, 2) ? most * 4 : most * 4 / 10);
    const uint32_t what = any (c, 1000);

    page = c->index[key];
    if (what < 4) {
      c->capacity = 1 + any (c, most);
      evict_resize (c->ev, c->capacity);
    }
    else if (what < 24 && page != NULL) {
      evict_forget (c->ev, &page->entry);
      c->index[key] = NULL;
      free_pages[free_count++] = page;
      cached--;
      continue;
    }
    else if (what < 44 && page != NULL)
      evict_cold (c->ev, &page->entry);
    else if (what < 144 && page != NULL)
      page->stays = any (c, 3) == 0;

    if (page != NULL)
      evict_hit (c->ev, &page->entry);
    else {
      while (cached >= c->capacity && (page = victim (c)) != NULL) {
        assert_false (page->stays);
        free_pages[free_count++] = page;
        cached--;
      }
      if (cached < c->capacity) {
        page = free_pages[--free_count];
        page->entry.key = key;
        page->stays = false;
        c->index[key] = page;
        evict_admit (c->ev, &page->entry, any (c, 3));
        cached++;
      }
    }
    assert_int_equal (evict_count (c->ev), cached);
    if (steps % 1000 == 0)
      check_links (c);
  }
  free (free_pages);
  cache_free (c);
}

static void
test_random_runs (void **state)
{
  (void) state;
  random_run (1, 16);
  random_run (2, 100);
  random_run (3, 1000);
  random_run (4, 5000);
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
    cmocka_unit_test (test_cold_goes_first),
    cmocka_unit_test (test_null_if_none_may_go),
    cmocka_unit_test (test_refused_work_is_bounded),
    cmocka_unit_test (test_many_dirty_pages_cost_little),
    cmocka_unit_test (test_held_pages),
    cmocka_unit_test (test_uses_are_bounded),
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

  return cmocka_run_group_tests_name ("evict", tests, NULL, NULL);
}
