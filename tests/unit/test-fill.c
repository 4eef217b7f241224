/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of fills: readers that join one, and writes, zeroes, trims and
 * drops that overtake one.
 */

#include <config.h>

#include <errno.h>

#include "cache.h"

static void
test_nothing_is_a_miss (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    struct page *p;

    assert_int_equal (cache_value (c, 0, 1), -1);
    p = cache_pin (c, 0);
    assert_int_equal (cache_value (c, 0, 1), -1);
    page_unpin (&c->pc, p);
    cache_assert_amounts (c, 0, 0, 0, 0);
  }
}

static void
test_fill_is_a_hit (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    cache_fill (c, 0, 1, 7);
    assert_int_equal (cache_value (c, 0, cache_block (c)), 7);
    if (cache_block (c) < page_size (&c->pc))
      assert_int_equal (cache_value (c, 0, cache_block (c) + 1), -1);
    cache_assert_amounts (c, 0, 0, 0, 0);
  }
}

static void
test_fill_asks_for_what_is_missing (void **state)
{
  struct cache *c = cache_small ();
  const struct part part = part_of (c, 0, 4096);
  struct page *p;
  struct span ours;

  cache_fill (c, 0, 512, 1);
  cache_fill (c, 3584, 512, 1);
  p = cache_pin (c, 0);
  assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
  assert_int_equal (ours.first, 1);
  assert_int_equal (ours.count, 6);
  fill_end (&c->pc, p, ours, NULL, EIO);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_fill_of_uptodate_is_nothing (void **state)
{
  FOR_EACH_GEOMETRY (c) {
    const struct part part = part_of (c, 0, cache_block (c));
    struct span ours;
    struct page *p;

    cache_write (c, 0, cache_block (c), 1);
    p = cache_pin (c, 0);
    assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_NOTHING);
    page_unpin (&c->pc, p);
  }
}

/* The page is newer than what was read round it. */
static void
test_fill_keeps_uptodate_blocks (void **state)
{
  struct cache *c = cache_small ();
  const struct part part = part_of (c, 0, 1536);
  uint8_t *bytes = same_bytes (1536, 2);
  struct page *p;
  struct span ours;

  cache_write (c, 512, 512, 1);
  p = cache_pin (c, 0);
  assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
  assert_int_equal (ours.count, 3);
  fill_end (&c->pc, p, ours, bytes, 0);
  page_unpin (&c->pc, p);
  assert_int_equal (cache_value (c, 0, 512), 2);
  assert_int_equal (cache_value (c, 512, 512), 1);
  assert_int_equal (cache_value (c, 1024, 512), 2);
  assert_int_equal (bytes[0], 2);
  assert_int_equal (bytes[512], 1); /* the reader gets them too */
  assert_int_equal (bytes[1024], 2);
  free (bytes);
  cache_free (c);
}

/* A fill under way, of the first two blocks. */
struct filling {
  struct cache *c;
  struct page *page;
  struct span ours;
};

static void
begin_filling (struct filling *f, struct cache *c)
{
  const struct part part = part_of (c, 0, 1024);

  f->c = c;
  f->page = cache_pin (c, 0);
  must (fill_begin (&c->pc, f->page, &part, &f->ours) == FILL_OURS);
}

static void
end_filling (struct filling *f, int value, int error)
{
  uint8_t *bytes = same_bytes (1024, value);

  fill_end (&f->c->pc, f->page, f->ours, bytes, error);
  page_unpin (&f->c->pc, f->page);
  free (bytes);
}

static enum fill
second_fill (struct filling *f, uint64_t offset, uint64_t len)
{
  const struct part part = part_of (f->c, offset, len);
  struct span ours;

  return fill_begin (&f->c->pc, f->page, &part, &ours);
}

static void
test_second_reader_joins (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  assert_int_equal (second_fill (&f, 0, 1024), FILL_JOIN);
  assert_int_equal (second_fill (&f, 512, 512), FILL_JOIN);
  end_filling (&f, 1, 0);
  assert_int_equal (cache_value (c, 0, 1024), 1);
  cache_free (c);
}

