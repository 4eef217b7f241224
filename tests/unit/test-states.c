/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the table of states: each event in each state, against a model
 * that says in words what an event means; and what the page's amounts and
 * lists become of it.
 */

#include <config.h>

#include "pagecache/states.h"
#include "unit.h"

#define STATES (1u << BLOCK_STATES)

/* A block as the model has it. */
struct block {
  bool uptodate, dirty, writeback, unstable, pending, filling;
};

static struct block
block_of_bits (unsigned bits)
{
  return (struct block){
    .uptodate = bits & STATE_BIT (UPTODATE),
    .dirty = bits & STATE_BIT (DIRTY),
    .writeback = bits & STATE_BIT (WRITEBACK),
    .unstable = bits & STATE_BIT (UNSTABLE),
    .pending = bits & STATE_BIT (PENDING),
    .filling = bits & STATE_BIT (FILLING),
  };
}

static unsigned
bits_of_block (struct block b)
{
  return b.uptodate * STATE_BIT (UPTODATE) | b.dirty * STATE_BIT (DIRTY) |
         b.writeback * STATE_BIT (WRITEBACK) |
         b.unstable * STATE_BIT (UNSTABLE) | b.pending * STATE_BIT (PENDING) |
         b.filling * STATE_BIT (FILLING);
}

/* Whether a block can have these states at all. */
static bool
is_possible (struct block b)
{
  const bool holds_bytes = b.dirty || b.unstable || b.pending;

  return (!holds_bytes || b.uptodate) && (!b.filling || !b.uptodate) &&
         (!b.pending || (b.writeback && !b.unstable));
}

static bool
ends_a_write (enum block_event event)
{
  switch (event) {
  case EVENT_ENDED_STABLE:
  case EVENT_ENDED_UNSTABLE:
  case EVENT_ENDED_UNDONE:
  case EVENT_FAILED:
  case EVENT_FAILED_PENDING:
  case EVENT_FAILED_REWRITTEN:
    return true;
  default:
    return false;
  }
}

/* Whether an event may meet a block in this state. */
static bool
may_happen (struct block b, enum block_event event)
{
  if (ends_a_write (event) && (!b.writeback || !b.uptodate || b.unstable))
    return false;
  switch (event) {
  case EVENT_FILL_BEGINS:
    return !b.uptodate && !b.filling;
  case EVENT_FILL_ENDS:
    return b.filling && !b.uptodate;
  case EVENT_FOUND_ZERO:
    return !b.uptodate;
  case EVENT_GATHERED:
    return b.dirty && !b.writeback;
  case EVENT_CLAIMED:
    return !b.writeback;
  case EVENT_UNCLAIMED:
  case EVENT_COPIED_OVER_ACKNOWLEDGED:
    return b.writeback && !b.pending;
  case EVENT_COPIED_OVER_OTHERS:
    return b.writeback && !b.pending && !b.dirty && !b.unstable;
  case EVENT_FAILED:
    return !b.pending;
  case EVENT_FAILED_PENDING:
    return b.pending && !b.dirty;
  case EVENT_FAILED_REWRITTEN:
    return b.pending && b.dirty;
  case EVENT_SETTLED:
  case EVENT_FLUSH_FAILED:
    return b.unstable;
  case EVENT_ZEROED:
  case EVENT_FORGOTTEN:
    return !b.writeback;
  case EVENT_DROPPED:
    return !b.dirty && !b.writeback && !b.unstable;
  default:
    return true;
  }
}

