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

static uint64_t
key_of (const struct pagecache *pc, uint64_t index)
{
  return pc->key_base | index;
}

static uint64_t
index_of (const struct pagecache *pc, const struct page *p)
{
  return page_key (p) & ~pc->key_base;
}

static uint8_t *
map_of (const struct pagecache *pc, struct page *p, enum block_state state)
{
  return page_map (pc->pool, p, state);
}

/* All blocks of a page. */
static struct span
whole (const struct pagecache *pc)
{
  return (struct span){ .count = page_size (pc) >> pc->block_shift };
}

static struct span
one_block (uint32_t block)
{
  return (struct span){ .first = block, .count = 1 };
}

/* The blocks of the export's byte range in the page with this index. */
static struct span
range_span (const struct pagecache *pc, uint64_t index, uint64_t offset,
            uint64_t len)
{
  const uint64_t start = index << pc->page_shift;
  const uint64_t first = max_u64 (offset, start) - start;
  const uint64_t end = min_u64 (offset + len, start + page_size (pc)) - start;

  return (struct span){
    .first = first >> pc->block_shift,
    .count = ((end - 1) >> pc->block_shift) - (first >> pc->block_shift) + 1,
  };
}

/* Over the pages of a range that are there. */
static void
walk_range (struct pagecache *pc, struct pool_walk *w, uint64_t offset,
            uint64_t len)
{
  pool_walk_begin (pc->pool, w, key_of (pc, offset >> pc->page_shift),
                   key_of (pc, (offset + len - 1) >> pc->page_shift));
}

/* How many blocks of a page begin inside the export: fewer than all in its
 * last page, none in those that a smaller size has left unsavable.
 */
static uint32_t
blocks_inside (const struct pagecache *pc, uint64_t index)
{
  const uint64_t start = index << pc->page_shift;

  if (start >= pc->size)
    return 0;
  return min_u64 (whole (pc).count,
                  (pc->size - start + block_size (pc) - 1) >> pc->block_shift);
}

/* The number of bits in each byte of a word, in that byte (Warren, "Hacker's
 * Delight", 5-1).
 */
