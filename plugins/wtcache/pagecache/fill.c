/* SPDX-License-Identifier: BSD-3-Clause */

/* Fills: reads the missing blocks of a page from the backend.
 *
 *     fill_begin      the missing blocks get the mark `filling`
 *         │ one read of the backend, with no lock held
 *     fill_end        blocks that still have the mark become uptodate
 *
 * An operation that changes a block meanwhile (a write, zero, trim or drop)
 * clears its mark.  So a fill never brings back older bytes, and never
 * overwrites newer ones.  One fill of a page is under way at a time: a second
 * reader joins it if all that it wants is marked, and else reads for itself.
 *
 * For example, blocks 0 to 3 of 8 are cached.  A read of the page marks blocks
 * 4 to 7 and reads them; meanwhile a write to block 5 clears its mark.  At the
 * end blocks 4, 6 and 7 become uptodate, and block 5 keeps the written bytes.
 */

#include <config.h>

#include "pagecache/fill.h"
#include "pagecache/states.h"
#include "pagecache/waits.h"

/* Blocks of the span that are missing but are remembered to be zero become
 * uptodate without asking the backend.
 */
static void
fill_with_zeroes (struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);
  struct part part;
  bool zeroed;
  uint32_t b;

  for (b = s.first; b < s.first + s.count; ++b) {
    part = span_part (pc, page_index (pc, p), block_span (b));
    zeroes_prefix (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                   part.len, &zeroed);
    if (zeroed && !bit_get (uptodate, b)) {
      memset (pool_frame (pc->pool, p) + part.offset, 0, part.len);
      states_change (pc, p, block_span (b), EVENT_FOUND_ZERO);
    }
  }
}

/* Whether the fill in progress reads every missing block of the span. */
static bool
all_coming (const struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);
  const uint8_t *filling = page_map (pc, p, FILLING);

  FOR_EACH_BYTE (i, mask, s)
    if (~(uptodate[i] | filling[i]) & mask)
      return false;
  return true;
}

enum fill
fill_begin (struct pagecache *pc, struct page *p, const struct part *part,
            struct span *ours)
{
  const struct span s = part_span (pc, part);
  const uint32_t end = s.first + s.count;
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);
  enum fill fill = FILL_NOTHING;
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  if (!bits_all (uptodate, s) &&
      atomic_load_explicit (&pc->zeroes.nr_zeroed, memory_order_relaxed) > 0)
    fill_with_zeroes (pc, p, s);
  if (!bits_all (uptodate, s)) {
    if (p->flags & PAGE_FILLING)
      fill = all_coming (pc, p, s) ? FILL_JOIN : FILL_ALONE;
    else {
      ours->first = bits_find (uptodate, s.first, end, false);
      for (b = end; bit_get (uptodate, b - 1); --b)
        ;
      ours->count = b - ours->first;
      for (b = ours->first; b < ours->first + ours->count; ++b)
        if (!bit_get (uptodate, b))
          states_change (pc, p, block_span (b), EVENT_FILL_BEGINS);
      p->flags |= PAGE_FILLING;
      fill = FILL_OURS;
    }
  }
  word_lock_drop (&p->lock);
  return fill;
}

void
fill_end (struct pagecache *pc, struct page *p, struct span span, void *bytes,
          int error)
{
  uint8_t *frame = pool_frame (pc->pool, p), *to;
  struct part part;
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  for (b = span.first; error == 0 && b < span.first + span.count; ++b) {
    part = span_part (pc, page_index (pc, p), block_span (b));
    to = (uint8_t *) bytes + ((b - span.first) << pc->block_shift);
    if (bit_get (page_map (pc, p, FILLING), b)) {
      memcpy (frame + part.offset, to, part.len);
      states_change (pc, p, block_span (b), EVENT_FILL_ENDS);
    }
    else if (bit_get (page_map (pc, p, UPTODATE), b))
      memcpy (to, frame + part.offset, part.len);
  }
  states_change (pc, p, span, EVENT_OVERTAKEN);
  p->flags &= ~PAGE_FILLING;
  waits_wake (p);
  word_lock_drop (&p->lock);
}

void
fill_wait (struct pagecache *pc, struct page *p)
{
  (void) pc;
  lock_check_none_held ();
  word_lock_take (&p->lock, RANK_PAGE);
  if (p->flags & PAGE_FILLING)
    waits_sleep (p);
  else
    word_lock_drop (&p->lock);
}
