/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of writes of blocks that are in flight: what write-back gathers,
 * and the states of blocks when a write ends.
 */

#include <config.h>

#include "cache.h"

/* ---- write-back ---- */

static void
test_gather_takes_what_is_dirty (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const int64_t block = cache_block (c);
    uint8_t *bytes = same_bytes (page_size (&c->pc), 0);
    struct span s;
    bool busy;

    cache_write (c, 0, block, 5);
    s = cache_gather (c, 0, bytes, &busy);
    assert_int_equal (s.first, 0);
    assert_int_equal (s.count, 1);
    assert_false (busy);
    assert_int_equal (bytes[block - 1], 5);
    cache_assert_amounts (c, 0, block, 0, block);
    assert_int_equal (cache_value (c, 0, block), 5);
    s = cache_gather (c, 0, bytes, &busy);
    assert_int_equal (s.count, 0);
    assert_false (busy);
    cache_end_write (c, 0, block, OUTCOME_UNSTABLE);
    cache_assert_amounts (c, 0, 0, block, block);
    free (bytes);
  }
}

static void
test_gather_takes_one_run (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  cache_write (c, 512, 1024, 1);
  cache_write (c, 2048, 1024, 2);
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 1);
  assert_int_equal (s.count, 2);
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 4);
  assert_int_equal (s.count, 2);
  assert_int_equal (bytes[0], 2);
  cache_end_write (c, 512, 1024, OUTCOME_STABLE);
  cache_end_write (c, 2048, 1024, OUTCOME_STABLE);
  cache_assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

static void
test_gather_is_bounded (void **state)
{
  struct cache *c = cache_small ();
  uint32_t pass;
  uint8_t bytes[4096];
  bool busy = false;
  struct span s;

  cache_write (c, 0, 4096, 1);
  pass = held_begin_pass (&c->pc.held);
  s = page_gather (&c->pc, 0, 2, 8, 3, pass, false, bytes, &busy);
  assert_int_equal (s.first, 2);
  assert_int_equal (s.count, 3);
  /* It has to begin before block 2, not to end there. */
  s = page_gather (&c->pc, 0, 0, 1, 8, pass, false, bytes, &busy);
  assert_int_equal (s.first, 0);
  assert_int_equal (s.count, 2);
  s = page_gather (&c->pc, 0, 5, 5, 8, pass, false, bytes, &busy);
  assert_int_equal (s.count, 0);
  cache_end_write (c, 0, 2560, OUTCOME_STABLE);
  cache_assert_amounts (c, 1536, 0, 0, 1536);
  cache_free (c);
}

