/* SPDX-License-Identifier: BSD-3-Clause */

/* The pages of one export and the states of their blocks.
 *
 * All that happens to a block happens here, under its page's lock:
 *
 *                fill                    write
 *     (nothing) ──────> uptodate ──────────────────> dirty
 *         ^                ^                          │ gather
 *         │                │ settle                   v
 *         │             unstable <──────────────── writeback
 *         │                │        the write ended   ^
 *         │                └──> dirty (flush failed)  │ claim (writethrough)
 *         └── pending and failed                   any state
 *
 * A block in writeback may be written: the bytes on their way are elsewhere,
 * in the batch's buffer or in the request's own.  It is dirty again then, and
 * not submitted until the write in flight has ended.  Whatever a write in
 * flight took a mark from gets the mark back if it fails: unless the block is
 * `pending`, which says that it held nothing acknowledged when a writethrough
 * claimed it.
 *
 * Knows nothing of nbdkit, of the backend, or of who waits for what.
 */

#include <config.h>

#include "base/probes.h"
#include "pagecache.h"
#include "pagecache/states.h"

/* Threads that wait for a page sleep in one of these queues. */
#define WAIT_QUEUES 64

struct wait_queue {
  struct lock lock; /* RANK_WAIT */
  struct condition changed;
  uint64_t wakes; /* guarded by lock */
};

static struct wait_queue queues[WAIT_QUEUES];
static pthread_once_t queues_once = PTHREAD_ONCE_INIT;

static void
init_queues (void)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (queues); ++i) {
    lock_init (&queues[i].lock, RANK_WAIT);
    condition_init (&queues[i].changed);
  }
}

static struct wait_queue *
queue_of (const struct page *p)
{
  return &queues[hash_u64 ((uintptr_t) p) % WAIT_QUEUES];
}

/* Sleeps until the page changes.  Drops its lock: who comes back looks the
 * page up again, unless he has it pinned.
 */
static void
sleep_on (struct page *p)
{
  struct wait_queue *q = queue_of (p);
  uint64_t wakes;

  assert_held (&p->lock);
  p->flags |= PAGE_WAITERS;
  lock_take (&q->lock);
  wakes = q->wakes;
  word_lock_drop (&p->lock);
  while (q->wakes == wakes)
    condition_wait (&q->changed, &q->lock);
  lock_drop (&q->lock);
}

/* The page has changed in a way that somebody may wait for. */
static void
wake (struct page *p)
{
  struct wait_queue *q = queue_of (p);

  assert_held (&p->lock);
  if (!(p->flags & PAGE_WAITERS))
    return;
  p->flags &= ~PAGE_WAITERS;
  lock_take (&q->lock);
  q->wakes++;
  condition_wake_all (&q->changed);
  lock_drop (&q->lock);
}

void
pagecache_init (struct pagecache *pc, struct pools *ps, struct pool *pool,
                unsigned number, uint64_t size, uint32_t block, bool around)
{
  pthread_once (&queues_once, init_queues);
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
  atomic_init (&pc->bound, INT64_MAX); /* until somebody asks for it */
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

/* Over the pages of a range that are there. */
static void
walk_range (struct pagecache *pc, struct pool_walk *w, uint64_t offset,
            uint64_t len)
{
  pool_walk_begin (pc->pool, w, pagecache_key (pc, offset >> pc->page_shift),
                   pagecache_key (pc, (offset + len - 1) >> pc->page_shift));
}

/* Nothing but bytes that nobody will ask for again: gone.  Else unlocked. */
static void
drop_lock_or_page (struct pagecache *pc, struct page *p)
{
  if (p->pins == 0 && !(p->flags & (PAGE_HELD | PAGE_FILLING)) &&
      !bits_any (page_map (pc, p, UPTODATE), page_span (pc)))
    pool_discard (pc->pool, p);
  else
    word_lock_drop (&p->lock);
}

/* The rest of a hit on a page that the curve samples: the page is locked.  Not
 * inline, so that other hits need no registers for it.
 */
static __attribute__ ((noinline)) bool
end_watched_read (struct pagecache *pc, struct page *p)
{
  const uint64_t key = page_key (p);

  assert_held (&p->lock);
  evict_hit_watched (pc->pool->evict, &p->evict);
  word_lock_drop (&p->lock);
  curve_note (pc->pool->curve, key, CURVE_HIT);
  return true;
}

bool
page_read (struct pagecache *pc, const struct part *part, void *to)
{
  struct pool *pool = pc->pool;
  const uint64_t key = pagecache_key (pc, part->index);
  struct page *p = pool_find (pool, key);

  if (p == NULL)
    return false;
  word_lock_take (&p->lock, RANK_PAGE);
  if (page_key (p) != key ||
      !bits_all (page_map (pc, p, UPTODATE), part_span (pc, part))) {
    word_lock_drop (&p->lock);
    return false;
  }
  memcpy (to, pool_frame (pool, p) + part->offset, part->len);
  if (evict_hit (pool->evict, &p->evict))
    return end_watched_read (pc, p);
  word_lock_drop (&p->lock);
  return true;
}

void
page_note_miss (struct pagecache *pc, uint64_t index)
{
  const uint64_t key = pagecache_key (pc, index);

  if (curve_samples (pc->pool->curve, key))
    curve_note (pc->pool->curve, key, CURVE_MISS);
}

bool
page_is_uptodate (struct pagecache *pc, const struct part *part)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, part->index));
  bool all;

  if (p == NULL)
    return false;
  all = bits_all (page_map (pc, p, UPTODATE), part_span (pc, part));
  word_lock_drop (&p->lock);
  return all;
}

