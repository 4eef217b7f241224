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
#include "pagecache/page.h"
#include "pagecache/states.h"
#include "pagecache/waits.h"

/* Not inline, so that the usual miss needs no registers for it. */
#define RARE __attribute__ ((noinline))

/* Blocks of the span that are missing but are remembered to be zero become
 * uptodate without asking the backend.
 */
static RARE void
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
static RARE bool
all_coming (const struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);
  const uint8_t *filling = page_map (pc, p, FILLING);

  FOR_EACH_BYTE (i, mask, s)
    if (~(uptodate[i] | filling[i]) & mask)
      return false;
  return true;
}

static void
mark_missing (struct pagecache *pc, struct page *p, struct span s)
{
  struct change c = { 0 }; /* of no counted state */

  FOR_EACH_BYTE (i, mask, s)
    states_apply (pc, p, &c, i, mask & ~page_map (pc, p, UPTODATE)[i],
                  EVENT_FILL_BEGINS);
}

/* Begins to fill the missing blocks of a span of a locked page. */
static enum fill
begin_locked (struct pagecache *pc, struct page *p, struct span s,
              struct span *ours)
{
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);

  if (!bits_all (uptodate, s) && !zeroes_none (&pc->zeroes))
    fill_with_zeroes (pc, p, s);
  if (bits_all (uptodate, s))
    return FILL_NOTHING;
  if (p->flags & PAGE_FILLING)
    return all_coming (pc, p, s) ? FILL_JOIN : FILL_ALONE;
  *ours = s;
  if (bits_any (uptodate, s))
    *ours = bits_between (uptodate, s, false);
  mark_missing (pc, p, *ours);
  p->flags |= PAGE_FILLING;
  return FILL_OURS;
}

enum fill
fill_begin (struct pagecache *pc, struct page *p, const struct part *part,
            struct span *ours)
{
  enum fill fill;

  word_lock_take (&p->lock, RANK_PAGE);
  fill = begin_locked (pc, p, part_span (pc, part), ours);
  word_lock_drop (&p->lock);
  return fill;
}

/* Whether all that the caller needs of a locked page is there. */
static bool
is_there (const struct pagecache *pc, struct page *p, const struct part *need)
{
  return bits_all (page_map (pc, p, UPTODATE), part_span (pc, need));
}

enum fill
fill_want (struct pagecache *pc, struct wanted *w, enum admission why)
{
  const struct part need = w->to ? wanted_asked (w) : w->part;
  struct page *p = pools_lock_page (pc->pools, pc->pool,
                                    pagecache_key (pc, w->part.index), why);

  w->page = p;
  if (p == NULL)
    return w->fill = FILL_ALONE;
  w->fill = need.len < w->part.len && is_there (pc, p, &need)
                ? FILL_NOTHING
                : begin_locked (pc, p, part_span (pc, &w->part), &w->ours);
  if (w->fill != FILL_NOTHING) {
    word_lock_drop (&p->lock);
    return w->fill;
  }
  p->pins--;
  if (w->to)
    page_read_locked (pc, p, &need, w->to);
  else
    word_lock_drop (&p->lock);
  return FILL_NOTHING;
}

/* Copies what was read for a span into the blocks that still have the mark, and
 * out of the page what others wrote there meanwhile.  No block is both filling
 * and uptodate.
 */
static RARE void
copy_filled (struct pagecache *pc, struct page *p, struct span span,
             uint8_t *bytes)
{
  const uint64_t index = page_index (pc, p);
  const uint32_t first = span.first << pc->block_shift;
  uint8_t *frame = pool_frame (pc->pool, p);
  struct change c = { 0 }; /* of no counted state */
  struct part part;

  FOR_EACH_RUN (run, page_map (pc, p, UPTODATE), span)
  {
    part = span_part (pc, index, run);
    memcpy (bytes + (part.offset - first), frame + part.offset, part.len);
  }
  FOR_EACH_RUN (run, page_map (pc, p, FILLING), span)
  {
    part = span_part (pc, index, run);
    memcpy (frame + part.offset, bytes + (part.offset - first), part.len);
  }
  FOR_EACH_BYTE (i, mask, span)
    states_apply (pc, p, &c, i, mask & page_map (pc, p, FILLING)[i],
                  EVENT_FILL_ENDS);
}

/* The same where nothing touched the blocks. */
static void
copy_untouched (struct pagecache *pc, struct page *p, struct span span,
                const uint8_t *bytes)
{
  const struct part part = span_part (pc, page_index (pc, p), span);

  memcpy (pool_frame (pc->pool, p) + part.offset, bytes, part.len);
  states_change (pc, p, span, EVENT_FILL_ENDS);
}

static void
end_locked (struct pagecache *pc, struct page *p, struct span span, void *bytes,
            int error)
{
  assert_held (&p->lock);
  if (error == 0 && bits_all (page_map (pc, p, FILLING), span))
    copy_untouched (pc, p, span, bytes);
  else if (error == 0)
    copy_filled (pc, p, span, bytes);
  else
    states_change (pc, p, span, EVENT_OVERTAKEN);
  p->flags &= ~PAGE_FILLING;
  if (p->flags & PAGE_WAITERS)
    waits_wake (p);
}

void
fill_end (struct pagecache *pc, struct page *p, struct span span, void *bytes,
          int error)
{
  word_lock_take (&p->lock, RANK_PAGE);
  end_locked (pc, p, span, bytes, error);
  word_lock_drop (&p->lock);
}

void
fill_end_unpin (struct pagecache *pc, struct page *p, struct span span,
                void *bytes, int error)
{
  word_lock_take (&p->lock, RANK_PAGE);
  end_locked (pc, p, span, bytes, error);
  assert (p->pins > 0);
  p->pins--;
  page_drop_unlock (pc, p);
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
