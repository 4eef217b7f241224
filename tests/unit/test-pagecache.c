/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the states of blocks: each way from one to another, and all
 * of them at random against a model that knows nothing of pages.
 */

#include <config.h>

#include <errno.h>

#include "unit.h"

static const struct {
  uint32_t page, block;
} geometries[] = {
  { 4096, 512 },          { 4096, 4096 },       { 65536, 512 },
  { 65536, 65536 },       { 1024 * 1024, 512 }, { 1024 * 1024, 4096 },
  { 1024 * 1024, 65536 },
};

#define MEMORY (40 * MiB)

/* A cache in each geometry; its export has 8 pages. */
#define FOR_EACH_GEOMETRY(c)                                                   \
  for (size_t geometry = 0; geometry < ARRAY_LEN (geometries); ++geometry)     \
    for (struct cache *c = cache_new (                                         \
             MEMORY, geometries[geometry].page, geometries[geometry].block,    \
             8 * (uint64_t) geometries[geometry].page);                        \
         c; cache_free (c), c = NULL)

static struct cache *
small_cache (void)
{
  return cache_new (4 * MiB, 4096, 512, 1 * MiB);
}

static uint64_t
block_of (const struct cache *c)
{
  return block_size (&c->pc);
}

static struct page *
pin (struct cache *c, uint64_t offset)
{
  struct page *p = page_pin (&c->pc, offset >> c->pc.page_shift, ADMIT_READ);

  must (p != NULL);
  return p;
}

/* Bytes of one value. */
static uint8_t *
bytes_of (uint64_t len, int value)
{
  uint8_t *bytes = malloc (len);

  must (bytes != NULL);
  memset (bytes, value, len);
  return bytes;
}

static void
fill (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = pin (c, offset);
  uint8_t *bytes = bytes_of (page_size (&c->pc), value);
  struct span ours;

  if (fill_begin (&c->pc, p, &part, &ours) == FILL_OURS)
    fill_end (&c->pc, p, ours, bytes, 0);
  page_unpin (&c->pc, p);
  free (bytes);
}

static int
try_write (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = pin (c, offset);
  uint8_t *bytes = bytes_of (len, value);
  const int why = page_write (&c->pc, p, &part, bytes);

  page_unpin (&c->pc, p);
  free (bytes);
  return why;
}

static void
write_dirty (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  must (try_write (c, offset, len, value) == 0);
}

static int
try_claim (struct cache *c, uint64_t offset, uint64_t len)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = pin (c, offset);
  const int why = page_claim (&c->pc, p, &part);

  page_unpin (&c->pc, p);
  return why;
}

/* Claims and writes, as a writethrough does; whether it took a mark. */
static bool
write_claimed (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = pin (c, offset);
  uint8_t *bytes = bytes_of (len, value);
  _Atomic bool acknowledged = false;

  must (page_claim (&c->pc, p, &part) == 0);
  page_write_claimed (&c->pc, p, &part, bytes, &acknowledged);
  page_unpin (&c->pc, p);
  free (bytes);
  return acknowledged;
}

static void
end_write (struct cache *c, uint64_t offset, uint64_t len, enum outcome outcome)
{
  pagecache_end_write (&c->pc, offset, len, outcome, held_epoch (&c->pc.held));
}

static void
make_unstable (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  write_claimed (c, offset, len, value);
  end_write (c, offset, len, OUTCOME_UNSTABLE);
}

static struct span
gather (struct cache *c, uint64_t offset, void *to, bool *busy)
{
  const struct part part = part_of (c, offset, 1);
  const uint32_t blocks = page_size (&c->pc) / block_size (&c->pc);

  *busy = false;
  return page_gather (&c->pc, part.index, part.offset >> c->pc.block_shift,
                      blocks, blocks, held_begin_pass (&c->pc.held), false, to,
                      busy);
}

/* The value of all bytes of a part; -1: it is not cached. */
static int
value_at (struct cache *c, uint64_t offset, uint64_t len)
{
  const struct part part = part_of (c, offset, len);
  uint8_t *bytes = bytes_of (len, 0);
  int value = -1;
  uint64_t i;

  if (page_read (&c->pc, &part, bytes)) {
    value = bytes[0];
    for (i = 1; i < len; ++i)
      must (bytes[i] == value);
  }
  free (bytes);
  return value;
}

static void
assert_amounts (struct cache *c, int64_t dirty, int64_t writeback,
                int64_t unstable, int64_t held)
{
  const struct amounts a = pagecache_amounts (&c->pc);

  assert_int_equal (a.dirty, dirty);
  assert_int_equal (a.writeback, writeback);
  assert_int_equal (a.unstable, unstable);
  assert_int_equal (a.held, held);
}

/* ---- reads and fills ---- */

static void
test_nothing_is_a_miss (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    struct page *p;

    assert_int_equal (value_at (c, 0, 1), -1);
    p = pin (c, 0);
    assert_int_equal (value_at (c, 0, 1), -1);
    page_unpin (&c->pc, p);
    assert_amounts (c, 0, 0, 0, 0);
  }
}

static void
test_fill_is_a_hit (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    fill (c, 0, 1, 7);
    assert_int_equal (value_at (c, 0, block_of (c)), 7);
    if (block_of (c) < page_size (&c->pc))
      assert_int_equal (value_at (c, 0, block_of (c) + 1), -1);
    assert_amounts (c, 0, 0, 0, 0);
  }
}

static void
test_fill_asks_for_what_is_missing (void **state)
{
  struct cache *c = small_cache ();
  const struct part part = part_of (c, 0, 4096);
  struct page *p;
  struct span ours;

  (void) state;
  fill (c, 0, 512, 1);
  fill (c, 3584, 512, 1);
  p = pin (c, 0);
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
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const struct part part = part_of (c, 0, block_of (c));
    struct span ours;
    struct page *p;

    write_dirty (c, 0, block_of (c), 1);
    p = pin (c, 0);
    assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_NOTHING);
    page_unpin (&c->pc, p);
  }
}