void
page_read_past (struct pagecache *pc, const struct part *part, void *bytes)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, part->index));
  const struct span s = part_span (pc, part);
  const uint32_t end = part->offset + part->len;
  uint32_t b, from, to;

  if (p == NULL)
    return; /* a fill has its page pinned: there is none */
  for (b = s.first; b < s.first + s.count; ++b) {
    from = max_u64 (b << pc->block_shift, part->offset);
    to = min_u64 ((b + 1) << pc->block_shift, end);
    if (bit_get (page_map (pc, p, UPTODATE), b))
      memcpy ((uint8_t *) bytes + (from - part->offset),
              pool_frame (pc->pool, p) + from, to - from);
    else
      states_change (pc, p, block_span (b), EVENT_OVERTAKEN);
  }
  word_lock_drop (&p->lock);
}

struct page *
page_pin (struct pagecache *pc, uint64_t index, enum admission why)
{
  return pool_pin_page (pc->pools, pc->pool, pagecache_key (pc, index), why);
}

void
page_unpin (struct pagecache *pc, struct page *p)
{
  word_lock_take (&p->lock, RANK_PAGE);
  assert (p->pins > 0);
  p->pins--;
  drop_lock_or_page (pc, p);
}

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

/* Whether somebody is reading every missing block of the span. */
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
page_fill_begin (struct pagecache *pc, struct page *p, const struct part *part,
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
page_fill_end (struct pagecache *pc, struct page *p, struct span span,
               void *bytes, int error)
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
  wake (p);
  word_lock_drop (&p->lock);
}

void
page_wait_fill (struct pagecache *pc, struct page *p)
{
  (void) pc;
  lock_check_none_held ();
  word_lock_take (&p->lock, RANK_PAGE);
  if (p->flags & PAGE_FILLING)
    sleep_on (p);
  else
    word_lock_drop (&p->lock);
}

/* Whether a block that the part covers only in part is not uptodate.  A last
 * block that ends with the export is covered whole.
 */
static bool
edge_is_missing (const struct pagecache *pc, struct page *p,
                 const struct part *part)
{
  const uint8_t *uptodate = page_map (pc, p, UPTODATE);
  const struct span s = part_span (pc, part);
  const uint32_t end = part->offset + part->len;
  const uint64_t at = part->index << pc->page_shift;

  if (part->offset % block_size (pc) != 0 && !bit_get (uptodate, s.first))
    return true;
  return end % block_size (pc) != 0 && at + end != pc->size &&
         !bit_get (uptodate, s.first + s.count - 1);
}

static bool
is_excluded (struct pagecache *pc, const struct part *part)
{
  const struct part blocks = span_part (pc, part->index, part_span (pc, part));

  return exclusive_conflict (&pc->zeroes,
                             (blocks.index << pc->page_shift) + blocks.offset,
                             blocks.len);
}

/* A page that the curve samples is written.  Where writes leave the cache
 * again they are no use of it.  `around` is relaxed, as everywhere.
 */
