/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations on one page, under its lock: reads, writes, and the two ways in
 * which its blocks go to the backend.
 *
 *     ordinary write    page_write                      dirty
 *     write-back        page_gather                     dirty, then writeback
 *     writethrough      page_claim, page_write_claimed  writeback
 *
 * Each either changes all blocks that it is asked for, or none and says why.
 * pagecache.c has what follows when the write of blocks in writeback ends.
 *
 * For example, with blocks of 512 bytes a write of 1000 bytes at the beginning
 * of a page covers block 0 whole and block 1 in part.  If block 1 is not
 * uptodate page_write changes nothing and returns WRITE_EDGE: the caller has to
 * fill that block first.
 */

#include <config.h>

#include "pagecache/open.h"
#include "pagecache/page.h"
#include "pagecache/states.h"
#include "pagecache/waits.h"

void
page_drop_unlock (struct pagecache *pc, struct page *p)
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

/* Copies a part out and unlocks the page. */
static inline __attribute__ ((always_inline)) bool
read_locked (struct pagecache *pc, struct page *p, const struct part *part,
             void *to)
{
  struct pool *pool = pc->pool;

  memcpy (to, pool_frame (pool, p) + part->offset, part->len);
  if (evict_hit (pool->evict, &p->evict))
    return end_watched_read (pc, p);
  word_lock_drop (&p->lock);
  return true;
}

void
page_read_locked (struct pagecache *pc, struct page *p, const struct part *part,
                  void *to)
{
  read_locked (pc, p, part, to);
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
  return read_locked (pc, p, part, to);
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
  return pools_pin_page (pc->pools, pc->pool, pagecache_key (pc, index), why);
}