/* The page is newer than what was read round it. */
static void
test_fill_keeps_uptodate_blocks (void **state)
{
  struct cache *c = small_cache ();
  const struct part part = part_of (c, 0, 1536);
  uint8_t *bytes = bytes_of (1536, 2);
  struct page *p;
  struct span ours;

  (void) state;
  write_dirty (c, 512, 512, 1);
  p = pin (c, 0);
  assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
  assert_int_equal (ours.count, 3);
  fill_end (&c->pc, p, ours, bytes, 0);
  page_unpin (&c->pc, p);
  assert_int_equal (value_at (c, 0, 512), 2);
  assert_int_equal (value_at (c, 512, 512), 1);
  assert_int_equal (value_at (c, 1024, 512), 2);
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
  f->page = pin (c, 0);
  must (fill_begin (&c->pc, f->page, &part, &f->ours) == FILL_OURS);
}

static void
end_filling (struct filling *f, int value, int error)
{
  uint8_t *bytes = bytes_of (1024, value);

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
  struct cache *c = small_cache ();
  struct filling f;

  (void) state;
  begin_filling (&f, c);
  assert_int_equal (second_fill (&f, 0, 1024), FILL_JOIN);
  assert_int_equal (second_fill (&f, 512, 512), FILL_JOIN);
  end_filling (&f, 1, 0);
  assert_int_equal (value_at (c, 0, 1024), 1);
  cache_free (c);
}

static void
test_reader_of_more_goes_alone (void **state)
{
  struct cache *c = small_cache ();
  struct filling f;

  (void) state;
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
  struct cache *c = small_cache ();
  struct filling f;
  struct thread t;

  (void) state;
  begin_filling (&f, c);
  (void) pin (c, 0); /* the joiner's */
  thread_start (&t, wait_fill, &f);
  end_filling (&f, 1, 0);
  thread_join (&t);
  page_unpin (&c->pc, f.page);
  cache_free (c);
}

static void
test_failed_fill_leaves_nothing (void **state)
{
  struct cache *c = small_cache ();
  struct filling f;
  struct page *p = pin (c, 0);

  (void) state;
  begin_filling (&f, c);
  end_filling (&f, 1, EIO);
  assert_int_equal (value_at (c, 0, 512), -1);
  begin_filling (&f, c); /* a read that joined reads again itself */
  end_filling (&f, 2, 0);
  assert_int_equal (value_at (c, 0, 1024), 2);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_write_overtakes_fill (void **state)
{
  struct cache *c = small_cache ();
  struct filling f;

  (void) state;
  begin_filling (&f, c);
  write_dirty (c, 512, 512, 9);
  assert_int_equal (second_fill (&f, 0, 1024), FILL_JOIN);
  assert_int_equal (second_fill (&f, 512, 512), FILL_NOTHING);
  end_filling (&f, 1, 0);
  assert_int_equal (value_at (c, 0, 512), 1);
  assert_int_equal (value_at (c, 512, 512), 9);
  cache_free (c);
}

/* The write that overtook it failed: what was read is older than the write. */
static void
test_failed_write_overtakes_fill (void **state)
{
  struct cache *c = small_cache ();
  struct filling f;

  (void) state;
  begin_filling (&f, c);
  write_claimed (c, 512, 512, 9);
  end_write (c, 512, 512, OUTCOME_FAILED);
  assert_int_equal (second_fill (&f, 512, 512), FILL_ALONE);
  end_filling (&f, 1, 0);
  assert_int_equal (value_at (c, 0, 512), 1);
  assert_int_equal (value_at (c, 512, 512), -1);
  cache_free (c);
}

static void
clear_overtakes (enum clear how)
{
  struct cache *c = small_cache ();
  struct filling f;

  begin_filling (&f, c);
  pagecache_clear (&c->pc, 512, 512, how);
  assert_int_equal (second_fill (&f, 512, 512), FILL_ALONE);
  end_filling (&f, 1, 0);
  assert_int_equal (value_at (c, 0, 512), 1);
  assert_int_equal (value_at (c, 512, 512), -1);
  cache_free (c);
}

static void
test_zero_trim_and_their_failure_overtake_fill (void **state)
{
  (void) state;
  clear_overtakes (CLEAR_ZEROED);
  clear_overtakes (CLEAR_UNKNOWN);
  clear_overtakes (CLEAR_FAILED);
}

static void
test_drop_overtakes_fill (void **state)
{
  struct cache *c = small_cache ();
  struct filling f;

  (void) state;
  begin_filling (&f, c);
  pagecache_drop (&c->pc);
  end_filling (&f, 1, 0);
  assert_int_equal (value_at (c, 0, 512), -1);
  cache_free (c);
}

/* ---- ordinary writes ---- */

static void
test_write_of_blocks_reads_nothing (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const int64_t block = block_of (c);

    write_dirty (c, 0, block, 5);
    assert_int_equal (value_at (c, 0, block), 5);
    assert_amounts (c, block, 0, 0, block);
    write_dirty (c, 0, page_size (&c->pc), 6);
    assert_amounts (c, page_size (&c->pc), 0, 0, page_size (&c->pc));
  }
}