static void
test_reader_of_more_goes_alone (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  assert_int_equal (second_fill (&f, 0, 2048), FILL_ALONE);
  assert_int_equal (second_fill (&f, 2048, 512), FILL_ALONE);
  end_filling (&f, 1, 0);
  cache_free (c);
}

static void
wait_fill (void *arg)
{
  struct filling *f = arg;

  fill_wait (&f->c->pc, f->page);
}

static void
test_joiner_is_woken (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;
  struct thread t;

  begin_filling (&f, c);
  (void) cache_pin (c, 0); /* the joiner's */
  thread_start (&t, wait_fill, &f);
  end_filling (&f, 1, 0);
  thread_join (&t);
  page_unpin (&c->pc, f.page);
  cache_free (c);
}

static void
test_failed_fill_leaves_nothing (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;
  struct page *p = cache_pin (c, 0);

  begin_filling (&f, c);
  end_filling (&f, 1, EIO);
  assert_int_equal (cache_value (c, 0, 512), -1);
  begin_filling (&f, c); /* a read that joined reads again itself */
  end_filling (&f, 2, 0);
  assert_int_equal (cache_value (c, 0, 1024), 2);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_write_overtakes_fill (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  cache_write (c, 512, 512, 9);
  assert_int_equal (second_fill (&f, 0, 1024), FILL_JOIN);
  assert_int_equal (second_fill (&f, 512, 512), FILL_NOTHING);
  end_filling (&f, 1, 0);
  assert_int_equal (cache_value (c, 0, 512), 1);
  assert_int_equal (cache_value (c, 512, 512), 9);
  cache_free (c);
}

/* The write that overtook it failed: what was read is older than the write. */
static void
test_failed_write_overtakes_fill (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  cache_write_claimed (c, 512, 512, 9);
  cache_end_write (c, 512, 512, OUTCOME_FAILED);
  assert_int_equal (second_fill (&f, 512, 512), FILL_ALONE);
  end_filling (&f, 1, 0);
  assert_int_equal (cache_value (c, 0, 512), 1);
  assert_int_equal (cache_value (c, 512, 512), -1);
  cache_free (c);
}

static void
clear_overtakes (enum clear how)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  pagecache_clear (&c->pc, 512, 512, how);
  assert_int_equal (second_fill (&f, 512, 512), FILL_ALONE);
  end_filling (&f, 1, 0);
  assert_int_equal (cache_value (c, 0, 512), 1);
  assert_int_equal (cache_value (c, 512, 512), -1);
  cache_free (c);
}

static void
test_zero_trim_and_their_failure_overtake_fill (void **state)
{
  clear_overtakes (CLEAR_ZEROED);
  clear_overtakes (CLEAR_UNKNOWN);
  clear_overtakes (CLEAR_FAILED);
}

static void
test_drop_overtakes_fill (void **state)
{
  struct cache *c = cache_small ();
  struct filling f;

  begin_filling (&f, c);
  pagecache_drop (&c->pc);
  end_filling (&f, 1, 0);
  assert_int_equal (cache_value (c, 0, 512), -1);
  cache_free (c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_nothing_is_a_miss),
    cmocka_unit_test (test_fill_is_a_hit),
    cmocka_unit_test (test_fill_asks_for_what_is_missing),
    cmocka_unit_test (test_fill_of_uptodate_is_nothing),
    cmocka_unit_test (test_fill_keeps_uptodate_blocks),
    cmocka_unit_test (test_second_reader_joins),
    cmocka_unit_test (test_reader_of_more_goes_alone),
    cmocka_unit_test (test_joiner_is_woken),
    cmocka_unit_test (test_failed_fill_leaves_nothing),
    cmocka_unit_test (test_write_overtakes_fill),
    cmocka_unit_test (test_failed_write_overtakes_fill),
    cmocka_unit_test (test_zero_trim_and_their_failure_overtake_fill),
    cmocka_unit_test (test_drop_overtakes_fill),
  };

  return cmocka_run_group_tests_name ("fill", tests, NULL, NULL);
}
