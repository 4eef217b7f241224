/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the states of blocks: ordinary writes, flushes, zeroes and
 * trims, and pages that are held.
 */

#include <config.h>

#include <errno.h>

#include "cache.h"

/* ---- ordinary writes ---- */

static void
test_write_of_blocks_reads_nothing (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const int64_t block = cache_block (c);

    cache_write (c, 0, block, 5);
    assert_int_equal (cache_value (c, 0, block), 5);
    cache_assert_amounts (c, block, 0, 0, block);
    cache_write (c, 0, page_size (&c->pc), 6);
    cache_assert_amounts (c, page_size (&c->pc), 0, 0, page_size (&c->pc));
  }
}

static void
test_write_of_zeroes (void **state)
{
  struct cache *c = cache_small ();
  const struct part part = part_of (c, 0, 512);
  struct page *p = cache_pin (c, 0);

  cache_write (c, 0, 512, 5);
  assert_int_equal (page_write (&c->pc, p, &part, NULL), 0);
  assert_int_equal (cache_value (c, 0, 512), 0);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_part_of_a_block_needs_its_edge (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t block = cache_block (c);

    assert_int_equal (cache_try_write (c, 1, block - 1, 5), WRITE_EDGE);
    assert_int_equal (cache_try_write (c, 0, block - 1, 5), WRITE_EDGE);
    assert_int_equal (cache_try_claim (c, 0, block - 1), WRITE_EDGE);
    assert_int_equal (cache_value (c, 0, 1), -1);
    cache_assert_amounts (c, 0, 0, 0, 0);
    cache_fill (c, 0, block, 3);
    assert_int_equal (cache_try_write (c, 1, 1, 5), 0);
    assert_int_equal (cache_value (c, 0, 1), 3);
    assert_int_equal (cache_value (c, 1, 1), 5);
    assert_int_equal (cache_value (c, 2, block - 2), 3);
    cache_assert_amounts (c, block, 0, 0, block);
  }
}

/* The last block may be short; covered to the end it is covered whole. */
static void
test_short_last_block (void **state)
{
  FOR_EACH_GEOMETRY (g) {
    const uint32_t block = block_size (&g->pc);
    const uint64_t page = page_size (&g->pc), size = page + block / 2 + 1;
    struct cache *c = cache_new (CACHE_MEMORY, page, block, size);
    uint8_t *bytes = same_bytes (page, 0);
    struct span s;
    bool busy;

    assert_int_equal (cache_try_write (c, page, size - page, 4), 0);
    assert_int_equal (cache_value (c, page, size - page), 4);
    cache_assert_amounts (c, block, 0, 0, block);
    bytes[size - page] = 0xaa;
    s = cache_gather (c, page, bytes, &busy);
    assert_int_equal (s.first, 0);
    assert_int_equal (s.count, 1);
    assert_int_equal (bytes[size - page - 1], 4);
    assert_int_equal (bytes[size - page], 0xaa); /* nothing past the end */
    cache_end_write (c, page, size - page, OUTCOME_STABLE);
    cache_assert_amounts (c, 0, 0, 0, 0);
    free (bytes);
    cache_free (c);
  }
}

static void
test_fill_of_short_last_block (void **state)
{
  struct cache *c = cache_new (4 * MiB, 4096, 512, 4096 + 700);
  const struct part part = part_of (c, 4096, 700);
  struct page *p = cache_pin (c, 4096);
  uint8_t bytes[1024];
  struct span ours;

  memset (bytes, 1, 700);
  memset (bytes + 700, 0xbb, sizeof bytes - 700);
  assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
  assert_int_equal (ours.count, 2);
  fill_end (&c->pc, p, ours, bytes, 0);
  assert_int_equal (cache_value (c, 4096, 700), 1);
  assert_int_equal (pool_frame (c->pool, p)[700], 0);
  page_unpin (&c->pc, p);
  cache_free (c);
}

/* ---- flushes ---- */