static void
test_write_of_zeroes (void **state)
{
  struct cache *c = small_cache ();
  const struct part part = part_of (c, 0, 512);
  struct page *p = pin (c, 0);

  (void) state;
  write_dirty (c, 0, 512, 5);
  assert_int_equal (page_write (&c->pc, p, &part, NULL), 0);
  assert_int_equal (value_at (c, 0, 512), 0);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_part_of_a_block_needs_its_edge (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t block = block_of (c);

    assert_int_equal (try_write (c, 1, block - 1, 5), WRITE_EDGE);
    assert_int_equal (try_write (c, 0, block - 1, 5), WRITE_EDGE);
    assert_int_equal (try_claim (c, 0, block - 1), WRITE_EDGE);
    assert_int_equal (value_at (c, 0, 1), -1);
    assert_amounts (c, 0, 0, 0, 0);
    fill (c, 0, block, 3);
    assert_int_equal (try_write (c, 1, 1, 5), 0);
    assert_int_equal (value_at (c, 0, 1), 3);
    assert_int_equal (value_at (c, 1, 1), 5);
    assert_int_equal (value_at (c, 2, block - 2), 3);
    assert_amounts (c, block, 0, 0, block);
  }
}

/* The last block may be short; covered to the end it is covered whole. */
static void
test_short_last_block (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (g) {
    const uint32_t block = block_size (&g->pc);
    const uint64_t page = page_size (&g->pc), size = page + block / 2 + 1;
    struct cache *c = cache_new (MEMORY, page, block, size);
    uint8_t *bytes = bytes_of (page, 0);
    struct span s;
    bool busy;

    assert_int_equal (try_write (c, page, size - page, 4), 0);
    assert_int_equal (value_at (c, page, size - page), 4);
    assert_amounts (c, block, 0, 0, block);
    bytes[size - page] = 0xaa;
    s = gather (c, page, bytes, &busy);
    assert_int_equal (s.first, 0);
    assert_int_equal (s.count, 1);
    assert_int_equal (bytes[size - page - 1], 4);
    assert_int_equal (bytes[size - page], 0xaa); /* nothing past the end */
    end_write (c, page, size - page, OUTCOME_STABLE);
    assert_amounts (c, 0, 0, 0, 0);
    free (bytes);
    cache_free (c);
  }
}

static void
test_fill_of_short_last_block (void **state)
{
  struct cache *c = cache_new (4 * MiB, 4096, 512, 4096 + 700);
  const struct part part = part_of (c, 4096, 700);
  struct page *p = pin (c, 4096);
  uint8_t bytes[1024];
  struct span ours;

  (void) state;
  memset (bytes, 1, 700);
  memset (bytes + 700, 0xbb, sizeof bytes - 700);
  assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
  assert_int_equal (ours.count, 2);
  fill_end (&c->pc, p, ours, bytes, 0);
  assert_int_equal (value_at (c, 4096, 700), 1);
  assert_int_equal (pool_frame (c->pool, p)[700], 0);
  page_unpin (&c->pc, p);
  cache_free (c);
}

/* ---- write-back ---- */

static void
test_gather_takes_what_is_dirty (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const int64_t block = block_of (c);
    uint8_t *bytes = bytes_of (page_size (&c->pc), 0);
    struct span s;
    bool busy;

    write_dirty (c, 0, block, 5);
    s = gather (c, 0, bytes, &busy);
    assert_int_equal (s.first, 0);
    assert_int_equal (s.count, 1);
    assert_false (busy);
    assert_int_equal (bytes[block - 1], 5);
    assert_amounts (c, 0, block, 0, block);
    assert_int_equal (value_at (c, 0, block), 5);
    s = gather (c, 0, bytes, &busy);
    assert_int_equal (s.count, 0);
    assert_false (busy);
    end_write (c, 0, block, OUTCOME_UNSTABLE);
    assert_amounts (c, 0, 0, block, block);
    free (bytes);
  }
}

static void
test_gather_takes_one_run (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  (void) state;
  write_dirty (c, 512, 1024, 1);
  write_dirty (c, 2048, 1024, 2);
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 1);
  assert_int_equal (s.count, 2);
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 4);
  assert_int_equal (s.count, 2);
  assert_int_equal (bytes[0], 2);
  end_write (c, 512, 1024, OUTCOME_STABLE);
  end_write (c, 2048, 1024, OUTCOME_STABLE);
  assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

static void
test_gather_is_bounded (void **state)
{
  struct cache *c = small_cache ();
  uint32_t pass;
  uint8_t bytes[4096];
  bool busy = false;
  struct span s;

  (void) state;
  write_dirty (c, 0, 4096, 1);
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
  end_write (c, 0, 2560, OUTCOME_STABLE);
  assert_amounts (c, 1536, 0, 0, 1536);
  cache_free (c);
}