static void
note_watched_write (struct pagecache *pc, struct page *p)
{
  assert_held (&p->lock);
  evict_hit_watched (pc->pool->evict, &p->evict);
  if (!atomic_load_explicit (&pc->around, memory_order_relaxed))
    curve_note (pc->pool->curve, page_key (p), CURVE_WRITE);
}

/* The bytes of a part, which nobody can fail any more. */
static void
copy_in (struct pagecache *pc, struct page *p, const struct part *part,
         const void *from)
{
  uint8_t *to = pool_frame (pc->pool, p) + part->offset;

  assert_held (&p->lock);
  if (from)
    memcpy (to, from, part->len);
  else
    memset (to, 0, part->len);
  if (evict_hit (pc->pool->evict, &p->evict))
    note_watched_write (pc, p);
}

static int
write_locked (struct pagecache *pc, struct page *p, const struct part *part,
              const void *from)
{
  if (is_excluded (pc, part))
    return WRITE_EXCLUDED;
  if (edge_is_missing (pc, p, part))
    return WRITE_EDGE;
  copy_in (pc, p, part, from);
  states_change (pc, p, part_span (pc, part), EVENT_WRITTEN);
  return 0;
}

int
page_write (struct pagecache *pc, struct page *p, const struct part *part,
            const void *from)
{
  int why;

  word_lock_take (&p->lock, RANK_PAGE);
  why = write_locked (pc, p, part, from);
  word_lock_drop (&p->lock);
  return why;
}

bool
page_rewrite (struct pagecache *pc, const struct part *part, const void *from)
{
  const uint64_t key = pagecache_key (pc, part->index);
  struct page *p = pool_find (pc->pool, key);
  bool done;

  if (p == NULL)
    return false;
  word_lock_take (&p->lock, RANK_PAGE);
  done = page_key (p) == key && (p->flags & PAGE_INDEXED) &&
         write_locked (pc, p, part, from) == 0;
  word_lock_drop (&p->lock);
  return done;
}

int
page_claim (struct pagecache *pc, struct page *p, const struct part *part)
{
  const struct span s = part_span (pc, part);
  int why = 0;

  word_lock_take (&p->lock, RANK_PAGE);
  if (is_excluded (pc, part))
    why = WRITE_EXCLUDED;
  else if (bits_any (page_map (pc, p, WRITEBACK), s))
    why = WRITE_BUSY;
  else if (edge_is_missing (pc, p, part))
    why = WRITE_EDGE;
  else
    states_change (pc, p, s, EVENT_CLAIMED);
  word_lock_drop (&p->lock);
  return why;
}

void
page_unclaim (struct pagecache *pc, struct page *p, const struct part *part)
{
  word_lock_take (&p->lock, RANK_PAGE);
  states_change (pc, p, part_span (pc, part), EVENT_UNCLAIMED);
  wake (p);
  word_lock_drop (&p->lock);
}

/* Whether a block's latest acknowledged bytes may not be durable. */
static bool
is_acknowledged (struct pagecache *pc, struct page *p, uint32_t b)
{
  const struct part part = span_part (pc, page_index (pc, p), block_span (b));

  return bit_get (page_map (pc, p, DIRTY), b) ||
         bit_get (page_map (pc, p, UNSTABLE), b) ||
         zeroes_any (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                     part.len);
}

void
page_write_claimed (struct pagecache *pc, struct page *p,
                    const struct part *part, const void *from,
                    _Atomic bool *acknowledged)
{
  const struct span s = part_span (pc, part);
  struct change c = { 0 };
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  copy_in (pc, p, part, from);
  for (b = s.first; b < s.first + s.count; ++b)
    if (is_acknowledged (pc, p, b)) {
      /* Release pairs with acquire in durable.c: a thread that no longer finds
       * the mark under this page's lock finds this.
       */
      atomic_store_explicit (acknowledged, true, memory_order_release);
      states_apply_span (pc, p, &c, block_span (b),
                         EVENT_COPIED_OVER_ACKNOWLEDGED);
    }
    else
      states_apply_span (pc, p, &c, block_span (b), EVENT_COPIED_OVER_OTHERS);
  states_end (pc, p, &c);
  word_lock_drop (&p->lock);
}

void
page_copy_claimed (struct pagecache *pc, struct page *p, struct span span,
                   void *to)
{
  const struct part part = span_part (pc, page_index (pc, p), span);

  word_lock_take (&p->lock, RANK_PAGE);
  assert (bits_all (page_map (pc, p, WRITEBACK), span));
  assert (bits_all (page_map (pc, p, UPTODATE), span));
  memcpy (to, pool_frame (pc->pool, p) + part.offset, part.len);
  word_lock_drop (&p->lock);
}