static void
test_flush_settles_what_ended_before (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);
    uint32_t flush;

    cache_make_unstable (c, 0, block, 1);
    flush = held_begin_flush (&c->pc.held);
    cache_make_unstable (c, page, block, 2);
    ledger_settle (&c->pc, flush);
    cache_assert_amounts (c, 0, 0, block, block);
    assert_false (block_is (c, 0, UNSTABLE));
    assert_true (block_is (c, page, UNSTABLE));
    assert_int_equal (cache_value (c, 0, block), 1);
    ledger_settle (&c->pc, held_begin_flush (&c->pc.held));
    cache_assert_amounts (c, 0, 0, 0, 0);
  }
}

/* One generation a page: a block of it that is later makes all wait. */
static void
test_later_block_keeps_the_page_unstable (void **state)
{
  struct cache *c = cache_small ();
  uint32_t flush;

  cache_make_unstable (c, 0, 512, 1);
  flush = held_begin_flush (&c->pc.held);
  cache_make_unstable (c, 512, 512, 2);
  ledger_settle (&c->pc, flush);
  assert_true (block_is (c, 512, UNSTABLE));
  cache_free (c);
}

/* A write in flight when the flush began is not covered by it. */
static void
test_flush_does_not_settle_what_is_in_flight (void **state)
{
  struct cache *c = cache_small ();
  uint32_t flush;

  cache_write_claimed (c, 0, 512, 1);
  flush = held_begin_flush (&c->pc.held);
  cache_end_write (c, 0, 512, OUTCOME_UNSTABLE);
  ledger_settle (&c->pc, flush);
  cache_assert_amounts (c, 0, 0, 512, 512);
  cache_free (c);
}

static void
test_settle_after_many_flushes (void **state)
{
  struct cache *c = cache_small ();
  uint32_t i, flush = 0;

  for (i = 0; i < 70000; ++i) { /* the generation wraps */
    if (i % 1000 == 0)
      cache_make_unstable (c, 0, 512, 1);
    flush = held_begin_flush (&c->pc.held);
    if (i % 1000 == 0) {
      ledger_settle (&c->pc, flush);
      cache_assert_amounts (c, 0, 0, 0, 0);
    }
  }
  cache_free (c);
}

static void
test_failed_flush_makes_dirty (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);

    cache_make_unstable (c, 0, block, 1);
    cache_make_unstable (c, page, page, 2);
    cache_write (c, 2 * page, block, 3);
    cache_fill (c, 3 * page, block, 4);
    ledger_fail (&c->pc, held_epoch (&c->pc.held));
    cache_assert_amounts (c, page + 2 * block, 0, 0, page + 2 * block);
    assert_int_equal (cache_value (c, 0, block), 1);
    assert_false (block_is (c, 3 * page, DIRTY));
  }
}

static void
test_failure_makes_dirty_what_it_overlapped (void **state)
{
  struct cache *c = cache_small ();
  const uint32_t epoch = held_epoch (&c->pc.held);

  cache_write_claimed (c, 0, 512, 1);
  ledger_fail (&c->pc, held_epoch (&c->pc.held));
  pagecache_end_write (&c->pc, 0, 512, OUTCOME_UNSTABLE, epoch);
  cache_assert_amounts (c, 512, 0, 0, 512);
  cache_free (c);
}

static void
test_failed_flush_dirties_again_for_the_next_pass (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  cache_make_unstable (c, 0, 512, 6);
  ledger_fail (&c->pc, held_epoch (&c->pc.held));
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 6);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* ---- zeroes and trims ---- */

static void
test_clear_zeroed (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);

    cache_fill (c, 0, block, 1);
    cache_write (c, page, page, 2);
    cache_make_unstable (c, 2 * page, block, 3);
    pagecache_clear (&c->pc, 0, 3 * page, CLEAR_ZEROED);
    cache_assert_amounts (c, 0, 0, 0, 0);
    assert_int_equal (cache_value (c, 0, block), 0);
    assert_int_equal (cache_value (c, page, page), 0);
    assert_int_equal (cache_value (c, 2 * page, block), 0);
  }
}