static void
test_pass_leaves_what_is_later (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  bool busy = false;
  uint32_t pass;
  struct span s;

  (void) state;
  write_dirty (c, 0, 512, 1);
  pass = held_begin_pass (&c->pc.held);
  write_dirty (c, 4096, 512, 2);
  s = page_gather (&c->pc, 1, 0, 8, 8, pass, false, bytes, &busy);
  assert_int_equal (s.count, 0);
  s = page_gather (&c->pc, 0, 0, 8, 8, pass, false, bytes, &busy);
  assert_int_equal (s.count, 1);
  end_write (c, 0, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* A batch may go on with the page; its blocks in flight are not gathered. */
static void
test_batch_takes_what_is_later_along (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  bool busy = false;
  uint32_t pass;
  struct span s;

  (void) state;
  pass = held_begin_pass (&c->pc.held);
  write_dirty (c, 4096, 512, 2);
  s = page_gather (&c->pc, 1, 0, 1, 8, pass, true, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 2);
  write_dirty (c, 4096, 512, 3);
  s = page_gather (&c->pc, 1, 0, 1, 8, pass, true, bytes, &busy);
  assert_int_equal (s.count, 0);
  assert_false (busy);
  end_write (c, 4096, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* Law 7: what is in flight is not submitted again before it ended. */
static void
test_block_in_flight_is_busy (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  (void) state;
  write_dirty (c, 0, 512, 1);
  gather (c, 0, bytes, &busy);
  write_dirty (c, 0, 512, 2); /* does not wait */
  assert_int_equal (value_at (c, 0, 512), 2);
  assert_int_equal (bytes[0], 1); /* stable */
  assert_amounts (c, 512, 512, 0, 512);
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 0);
  assert_true (busy);
  assert_int_equal (try_claim (c, 0, 512), WRITE_BUSY);
  end_write (c, 0, 512, OUTCOME_STABLE);
  assert_amounts (c, 512, 0, 0, 512); /* the newer bytes */
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 2);
  end_write (c, 0, 512, OUTCOME_STABLE);
  assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

static void
test_busy_block_ends_a_run (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  (void) state;
  write_dirty (c, 512, 512, 1);
  gather (c, 0, bytes, &busy);
  write_dirty (c, 0, 2048, 2);
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.first, 0);
  assert_int_equal (s.count, 1);
  assert_true (busy);
  s = gather (c, 512, bytes, &busy);
  assert_int_equal (s.first, 2);
  assert_int_equal (s.count, 2);
  assert_true (busy);
  end_write (c, 0, 2048, OUTCOME_STABLE);
  assert_amounts (c, 512, 0, 0, 512);
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
    fill (c, 0, block_of (c), 1);
  if (*before == 'd')
    write_dirty (c, 0, block_of (c), 1);
  if (*before == 's')
    make_unstable (c, 0, block_of (c), 1);
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

  (void) state;
  FOR_EACH_GEOMETRY (c)
    for (i = 0; i < ARRAY_LEN (ends); ++i) {
      const int64_t block = block_of (c);

      prepare (c, ends[i].before);
      epoch = held_epoch (&c->pc.held);
      took = write_claimed (c, 0, block, 2);
      assert_int_equal (took,
                        ends[i].before[0] == 'd' || ends[i].before[0] == 's');
      assert_amounts (c, 0, block, 0, block);
      if (ends[i].written_meanwhile)
        write_dirty (c, 0, block, 3);
      if (ends[i].failure_meanwhile)
        pagecache_fail (&c->pc, held_epoch (&c->pc.held));
      pagecache_end_write (&c->pc, 0, block, ends[i].outcome, epoch);
      assert_block (c, i, ends[i].after);
      assert_amounts (c, strchr (ends[i].after, 'd') ? block : 0, 0,
                      strchr (ends[i].after, 's') ? block : 0,
                      strpbrk (ends[i].after, "ds") ? block : 0);
      if (strchr (ends[i].after, 'u'))
        assert_int_equal (value_at (c, 0, block),
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

  (void) state;
  FOR_EACH_GEOMETRY (c)
    for (i = 0; i < ARRAY_LEN (rows); ++i) {
      uint8_t *bytes = bytes_of (page_size (&c->pc), 0);
      const uint64_t failures = c->pc.failures;
      bool busy;

      write_dirty (c, 0, block_of (c), 1);
      gather (c, 0, bytes, &busy);
      end_write (c, 0, block_of (c), rows[i].outcome);
      assert_block (c, i, rows[i].after);
      assert_int_equal (c->pc.failures - failures,
                        rows[i].outcome == OUTCOME_FAILED);
      pagecache_clear (&c->pc, 0, block_of (c), CLEAR_UNKNOWN);
      free (bytes);
    }
}

static void
test_unclaim_changes_nothing (void **state)
{
  struct cache *c = small_cache ();
  const struct part part = part_of (c, 0, 1536);
  struct page *p = pin (c, 0);

  (void) state;
  write_dirty (c, 0, 512, 1);
  make_unstable (c, 512, 512, 2);
  assert_int_equal (page_claim (&c->pc, p, &part), 0);
  assert_amounts (c, 512, 1536, 512, 1536);
  page_unclaim (&c->pc, p, &part);
  assert_amounts (c, 512, 0, 512, 1024);
  assert_true (block_is (c, 0, DIRTY));
  assert_true (block_is (c, 512, UNSTABLE));
  assert_int_equal (value_at (c, 1024, 512), -1);
  page_unpin (&c->pc, p);
  cache_free (c);
}

static void
test_failed_write_of_unknown_drops_the_page (void **state)
{
  struct cache *c = small_cache ();

  (void) state;
  write_claimed (c, 0, 512, 1);
  end_write (c, 0, 512, OUTCOME_FAILED);
  assert_null (pool_find (c->pool, c->pc.key_base));
  cache_free (c);
}

static void
test_end_over_many_pages (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);
    uint64_t i;

    write_claimed (c, page - block, block, 1);
    for (i = 1; i < 7; ++i)
      write_claimed (c, i * page, page, 1);
    write_claimed (c, 7 * page, block, 1);
    assert_amounts (c, 0, 6 * page + 2 * block, 0, 6 * page + 2 * block);
    end_write (c, page - block, 6 * page + 2 * block, OUTCOME_UNSTABLE);
    assert_amounts (c, 0, 0, 6 * page + 2 * block, 6 * page + 2 * block);
  }
}

static void
test_copy_of_claimed_blocks (void **state)
{
  struct cache *c = small_cache ();
  struct page *p = pin (c, 0);
  uint8_t bytes[1024];

  (void) state;
  fill (c, 0, 1024, 1);
  write_claimed (c, 256, 512, 2);
  page_copy_claimed (&c->pc, p, (struct span){ 0, 2 }, bytes);
  assert_int_equal (bytes[255], 1);
  assert_int_equal (bytes[256], 2);
  assert_int_equal (bytes[767], 2);
  assert_int_equal (bytes[768], 1);
  end_write (c, 0, 1024, OUTCOME_STABLE);
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
  struct cache *c = small_cache ();
  struct thread t;

  (void) state;
  write_claimed (c, 0, 512, 1);
  write_claimed (c, 4096, 512, 1);
  thread_start (&t, wait_writeback, c);
  end_write (c, 4096, 512, OUTCOME_FAILED); /* this page is gone then */
  end_write (c, 0, 512, OUTCOME_STABLE);
  thread_join (&t);
  cache_free (c);
}

static void
test_writearound_leaves_when_stable (void **state)
{
  struct cache *c = small_cache ();

  (void) state;
  c->pc.around = true;
  write_claimed (c, 0, 512, 1);
  end_write (c, 0, 512, OUTCOME_STABLE);
  assert_int_equal (value_at (c, 0, 512), -1);
  make_unstable (c, 0, 512, 2);
  assert_int_equal (value_at (c, 0, 512), 2);
  pagecache_settle (&c->pc, held_begin_flush (&c->pc.held));
  assert_int_equal (value_at (c, 0, 512), -1);
  cache_free (c);
}

/* ---- flushes ---- */

static void
test_flush_settles_what_ended_before (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);
    uint32_t flush;

    make_unstable (c, 0, block, 1);
    flush = held_begin_flush (&c->pc.held);
    make_unstable (c, page, block, 2);
    pagecache_settle (&c->pc, flush);
    assert_amounts (c, 0, 0, block, block);
    assert_false (block_is (c, 0, UNSTABLE));
    assert_true (block_is (c, page, UNSTABLE));
    assert_int_equal (value_at (c, 0, block), 1);
    pagecache_settle (&c->pc, held_begin_flush (&c->pc.held));
    assert_amounts (c, 0, 0, 0, 0);
  }
}