/* The block after an event. */
static struct block
after (struct block b, enum block_event event)
{
  if (ends_a_write (event))
    b.writeback = b.pending = false;
  switch (event) {
  case EVENT_FILL_BEGINS:
    b.filling = true;
    break;
  case EVENT_FILL_ENDS:
  case EVENT_FOUND_ZERO:
    b.uptodate = true;
    b.filling = false;
    break;
  case EVENT_OVERTAKEN:
    b.filling = false;
    break;
  case EVENT_WRITTEN:
    b.uptodate = b.dirty = true;
    b.filling = false;
    break;
  case EVENT_GATHERED:
    b.dirty = b.unstable = false;
    b.writeback = true;
    break;
  case EVENT_CLAIMED:
    b.writeback = true;
    break;
  case EVENT_UNCLAIMED:
    b.writeback = false;
    break;
  case EVENT_COPIED_OVER_ACKNOWLEDGED:
    b.uptodate = true;
    b.dirty = b.unstable = b.filling = false;
    break;
  case EVENT_COPIED_OVER_OTHERS:
    b.uptodate = b.pending = true;
    b.filling = false;
    break;
  case EVENT_ENDED_STABLE:
  case EVENT_FAILED_REWRITTEN:
    break;
  case EVENT_ENDED_UNSTABLE:
    b.unstable = true;
    break;
  case EVENT_ENDED_UNDONE:
  case EVENT_FAILED:
    b.dirty = true;
    break;
  case EVENT_FAILED_PENDING:
    b.uptodate = false;
    break;
  case EVENT_SETTLED:
    b.unstable = false;
    break;
  case EVENT_FLUSH_FAILED:
    b.unstable = false;
    b.dirty = true;
    break;
  case EVENT_ZEROED:
    b.dirty = b.unstable = b.filling = false;
    break;
  case EVENT_FORGOTTEN:
    b = (struct block){ 0 };
    break;
  case EVENT_DROPPED:
    b.uptodate = b.filling = false;
    break;
  case BLOCK_EVENTS:
    break;
  }
  return b;
}

static bool
row_allows (unsigned bits, enum block_event event)
{
  const struct transition t = transitions[event];

  return (bits & t.needs) == t.needs && (bits & t.forbids) == 0;
}

/* The table alone, in every possible state: it allows what may happen, and
 * leads to what the event means, which is a possible state again.
 */
static void
test_every_event_in_every_state (void **state)
{
  enum block_event event;
  struct transition t;
  struct block b;
  unsigned bits;

  for (bits = 0; bits < STATES; ++bits) {
    b = block_of_bits (bits);
    if (!is_possible (b))
      continue;
    for (event = 0; event < BLOCK_EVENTS; ++event) {
      assert_int_equal (row_allows (bits, event), may_happen (b, event));
      if (!may_happen (b, event))
        continue;
      t = transitions[event];
      assert_int_equal ((bits | t.sets) & ~t.clears,
                        bits_of_block (after (b, event)));
      assert_true (is_possible (after (b, event)));
    }
  }
}

/* The bits of a block in the maps of its page. */
static unsigned
bits_in_page (struct pagecache *pc, struct page *p, uint32_t block)
{
  unsigned bits = 0;
  enum block_state s;

  for (s = UPTODATE; s < BLOCK_STATES; ++s)
    if (bit_get (page_map (pc, p, s), block))
      bits |= STATE_BIT (s);
  return bits;
}

/* An event that can be told at compile time, as the filter's own are. */
static void
apply (struct pagecache *pc, struct page *p, struct span s,
       enum block_event event)
{
  switch (event) {
#define CASE(e)                                                                \
  case e:                                                                      \
    states_change (pc, p, s, e);                                               \
    break
    CASE (EVENT_FILL_BEGINS);
    CASE (EVENT_FILL_ENDS);
    CASE (EVENT_OVERTAKEN);
    CASE (EVENT_FOUND_ZERO);
    CASE (EVENT_WRITTEN);
    CASE (EVENT_GATHERED);
    CASE (EVENT_CLAIMED);
    CASE (EVENT_UNCLAIMED);
    CASE (EVENT_COPIED_OVER_ACKNOWLEDGED);
    CASE (EVENT_COPIED_OVER_OTHERS);
    CASE (EVENT_ENDED_STABLE);
    CASE (EVENT_ENDED_UNDONE);
    CASE (EVENT_FAILED);
    CASE (EVENT_FAILED_PENDING);
    CASE (EVENT_FAILED_REWRITTEN);
    CASE (EVENT_SETTLED);
    CASE (EVENT_FLUSH_FAILED);
    CASE (EVENT_ZEROED);
    CASE (EVENT_FORGOTTEN);
    CASE (EVENT_DROPPED);
#undef CASE
  case EVENT_ENDED_UNSTABLE: /* as the page cache does: listed first */
    assert_true (held_list_unstable (&pc->held, p, held_epoch (&pc->held)));
    states_change (pc, p, s, EVENT_ENDED_UNSTABLE);
    break;
  case BLOCK_EVENTS:
    break;
  }
}

