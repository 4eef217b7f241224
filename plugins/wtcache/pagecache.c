/* SPDX-License-Identifier: BSD-3-Clause */

/* The pages of one export: operations on ranges of pages, and on all pages.
 * For example, with pages of 4 KiB and blocks of 512 bytes, a write of 1024
 * bytes at 3584 changes the last block of page 0 and the first of page 1.
 *
 * The parts, each in a file of pagecache/:
 *
 *     page    operations on one page           states   the table of states
 *     fill    reads of missing blocks          waits    threads that wait
 *     pool    which page has which frame       evict    which page leaves
 *     held    pages that must stay             frames   the budget, buffers
 *     zeroes  ranges without pages             doubts   ranges in doubt
 *     curve   miss ratios of other sizes
 *
 * Here are the ends of writes, of exclusive operations and of flushes.  A block
 * that a write took a mark from gets it back if that write fails.  One that is
 * `pending` held nothing acknowledged before: for it the backend has to be
 * asked.
 *
 * May not know the backend, nbdkit, or what a request waits for.
 */

#include <config.h>

#include "base/probes.h"
#include "pagecache.h"
#include "pagecache/states.h"
#include "pagecache/waits.h"

void
pagecache_init (struct pagecache *pc, struct pools *ps, struct pool *pool,
                unsigned number, uint64_t size, uint32_t block, bool around)
{
  waits_init ();
  memset (pc, 0, sizeof *pc);
  pc->pools = ps;
  pc->pool = pool;
  pc->key_base = (uint64_t) number << KEY_INDEX_BITS;
  pc->size = size;
  pc->block_shift = log2_u64 (block);
  pc->page_shift = log2_u64 (pool->page_size);
  pc->counts = &ps->counts[number];
  memset (pc->counts, 0, sizeof *pc->counts);
  atomic_init (&pc->around, around);
  atomic_init (&pc->bound, INT64_MAX); /* until the export sets it */
  held_init (&pc->held, pool);
  zeroes_init (&pc->zeroes);
  doubts_init (&pc->doubts);
  lock_init (&pc->settle_lock, RANK_SETTLE);
}

void
pagecache_destroy (struct pagecache *pc)
{
  held_destroy (&pc->held);
  zeroes_destroy (&pc->zeroes);
  doubts_destroy (&pc->doubts);
  lock_destroy (&pc->settle_lock);
}

/* Begins a walk over the cached pages of a range. */
static void
walk_range (struct pagecache *pc, struct pool_walk *w, uint64_t offset,
            uint64_t len)
{
  pool_walk_begin (pc->pool, w, pagecache_key (pc, offset >> pc->page_shift),
                   pagecache_key (pc, (offset + len - 1) >> pc->page_shift));
}

/* A write that took marks away has failed: acknowledged bytes are dirty again,
 * and for all others the backend has to be asked.  True: some are dirty again.
 */
static bool
fail_blocks (struct pagecache *pc, struct page *p, struct span s,
             struct change *c)
{
  const bool again = !bits_all (page_map (pc, p, PENDING), s);
  uint8_t pending, dirty;

  FOR_EACH_BYTE (i, mask, s) {
    pending = page_map (pc, p, PENDING)[i] & mask;
    dirty = page_map (pc, p, DIRTY)[i] & mask;
    states_apply (pc, p, c, i, mask & ~pending, EVENT_FAILED);
    states_apply (pc, p, c, i, pending & dirty, EVENT_FAILED_REWRITTEN);
    states_apply (pc, p, c, i, pending & ~dirty, EVENT_FAILED_PENDING);
  }
  return again;
}

/* Blocks of a span in byte I of the maps that are held in no way. */
static uint8_t
clean_blocks (const struct pagecache *pc, struct page *p, uint32_t i,
              uint8_t mask)
{
  return mask & ~(page_map (pc, p, DIRTY)[i] | page_map (pc, p, WRITEBACK)[i] |
                  page_map (pc, p, UNSTABLE)[i]);
}

/* In mode writearound a block leaves once it is stable. */
static void
leave_if_around (struct pagecache *pc, struct page *p, struct span s,
                 struct change *c)
{
  if (!atomic_load_explicit (&pc->around, memory_order_relaxed))
    return;
  FOR_EACH_BYTE (i, mask, s)
    states_apply (pc, p, c, i, clean_blocks (pc, p, i, mask), EVENT_DROPPED);
}

/* Blocks that the backend took become unstable; if a flush or FUA operation
 * failed since the write began, dirty, and true is returned.  One that was
 * written meanwhile is dirty anyway, and stays.
 */
static bool
become_unstable (struct pagecache *pc, struct page *p, struct span s,
                 uint32_t epoch, struct change *c)
{
  if (held_list_unstable (&pc->held, p, epoch)) {
    states_apply_span (pc, p, c, s, EVENT_ENDED_UNSTABLE);
    return false;
  }
  states_apply_span (pc, p, c, s, EVENT_ENDED_UNDONE);
  return true;
}