static void
test_clear_unknown (void **state)
{
  struct cache *c = cache_small ();

  cache_fill (c, 0, 1024, 1);
  cache_write (c, 512, 1024, 2);
  pagecache_clear (&c->pc, 512, 512, CLEAR_UNKNOWN);
  assert_int_equal (cache_value (c, 0, 512), 1);
  assert_int_equal (cache_value (c, 512, 512), -1);
  assert_int_equal (cache_value (c, 1024, 512), 2);
  cache_assert_amounts (c, 512, 0, 0, 512);
  cache_free (c);
}

/* Law 9: clean blocks are not uptodate then, unstable ones dirty. */
static void
test_clear_failed (void **state)
{
  struct cache *c = cache_small ();

  cache_fill (c, 0, 512, 1);
  cache_write (c, 512, 512, 2);
  cache_make_unstable (c, 1024, 512, 3);
  pagecache_clear (&c->pc, 0, 1536, CLEAR_FAILED);
  assert_int_equal (cache_value (c, 0, 512), -1);
  assert_int_equal (cache_value (c, 512, 512), 2);
  assert_int_equal (cache_value (c, 1024, 512), 3);
  cache_assert_amounts (c, 1024, 0, 0, 1024);
  cache_free (c);
}

static void
test_exclusive_range_keeps_writers_out (void **state)
{
  struct cache *c = cache_small ();
  struct exclusive x;
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  cache_write (c, 0, 2048, 1);
  exclusive_begin (&c->pc.zeroes, &x, 512, 512);
  assert_int_equal (cache_try_write (c, 512, 1, 2), WRITE_EXCLUDED);
  assert_int_equal (cache_try_write (c, 0, 2048, 2), WRITE_EXCLUDED);
  assert_int_equal (cache_try_claim (c, 0, 1024), WRITE_EXCLUDED);
  assert_int_equal (cache_try_write (c, 0, 512, 1), 0);
  assert_int_equal (cache_value (c, 0, 2048), 1); /* nothing has changed */
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_true (busy);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  exclusive_end (&c->pc.zeroes, &x);
  assert_int_equal (cache_try_claim (c, 512, 512), 0);
  cache_end_write (c, 512, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* A write without a pin, over what is there: it says whether more is dirty, and
 * an exclusive range keeps it out, also where its blocks are dirty already.
 */
static void
test_rewrite_of_dirty_and_of_clean_blocks (void **state)
{
  struct cache *c = cache_small ();
  const struct part part = part_of (c, 512, 512);
  uint8_t bytes[512];
  struct exclusive x;

  memset (bytes, 2, sizeof bytes);
  assert_int_equal (page_rewrite (&c->pc, &part, bytes), REWRITE_NOT);
  cache_fill (c, 0, 2048, 1);
  assert_int_equal (page_rewrite (&c->pc, &part, bytes), REWRITE_MORE);
  cache_assert_amounts (c, 512, 0, 0, 512);
  assert_int_equal (page_rewrite (&c->pc, &part, NULL), REWRITE_SAME);
  cache_assert_amounts (c, 512, 0, 0, 512);
  assert_int_equal (cache_value (c, 512, 512), 0);

  exclusive_begin (&c->pc.zeroes, &x, 512, 512);
  assert_int_equal (page_rewrite (&c->pc, &part, bytes), REWRITE_NOT);
  assert_int_equal (cache_value (c, 512, 512), 0);
  exclusive_end (&c->pc.zeroes, &x);
  cache_free (c);
}

static void
test_remembered_zeroes_fill_at_once (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);
    const struct part part = part_of (c, 0, page);
    struct page *p = cache_pin (c, 0);
    struct span ours = { 0 };

    assert_true (zeroes_remember (&c->pc.zeroes, 0, page - block, 0, 0));
    if (block < page) {
      assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
      assert_int_equal (ours.first, page / block - 1);
      assert_int_equal (ours.count, 1);
      fill_end (&c->pc, p, ours, NULL, EIO);
      assert_int_equal (cache_value (c, 0, page - block), 0);
    }
    zeroes_remember (&c->pc.zeroes, 0, page, 0, 0);
    assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_NOTHING);
    assert_int_equal (cache_value (c, 0, page), 0);
    page_unpin (&c->pc, p);
  }
}