/* The first run of blocks that may be written back. */
static struct span
find_dirty (struct pagecache *pc, struct page *p, uint32_t from,
            uint32_t before, uint32_t most, bool *busy)
{
  const uint32_t end = blocks_inside (pc, page_index (pc, p));
  const uint8_t *dirty = page_map (pc, p, DIRTY);
  const uint8_t *writeback = page_map (pc, p, WRITEBACK);
  struct span s = { 0 };
  struct part part;
  uint32_t b;

  for (b = bits_find (dirty, from, end, true); b < end && s.count < most;
       b = s.count ? b + 1 : bits_find (dirty, b + 1, end, true)) {
    if (s.count > 0 ? !bit_get (dirty, b) : b >= before)
      break;
    part = span_part (pc, page_index (pc, p), block_span (b));
    if (bit_get (writeback, b) || is_excluded (pc, &part)) {
      *busy = true;
      if (s.count > 0)
        break;
      continue;
    }
    if (s.count++ == 0)
      s.first = b;
  }
  return s;
}

struct span
page_gather (struct pagecache *pc, uint64_t index, uint32_t from,
             uint32_t before, uint32_t most, uint32_t pass, bool later,
             void *to, bool *busy)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  struct span s = { 0 };
  struct part part;
  bool ignored;

  if (p == NULL)
    return s;
  if (!before_u32 (pass, p->dirtied))
    s = find_dirty (pc, p, from, before, most, busy);
  else if (later)
    s = find_dirty (pc, p, from, before, most, &ignored);
  if (s.count > 0) {
    part = span_part (pc, index, s);
    memcpy (to, pool_frame (pc->pool, p) + part.offset, part.len);
    states_change (pc, p, s, EVENT_GATHERED);
  }
  word_lock_drop (&p->lock);
  return s;
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

  FOR_EACH_BYTE (i, mask, s)
  {
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
  wake (p);
  drop_lock_or_page (pc, p);
}

/* Called before what was cached of the range is taken away: who reads it from
 * the backend later finds it in doubt if he comes before a failure.
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
      sleep_on (p);
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

  FOR_EACH_BYTE (i, mask, s)
  {
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
    drop_lock_or_page (pc, p);
  }
}

void
pagecache_lose_zeroes (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  if (zeroes_lose_range (&pc->zeroes, offset, len))
    count_failure (pc);
}

struct span
page_held_run (struct pagecache *pc, uint64_t index, uint32_t from)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  const uint32_t end = page_span (pc).count;
  struct span s = { 0 };
  uint32_t b;

  if (p == NULL)
    return s;
  for (b = from; b < end; ++b)
    if (states_amounts (pc, p, block_span (b)).held > 0) {
      if (s.count++ == 0)
        s.first = b;
    }
    else if (s.count > 0)
      break;
  word_lock_drop (&p->lock);
  return s;
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

/* All unstable blocks of a page are stable. */
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

/* All unstable blocks of a page are dirty again. */
static void
unsettle_page (struct pagecache *pc, struct page *p)
{
  struct change c = { 0 };

  FOR_EACH_BYTE (i, mask, page_span (pc))
  states_apply (pc, p, &c, i, mask & page_map (pc, p, UNSTABLE)[i],
                EVENT_FLUSH_FAILED);
  states_end (pc, p, &c);
}

/* What was zeroed is forgotten first: a page over a range that is still
 * remembered goes on being unstable, so that it does not leave before.
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
    drop_lock_or_page (pc, p);
  }
}

/* Drops what of a range is clean; how many bytes. */
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
    FOR_EACH_BYTE (i, mask, s)
    {
      clean = clean_blocks (pc, p, i, mask);
      blocks += __builtin_popcount (page_map (pc, p, UPTODATE)[i] & clean);
      states_apply (pc, p, &c, i, clean, EVENT_DROPPED);
      states_apply (pc, p, &c, i, mask & ~clean, EVENT_OVERTAKEN);
    }
    drop_lock_or_page (pc, p);
  }
  return blocks << pc->block_shift;
}

/* What nobody was promised may have changed at the backend: reads ask again. */
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

/* Nobody uses the export. */
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