/* A flush that is under way has to repeat its pass: blocks that it may have
 * found in flight or unstable are dirty, or zeroes are lost.  Counted after
 * that: a flush that sees the new count finds the blocks with a pass number
 * that its next pass takes.
 */
static void
count_failure (struct pagecache *pc)
{
  atomic_fetch_add_explicit (&pc->failures, 1, memory_order_release);
}

static void
end_write (struct pagecache *pc, struct page *p, const struct part *part,
           enum outcome outcome, uint32_t epoch)
{
  const struct span s = part_span (pc, part);
  struct change c = { 0 };
  bool again = false;

  if (outcome == OUTCOME_FAILED)
    again = fail_blocks (pc, p, s, &c);
  else if (outcome == OUTCOME_UNSTABLE ||
           zeroes_any (&pc->zeroes,
                       (part->index << pc->page_shift) + part->offset,
                       part->len))
    again = become_unstable (pc, p, s, epoch, &c);
  else {
    states_apply_span (pc, p, &c, s, EVENT_ENDED_STABLE);
    leave_if_around (pc, p, s, &c);
  }
  states_end (pc, p, &c);
  if (again)
    count_failure (pc);
  waits_wake (p);
  page_drop_unlock (pc, p);
}

/* Records that the backend may have anything in a range.  Called before the
 * cached blocks of the range are discarded, so a request that reads them from
 * the backend afterwards finds the range in doubt already.
 */
static void
doubt (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  doubts_add (&pc->doubts, offset, len, held_flushes (&pc->held),
              held_epoch (&pc->held));
}

void
pagecache_end_write (struct pagecache *pc, uint64_t offset, uint64_t len,
                     enum outcome outcome, uint32_t epoch)
{
  struct part part;
  struct page *p;

  if (outcome == OUTCOME_FAILED)
    doubt (pc, offset, len);
  while (next_part (pc, &offset, &len, &part)) {
    p = pool_lock_page (pc->pool, pagecache_key (pc, part.index));
    assert (p != NULL); /* a page with a block in writeback stays */
    end_write (pc, p, &part, outcome, epoch);
  }
}

void
pagecache_wait_writeback (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  struct pool_walk w;
  struct page *p;
  uint64_t key;
  struct span s;

  lock_check_none_held ();
  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    key = page_key (p);
    s = range_span (pc, page_index (pc, p), offset, len);
    while (bits_any (page_map (pc, p, WRITEBACK), s)) {
      waits_sleep (p);
      p = pool_lock_page (pc->pool, key);
      if (p == NULL)
        break;
    }
    if (p)
      word_lock_drop (&p->lock);
  }
}

/* An operation left anything in a span: unstable blocks are dirty again, clean
 * ones leave.  True: some are dirty again.
 */
static bool
fail_clear (struct pagecache *pc, struct page *p, struct span s)
{
  const bool again = bits_any (page_map (pc, p, UNSTABLE), s);
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, s) {
    states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i],
                  EVENT_FLUSH_FAILED);
    states_apply (pc, p, &c, i, clean_blocks (pc, p, i, mask), EVENT_DROPPED);
  }
  states_end (pc, p, &c);
  return again;
}

static bool
clear_blocks (struct pagecache *pc, struct page *p, struct span s,
              enum clear how)
{
  const struct part part = span_part (pc, page_index (pc, p), s);

  switch (how) {
  case CLEAR_ZEROED:
    memset (pool_frame (pc->pool, p) + part.offset, 0, part.len);
    states_change (pc, p, s, EVENT_ZEROED);
    return false;
  case CLEAR_UNKNOWN:
    states_change (pc, p, s, EVENT_FORGOTTEN);
    return false;
  case CLEAR_FAILED:
    return fail_clear (pc, p, s);
  }
  return false;
}

void
pagecache_clear (struct pagecache *pc, uint64_t offset, uint64_t len,
                 enum clear how)
{
  struct pool_walk w;
  struct page *p;
  struct span s;

  if (how != CLEAR_ZEROED)
    doubt (pc, offset, len);
  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, page_index (pc, p), offset, len);
    if (clear_blocks (pc, p, s, how))
      count_failure (pc);
    page_drop_unlock (pc, p);
  }
}

void
pagecache_lose_zeroes (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  if (zeroes_lose_range (&pc->zeroes, offset, len))
    count_failure (pc);
}

bool
pagecache_next_held (struct pagecache *pc, uint64_t *index)
{
  uint64_t key;

  /* Past the last page that any export can have there is none. */
  if (*index >> KEY_INDEX_BITS != 0)
    return false;
  key = held_next (&pc->held, pagecache_key (pc, *index));
  if (key == 0 || key >> KEY_INDEX_BITS != pc->key_base >> KEY_INDEX_BITS)
    return false;
  *index = key & ~pc->key_base;
  return true;
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

/* Marks all unstable blocks of a page as stable. */
static void
settle_page (struct pagecache *pc, struct page *p)
{
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, page_span (pc))
    states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i],
                  EVENT_SETTLED);
  leave_if_around (pc, p, page_span (pc), &c);
  states_end (pc, p, &c);
}