/* A zero that may yet be lost can be done again only round what is held. */
static void
test_stable_write_in_zeroes_is_held (void **state)
{
  struct cache *c = cache_small ();
  uint32_t flush;

  zeroes_remember (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  assert_true (cache_write_claimed (c, 0, 512, 1));
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  cache_assert_amounts (c, 0, 0, 512, 512);
  flush = held_begin_flush (&c->pc.held);
  ledger_settle (&c->pc, flush);
  cache_assert_amounts (c, 0, 0, 0, 0);
  assert_false (zeroes_any (&c->pc.zeroes, 0, 4096));
  cache_free (c);
}

static void
test_lost_zeroes_keep_their_writes_held (void **state)
{
  struct cache *c = cache_small ();

  zeroes_remember (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  cache_make_unstable (c, 0, 512, 1);
  zeroes_lose (&c->pc.zeroes, 0);
  ledger_settle (&c->pc, held_begin_flush (&c->pc.held));
  cache_assert_amounts (c, 0, 0, 512, 512);
  zeroes_redone (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  ledger_settle (&c->pc, held_begin_flush (&c->pc.held));
  cache_assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

/* ---- held pages, sizes, memory ---- */

static void
test_held_runs (void **state)
{
  struct cache *c = cache_small ();
  uint64_t index = 0;
  struct span s;

  cache_write (c, 8192 + 512, 512, 1);
  cache_write_claimed (c, 8192 + 1024, 512, 1);
  cache_make_unstable (c, 8192 + 2048, 512, 1);
  assert_true (pagecache_next_held (&c->pc, &index));
  assert_int_equal (index, 2);
  s = page_held_run (&c->pc, 2, 0);
  assert_int_equal (s.first, 1);
  assert_int_equal (s.count, 2);
  s = page_held_run (&c->pc, 2, 3);
  assert_int_equal (s.first, 4);
  assert_int_equal (s.count, 1);
  s = page_held_run (&c->pc, 2, 5);
  assert_int_equal (s.count, 0);
  index++;
  assert_false (pagecache_next_held (&c->pc, &index));
  cache_end_write (c, 8192 + 1024, 512, OUTCOME_STABLE);
  cache_free (c);
}

static void
test_drop_keeps_what_is_held (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);

    cache_fill (c, 0, page, 1);
    cache_write (c, page, block, 2);
    cache_make_unstable (c, 2 * page, block, 3);
    pagecache_drop (&c->pc);
    assert_int_equal (cache_value (c, 0, block), -1);
    assert_int_equal (cache_value (c, page, block), 2);
    assert_int_equal (cache_value (c, 2 * page, block), 3);
    assert_null (pool_find (c->pool, c->pc.key_base));
  }
}

static void
test_resize (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);
    uint8_t *bytes = same_bytes (page, 0);
    uint64_t index = 0;
    bool busy;

    cache_fill (c, 0, page, 1);
    cache_write (c, page, page, 2);
    cache_write (c, 3 * page, page, 3);
    assert_int_equal (pagecache_resize (&c->pc, page + block),
                      2 * page - block);
    assert_int_equal (cache_value (c, 0, block), -1);
    assert_int_equal (cache_value (c, page, block), 2);
    cache_assert_amounts (c, 2 * page, 0, 0, 2 * page);
    /* Bytes past the end are kept, and never written. */
    assert_int_equal (cache_gather (c, page, bytes, &busy).count, 1);
    cache_end_write (c, page, block, OUTCOME_STABLE);
    assert_int_equal (page_gather (&c->pc, 3, 0, page / block, page / block,
                                   held_begin_pass (&c->pc.held), false, bytes,
                                   &busy)
                          .count,
                      0);
    assert_int_equal (pagecache_resize (&c->pc, 8 * page), 0);
    index = 3;
    assert_true (pagecache_next_held (&c->pc, &index));
    assert_int_equal (cache_gather (c, 3 * page, bytes, &busy).count,
                      page / block);
    cache_end_write (c, 3 * page, page, OUTCOME_STABLE);
    free (bytes);
  }
}