/* The amounts and lists of a page are those of its blocks. */
static void
check_page (struct pagecache *pc, struct page *p)
{
  const struct amounts listed = pagecache_amounts (pc);
  const uint32_t size = block_size (pc);
  struct amounts n = { 0 };
  struct block block;
  uint32_t b;

  for (b = 0; b < page_span (pc).count; ++b) {
    block = block_of_bits (bits_in_page (pc, p, b));
    n.dirty += block.dirty * size;
    n.writeback += block.writeback * size;
    n.unstable += block.unstable * size;
    n.held += (block.dirty || block.writeback || block.unstable) * size;
  }
  assert_int_equal (listed.dirty, n.dirty);
  assert_int_equal (listed.writeback, n.writeback);
  assert_int_equal (listed.unstable, n.unstable);
  assert_int_equal (listed.held, n.held);
  assert_int_equal ((p->flags & PAGE_HELD) != 0, n.held > 0);
  assert_int_equal ((p->flags & PAGE_LISTED) != 0, n.unstable > 0);
}

/* A pinned page with no bits, and events at random for spans of it in which
 * each block may have them.
 */
static void
walk_at_random (uint32_t page, uint32_t block, uint64_t seed)
{
  struct cache *c = cache_new (40 * MiB, page, block, 8 * (uint64_t) page);
  struct pagecache *pc = &c->pc;
  struct page *p = page_pin (pc, 3, ADMIT_READ);
  const uint32_t blocks = page_span (pc).count;
  unsigned *model = calloc (blocks, sizeof *model);
  enum block_event event;
  struct random r;
  struct span s;
  unsigned n;
  uint32_t b;

  must (p && model);
  random_seed (&r, seed);
  word_lock_take (&p->lock, RANK_PAGE);
  for (n = 0; n < 3000; ++n) {
    event = random_below (&r, BLOCK_EVENTS);
    s.first = random_below (&r, blocks);
    s.count = 0;
    for (b = s.first; b < blocks && s.count < 12 &&
                      may_happen (block_of_bits (model[b]), event);
         ++b)
      s.count++;
    if (s.count == 0)
      continue;
    for (b = s.first; b < s.first + s.count; ++b)
      model[b] = bits_of_block (after (block_of_bits (model[b]), event));
    apply (pc, p, s, event);
    for (b = 0; b < blocks; ++b)
      assert_int_equal (bits_in_page (pc, p, b), model[b]);
    check_page (pc, p);
  }
  for (b = 0; b < blocks; ++b) {
    if (block_of_bits (model[b]).unstable)
      apply (pc, p, block_span (b), EVENT_SETTLED);
    if (block_of_bits (model[b]).writeback)
      apply (pc, p, block_span (b),
             block_of_bits (model[b]).uptodate ? EVENT_ENDED_STABLE
                                               : EVENT_UNCLAIMED);
    states_change (pc, p, block_span (b), EVENT_FORGOTTEN);
  }
  check_page (pc, p);
  word_lock_drop (&p->lock);
  page_unpin (pc, p);
  free (model);
  cache_free (c);
}

static void
test_events_at_random (void **state)
{
  uint64_t seed;

  for (seed = 1; seed <= 5; ++seed) {
    walk_at_random (4096, 512, seed);
    walk_at_random (4096, 4096, seed);
    walk_at_random (65536, 512, seed);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_every_event_in_every_state),
    cmocka_unit_test (test_events_at_random),
  };

  return cmocka_run_group_tests_name ("states", tests, NULL, NULL);
}
