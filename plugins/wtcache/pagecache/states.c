/* SPDX-License-Identifier: BSD-3-Clause */

/* Updates the amounts and lists after a change of a page's states.
 *
 * A page that has a block in a held state stands in the tree of held pages, so
 * that write-back and flushes find it; one that has an unstable block in the
 * list by which a flush settles.  Only a change that took a mark away can take
 * the last one, so only then the whole page is looked at.
 *
 * For example, the first write to a clean page of 4 KiB blocks adds 4096 to the
 * dirty bytes, and puts the page into the tree.  A second write to the same
 * block changes neither.
 */

#include <config.h>

#include "pagecache/states.h"
#include "pagecache/unmade.h"

/* Blocks more in a state, or fewer.  Returns the bytes there were before. */
static int64_t
add_blocks (const struct pagecache *pc, _Atomic int64_t *to, int32_t blocks)
{
  if (blocks == 0)
    return -1;
  return atomic_fetch_add_explicit (to, blocks * (int64_t) block_size (pc),
                                    memory_order_relaxed);
}

static bool
has_any (const struct pagecache *pc, struct page *p, enum block_state state)
{
  return bits_any (page_map (pc, p, state), page_span (pc));
}

/* Whether a block of the page is in a held state. */
static bool
has_held (const struct pagecache *pc, struct page *p)
{
  FOR_EACH_BYTE (i, mask, page_span (pc))
    if (states_held (map_byte (pc, p, i), mask) != 0)
      return true;
  return false;
}

/* Blocks became dirty.  The age of dirty data begins with the first
 * of the cache, or with the first that a pass over all may not have met: such
 * a pass takes the time away before it looks at any page.  The page is in the
 * tree by now, so either the pass finds it, or it had ended with the held lock,
 * or this page's, before: then the time is seen to be gone.
 */
static void
note_age (struct pagecache *pc, bool first)
{
  if (first ||
      atomic_load_explicit (&pc->dirty_since, memory_order_relaxed) == 0)
    atomic_store_explicit (&pc->dirty_since, now_ns (), memory_order_relaxed);
}

void
states_end (struct pagecache *pc, struct page *p, const struct change *c)
{
  const int64_t dirty = add_blocks (pc, &pc->dirty, c->dirty);

  assert_held (&p->lock);
  add_blocks (pc, &pc->writeback, c->writeback);
  add_blocks (pc, &pc->unstable, c->unstable);
  add_blocks (pc, &pc->held_bytes, c->held);

  if (c->unstable < 0 && (p->flags & PAGE_LISTED) && !has_any (pc, p, UNSTABLE))
    held_unlist_unstable (&pc->held, p);
  if (c->held > 0 && !(p->flags & PAGE_HELD))
    held_add (&pc->held, p);
  if (c->dirty > 0)
    note_age (pc, dirty == 0);
  if (c->held < 0 && !has_held (pc, p))
    held_remove (&pc->held, p);
  /* At last: a flush that sees the count finds the blocks dirty, of a pass that
   * its next one takes.
   */
  if (c->unmade)
    unmade_count (pc);
}

struct amounts
states_amounts (const struct pagecache *pc, struct page *p, struct span s)
{
  struct amounts n = { 0 };
  uint32_t counts;

  FOR_EACH_BYTE (i, mask, s) {
    counts = count_bits (states_held (map_byte (pc, p, i), mask));
    n.dirty += counts & 0xff;
    n.writeback += counts >> 8 & 0xff;
    n.unstable += counts >> 16 & 0xff;
    n.held += counts >> 24;
  }
  n.dirty <<= pc->block_shift;
  n.writeback <<= pc->block_shift;
  n.unstable <<= pc->block_shift;
  n.held <<= pc->block_shift;
  return n;
}