static void
test_held_pages_are_not_evicted (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  struct page *p;
  uint64_t i;

  cache_write (c, 0, 4096, 1);
  cache_make_unstable (c, 4096, 4096, 2);
  cache_write_claimed (c, 8192, 4096, 3);
  p = cache_pin (c, 12288);
  for (i = 4; i < 2000; ++i)
    cache_fill (c, i * 4096, 4096, 9);
  assert_int_equal (cache_value (c, 0, 4096), 1);
  assert_int_equal (cache_value (c, 4096, 4096), 2);
  assert_int_equal (cache_value (c, 8192, 4096), 3);
  assert_true (cache_pin (c, 12288) == p);
  page_unpin (&c->pc, p);
  page_unpin (&c->pc, p);
  cache_end_write (c, 8192, 4096, OUTCOME_STABLE);
  cache_free (c);
}

/* Law 18. */
static void
test_new_page_shows_nothing_of_its_frame (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  uint64_t i;

  for (i = 0; i < 1000; ++i) {
    struct page *p = cache_pin (c, i * 4096);

    assert_int_equal (cache_value (c, i * 4096, 1), -1);
    page_unpin (&c->pc, p);
    cache_fill (c, i * 4096, 512, i & 0xff);
    assert_int_equal (cache_value (c, i * 4096 + 512, 1), -1);
    assert_int_equal (cache_value (c, i * 4096, 512), i & 0xff);
  }
  cache_free (c);
}

static void
test_no_frame (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  struct page *pages[512];
  unsigned n = 0;

  while (n < ARRAY_LEN (pages) &&
         (pages[n] = page_pin (&c->pc, n, ADMIT_READ)) != NULL)
    n++;
  assert_between (n, 16, 256);
  page_unpin (&c->pc, pages[--n]);
  pages[n] = page_pin (&c->pc, 1000, ADMIT_READ);
  assert_non_null (pages[n]);
  n++;
  while (n > 0)
    page_unpin (&c->pc, pages[--n]);
  cache_free (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_write_of_blocks_reads_nothing),
    cmocka_unit_test (test_write_of_zeroes),
    cmocka_unit_test (test_part_of_a_block_needs_its_edge),
    cmocka_unit_test (test_short_last_block),
    cmocka_unit_test (test_fill_of_short_last_block),
    cmocka_unit_test (test_flush_settles_what_ended_before),
    cmocka_unit_test (test_later_block_keeps_the_page_unstable),
    cmocka_unit_test (test_flush_does_not_settle_what_is_in_flight),
    cmocka_unit_test (test_settle_after_many_flushes),
    cmocka_unit_test (test_failed_flush_makes_dirty),
    cmocka_unit_test (test_failure_makes_dirty_what_it_overlapped),
    cmocka_unit_test (test_failed_flush_dirties_again_for_the_next_pass),
    cmocka_unit_test (test_clear_zeroed),
    cmocka_unit_test (test_clear_unknown),
    cmocka_unit_test (test_clear_failed),
    cmocka_unit_test (test_exclusive_range_keeps_writers_out),
    cmocka_unit_test (test_rewrite_of_dirty_and_of_clean_blocks),
    cmocka_unit_test (test_remembered_zeroes_fill_at_once),
    cmocka_unit_test (test_stable_write_in_zeroes_is_held),
    cmocka_unit_test (test_lost_zeroes_keep_their_writes_held),
    cmocka_unit_test (test_held_runs),
    cmocka_unit_test (test_drop_keeps_what_is_held),
    cmocka_unit_test (test_resize),
    cmocka_unit_test (test_held_pages_are_not_evicted),
    cmocka_unit_test (test_new_page_shows_nothing_of_its_frame),
    cmocka_unit_test (test_no_frame),
  };

  return cmocka_run_group_tests_name ("pagecache", tests, NULL, NULL);
}