/* One generation a page: a block of it that is later makes all wait. */
static void
test_later_block_keeps_the_page_unstable (void **state)
{
  struct cache *c = small_cache ();
  uint32_t flush;

  (void) state;
  make_unstable (c, 0, 512, 1);
  flush = held_begin_flush (&c->pc.held);
  make_unstable (c, 512, 512, 2);
  pagecache_settle (&c->pc, flush);
  assert_true (block_is (c, 512, UNSTABLE));
  cache_free (c);
}

/* A write in flight when the flush began is not covered by it. */
static void
test_flush_does_not_settle_what_is_in_flight (void **state)
{
  struct cache *c = small_cache ();
  uint32_t flush;

  (void) state;
  write_claimed (c, 0, 512, 1);
  flush = held_begin_flush (&c->pc.held);
  end_write (c, 0, 512, OUTCOME_UNSTABLE);
  pagecache_settle (&c->pc, flush);
  assert_amounts (c, 0, 0, 512, 512);
  cache_free (c);
}

static void
test_settle_after_many_flushes (void **state)
{
  struct cache *c = small_cache ();
  uint32_t i, flush = 0;

  (void) state;
  for (i = 0; i < 70000; ++i) { /* the generation wraps */
    if (i % 1000 == 0)
      make_unstable (c, 0, 512, 1);
    flush = held_begin_flush (&c->pc.held);
    if (i % 1000 == 0) {
      pagecache_settle (&c->pc, flush);
      assert_amounts (c, 0, 0, 0, 0);
    }
  }
  cache_free (c);
}

static void
test_failed_flush_makes_dirty (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);

    make_unstable (c, 0, block, 1);
    make_unstable (c, page, page, 2);
    write_dirty (c, 2 * page, block, 3);
    fill (c, 3 * page, block, 4);
    pagecache_fail (&c->pc, held_epoch (&c->pc.held));
    assert_amounts (c, page + 2 * block, 0, 0, page + 2 * block);
    assert_int_equal (value_at (c, 0, block), 1);
    assert_false (block_is (c, 3 * page, DIRTY));
  }
}

static void
test_failure_makes_dirty_what_it_overlapped (void **state)
{
  struct cache *c = small_cache ();
  const uint32_t epoch = held_epoch (&c->pc.held);

  (void) state;
  write_claimed (c, 0, 512, 1);
  pagecache_fail (&c->pc, held_epoch (&c->pc.held));
  pagecache_end_write (&c->pc, 0, 512, OUTCOME_UNSTABLE, epoch);
  assert_amounts (c, 512, 0, 0, 512);
  cache_free (c);
}

static void
test_failed_flush_dirties_again_for_the_next_pass (void **state)
{
  struct cache *c = small_cache ();
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  (void) state;
  make_unstable (c, 0, 512, 6);
  pagecache_fail (&c->pc, held_epoch (&c->pc.held));
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_int_equal (bytes[0], 6);
  end_write (c, 0, 512, OUTCOME_STABLE);
  cache_free (c);
}

/* ---- zeroes and trims ---- */

static void
test_clear_zeroed (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);

    fill (c, 0, block, 1);
    write_dirty (c, page, page, 2);
    make_unstable (c, 2 * page, block, 3);
    pagecache_clear (&c->pc, 0, 3 * page, CLEAR_ZEROED);
    assert_amounts (c, 0, 0, 0, 0);
    assert_int_equal (value_at (c, 0, block), 0);
    assert_int_equal (value_at (c, page, page), 0);
    assert_int_equal (value_at (c, 2 * page, block), 0);
  }
}

static void
test_clear_unknown (void **state)
{
  struct cache *c = small_cache ();

  (void) state;
  fill (c, 0, 1024, 1);
  write_dirty (c, 512, 1024, 2);
  pagecache_clear (&c->pc, 512, 512, CLEAR_UNKNOWN);
  assert_int_equal (value_at (c, 0, 512), 1);
  assert_int_equal (value_at (c, 512, 512), -1);
  assert_int_equal (value_at (c, 1024, 512), 2);
  assert_amounts (c, 512, 0, 0, 512);
  cache_free (c);
}

