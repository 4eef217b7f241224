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
 *     ledger  what is not yet durable          curve    ratios of other sizes
 *
 * Here are the ends of writes and of exclusive operations; ledger.c has what is
 * not yet durable.  A block that a write took a mark from gets it back if that
 * write fails.  One that is `pending` held nothing acknowledged before: for it
 * the backend has to be asked.
 *
 * May not know the backend, nbdkit, or what a request waits for.
 */

#include <config.h>

#include "base/probes.h"
#include "pagecache.h"
#include "pagecache/ledger.h"
#include "pagecache/open.h"
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
  open_init (pc);
}

void
pagecache_destroy (struct pagecache *pc)
{
  open_destroy (pc);
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
 * and for all others the backend has to be asked.
 */
static void
fail_blocks (struct pagecache *pc, struct page *p, struct span s,
             struct change *c)
{
  uint8_t pending, dirty;

  FOR_EACH_BYTE (i, mask, s) {
    pending = page_map (pc, p, PENDING)[i] & mask;
    dirty = page_map (pc, p, DIRTY)[i] & mask;
    states_apply (pc, p, c, i, mask & ~pending, EVENT_FAILED);
    states_apply (pc, p, c, i, pending & dirty, EVENT_FAILED_REWRITTEN);
    states_apply (pc, p, c, i, pending & ~dirty, EVENT_FAILED_PENDING);
  }
}

/* Blocks that the backend took become unstable; if a flush or FUA operation
 * failed since the write began, dirty.  One that was written meanwhile is dirty
 * anyway, and stays.
 */
static void
become_unstable (struct pagecache *pc, struct page *p, struct span s,
                 uint32_t epoch, struct change *c)
{
  if (held_list_unstable (&pc->held, p, epoch))
    states_apply_span (pc, p, c, s, EVENT_ENDED_UNSTABLE);
  else
    states_apply_span (pc, p, c, s, EVENT_ENDED_UNDONE);
}

static void
end_write (struct pagecache *pc, struct page *p, const struct part *part,
           enum outcome outcome, uint32_t epoch)
{
  const struct span s = part_span (pc, part);
  struct change c = { 0 };

  if (outcome == OUTCOME_FAILED)
    fail_blocks (pc, p, s, &c);
  else if (outcome == OUTCOME_UNSTABLE ||
           (!zeroes_none (&pc->zeroes) &&
            zeroes_any (&pc->zeroes,
                        (part->index << pc->page_shift) + part->offset,
                        part->len)))
    become_unstable (pc, p, s, epoch, &c);
  else {
    states_apply_span (pc, p, &c, s, EVENT_ENDED_STABLE);
    states_leave_if_around (pc, p, s, &c);
  }
  states_end (pc, p, &c);
  waits_wake (p);
  page_drop_unlock (pc, p);
}

void
pagecache_end_write (struct pagecache *pc, uint64_t offset, uint64_t len,
                     enum outcome outcome, uint32_t epoch)
{
  struct part part;
  struct page *p;

  if (outcome == OUTCOME_FAILED)
    ledger_doubt (pc, offset, len);
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
 * ones leave.
 */
static void
fail_clear (struct pagecache *pc, struct page *p, struct span s)
{
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, s) {
    states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i],
                  EVENT_FLUSH_FAILED);
    states_apply (pc, p, &c, i, states_clean_blocks (pc, p, i, mask),
                  EVENT_DROPPED);
  }
  states_end (pc, p, &c);
}

static void
clear_blocks (struct pagecache *pc, struct page *p, struct span s,
              enum clear how)
{
  const struct part part = span_part (pc, page_index (pc, p), s);

  switch (how) {
  case CLEAR_ZEROED:
    memset (pool_frame (pc->pool, p) + part.offset, 0, part.len);
    states_change (pc, p, s, EVENT_ZEROED);
    break;
  case CLEAR_UNKNOWN:
    states_change (pc, p, s, EVENT_FORGOTTEN);
    break;
  case CLEAR_FAILED:
    fail_clear (pc, p, s);
  }
}

void
pagecache_clear (struct pagecache *pc, uint64_t offset, uint64_t len,
                 enum clear how)
{
  struct pool_walk w;
  struct page *p;
  struct span s;

  if (how == CLEAR_FAILED)
    ledger_lose_zeroes (pc, offset, len);
  else if (how == CLEAR_UNKNOWN)
    zeroes_forget (&pc->zeroes, offset, len);
  if (how != CLEAR_ZEROED)
    ledger_doubt (pc, offset, len);
  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, page_index (pc, p), offset, len);
    clear_blocks (pc, p, s, how);
    page_drop_unlock (pc, p);
  }
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

uint64_t
pagecache_drop (struct pagecache *pc)
{
  return page_drop_clean (pc, 0, INT64_MAX); /* past an end that was, as well */
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
  return held_bytes (pc) >
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
