/* SPDX-License-Identifier: BSD-3-Clause */

/* The acknowledged bytes that are not yet durable: held.c lists their pages,
 * zeroes.c the ranges without pages; doubts.c has ranges that may change at the
 * backend although they are no part of it.
 *
 * One rule.  An entry is acknowledged at some moment; a flush that began later
 * and succeeded, with no failure that overlapped, settles it; a failure unmakes
 * it, and it has to be written again.  Moments are numbers of flushes begun:
 *
 *     flush 4 begins     block a ends unstable: 4
 *     flush 5 begins     block b ends unstable: 5
 *     flush 5 succeeds   a is stable; b is not, it ended after flush 5 began
 *     a flush fails      b is dirty again, and unmade is counted
 *
 * Each block ceases to be on its way by an event of the table of states that
 * takes `writeback` or `unstable` away and sets `dirty`, and states_end counts
 * it; zeroed ranges are lost here alone.  So nothing can be undone without
 * being counted, whichever operation failed, and a flush has one question: was
 * anything undone since it began?
 *
 * May not know the backend, or what failed.
 */

#include <config.h>

#include "base/probes.h"
#include "pagecache/ledger.h"
#include "pagecache/page.h"
#include "pagecache/states.h"
#include "pagecache/unmade.h"

void
ledger_lose_zeroes (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  if (zeroes_lose_range (&pc->zeroes, offset, len))
    unmade_count (pc);
}

void
ledger_doubt (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  doubts_add (&pc->doubts, offset, len, held_flushes (&pc->held),
              held_epoch (&pc->held));
}

/* The page that has been unstable longest, locked; NULL: none. */
static struct page *
lock_oldest_unstable (struct pagecache *pc)
{
  struct page *p;
  uint64_t key;

  while ((key = held_oldest_unstable (&pc->held)) != 0) {
    p = pool_lock_page (pc->pool, key);
    if (p && (p->flags & PAGE_LISTED))
      return p;
    if (p)
      word_lock_drop (&p->lock);
  }
  return NULL;
}

/* One event for all unstable blocks of a locked page. */
static void
change_unstable (struct pagecache *pc, struct page *p, enum block_event event)
{
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, page_span (pc))
    states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i], event);
  if (event == EVENT_SETTLED)
    states_leave_if_around (pc, p, page_span (pc), &c);
  states_end (pc, p, &c);
}

/* Zeroed ranges are forgotten first.  A page over a range that is still
 * remembered stays unstable, so that it is not evicted before.
 */
void
ledger_settle (struct pagecache *pc, uint32_t flush)
{
  LOCK_FOR_SCOPE (&pc->settle_lock);
  struct page *p;

  zeroes_settle (&pc->zeroes, flush);
  doubts_settle (&pc->doubts, flush);
  while ((p = lock_oldest_unstable (pc)) != NULL) {
    if (!before_u16 (p->generation, flush)) {
      word_lock_drop (&p->lock);
      break;
    }
    if (zeroes_any (&pc->zeroes, page_index (pc, p) << pc->page_shift,
                    page_size (pc)) &&
        held_list_unstable (&pc->held, p, held_epoch (&pc->held))) {
      word_lock_drop (&p->lock);
      continue;
    }
    change_unstable (pc, p, EVENT_SETTLED);
    page_drop_unlock (pc, p);
  }
  held_note_settled (&pc->held);
}

/* The connection counts first: what is remembered as zero after that ended
 * after it had come.
 */
uint64_t
ledger_connect (struct pagecache *pc)
{
  const uint64_t number = held_connect (&pc->held);

  if (zeroes_bytes (&pc->zeroes) == 0)
    held_cover (&pc->held, number);
  return number;
}

void
ledger_fail (struct pagecache *pc, uint32_t epoch)
{
  struct doubt doubts[DOUBTS_MAX];
  struct page *p;
  unsigned i, count;

  LOCK_FOR_SCOPE (&pc->settle_lock);
  /* From here on nothing that began before becomes unstable. */
  held_fail (&pc->held);
  PROBE2 (epoch, export_number (pc), held_epoch (&pc->held));
  zeroes_lose (&pc->zeroes, held_epoch (&pc->held));
  while ((p = lock_oldest_unstable (pc)) != NULL) {
    change_unstable (pc, p, EVENT_FLUSH_FAILED);
    word_lock_drop (&p->lock);
  }
  /* Their bytes were never acknowledged as durable, and may have changed. */
  count = doubts_fail (&pc->doubts, epoch, doubts);
  for (i = 0; i < count; ++i)
    page_drop_clean (pc, doubts[i].offset, doubts[i].end - doubts[i].offset);
  /* Even if no block had a mark: a write in flight may have taken it, and what
   * the mark stood for is lost until that write has ended.
   */
  unmade_count (pc);
}