/* Law 9: clean blocks are not uptodate then, unstable ones dirty. */
static void
test_clear_failed (void **state)
{
  struct cache *c = small_cache ();

  (void) state;
  fill (c, 0, 512, 1);
  write_dirty (c, 512, 512, 2);
  make_unstable (c, 1024, 512, 3);
  pagecache_clear (&c->pc, 0, 1536, CLEAR_FAILED);
  assert_int_equal (value_at (c, 0, 512), -1);
  assert_int_equal (value_at (c, 512, 512), 2);
  assert_int_equal (value_at (c, 1024, 512), 3);
  assert_amounts (c, 1024, 0, 0, 1024);
  cache_free (c);
}

static void
test_exclusive_range_keeps_writers_out (void **state)
{
  struct cache *c = small_cache ();
  struct exclusive x;
  uint8_t bytes[4096];
  struct span s;
  bool busy;

  (void) state;
  write_dirty (c, 0, 2048, 1);
  exclusive_begin (&c->pc.zeroes, &x, 512, 512);
  assert_int_equal (try_write (c, 512, 1, 2), WRITE_EXCLUDED);
  assert_int_equal (try_write (c, 0, 2048, 2), WRITE_EXCLUDED);
  assert_int_equal (try_claim (c, 0, 1024), WRITE_EXCLUDED);
  assert_int_equal (try_write (c, 0, 512, 1), 0);
  assert_int_equal (value_at (c, 0, 2048), 1); /* nothing has changed */
  s = gather (c, 0, bytes, &busy);
  assert_int_equal (s.count, 1);
  assert_true (busy);
  end_write (c, 0, 512, OUTCOME_STABLE);
  exclusive_end (&c->pc.zeroes, &x);
  assert_int_equal (try_claim (c, 512, 512), 0);
  end_write (c, 512, 512, OUTCOME_STABLE);
  cache_free (c);
}

static void
test_remembered_zeroes_fill_at_once (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);
    const struct part part = part_of (c, 0, page);
    struct page *p = pin (c, 0);
    struct span ours = { 0 };

    assert_true (zeroes_remember (&c->pc.zeroes, 0, page - block, 0, 0));
    if (block < page) {
      assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_OURS);
      assert_int_equal (ours.first, page / block - 1);
      assert_int_equal (ours.count, 1);
      fill_end (&c->pc, p, ours, NULL, EIO);
      assert_int_equal (value_at (c, 0, page - block), 0);
    }
    zeroes_remember (&c->pc.zeroes, 0, page, 0, 0);
    assert_int_equal (fill_begin (&c->pc, p, &part, &ours), FILL_NOTHING);
    assert_int_equal (value_at (c, 0, page), 0);
    page_unpin (&c->pc, p);
  }
}

/* A zero that may yet be lost can be done again only round what is held. */
static void
test_stable_write_in_zeroes_is_held (void **state)
{
  struct cache *c = small_cache ();
  uint32_t flush;

  (void) state;
  zeroes_remember (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  assert_true (write_claimed (c, 0, 512, 1));
  end_write (c, 0, 512, OUTCOME_STABLE);
  assert_amounts (c, 0, 0, 512, 512);
  flush = held_begin_flush (&c->pc.held);
  pagecache_settle (&c->pc, flush);
  assert_amounts (c, 0, 0, 0, 0);
  assert_false (zeroes_any (&c->pc.zeroes, 0, 4096));
  cache_free (c);
}

static void
test_lost_zeroes_keep_their_writes_held (void **state)
{
  struct cache *c = small_cache ();

  (void) state;
  zeroes_remember (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  make_unstable (c, 0, 512, 1);
  zeroes_lose (&c->pc.zeroes, 0);
  pagecache_settle (&c->pc, held_begin_flush (&c->pc.held));
  assert_amounts (c, 0, 0, 512, 512);
  zeroes_redone (&c->pc.zeroes, 0, 4096, held_flushes (&c->pc.held), 0);
  pagecache_settle (&c->pc, held_begin_flush (&c->pc.held));
  assert_amounts (c, 0, 0, 0, 0);
  cache_free (c);
}

/* ---- held pages, sizes, memory ---- */

static void
test_held_runs (void **state)
{
  struct cache *c = small_cache ();
  uint64_t index = 0;
  struct span s;

  (void) state;
  write_dirty (c, 8192 + 512, 512, 1);
  write_claimed (c, 8192 + 1024, 512, 1);
  make_unstable (c, 8192 + 2048, 512, 1);
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
  end_write (c, 8192 + 1024, 512, OUTCOME_STABLE);
  cache_free (c);
}

static void
test_drop_keeps_what_is_held (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);

    fill (c, 0, page, 1);
    write_dirty (c, page, block, 2);
    make_unstable (c, 2 * page, block, 3);
    pagecache_drop (&c->pc);
    assert_int_equal (value_at (c, 0, block), -1);
    assert_int_equal (value_at (c, page, block), 2);
    assert_int_equal (value_at (c, 2 * page, block), 3);
    assert_null (pool_find (c->pool, c->pc.key_base));
  }
}

static void
test_resize (void **state)
{
  (void) state;
  FOR_EACH_GEOMETRY (c) {
    const uint64_t page = page_size (&c->pc), block = block_of (c);
    uint8_t *bytes = bytes_of (page, 0);
    uint64_t index = 0;
    bool busy;

    fill (c, 0, page, 1);
    write_dirty (c, page, page, 2);
    write_dirty (c, 3 * page, page, 3);
    assert_int_equal (pagecache_resize (&c->pc, page + block),
                      2 * page - block);
    assert_int_equal (value_at (c, 0, block), -1);
    assert_int_equal (value_at (c, page, block), 2);
    assert_amounts (c, 2 * page, 0, 0, 2 * page);
    /* Bytes past the end are kept, and never written. */
    assert_int_equal (gather (c, page, bytes, &busy).count, 1);
    end_write (c, page, block, OUTCOME_STABLE);
    assert_int_equal (page_gather (&c->pc, 3, 0, page / block, page / block,
                                   held_begin_pass (&c->pc.held), false, bytes,
                                   &busy)
                          .count,
                      0);
    assert_int_equal (pagecache_resize (&c->pc, 8 * page), 0);
    index = 3;
    assert_true (pagecache_next_held (&c->pc, &index));
    assert_int_equal (gather (c, 3 * page, bytes, &busy).count, page / block);
    end_write (c, 3 * page, page, OUTCOME_STABLE);
    free (bytes);
  }
}

