/* SPDX-License-Identifier: BSD-3-Clause */

/* Moves what one cache holds to another cache of the same disk.
 *
 * A block goes under the lock of its new page.  There it becomes dirty, unless
 * it is held already: those bytes stay.  For example, the old cache holds
 * blocks 0 to 3 and the new one block 2, so 0, 1 and 3 become dirty in the new
 * one, and block 2 of the old one is discarded.
 *
 * An operation that has the range in the new cache need not be waited for: when
 * it ends it takes away the marks of the blocks moved meanwhile, like all that
 * are older.  Only a remembered zero needs its range exclusively: to put one
 * across the beginning of an operation's range would take that one's slot.
 *
 * Blocks go first: they are newer than a zero of the old cache round them, and
 * must not count as older than the same zero in the new one.
 *
 * May not know which caches are of one disk.
 */

#include <config.h>

#include "pagecache/ledger.h"
#include "pagecache/move.h"
#include "pagecache/page.h"
#include "pagecache/states.h"

/* Whether the cache has acknowledged bytes of a block of its own. */
static bool
has_own (struct pagecache *pc, struct page *p, uint32_t b)
{
  const struct part part = span_part (pc, page_index (pc, p), block_span (b));

  return states_amounts (pc, p, block_span (b)).held > 0 ||
         zeroes_any (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                     part.len);
}

/* Copies blocks from the frame of a page of another cache. */
static void
take_blocks (struct pagecache *to, struct page *p, struct span s,
             const uint8_t *frame)
{
  struct change c = { 0 };
  struct part part;
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  for (b = s.first; b < s.first + s.count; ++b)
    if (!has_own (to, p, b)) {
      part = span_part (to, page_index (to, p), block_span (b));
      memcpy (pool_frame (to->pool, p) + part.offset, frame + part.offset,
              part.len);
      states_apply_span (to, p, &c, block_span (b), EVENT_WRITTEN);
    }
  states_end (to, p, &c);
  word_lock_drop (&p->lock);
}

static void
forget_blocks (struct pagecache *from, struct page *p, struct span s)
{
  word_lock_take (&p->lock, RANK_PAGE);
  states_change (from, p, s, EVENT_FORGOTTEN);
  word_lock_drop (&p->lock);
}

/* No thread writes to the old page, so its bytes are read without its lock: a
 * thread has one page's lock at a time.
 */
static void
move_blocks (struct pagecache *from, struct page *p, struct pagecache *to,
             struct page *q)
{
  const uint64_t index = page_index (from, p);
  const uint32_t inside = blocks_inside (from, index);
  struct span s;
  uint32_t b;

  for (b = 0; b < inside; b = s.first + s.count) {
    s = page_held_run (from, index, b);
    if (s.count == 0 || s.first >= inside)
      break;
    s.count = min_u64 (s.count, inside - s.first); /* the rest is unsavable */
    take_blocks (to, q, s, pool_frame (from->pool, p));
    forget_blocks (from, p, s);
  }
}

static bool
move_page (struct pagecache *from, struct pagecache *to, uint64_t index)
{
  struct page *p = page_pin (from, index, ADMIT_WRITE), *q = NULL;

  if (p)
    q = page_pin (to, index, ADMIT_WRITE);
  if (q) {
    move_blocks (from, p, to, q);
    page_unpin (to, q);
  }
  if (p)
    page_unpin (from, p);
  return q != NULL;
}

static bool
move_zero (struct pagecache *from, struct pagecache *to, uint64_t offset,
           uint64_t len)
{
  struct exclusive x;
  bool moves;

  if (!exclusive_try (&to->zeroes, &x, offset, len))
    return false;
  moves = zeroes_adopt (&to->zeroes, offset, len, held_flushes (&to->held));
  if (moves) {
    page_drop_clean (to, offset, len);
    zeroes_forget (&from->zeroes, offset, len);
  }
  exclusive_end (&to->zeroes, &x);
  return moves;
}

bool
move_held (struct pagecache *from, struct pagecache *to)
{
  uint64_t key, offset, len;
  bool zeroed, all = true;

  for (key = held_next (&from->held, pagecache_key (from, 0)); all && key != 0;
       key = held_next (&from->held, key + 1))
    all = move_page (from, to, key & ~from->key_base);
  /* A zero is older than the blocks held in it: they go first. */
  for (offset = 0; all && offset < from->size; offset += len) {
    len = zeroes_prefix (&from->zeroes, offset, from->size - offset, &zeroed);
    all = !zeroed || move_zero (from, to, offset, len);
  }
  return all;
}