void
page_unpin (struct pagecache *pc, struct page *p)
{
  word_lock_take (&p->lock, RANK_PAGE);
  assert (p->pins > 0);
  p->pins--;
  page_drop_unlock (pc, p);
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

static inline bool
is_excluded (struct pagecache *pc, const struct part *part)
{
  struct part blocks;

  if (exclusive_none (&pc->zeroes))
    return false;
  blocks = span_part (pc, part->index, part_span (pc, part));
  return exclusive_conflict (&pc->zeroes,
                             (blocks.index << pc->page_shift) + blocks.offset,
                             blocks.len);
}

/* A page that the curve samples is written.  Where writes leave the cache
 * again they are no use of it.  `around` is relaxed, as everywhere.
 */
static __attribute__ ((noinline)) void
note_watched_write (struct pagecache *pc, struct page *p)
{
  assert_held (&p->lock);
  evict_hit_watched (pc->pool->evict, &p->evict);
  if (!atomic_load_explicit (&pc->around, memory_order_relaxed))
    curve_note (pc->pool->curve, page_key (p), CURVE_WRITE);
}

/* Copies the bytes of a part in; after this the write of the page cannot fail.
 */
static inline __attribute__ ((always_inline)) void
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

/* Dirty blocks have what EVENT_WRITTEN sets, and have not what it clears. */
static bool
changes_bytes_alone (struct pagecache *pc, struct page *p,
                     const struct part *part)
{
  return bits_all (page_map (pc, p, DIRTY), part_span (pc, part)) &&
         exclusive_none (&pc->zeroes);
}

/* Copies a part in, and makes its blocks dirty that are not.  Not inline, so
 * that a write that changes no state needs no registers for it.
 */
static __attribute__ ((noinline)) int
write_locked (struct pagecache *pc, struct page *p, const struct part *part,
              const void *from)
{
  if (is_excluded (pc, part))
    return WRITE_EXCLUDED;
  if (edge_is_missing (pc, p, part))
    return WRITE_EDGE;
  copy_in (pc, p, part, from);
  /* A block that is dirty is uptodate and not filling: it stays as it is. */
  if (!bits_all (page_map (pc, p, DIRTY), part_span (pc, part)))
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

enum rewrite
page_rewrite (struct pagecache *pc, const struct part *part, const void *from)
{
  const uint64_t key = pagecache_key (pc, part->index);
  struct page *p = pool_find (pc->pool, key);
  enum rewrite done = REWRITE_NOT;

  if (p == NULL)
    return REWRITE_NOT;
  word_lock_take (&p->lock, RANK_PAGE);
  if (pool_page_has_key (p, key)) {
    if (changes_bytes_alone (pc, p, part)) {
      copy_in (pc, p, part, from);
      done = REWRITE_SAME;
    }
    else if (write_locked (pc, p, part, from) == 0)
      done = REWRITE_MORE;
  }
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
  waits_wake (p);
  word_lock_drop (&p->lock);
}

bool
page_write_new (struct pagecache *pc, const struct part *part, const void *from)
{
  struct page *p = pools_lock_page (
      pc->pools, pc->pool, pagecache_key (pc, part->index), ADMIT_WRITE);
  int why;

  if (p == NULL)
    return false;
  why = write_locked (pc, p, part, from);
  p->pins--;
  page_drop_unlock (pc, p); /* it leaves if it got nothing */
  return why == 0;
}

/* Which blocks of byte I of the maps are remembered as zero, in whole or in
 * part.
 */
static uint8_t
zeroed_blocks (struct pagecache *pc, struct page *p, uint32_t i, uint8_t mask)
{
  struct part part;
  uint8_t zeroed = 0;
  uint32_t b;

  if (zeroes_none (&pc->zeroes))
    return 0;
  for (b = 0; b < 8; ++b) {
    if (!(mask >> b & 1))
      continue;
    part = span_part (pc, page_index (pc, p), block_span (i * 8 + b));
    if (zeroes_any (&pc->zeroes, (part.index << pc->page_shift) + part.offset,
                    part.len))
      zeroed |= 1 << b;
  }
  return zeroed;
}

/* The blocks of byte I whose latest acknowledged bytes may not be durable. */
static uint8_t
acknowledged_blocks (struct pagecache *pc, struct page *p, uint32_t i,
                     uint8_t mask)
{
  const uint8_t marked =
      page_map (pc, p, DIRTY)[i] | page_map (pc, p, UNSTABLE)[i];

  return (mask & marked) | zeroed_blocks (pc, p, i, mask & ~marked);
}

/* Blocks of byte I, which are claimed and copied in. */
static inline __attribute__ ((always_inline)) void
change_copied (struct pagecache *pc, struct page *p, struct change *c,
               uint32_t i, uint8_t mask, struct open_write *open)
{
  const uint8_t promised = acknowledged_blocks (pc, p, i, mask);

  if (promised) {
    open_begin (pc, open);
    states_apply (pc, p, c, i, promised, EVENT_COPIED_OVER_ACKNOWLEDGED);
  }
  if (mask & ~promised)
    states_apply (pc, p, c, i, mask & ~promised, EVENT_COPIED_OVER_OTHERS);
}

void
page_write_claimed (struct pagecache *pc, struct page *p,
                    const struct part *part, const void *from,
                    struct open_write *open)
{
  struct change c = { 0 };

  word_lock_take (&p->lock, RANK_PAGE);
  copy_in (pc, p, part, from);
  FOR_EACH_BYTE (i, mask, part_span (pc, part))
    change_copied (pc, p, &c, i, mask, open);
  states_end (pc, p, &c);
  word_lock_drop (&p->lock);
}

bool
page_write_through (struct pagecache *pc, const struct part *part,
                    const void *from, struct open_write *open)
{
  const uint64_t key = pagecache_key (pc, part->index);
  const struct span s = part_span (pc, part);
  struct page *p = pool_find (pc->pool, key);
  struct change c = { 0 };
  bool may;

  if (p == NULL)
    return false;
  word_lock_take (&p->lock, RANK_PAGE);
  may = pool_page_has_key (p, key) && !is_excluded (pc, part) &&
        !bits_any (page_map (pc, p, WRITEBACK), s);
  if (may) {
    copy_in (pc, p, part, from);
    FOR_EACH_BYTE (i, mask, s) {
      states_apply (pc, p, &c, i, mask, EVENT_CLAIMED);
      change_copied (pc, p, &c, i, mask, open);
    }
    states_end (pc, p, &c);
  }
  word_lock_drop (&p->lock);
  return may;
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

/* Which dirty blocks of byte I of the maps became so in pass PASS or before. */
static uint8_t
dirty_since (const struct pagecache *pc, struct page *p, uint32_t i,
             uint32_t pass)
{
  const uint8_t dirty = page_map (pc, p, DIRTY)[i];

  return before_u32 (pass, p->dirtied)
             ? dirty & ~page_map (pc, p, BLOCK_FRESH)[i]
             : dirty;
}

static bool
is_dirty_since (const struct pagecache *pc, struct page *p, uint32_t block,
                uint32_t pass)
{
  return dirty_since (pc, p, block / 8, pass) >> (block % 8) & 1;
}

static bool
is_block_excluded (struct pagecache *pc, struct page *p, uint32_t block)
{
  const struct part part =
      span_part (pc, page_index (pc, p), block_span (block));

  return is_excluded (pc, &part);
}

/* The first run of blocks that may be written back. */
static struct span
find_dirty (struct pagecache *pc, struct page *p, uint32_t from,
            uint32_t before, uint32_t max, uint32_t pass, bool later,
            bool *busy)
{
  const uint32_t end = blocks_inside (pc, page_index (pc, p));
  const uint8_t *dirty = page_map (pc, p, DIRTY);
  const uint8_t *writeback = page_map (pc, p, WRITEBACK);
  struct span s = { 0 };
  bool old;
  uint32_t b;

  for (b = bits_find (dirty, from, end, true); b < end && s.count < max;
       b = s.count ? b + 1 : bits_find (dirty, b + 1, end, true)) {
    if (s.count > 0 ? !bit_get (dirty, b) : b >= before)
      break;
    old = is_dirty_since (pc, p, b, pass);
    if (s.count == 0 && !old && !later)
      continue;
    if (bit_get (writeback, b) || is_block_excluded (pc, p, b)) {
      *busy |= old;
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
             uint32_t before, uint32_t max, uint32_t pass, bool later, void *to,
             bool *busy)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  struct span s = { 0 };
  struct part part;

  if (p == NULL)
    return s;
  s = find_dirty (pc, p, from, before, max, pass, later, busy);
  if (s.count > 0) {
    part = span_part (pc, index, s);
    memcpy (to, pool_frame (pc->pool, p) + part.offset, part.len);
    states_change (pc, p, s, EVENT_GATHERED);
  }
  word_lock_drop (&p->lock);
  return s;
}

/* Of LEFT, keeps the blocks that are dirty since pass PASS or before and in
 * flight; whether there are any.
 */
static bool
keep_in_flight (struct pagecache *pc, struct page *p, uint32_t pass,
                uint8_t *left)
{
  uint8_t any = 0;

  FOR_EACH_BYTE (i, mask, page_span (pc)) {
    left[i] &=
        mask & dirty_since (pc, p, i, pass) & page_map (pc, p, WRITEBACK)[i];
    any |= left[i];
  }
  return any;
}

/* Locks the page; the first block from FROM on that is dirty since pass PASS or
 * before and excluded, or the number of blocks.
 */
static uint32_t
find_excluded (struct pagecache *pc, uint64_t index, uint32_t pass,
               uint32_t from)
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  const uint32_t end = page_span (pc).count;
  uint32_t b = from;

  if (p == NULL)
    return end;
  while (b < end &&
         !(is_dirty_since (pc, p, b, pass) && is_block_excluded (pc, p, b)))
    b++;
  word_lock_drop (&p->lock);
  return b;
}

void
page_wait_busy (struct pagecache *pc, uint64_t index, uint32_t pass)
{
  const uint32_t blocks = page_span (pc).count;
  const uint64_t at = index << pc->page_shift;
  uint8_t left[MAX_MAP_BYTES];
  struct page *p;
  uint32_t b;

  lock_check_none_held ();
  memset (left, 0xff, sizeof left);
  while ((p = pool_lock_page (pc->pool, pagecache_key (pc, index))) != NULL &&
         keep_in_flight (pc, p, pass, left))
    waits_sleep (p);
  if (p)
    word_lock_drop (&p->lock);
  for (b = 0; (b = find_excluded (pc, index, pass, b)) < blocks; ++b)
    exclusive_wait (&pc->zeroes, at + ((uint64_t) b << pc->block_shift),
                    block_size (pc));
}

static bool
is_held_block (const struct pagecache *pc, struct page *p, uint32_t b)
{
  return states_amounts (pc, p, block_span (b)).held > 0;
}

/* The bytes of a block that is pending were never acknowledged, unless an
 * ordinary write came meanwhile: then it is dirty, too.
 */
static bool
is_owed_block (const struct pagecache *pc, struct page *p, uint32_t b)
{
  const struct amounts a = states_amounts (pc, p, block_span (b));

  return a.dirty + a.unstable > 0 ||
         (a.writeback > 0 &&
          !bits_any (page_map (pc, p, PENDING), block_span (b)));
}

static struct span
page_run (struct pagecache *pc, uint64_t index, uint32_t from,
          bool (*is) (const struct pagecache *pc, struct page *p, uint32_t b))
{
  struct page *p = pool_lock_page (pc->pool, pagecache_key (pc, index));
  const uint32_t end = page_span (pc).count;
  struct span s = { 0 };
  uint32_t b;

  if (p == NULL)
    return s;
  for (b = from; b < end; ++b)
    if (is (pc, p, b)) {
      if (s.count++ == 0)
        s.first = b;
    }
    else if (s.count > 0)
      break;
  word_lock_drop (&p->lock);
  return s;
}

struct span
page_held_run (struct pagecache *pc, uint64_t index, uint32_t from)
{
  return page_run (pc, index, from, is_held_block);
}

struct span
page_owed_run (struct pagecache *pc, uint64_t index, uint32_t from)
{
  return page_run (pc, index, from, is_owed_block);
}

uint64_t
page_drop_clean (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  uint64_t blocks = 0;
  uint8_t clean;
  struct change c = { 0 }; /* of no counted state */
  struct pool_walk w;
  struct page *p;
  struct span s;

  pool_walk_begin (pc->pool, &w, pagecache_key (pc, offset >> pc->page_shift),
                   pagecache_key (pc, (offset + len - 1) >> pc->page_shift));
  while ((p = pool_walk_next (pc->pool, &w)) != NULL) {
    s = range_span (pc, page_index (pc, p), offset, len);
    FOR_EACH_BYTE (i, mask, s) {
      clean = states_clean_blocks (pc, p, i, mask);
      blocks += __builtin_popcount (page_map (pc, p, UPTODATE)[i] & clean);
      states_apply (pc, p, &c, i, clean, EVENT_DROPPED);
      states_apply (pc, p, &c, i, mask & ~clean, EVENT_OVERTAKEN);
    }
    page_drop_unlock (pc, p);
  }
  return blocks << pc->block_shift;
}