static void
test_held_pages_are_not_evicted (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  struct page *p;
  uint64_t i;

  (void) state;
  write_dirty (c, 0, 4096, 1);
  make_unstable (c, 4096, 4096, 2);
  write_claimed (c, 8192, 4096, 3);
  p = pin (c, 12288);
  for (i = 4; i < 2000; ++i)
    fill (c, i * 4096, 4096, 9);
  assert_int_equal (value_at (c, 0, 4096), 1);
  assert_int_equal (value_at (c, 4096, 4096), 2);
  assert_int_equal (value_at (c, 8192, 4096), 3);
  assert_true (pin (c, 12288) == p);
  page_unpin (&c->pc, p);
  page_unpin (&c->pc, p);
  end_write (c, 8192, 4096, OUTCOME_STABLE);
  cache_free (c);
}

/* Law 18. */
static void
test_new_page_shows_nothing_of_its_frame (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  uint64_t i;

  (void) state;
  for (i = 0; i < 1000; ++i) {
    struct page *p = pin (c, i * 4096);

    assert_int_equal (value_at (c, i * 4096, 1), -1);
    page_unpin (&c->pc, p);
    fill (c, i * 4096, 512, i & 0xff);
    assert_int_equal (value_at (c, i * 4096 + 512, 1), -1);
    assert_int_equal (value_at (c, i * 4096, 512), i & 0xff);
  }
  cache_free (c);
}