static void
test_pass_leaves_what_is_later (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  bool busy = false;
  uint32_t pass;
  struct span s;

  cache_write (c, 0, 512, 1);
  pass = held_begin_pass (&c->pc.held);
  cache_write (c, 4096, 512, 2);
  s = page_gather (&c->pc, 1, 0, 8, 8, pass, false, bytes, &busy);
  assert_int_equal (s.count, 0);
  s = page_gather (&c->pc, 0, 0, 8, 8, pass, false, bytes, &busy);
  assert_int_equal (s.count, 1);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* A batch may go on with the page; its blocks in flight are not gathered. */
static void
test_batch_takes_what_is_later_along (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  bool busy = false;
  uint32_t pass;
  struct span s;

  pass = held_begin_pass (&c->pc.held);
  cache_write (c, 4096, 512, 2);
  s = page_gather (&c->pc, 1, 0, 1, 8, pass, true, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 2);
  cache_write (c, 4096, 512, 3);
  s = page_gather (&c->pc, 1, 0, 1, 8, pass, true, bytes, &busy);
  assert_int_equal (s.count, 0);
  assert_false (busy);
  cache_end_write (c, 4096, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* Law 7: what is in flight is not submitted again before it ended. */
static void
test_block_in_flight_is_busy (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  cache_write (c, 0, 512, 1);
  cache_gather (c, 0, bytes, &busy);
  cache_write (c, 0, 512, 2); /* does not wait */
  assert_int_equal (cache_value (c, 0, 512), 2);
  assert_int_equal (bytes[0], 1); /* stable */
  cache_assert_amounts (c, 512, 512, 0, 512);
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 0);
  assert_true (busy);
  assert_int_equal (cache_try_claim (c, 0, 512), WRITE_BUSY);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  cache_assert_amounts (c, 512, 0, 0, 512); /* the newer bytes */
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 2);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  cache_assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

static void
test_busy_block_ends_a_run (void **state)
{
  struct cache *c = cache_small ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  cache_write (c, 512, 512, 1);
  cache_gather (c, 0, bytes, &busy);
  cache_write (c, 0, 2048, 2);
  s = cache_gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 0);
  assert_int_equal (s.count, 1);
  assert_true (busy);
  s = cache_gather (c, 512, bytes, &busy);
  assert_int_equal (s.first, 2);
  assert_int_equal (s.count, 2);
  assert_true (busy);
  cache_end_write (c, 0, 2048, OUTCOME_STABLE);
  cache_assert_amounts (c, 512, 0, 0, 512);
  cache_free (c);
}

/* ---- the ends of writes ---- */

/* The state of a block before a writethrough, the event meanwhile, how it
 * ended, and what it is then: a letter for each state.
 */
static const struct {
  const char *before;
  bool written_meanwhile;
  enum outcome outcome;
  bool failure_meanwhile;
  const char *after; /* u uptodate, d dirty, s unstable */
} ends[] = {
  { "", false, OUTCOME_STABLE, false, "u" },
  { "", false, OUTCOME_UNSTABLE, false, "us" },
  { "", false, OUTCOME_FAILED, false, "" },
  { "", false, OUTCOME_UNSTABLE, true, "ud" },
  { "", true, OUTCOME_STABLE, false, "ud" },
  { "", true, OUTCOME_UNSTABLE, false, "uds" },
  { "", true, OUTCOME_FAILED, false, "ud" },
  { "", true, OUTCOME_UNSTABLE, true, "ud" },
  { "u", false, OUTCOME_STABLE, false, "u" },
  { "u", false, OUTCOME_UNSTABLE, false, "us" },
  { "u", false, OUTCOME_FAILED, false, "" },
  { "u", true, OUTCOME_FAILED, false, "ud" },
  { "d", false, OUTCOME_STABLE, false, "u" },
  { "d", false, OUTCOME_UNSTABLE, false, "us" },
  { "d", false, OUTCOME_FAILED, false, "ud" },
  { "d", false, OUTCOME_UNSTABLE, true, "ud" },
  { "d", true, OUTCOME_STABLE, false, "ud" },
  { "d", true, OUTCOME_FAILED, false, "ud" },
  { "s", false, OUTCOME_STABLE, false, "u" },
  { "s", false, OUTCOME_UNSTABLE, false, "us" },
  { "s", false, OUTCOME_FAILED, false, "ud" },
  { "s", false, OUTCOME_FAILED, true, "ud" },
  { "s", true, OUTCOME_STABLE, false, "ud" },
  { "s", true, OUTCOME_UNSTABLE, false, "uds" },
  { "s", true, OUTCOME_FAILED, false, "ud" },
};

static void
prepare (struct cache *c, const char *before)
{
  if (*before == 'u')
    cache_fill (c, 0, cache_block (c), 1);
  if (*before == 'd')
    cache_write (c, 0, cache_block (c), 1);
  if (*before == 's')
    cache_make_unstable (c, 0, cache_block (c), 1);
}

static void
assert_block (struct cache *c, size_t row, const char *after)
{
  static const char letters[] = "udwsp";
  char is[8] = "", *to = is;
  enum block_state s;

  for (s = UPTODATE; s <= PENDING; ++s)
    if (block_is (c, 0, s))
      *to++ = letters[s];
  if (strcmp (is, after) != 0)
    fail_msg ("row %zu, page %u: \"%s\" instead of \"%s\"", row,
              page_size (&c->pc), is, after);
}

static void
test_ends_of_writes (void **state)
{
  uint32_t epoch;
  bool took;
  size_t i;

  FOR_EACH_GEOMETRY (c)
    for (i = 0; i < ARRAY_LEN (ends); ++i) {
      const int64_t block = cache_block (c);

      prepare (c, ends[i].before);
      epoch = held_epoch (&c->pc.held);
      took = cache_write_claimed (c, 0, block, 2);
      assert_int_equal (took,
                        ends[i].before[0] == 'd' || ends[i].before[0] == 's');
      cache_assert_amounts (c, 0, block, 0, block);
      if (ends[i].written_meanwhile)
        cache_write (c, 0, block, 3);
      if (ends[i].failure_meanwhile)
        ledger_fail (&c->pc, held_epoch (&c->pc.held));
      pagecache_end_write (&c->pc, 0, block, ends[i].outcome, epoch);
      assert_block (c, i, ends[i].after);
      cache_assert_amounts (c, strchr (ends[i].after, 'd') ? block : 0, 0,
                            strchr (ends[i].after, 's') ? block : 0,
                            strpbrk (ends[i].after, "ds") ? block : 0);
      if (strchr (ends[i].after, 'u'))
        assert_int_equal (cache_value (c, 0, block),
                          ends[i].written_meanwhile ? 3 : 2);
      pagecache_clear (&c->pc, 0, block, CLEAR_UNKNOWN);
    }
}

/* The same for a block that write-back took: it was acknowledged. */
static void
test_ends_of_writeback (void **state)
{
  static const struct {
    enum outcome outcome;
    const char *after;
  } rows[] = { { OUTCOME_FAILED, "ud" },
               { OUTCOME_UNSTABLE, "us" },
               { OUTCOME_STABLE, "u" } };
  size_t i;

  FOR_EACH_GEOMETRY (c)
    for (i = 0; i < ARRAY_LEN (rows); ++i) {
      uint8_t *bytes = same_bytes (page_size (&c->pc), 0);
      const uint64_t failures = c->pc.unmade;
      bool busy;

      cache_write (c, 0, cache_block (c), 1);
      cache_gather (c, 0, bytes, &busy);
      cache_end_write (c, 0, cache_block (c), rows[i].outcome);
      assert_block (c, i, rows[i].after);
      assert_int_equal (c->pc.unmade - failures,
                        rows[i].outcome == OUTCOME_FAILED);
      pagecache_clear (&c->pc, 0, cache_block (c), CLEAR_UNKNOWN);
      free (bytes);
    }
}

static void
test_unclaim_changes_nothing (void **state)
{
  struct cache *c = cache_small ();
  const struct part part = part_of (c, 0, 1536);
  struct page *p = cache_pin (c, 0);

  cache_write (c, 0, 512, 1);
  cache_make_unstable (c, 512, 512, 2);
  assert_int_equal (page_claim (&c->pc, p, &part), 0);
  cache_assert_amounts (c, 512, 1536, 512, 1536);
  page_unclaim (&c->pc, p, &part);
  cache_assert_amounts (c, 512, 0, 512, 1024);
  assert_true (block_is (c, 0, DIRTY));
  assert_true (block_is (c, 512, UNSTABLE));
  assert_int_equal (cache_value (c, 1024, 512), -1);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_failed_write_of_unknown_drops_the_page (void **state)
{
  struct cache *c = cache_small ();

  cache_write_claimed (c, 0, 512, 1);
  cache_end_write (c, 0, 512, OUTCOME_FAILED);
  assert_null (pool_find (c->pool, c->pc.key_base));
  cache_free (c);
}

static void
test_end_over_many_pages (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = cache_block (c);
    uint64_t i;

    cache_write_claimed (c, page - block, block, 1);
    for (i = 1; i < 7; ++i)
      cache_write_claimed (c, i * page, page, 1);
    cache_write_claimed (c, 7 * page, block, 1);
    cache_assert_amounts (c, 0, 6 * page + 2 * block, 0, 6 * page + 2 * block);
    cache_end_write (c, page - block, 6 * page + 2 * block, OUTCOME_UNSTABLE);
    cache_assert_amounts (c, 0, 0, 6 * page + 2 * block, 6 * page + 2 * block);
  }
}

static void
test_copy_of_claimed_blocks (void **state)
{
  struct cache *c = cache_small ();
  struct page *p = cache_pin (c, 0);
  uint8_t bytes[1024];

  cache_fill (c, 0, 1024, 1);
  cache_write_claimed (c, 256, 512, 2);
  page_copy_claimed (&c->pc, p, (struct span){ 0, 2 }, bytes);
  assert_int_equal (bytes[255], 1);
  assert_int_equal (bytes[256], 2);
  assert_int_equal (bytes[767], 2);
  assert_int_equal (bytes[768], 1);
  cache_end_write (c, 0, 1024, OUTCOME_STABLE);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
wait_writeback (void *arg)
{
  struct cache *c = arg;

  pagecache_wait_writeback (&c->pc, 0, 8192);
  must (!block_is (c, 0, WRITEBACK));
  must (!block_is (c, 4096, WRITEBACK));
}

static void
test_wait_for_writeback (void **state)
{
  struct cache *c = cache_small ();
  struct thread t;

  cache_write_claimed (c, 0, 512, 1);
  cache_write_claimed (c, 4096, 512, 1);
  thread_start (&t, wait_writeback, c);
  cache_end_write (c, 4096, 512, OUTCOME_FAILED); /* this page is gone then */
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  thread_join (&t);
  cache_free (c);
}

static void
test_writearound_leaves_when_stable (void **state)
{
  struct cache *c = cache_small ();

  c->pc.around = true;
  cache_write_claimed (c, 0, 512, 1);
  cache_end_write (c, 0, 512, OUTCOME_STABLE);
  assert_int_equal (cache_value (c, 0, 512), -1);
  cache_make_unstable (c, 0, 512, 2);
  assert_int_equal (cache_value (c, 0, 512), 2);
  ledger_settle (&c->pc, held_begin_flush (&c->pc.held));
  assert_int_equal (cache_value (c, 0, 512), -1);
  cache_free (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_gather_takes_what_is_dirty),
    cmocka_unit_test (test_gather_takes_one_run),
    cmocka_unit_test (test_gather_is_bounded),
    cmocka_unit_test (test_pass_leaves_what_is_later),
    cmocka_unit_test (test_batch_takes_what_is_later_along),
    cmocka_unit_test (test_block_in_flight_is_busy),
    cmocka_unit_test (test_busy_block_ends_a_run),
    cmocka_unit_test (test_ends_of_writes),
    cmocka_unit_test (test_ends_of_writeback),
    cmocka_unit_test (test_unclaim_changes_nothing),
    cmocka_unit_test (test_failed_write_of_unknown_drops_the_page),
    cmocka_unit_test (test_end_over_many_pages),
    cmocka_unit_test (test_copy_of_claimed_blocks),
    cmocka_unit_test (test_wait_for_writeback),
    cmocka_unit_test (test_writearound_leaves_when_stable),
  };

  return cmocka_run_group_tests_name ("gather", tests, NULL, NULL);
}