/* Marks all unstable blocks of a page as dirty again. */
static void
unsettle_page (struct pagecache *pc, struct page *p)
{
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, page_span (pc))
    states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i],
                  EVENT_FLUSH_FAILED);
  states_end (pc, p, &c);
}

/* Zeroed ranges are forgotten first.  A page over a range that is still
 * remembered stays unstable, so that it is not evicted before.
 */
void
pagecache_settle (struct pagecache *pc, uint32_t flush)
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
    settle_page (pc, p);
    page_drop_unlock (pc, p);
  }
  held_note_settled (&pc->held);
}

/* The connection counts first: what is remembered as zero after that ended
 * after it had come.
 */
uint64_t
pagecache_connect (struct pagecache *pc)
{
  const uint64_t number = held_connect (&pc->held);

  if (zeroes_bytes (&pc->zeroes) == 0)
    held_cover (&pc->held, number);
  return number;
}

/* Discards the clean blocks of a range; returns the bytes. */
static uint64_t
drop_clean (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  uint64_t blocks = 0;
  uint8_t clean;
  struct change c = { 0 }; /* of no counted state */
  struct pool_walk w;
  struct page *p;
  struct span s;

  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, page_index (pc, p), offset, len);
    FOR_EACH_BYTE (i, mask, s) {
      clean = clean_blocks (pc, p, i, mask);
      blocks += __builtin_popcount (page_map (pc, p, UPTODATE)[i] & clean);
      states_apply (pc, p, &c, i, clean, EVENT_DROPPED);
      states_apply (pc, p, &c, i, mask & ~clean, EVENT_OVERTAKEN);
    }
    page_drop_unlock (pc, p);
  }
  return blocks << pc->block_shift;
}

/* Discards the clean blocks of the ranges in doubt: their bytes, which were
 * never acknowledged as durable, may have changed at the backend.
 */
static void
drop_doubtful (struct pagecache *pc, uint32_t epoch)
{
  struct doubt doubts[DOUBTS_MOST];
  const unsigned count = doubts_fail (&pc->doubts, epoch, doubts);
  unsigned i;

  for (i = 0; i < count; ++i)
    drop_clean (pc, doubts[i].offset, doubts[i].end - doubts[i].offset);
}

void
pagecache_fail (struct pagecache *pc, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&pc->settle_lock);
  struct page *p;

  /* From here on nothing that began before becomes unstable. */
  held_fail (&pc->held);
  PROBE2 (epoch, export_number (pc), held_epoch (&pc->held));
  zeroes_lose (&pc->zeroes, held_epoch (&pc->held));
  while ((p = lock_oldest_unstable (pc)) != NULL) {
    unsettle_page (pc, p);
    word_lock_drop (&p->lock);
  }
  drop_doubtful (pc, epoch);
  count_failure (pc);
}

uint64_t
pagecache_drop (struct pagecache *pc)
{
  return drop_clean (pc, 0, INT64_MAX); /* past an end that was, as well */
}

struct amounts
pagecache_range_amounts (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  struct amounts sum = { 0 }, n;
  struct pool_walk w;
  struct page *p;

  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    n = states_amounts (pc, p,
                        range_span (pc, page_index (pc, p), offset, len));
    word_lock_drop (&p->lock);
    sum.dirty += n.dirty;
    sum.writeback += n.writeback;
    sum.unstable += n.unstable;
    sum.held += n.held;
  }
  return sum;
}

struct amounts
pagecache_amounts (struct pagecache *pc)
{
  return (struct amounts){
    .dirty = atomic_load_explicit (&pc->dirty, memory_order_relaxed),
    .writeback = atomic_load_explicit (&pc->writeback, memory_order_relaxed),
    .unstable = atomic_load_explicit (&pc->unstable, memory_order_relaxed),
    .held = atomic_load_explicit (&pc->held_bytes, memory_order_relaxed),
  };
}

bool
pagecache_is_beyond_bound (struct pagecache *pc)
{
  return pagecache_amounts (pc).held >
         atomic_load_explicit (&pc->bound, memory_order_relaxed);
}

/* No connection uses the export. */
int64_t
pagecache_resize (struct pagecache *pc, uint64_t size)
{
  int64_t unsavable = 0;
  struct page *p;
  uint64_t index;
  struct span past;

  pagecache_drop (pc);
  pc->size = size;
  /* To cut off takes no slot.  Where there is nothing, nothing is zero. */
  zeroes_forget (&pc->zeroes, size, INT64_MAX - size);
  index = size >> pc->page_shift;
  while (pagecache_next_held (pc, &index)) {
    p = pool_lock_page (pc->pool, pagecache_key (pc, index));
    if (p) {
      past.first = blocks_inside (pc, index);
      past.count = page_span (pc).count - past.first;
      unsavable += states_amounts (pc, p, past).held;
      word_lock_drop (&p->lock);
    }
    index++;
  }
  return unsavable;
}