static void
test_no_frame (void **state)
{
  struct cache *c = cache_new (1 * MiB, 4096, 512, 64 * MiB);
  struct page *pages[512];
  unsigned n = 0;

  (void) state;
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

/* ---- all of it at random ---- */

#define MODEL_BLOCKS 64

/* A block, without pages. */
struct model_block {
  bool uptodate, dirty, writeback, unstable, pending;
  uint8_t value;
  uint32_t generation, epoch;
  bool doubt;
  uint32_t doubt_generation, doubt_epoch;
};

struct model {
  struct random random;
  struct cache *c;
  uint32_t block;
  struct model_block blocks[MODEL_BLOCKS];
};

static uint64_t
at (const struct model *m, unsigned b)
{
  return (uint64_t) b * m->block;
}

static void
model_write (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  write_dirty (m->c, at (m, b), m->block, value);
  block->uptodate = block->dirty = true;
  block->value = value;
}

static void
model_fill (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  fill (m->c, at (m, b), m->block, value);
  if (!block->uptodate)
    block->value = value;
  block->uptodate = true;
}

static void
model_through (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  if (block->writeback) {
    must (try_claim (m->c, at (m, b), m->block) == WRITE_BUSY);
    return;
  }
  must (write_claimed (m->c, at (m, b), m->block, value) ==
        (block->dirty || block->unstable));
  block->pending = !block->dirty && !block->unstable;
  block->dirty = block->unstable = false;
  block->writeback = block->uptodate = true;
  block->value = value;
  block->epoch = held_epoch (&m->c->pc.held);
}

static void
model_gather (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  uint8_t *bytes = bytes_of (page_size (&m->c->pc), 0);
  const struct part part = part_of (m->c, at (m, b), 1);
  const uint32_t first = part.offset / m->block;
  bool busy = false;
  struct span s;

  s = page_gather (&m->c->pc, part.index, first, first + 1, 1,
                   held_begin_pass (&m->c->pc.held), false, bytes, &busy);
  must (s.count == (block->dirty && !block->writeback));
  must (busy == (block->dirty && block->writeback));
  if (s.count) {
    must (bytes[0] == block->value && bytes[m->block - 1] == block->value);
    block->dirty = block->unstable = false;
    block->writeback = true;
    block->epoch = held_epoch (&m->c->pc.held);
  }
  free (bytes);
}

static void
model_doubt (struct model *m, unsigned b)
{
  m->blocks[b].doubt = true;
  m->blocks[b].doubt_generation = held_flushes (&m->c->pc.held);
  m->blocks[b].doubt_epoch = held_epoch (&m->c->pc.held);
}

static void
model_end (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const enum outcome outcome = random_below (&m->random, 3);
  struct held *held = &m->c->pc.held;

  if (!block->writeback)
    return;
  pagecache_end_write (&m->c->pc, at (m, b), m->block, outcome, block->epoch);
  if (outcome == OUTCOME_FAILED)
    model_doubt (m, b);
  if (outcome == OUTCOME_FAILED && !block->pending)
    block->dirty = true;
  else if (outcome == OUTCOME_FAILED && !block->dirty)
    block->uptodate = false;
  else if (outcome == OUTCOME_UNSTABLE && block->epoch != held_epoch (held))
    block->dirty = true;
  else if (outcome == OUTCOME_UNSTABLE) {
    block->unstable = true;
    block->generation = held_flushes (held);
  }
  block->writeback = block->pending = false;
}

/* All blocks of a page wait for its latest one. */
static void
model_settle (struct model *m)
{
  const unsigned per_page = page_size (&m->c->pc) / m->block;
  const uint32_t flush = held_begin_flush (&m->c->pc.held);
  unsigned i, j;
  bool settles;

  if (random_chance (&m->random, 50))
    return;
  pagecache_settle (&m->c->pc, flush);
  for (i = 0; i < MODEL_BLOCKS; i += per_page) {
    settles = true;
    for (j = i; j < i + per_page; ++j)
      settles = settles &&
                (!m->blocks[j].unstable || m->blocks[j].generation < flush);
    for (j = i; settles && j < i + per_page; ++j)
      m->blocks[j].unstable = false;
  }
  for (i = 0; i < MODEL_BLOCKS; ++i)
    if (m->blocks[i].doubt_generation < flush)
      m->blocks[i].doubt = false;
}

static bool
model_is_held (const struct model_block *block)
{
  return block->dirty || block->writeback || block->unstable;
}

static void
model_fail (struct model *m)
{
  const uint32_t epoch = held_epoch (&m->c->pc.held);
  struct model_block *block;

  pagecache_fail (&m->c->pc, epoch);
  for (block = m->blocks; block < m->blocks + MODEL_BLOCKS; ++block) {
    block->dirty |= block->unstable;
    block->unstable = false;
    if (block->doubt)
      block->uptodate &= model_is_held (block);
    if (block->doubt_epoch < epoch)
      block->doubt = false;
  }
}

static void
model_clear (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const enum clear how = random_below (&m->random, 3);

  if (block->writeback)
    return;
  pagecache_clear (&m->c->pc, at (m, b), m->block, how);
  if (how != CLEAR_ZEROED)
    model_doubt (m, b);
  switch (how) {
  case CLEAR_ZEROED:
    block->value = 0;
    break;
  case CLEAR_UNKNOWN:
    block->uptodate = false;
    break;
  case CLEAR_FAILED:
    block->dirty |= block->unstable;
    block->uptodate = block->dirty;
    block->unstable = false;
    return;
  }
  block->dirty = block->unstable = false;
}

static void
model_drop (struct model *m)
{
  struct model_block *block;

  pagecache_drop (&m->c->pc);
  for (block = m->blocks; block < m->blocks + MODEL_BLOCKS; ++block)
    block->uptodate &= model_is_held (block);
}

static void
model_check (struct model *m)
{
  struct amounts sum = { 0 }, is = pagecache_amounts (&m->c->pc);
  struct model_block *block;
  unsigned b;

  for (b = 0; b < MODEL_BLOCKS; ++b) {
    block = &m->blocks[b];
    must (value_at (m->c, at (m, b), m->block) ==
          (block->uptodate ? block->value : -1));
    must (block_is (m->c, at (m, b), DIRTY) == block->dirty);
    must (block_is (m->c, at (m, b), WRITEBACK) == block->writeback);
    must (block_is (m->c, at (m, b), UNSTABLE) == block->unstable);
    must (block_is (m->c, at (m, b), PENDING) == block->pending);
    sum.dirty += block->dirty;
    sum.writeback += block->writeback;
    sum.unstable += block->unstable;
    sum.held += model_is_held (block);
  }
  must (is.dirty == sum.dirty * m->block);
  must (is.writeback == sum.writeback * m->block);
  must (is.unstable == sum.unstable * m->block);
  must (is.held == sum.held * m->block);
}

static void
run_model (uint32_t page, uint32_t block, uint64_t seed)
{
  struct model m = { .block = block };
  unsigned i, b;

  random_seed (&m.random, seed);
  m.c = cache_new (MEMORY, page, block, (uint64_t) MODEL_BLOCKS * block);
  for (i = 0; i < 3000; ++i) {
    b = random_below (&m.random, MODEL_BLOCKS);
    switch (random_below (&m.random, 20)) {
    case 0 ... 3:
      model_write (&m, b);
      break;
    case 4 ... 5:
      model_fill (&m, b);
      break;
    case 6 ... 8:
      model_through (&m, b);
      break;
    case 9 ... 11:
      model_gather (&m, b);
      break;
    case 12 ... 15:
      model_end (&m, b);
      break;
    case 16:
      model_settle (&m);
      break;
    case 17:
      model_clear (&m, b);
      break;
    case 18:
      if (random_chance (&m.random, 20))
        model_fail (&m);
      break;
    default:
      if (random_chance (&m.random, 20))
        model_drop (&m);
    }
    if (i % 50 == 0)
      model_check (&m);
  }
  model_check (&m);
  for (b = 0; b < MODEL_BLOCKS; ++b)
    if (m.blocks[b].writeback)
      end_write (m.c, at (&m, b), block, OUTCOME_STABLE);
  cache_free (m.c);
}

static void
test_random_states (void **state)
{
  uint64_t seed;

  (void) state;
  for (seed = 1; seed <= 20; ++seed) {
    run_model (4096, 512, seed);
    run_model (4096, 4096, seed);
    run_model (8192, 512, seed);
    run_model (65536, 4096, seed);
  }
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
    cmocka_unit_test (test_write_of_blocks_reads_nothing),
    cmocka_unit_test (test_write_of_zeroes),
    cmocka_unit_test (test_part_of_a_block_needs_its_edge),
    cmocka_unit_test (test_short_last_block),
    cmocka_unit_test (test_fill_of_short_last_block),
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
    cmocka_unit_test (test_remembered_zeroes_fill_at_once),
    cmocka_unit_test (test_stable_write_in_zeroes_is_held),
    cmocka_unit_test (test_lost_zeroes_keep_their_writes_held),
    cmocka_unit_test (test_held_runs),
    cmocka_unit_test (test_drop_keeps_what_is_held),
    cmocka_unit_test (test_resize),
    cmocka_unit_test (test_held_pages_are_not_evicted),
    cmocka_unit_test (test_new_page_shows_nothing_of_its_frame),
    cmocka_unit_test (test_no_frame),
    cmocka_unit_test (test_random_states),
  };

  return cmocka_run_group_tests_name ("pagecache", tests, NULL, NULL);
}