static uint32_t
count_in_bytes (uint32_t x)
{
  x -= (x >> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
  return (x + (x >> 4)) & 0x0f0f0f0f;
}

/* Blocks of a span in each state. */
static struct amounts
tally (const struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *dirty = map_of (pc, p, DIRTY);
  const uint8_t *writeback = map_of (pc, p, WRITEBACK);
  const uint8_t *unstable = map_of (pc, p, UNSTABLE);
  struct amounts n = { 0 };
  uint32_t counts;

  FOR_EACH_BYTE (i, mask, s)
  {
    counts = (dirty[i] & mask) | (writeback[i] & mask) << 8 |
             (unstable[i] & mask) << 16 |
             ((dirty[i] | writeback[i] | unstable[i]) & mask) << 24;
    if (counts == 0)
      continue;
    counts = count_in_bytes (counts);
    n.dirty += counts & 0xff;
    n.writeback += counts >> 8 & 0xff;
    n.unstable += counts >> 16 & 0xff;
    n.held += counts >> 24;
  }
  return n;
}

static void
add (const struct pagecache *pc, _Atomic int64_t *to, int64_t blocks)
{
  if (blocks != 0)
    atomic_fetch_add_explicit (to, blocks * (int64_t) block_size (pc),
                               memory_order_relaxed);
}

/* What a page was before a change: call at its beginning, under its lock. */
static struct amounts
begin_change (const struct pagecache *pc, struct page *p)
{
  assert_held (&p->lock);
  return tally (pc, p, whole (pc));
}

/* The states of a page have changed: its amounts, and where it is listed. */
static void
end_change (struct pagecache *pc, struct page *p, struct amounts before)
{
  const struct amounts now = tally (pc, p, whole (pc));

  add (pc, &pc->dirty, now.dirty - before.dirty);
  add (pc, &pc->writeback, now.writeback - before.writeback);
  add (pc, &pc->unstable, now.unstable - before.unstable);
  add (pc, &pc->held_bytes, now.held - before.held);

  if (now.dirty != 0 && before.dirty == 0) {
    p->dirtied = held_pass (&pc->held);
    if (atomic_load_explicit (&pc->dirty_since, memory_order_relaxed) == 0)
      atomic_store_explicit (&pc->dirty_since, now_ns (), memory_order_relaxed);
  }
  if (now.unstable == 0 && (p->flags & PAGE_LISTED))
    held_unlist_unstable (&pc->held, p);
  if (now.held != 0 && !(p->flags & PAGE_HELD))
    held_add (&pc->held, p);
  if (now.held == 0 && (p->flags & PAGE_HELD))
    held_remove (&pc->held, p);
}

/* Nothing but bytes that nobody will ask for again: gone.  Else unlocked. */
static void
drop_lock_or_page (struct pagecache *pc, struct page *p)
{
  if (p->pins == 0 && !(p->flags & (PAGE_HELD | PAGE_FILLING)) &&
      !bits_any (map_of (pc, p, UPTODATE), whole (pc)))
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
  const uint64_t key = key_of (pc, part->index);
  struct page *p = pool_find (pool, key);

  if (p == NULL)
    return false;
  word_lock_take (&p->lock, RANK_PAGE);
  if (page_key (p) != key ||
      !bits_all (map_of (pc, p, UPTODATE), part_span (pc, part))) {
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
  const uint64_t key = key_of (pc, index);

  if (curve_samples (pc->pool->curve, key))
    curve_note (pc->pool->curve, key, CURVE_MISS);
}

bool
page_is_uptodate (struct pagecache *pc, const struct part *part)
{
  struct page *p = pool_lock_page (pc->pool, key_of (pc, part->index));
  bool all;

  if (p == NULL)
    return false;
  all = bits_all (map_of (pc, p, UPTODATE), part_span (pc, part));
  word_lock_drop (&p->lock);
  return all;
}

void
page_read_past (struct pagecache *pc, const struct part *part, void *bytes)
{
  struct page *p = pool_lock_page (pc->pool, key_of (pc, part->index));
  const struct span s = part_span (pc, part);
  const uint32_t end = part->offset + part->len;
  uint32_t b, from, to;

  if (p == NULL)
    return; /* a fill has its page pinned: there is none */
  for (b = s.first; b < s.first + s.count; ++b) {
    from = max_u64 (b << pc->block_shift, part->offset);
    to = min_u64 ((b + 1) << pc->block_shift, end);
    if (bit_get (map_of (pc, p, UPTODATE), b))
      memcpy ((uint8_t *) bytes + (from - part->offset),
              pool_frame (pc->pool, p) + from, to - from);
    else
      bits_clear (map_of (pc, p, FILLING), one_block (b));
  }
  word_lock_drop (&p->lock);
}

struct page *
page_pin (struct pagecache *pc, uint64_t index, enum admission why)
{
  return pool_pin_page (pc->pools, pc->pool, key_of (pc, index), why);
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
  uint8_t *uptodate = map_of (pc, p, UPTODATE);
  struct part part;
  bool zeroed;
  uint32_t b;

  for (b = s.first; b < s.first + s.count; ++b) {
    part = span_part (pc, index_of (pc, p), one_block (b));
    zeroes_prefix (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                   part.len, &zeroed);
    if (zeroed && !bit_get (uptodate, b)) {
      memset (pool_frame (pc->pool, p) + part.offset, 0, part.len);
      bits_set (uptodate, one_block (b));
      bits_clear (map_of (pc, p, FILLING), one_block (b));
    }
  }
}

/* Whether somebody is reading every missing block of the span. */
static bool
all_coming (const struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *uptodate = map_of (pc, p, UPTODATE);
  const uint8_t *filling = map_of (pc, p, FILLING);

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
  const uint8_t *uptodate = map_of (pc, p, UPTODATE);
  uint8_t *filling = map_of (pc, p, FILLING);
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
          bits_set (filling, one_block (b));
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
  uint8_t *uptodate = map_of (pc, p, UPTODATE);
  uint8_t *filling = map_of (pc, p, FILLING);
  uint8_t *frame = pool_frame (pc->pool, p), *to;
  struct part part;
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  for (b = span.first; error == 0 && b < span.first + span.count; ++b) {
    part = span_part (pc, index_of (pc, p), one_block (b));
    to = (uint8_t *) bytes + ((b - span.first) << pc->block_shift);
    if (bit_get (filling, b)) {
      memcpy (frame + part.offset, to, part.len);
      bits_set (uptodate, one_block (b));
    }
    else if (bit_get (uptodate, b))
      memcpy (to, frame + part.offset, part.len);
  }
  bits_clear (filling, span);
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
  const uint8_t *uptodate = map_of (pc, p, UPTODATE);
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
  const struct span s = part_span (pc, part);
  uint8_t *to = pool_frame (pc->pool, p) + part->offset;

  assert_held (&p->lock);
  if (from)
    memcpy (to, from, part->len);
  else
    memset (to, 0, part->len);
  bits_set (map_of (pc, p, UPTODATE), s);
  bits_clear (map_of (pc, p, FILLING), s);
  if (evict_hit (pc->pool->evict, &p->evict))
    note_watched_write (pc, p);
}

static int
write_locked (struct pagecache *pc, struct page *p, const struct part *part,
              const void *from)
{
  struct amounts before;

  if (is_excluded (pc, part))
    return WRITE_EXCLUDED;
  if (edge_is_missing (pc, p, part))
    return WRITE_EDGE;
  before = begin_change (pc, p);
  copy_in (pc, p, part, from);
  bits_set (map_of (pc, p, DIRTY), part_span (pc, part));
  end_change (pc, p, before);
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
  const uint64_t key = key_of (pc, part->index);
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
  uint8_t *writeback = map_of (pc, p, WRITEBACK);
  struct amounts before;
  int why = 0;

  word_lock_take (&p->lock, RANK_PAGE);
  if (is_excluded (pc, part))
    why = WRITE_EXCLUDED;
  else if (bits_any (writeback, s))
    why = WRITE_BUSY;
  else if (edge_is_missing (pc, p, part))
    why = WRITE_EDGE;
  else {
    before = begin_change (pc, p);
    bits_set (writeback, s);
    end_change (pc, p, before);
  }
  word_lock_drop (&p->lock);
  return why;
}

void
page_unclaim (struct pagecache *pc, struct page *p, const struct part *part)
{
  struct amounts before;

  word_lock_take (&p->lock, RANK_PAGE);
  before = begin_change (pc, p);
  bits_clear (map_of (pc, p, WRITEBACK), part_span (pc, part));
  end_change (pc, p, before);
  wake (p);
  word_lock_drop (&p->lock);
}

/* Whether a block's latest acknowledged bytes may not be durable. */
static bool
is_acknowledged (struct pagecache *pc, struct page *p, uint32_t b)
{
  const struct part part = span_part (pc, index_of (pc, p), one_block (b));

  return bit_get (map_of (pc, p, DIRTY), b) ||
         bit_get (map_of (pc, p, UNSTABLE), b) ||
         zeroes_any (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                     part.len);
}

void
page_write_claimed (struct pagecache *pc, struct page *p,
                    const struct part *part, const void *from,
                    _Atomic bool *acknowledged)
{
  const struct span s = part_span (pc, part);
  struct amounts before;
  uint32_t b;

  word_lock_take (&p->lock, RANK_PAGE);
  assert (bits_all (map_of (pc, p, WRITEBACK), s));
  before = begin_change (pc, p);
  for (b = s.first; b < s.first + s.count; ++b)
    if (is_acknowledged (pc, p, b))
      /* Release pairs with acquire in submit.c: who no longer finds the mark
       * under this page's lock finds this.
       */
      atomic_store_explicit (acknowledged, true, memory_order_release);
    else
      bits_set (map_of (pc, p, PENDING), one_block (b));
  bits_clear (map_of (pc, p, DIRTY), s);
  bits_clear (map_of (pc, p, UNSTABLE), s);
  copy_in (pc, p, part, from);
  end_change (pc, p, before);
  word_lock_drop (&p->lock);
}

void
page_copy_claimed (struct pagecache *pc, struct page *p, struct span span,
                   void *to)
{
  const struct part part = span_part (pc, index_of (pc, p), span);

  word_lock_take (&p->lock, RANK_PAGE);
  assert (bits_all (map_of (pc, p, WRITEBACK), span));
  assert (bits_all (map_of (pc, p, UPTODATE), span));
  memcpy (to, pool_frame (pc->pool, p) + part.offset, part.len);
  word_lock_drop (&p->lock);
}

/* The first run of blocks that may be written back. */
static struct span
find_dirty (struct pagecache *pc, struct page *p, uint32_t from,
            uint32_t before, uint32_t most, bool *busy)
{
  const uint32_t end = blocks_inside (pc, index_of (pc, p));
  const uint8_t *dirty = map_of (pc, p, DIRTY);
  const uint8_t *writeback = map_of (pc, p, WRITEBACK);
  struct span s = { 0 };
  struct part part;
  uint32_t b;

  for (b = bits_find (dirty, from, end, true); b < end && s.count < most;
       b = s.count ? b + 1 : bits_find (dirty, b + 1, end, true)) {
    if (s.count > 0 ? !bit_get (dirty, b) : b >= before)
      break;
    part = span_part (pc, index_of (pc, p), one_block (b));
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
  struct page *p = pool_lock_page (pc->pool, key_of (pc, index));
  struct span s = { 0 };
  struct amounts was;
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
    was = begin_change (pc, p);
    memcpy (to, pool_frame (pc->pool, p) + part.offset, part.len);
    bits_clear (map_of (pc, p, DIRTY), s);
    bits_clear (map_of (pc, p, UNSTABLE), s);
    bits_set (map_of (pc, p, WRITEBACK), s);
    end_change (pc, p, was);
  }
  word_lock_drop (&p->lock);
  return s;
}

/* A write that took marks away has failed: what was acknowledged is dirty, the
 * rest is what the backend says.  True: something is dirty again.
 */
static bool
restore (struct pagecache *pc, struct page *p, struct span s)
{
  const uint8_t *pending = map_of (pc, p, PENDING);
  uint8_t *dirty = map_of (pc, p, DIRTY);
  uint8_t *uptodate = map_of (pc, p, UPTODATE);
  uint32_t b;

  for (b = s.first; b < s.first + s.count; ++b)
    if (!bit_get (pending, b))
      bits_set (dirty, one_block (b));
    else if (!bit_get (dirty, b))
      bits_clear (uptodate, one_block (b));
  return !bits_all (pending, s);
}

/* In mode writearound a block leaves once it is stable. */
static void
leave_if_around (struct pagecache *pc, struct page *p, struct span s)
{
  uint8_t *uptodate = map_of (pc, p, UPTODATE);
  uint32_t b;

  if (!atomic_load_explicit (&pc->around, memory_order_relaxed))
    return;
  for (b = s.first; b < s.first + s.count; ++b)
    if (!bit_get (map_of (pc, p, DIRTY), b) &&
        !bit_get (map_of (pc, p, WRITEBACK), b) &&
        !bit_get (map_of (pc, p, UNSTABLE), b))
      bits_clear (uptodate, one_block (b));
}

/* Blocks that the backend took become unstable; if a flush or FUA operation
 * failed since the write began, dirty, and true is returned.  One that was
 * written meanwhile is dirty anyway, and stays.
 */
static bool
become_unstable (struct pagecache *pc, struct page *p, struct span s,
                 uint32_t epoch)
{
  if (held_list_unstable (&pc->held, p, epoch)) {
    bits_set (map_of (pc, p, UNSTABLE), s);
    return false;
  }
  bits_set (map_of (pc, p, DIRTY), s);
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
  const struct amounts before = begin_change (pc, p);
  bool again = false;

  assert (bits_all (map_of (pc, p, WRITEBACK), s));
  bits_clear (map_of (pc, p, WRITEBACK), s);
  if (outcome == OUTCOME_FAILED)
    again = restore (pc, p, s);
  else if (outcome == OUTCOME_UNSTABLE ||
           zeroes_any (&pc->zeroes,
                       (part->index << pc->page_shift) + part->offset,
                       part->len))
    again = become_unstable (pc, p, s, epoch);
  else
    leave_if_around (pc, p, s);
  bits_clear (map_of (pc, p, PENDING), s);
  end_change (pc, p, before);
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
    p = pool_lock_page (pc->pool, key_of (pc, part.index));
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
    s = range_span (pc, index_of (pc, p), offset, len);
    while (bits_any (map_of (pc, p, WRITEBACK), s)) {
      sleep_on (p);
      p = pool_lock_page (pc->pool, key);
      if (p == NULL)
        break;
    }
    if (p)
      word_lock_drop (&p->lock);
  }
}

/* True: something is dirty again. */
static bool
clear_blocks (struct pagecache *pc, struct page *p, struct span s,
              enum clear how)
{
  uint8_t *uptodate = map_of (pc, p, UPTODATE);
  uint8_t *dirty = map_of (pc, p, DIRTY);
  uint8_t *unstable = map_of (pc, p, UNSTABLE);
  const struct part part = span_part (pc, index_of (pc, p), s);
  bool again;

  switch (how) {
  case CLEAR_ZEROED:
    memset (pool_frame (pc->pool, p) + part.offset, 0, part.len);
    break;
  case CLEAR_UNKNOWN:
    bits_clear (uptodate, s);
    break;
  case CLEAR_FAILED:
    again = bits_any (unstable, s);
    FOR_EACH_BYTE (i, mask, s)
    {
      dirty[i] |= unstable[i] & mask;
      uptodate[i] &= dirty[i] | ~mask;
    }
    bits_clear (unstable, s);
    return again;
  }
  bits_clear (dirty, s);
  bits_clear (unstable, s);
  return false;
}

void
pagecache_clear (struct pagecache *pc, uint64_t offset, uint64_t len,
                 enum clear how)
{
  struct amounts before;
  struct pool_walk w;
  struct page *p;
  struct span s;
  bool again;

  if (how != CLEAR_ZEROED)
    doubt (pc, offset, len);
  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, index_of (pc, p), offset, len);
    assert (!bits_any (map_of (pc, p, WRITEBACK), s));
    before = begin_change (pc, p);
    again = clear_blocks (pc, p, s, how);
    bits_clear (map_of (pc, p, FILLING), s); /* what is read is too old */
    end_change (pc, p, before);
    if (again)
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
  struct page *p = pool_lock_page (pc->pool, key_of (pc, index));
  const uint32_t end = whole (pc).count;
  struct span s = { 0 };
  uint32_t b;

  if (p == NULL)
    return s;
  for (b = from; b < end; ++b)
    if (tally (pc, p, one_block (b)).held > 0) {
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
  key = held_next (&pc->held, key_of (pc, *index));
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

/* What was zeroed is forgotten first: a page over a range that is still
 * remembered goes on being unstable, so that it does not leave before.
 */
void
pagecache_settle (struct pagecache *pc, uint32_t flush)
{
  LOCK_FOR_SCOPE (&pc->settle_lock);
  struct amounts before;
  struct page *p;

  zeroes_settle (&pc->zeroes, flush);
  doubts_settle (&pc->doubts, flush);
  while ((p = lock_oldest_unstable (pc)) != NULL) {
    if (!before_u16 (p->generation, flush)) {
      word_lock_drop (&p->lock);
      break;
    }
    if (zeroes_any (&pc->zeroes, index_of (pc, p) << pc->page_shift,
                    page_size (pc)) &&
        held_list_unstable (&pc->held, p, held_epoch (&pc->held))) {
      word_lock_drop (&p->lock);
      continue;
    }
    before = begin_change (pc, p);
    bits_clear (map_of (pc, p, UNSTABLE), whole (pc));
    leave_if_around (pc, p, whole (pc));
    end_change (pc, p, before);
    drop_lock_or_page (pc, p);
  }
}

/* Drops what of a range is clean; how many bytes. */
static uint64_t
drop_clean (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  uint64_t blocks = 0;
  uint8_t *uptodate, keeps;
  struct pool_walk w;
  struct page *p;
  struct span s;

  walk_range (pc, &w, offset, len);
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, index_of (pc, p), offset, len);
    uptodate = map_of (pc, p, UPTODATE);
    FOR_EACH_BYTE (i, mask, s)
    {
      keeps = ~mask | map_of (pc, p, DIRTY)[i] | map_of (pc, p, WRITEBACK)[i] |
              map_of (pc, p, UNSTABLE)[i];
      blocks += count_in_bytes (uptodate[i] & ~keeps & 0xff);
      uptodate[i] &= keeps;
    }
    bits_clear (map_of (pc, p, FILLING), s);
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
  uint8_t *dirty, *unstable;
  struct amounts before;
  struct page *p;

  /* From here on nothing that began before becomes unstable. */
  held_fail (&pc->held);
  PROBE2 (epoch, export_number (pc), held_epoch (&pc->held));
  zeroes_lose (&pc->zeroes, held_epoch (&pc->held));
  while ((p = lock_oldest_unstable (pc)) != NULL) {
    before = begin_change (pc, p);
    dirty = map_of (pc, p, DIRTY);
    unstable = map_of (pc, p, UNSTABLE);
    FOR_EACH_BYTE (i, mask, whole (pc))
    {
      dirty[i] |= unstable[i] & mask;
      unstable[i] &= ~mask;
    }
    end_change (pc, p, before);
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
    n = tally (pc, p, range_span (pc, index_of (pc, p), offset, len));
    word_lock_drop (&p->lock);
    sum.dirty += n.dirty << pc->block_shift;
    sum.writeback += n.writeback << pc->block_shift;
    sum.unstable += n.unstable << pc->block_shift;
    sum.held += n.held << pc->block_shift;
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
    p = pool_lock_page (pc->pool, key_of (pc, index));
    if (p) {
      past.first = blocks_inside (pc, index);
      past.count = whole (pc).count - past.first;
      unsavable += tally (pc, p, past).held << pc->block_shift;
      word_lock_drop (&p->lock);
    }
    index++;
  }
  return unsavable;
}
