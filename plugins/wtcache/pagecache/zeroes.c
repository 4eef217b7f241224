/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations on ranges without pages, and the ranges that were zeroed.
 *
 * A zero or trim may cover 4 GiB, far more than is cached, and a write that
 * finds no memory has no pages at all.  Such an operation has its range for
 * itself while it is under way: writes over it, and other such operations,
 * wait.  Reads do not.
 *
 * A zero that the backend took is not durable until a flush; if that fails,
 * the backend may have forgotten it.  So zeroed ranges are remembered until a
 * flush that began after them succeeds.  Until then their blocks that are not
 * cached read as zero without asking the backend, and a block that is written
 * in such a range stays cached, even if it was written with FUA: so a range
 * that was lost can be zeroed again all round the blocks that are held.
 *
 * To forget a part of a remembered range may split it, which takes a slot.  An
 * operation that will forget reserves that slot before it calls the backend,
 * so that to forget never fails.  Only a range that crosses the beginning of
 * the operation's own needs one: with the range 0 ... 100 remembered, an
 * operation over 40 ... 60 leaves two ranges.  One over 0 ... 60 leaves one.
 *
 * A thread that holds a page's lock reads the two counters without the lock.
 * That is safe for nr_exclusive: an operation increments it, and then takes the
 * lock of each cached page of its range, and the bucket lock of each other.  A
 * thread that had the page's lock before has finished by then; one that takes
 * it later sees the count.  For nr_zeroed the count goes up while the range is
 * still exclusive.
 */

#include <config.h>

#include <string.h>

#include "base/util.h"
#include "pagecache/zeroes.h"

void
zeroes_init (struct zeroes *z)
{
  memset (z, 0, sizeof *z);
  lock_init (&z->lock, RANK_CLEARS);
  condition_init (&z->ended);
}

void
zeroes_destroy (struct zeroes *z)
{
  assert (z->exclusive == NULL);
  condition_destroy (&z->ended);
  lock_destroy (&z->lock);
}

static bool
overlap (uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
  return a < b_end && b < a_end;
}

/* Whether an operation with a smaller ticket has part of a range. */
static bool
conflict_before (const struct zeroes *z, uint64_t offset, uint64_t end,
                 uint64_t ticket)
{
  const struct exclusive *x;

  assert_held (&z->lock);
  for (x = z->exclusive; x; x = x->next)
    if (x->ticket < ticket && overlap (offset, end, x->offset, x->end))
      return true;
  return false;
}

static bool
conflict (const struct zeroes *z, uint64_t offset, uint64_t end)
{
  return conflict_before (z, offset, end, UINT64_MAX);
}

/* No other operation has part of the range. */
static void
begin_exclusive (struct zeroes *z, struct exclusive *x, uint64_t offset,
                 uint64_t len)
{
  assert_held (&z->lock);
  x->offset = offset;
  x->end = offset + len;
  x->has_slot = false;
  x->ticket = z->tickets++;
  x->next = z->exclusive;
  z->exclusive = x;
  atomic_fetch_add_explicit (&z->nr_exclusive, 1, memory_order_relaxed);
}

void
exclusive_begin (struct zeroes *z, struct exclusive *x, uint64_t offset,
                 uint64_t len)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&z->lock);

  while (conflict (z, offset, offset + len))
    condition_wait (&z->ended, &z->lock);
  begin_exclusive (z, x, offset, len);
}

bool
exclusive_try (struct zeroes *z, struct exclusive *x, uint64_t offset,
               uint64_t len)
{
  LOCK_FOR_SCOPE (&z->lock);

  if (conflict (z, offset, offset + len))
    return false;
  begin_exclusive (z, x, offset, len);
  return true;
}

void
exclusive_end (struct zeroes *z, struct exclusive *x)
{
  LOCK_FOR_SCOPE (&z->lock);
  struct exclusive **link = &z->exclusive;

  while (*link != x)
    link = &(*link)->next;
  *link = x->next;
  if (x->has_slot)
    z->reserved--;
  atomic_fetch_sub_explicit (&z->nr_exclusive, 1, memory_order_relaxed);
  condition_wake_all (&z->ended);
}

bool
exclusive_conflict (struct zeroes *z, uint64_t offset, uint64_t len)
{
  if (exclusive_none (z))
    return false;

  LOCK_FOR_SCOPE (&z->lock);
  return conflict (z, offset, offset + len);
}

uint64_t
exclusive_next (struct zeroes *z, uint64_t *offset, uint64_t end)
{
  LOCK_FOR_SCOPE (&z->lock);
  const struct exclusive *x, *first = NULL;

  for (x = z->exclusive; x; x = x->next)
    if (overlap (*offset, end, x->offset, x->end) &&
        (first == NULL || x->offset < first->offset))
      first = x;
  if (first == NULL)
    return 0;
  *offset = max_u64 (*offset, first->offset);
  return min_u64 (first->end, end) - *offset;
}

void
exclusive_wait (struct zeroes *z, uint64_t offset, uint64_t len)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&z->lock);
  const uint64_t now = z->tickets;

  while (conflict_before (z, offset, offset + len, now))
    condition_wait (&z->ended, &z->lock);
}

static unsigned
nr_zeroed (const struct zeroes *z)
{
  return atomic_load_explicit (&z->nr_zeroed, memory_order_relaxed);
}

/* The first remembered range that ends after OFFSET. */
static unsigned
find_zeroed (const struct zeroes *z, uint64_t offset)
{
  const unsigned n = nr_zeroed (z);
  unsigned i = 0;

  assert_held (&z->lock);
  while (i < n && z->zeroed[i].end <= offset)
    i++;
  return i;
}

/* Whether a range of zeroes crosses OFFSET. */
static bool
crosses (const struct zeroes *z, uint64_t offset)
{
  const unsigned i = find_zeroed (z, offset);

  return i < nr_zeroed (z) && z->zeroed[i].offset < offset;
}

void
zeroes_keep_room (struct zeroes *z, bool keep)
{
  LOCK_FOR_SCOPE (&z->lock);

  z->wanted += keep ? 1 : -1;
}

bool
zeroes_is_room_wanted (struct zeroes *z)
{
  LOCK_FOR_SCOPE (&z->lock);

  return z->wanted > 0;
}

bool
exclusive_reserve (struct zeroes *z, struct exclusive *x)
{
  LOCK_FOR_SCOPE (&z->lock);

  if (!crosses (z, x->offset))
    return true;
  if (nr_zeroed (z) + z->reserved >= ZEROES_MAX)
    return false;
  z->reserved++;
  x->has_slot = true;
  return true;
}

/* Whether two ranges that meet at AT may become one, for an operation that has
 * OFFSET … END - 1.  No other may begin there: it has no slot to split them.
 */
static bool
may_join (const struct zeroes *z, uint64_t at, uint64_t offset, uint64_t end)
{
  const struct exclusive *x;

  assert_held (&z->lock);
  for (x = z->exclusive; x; x = x->next)
    if (x->offset == at && !overlap (x->offset, x->end, offset, end))
      return false;
  return true;
}

/* Replaces ranges I … J - 1 by one. */
static void
replace (struct zeroes *z, unsigned i, unsigned j, struct zeroed by)
{
  const unsigned n = nr_zeroed (z);

  assert_held (&z->lock);
  memmove (&z->zeroed[i + 1], &z->zeroed[j], (n - j) * sizeof z->zeroed[0]);
  z->zeroed[i] = by;
  atomic_store_explicit (&z->nr_zeroed, n - (j - i) + 1, memory_order_relaxed);
}

static bool
is_lost (const struct zeroed *r)
{
  return r->lost < r->lost_end;
}

/* What of OFFSET … END - 1 is in R must be done again.  True: that is more. */
static bool
lose (struct zeroed *r, uint64_t offset, uint64_t end)
{
  const struct zeroed before = *r;

  offset = max_u64 (offset, r->offset);
  end = min_u64 (end, r->end);
  r->lost = is_lost (&before) ? min_u64 (before.lost, offset) : offset;
  r->lost_end = is_lost (&before) ? max_u64 (before.lost_end, end) : end;
  return !is_lost (&before) || r->lost < before.lost ||
         r->lost_end > before.lost_end;
}

/* The part of R in OFFSET … END - 1. */
static struct zeroed
cut (struct zeroed r, uint64_t offset, uint64_t end)
{
  r.offset = max_u64 (r.offset, offset);
  r.end = min_u64 (r.end, end);
  r.lost = max_u64 (r.lost, r.offset);
  r.lost_end = min_u64 (r.lost_end, r.end);
  return r;
}

/* Adds a range.  False: there is no slot. */
static bool
add_zeroed (struct zeroes *z, struct zeroed by)
{
  const uint64_t offset = by.offset, end = by.end;
  const unsigned n = nr_zeroed (z);
  unsigned i = find_zeroed (z, offset), j;

  /* Those that overlap become one, and so do neighbours of one generation.
   * The later one is covered by fewer flushes, so its generation counts.
   */
  if (i > 0 && z->zeroed[i - 1].end == offset &&
      z->zeroed[i - 1].generation == by.generation &&
      may_join (z, offset, offset, end))
    i--;
  for (j = i; j < n && (z->zeroed[j].offset < by.end ||
                        (z->zeroed[j].offset == by.end &&
                         z->zeroed[j].generation == by.generation &&
                         may_join (z, by.end, offset, end)));
       ++j) {
    by.offset = min_u64 (by.offset, z->zeroed[j].offset);
    by.end = max_u64 (by.end, z->zeroed[j].end);
    if (is_lost (&z->zeroed[j]))
      lose (&by, z->zeroed[j].lost, z->zeroed[j].lost_end);
  }
  if (i == j && (n + z->reserved >= ZEROES_MAX || z->wanted > 0))
    return false;
  replace (z, i, j, by);
  return true;
}

bool
zeroes_remember (struct zeroes *z, uint64_t offset, uint64_t len,
                 uint16_t generation, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&z->lock);
  struct zeroed by = { .offset = offset,
                       .end = offset + len,
                       .generation = generation };

  if (before_u32 (epoch, z->epoch))
    lose (&by, offset, offset + len);
  return add_zeroed (z, by);
}

bool
zeroes_adopt (struct zeroes *z, uint64_t offset, uint64_t len,
              uint16_t generation)
{
  LOCK_FOR_SCOPE (&z->lock);

  return add_zeroed (z, (struct zeroed){ .offset = offset,
                                         .end = offset + len,
                                         .lost = offset,
                                         .lost_end = offset + len,
                                         .generation = generation });
}

uint64_t
zeroes_prefix (struct zeroes *z, uint64_t offset, uint64_t len, bool *zeroed)
{
  unsigned i;

  *zeroed = false;
  if (nr_zeroed (z) == 0)
    return len;

  LOCK_FOR_SCOPE (&z->lock);
  i = find_zeroed (z, offset);
  if (i == nr_zeroed (z))
    return len;
  if (z->zeroed[i].offset > offset)
    return min_u64 (len, z->zeroed[i].offset - offset);
  *zeroed = true;
  return min_u64 (len, z->zeroed[i].end - offset);
}

bool
zeroes_any (struct zeroes *z, uint64_t offset, uint64_t len)
{
  bool zeroed;

  return zeroes_prefix (z, offset, len, &zeroed) < len || zeroed;
}

void
zeroes_forget (struct zeroes *z, uint64_t offset, uint64_t len)
{
  const uint64_t end = offset + len;
  struct zeroed ends[2];
  unsigned i, j, n, kept = 0;

  if (nr_zeroed (z) == 0)
    return;

  LOCK_FOR_SCOPE (&z->lock);
  n = nr_zeroed (z);
  i = find_zeroed (z, offset);
  for (j = i; j < n && z->zeroed[j].offset < end; ++j)
    ;
  if (i == j)
    return;
  if (z->zeroed[i].offset < offset)
    ends[kept++] = cut (z->zeroed[i], 0, offset);
  if (z->zeroed[j - 1].end > end)
    ends[kept++] = cut (z->zeroed[j - 1], end, UINT64_MAX);
  assert (n - (j - i) + kept <= ZEROES_MAX);
  memmove (&z->zeroed[i + kept], &z->zeroed[j], (n - j) * sizeof z->zeroed[0]);
  memcpy (&z->zeroed[i], ends, kept * sizeof ends[0]);
  atomic_store_explicit (&z->nr_zeroed, n - (j - i) + kept,
                         memory_order_relaxed);
}

void
zeroes_settle (struct zeroes *z, uint16_t flush)
{
  LOCK_FOR_SCOPE (&z->lock);
  const unsigned n = nr_zeroed (z);
  unsigned i, kept = 0;

  for (i = 0; i < n; ++i)
    if (is_lost (&z->zeroed[i]) || !before_u16 (z->zeroed[i].generation, flush))
      z->zeroed[kept++] = z->zeroed[i];
  atomic_store_explicit (&z->nr_zeroed, kept, memory_order_relaxed);
}

void
zeroes_lose (struct zeroes *z, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&z->lock);
  unsigned i;

  z->epoch = epoch;
  for (i = 0; i < nr_zeroed (z); ++i)
    lose (&z->zeroed[i], 0, UINT64_MAX);
}

bool
zeroes_lose_range (struct zeroes *z, uint64_t offset, uint64_t len)
{
  bool any = false;
  unsigned i;

  if (nr_zeroed (z) == 0)
    return false;

  LOCK_FOR_SCOPE (&z->lock);
  for (i = find_zeroed (z, offset);
       i < nr_zeroed (z) && z->zeroed[i].offset < offset + len; ++i)
    any |= lose (&z->zeroed[i], offset, offset + len);
  return any;
}

bool
zeroes_next_lost (struct zeroes *z, uint64_t *offset, uint64_t *len)
{
  unsigned i;

  if (nr_zeroed (z) == 0)
    return false;

  LOCK_FOR_SCOPE (&z->lock);
  for (i = find_zeroed (z, *offset); i < nr_zeroed (z); ++i)
    if (is_lost (&z->zeroed[i]) && z->zeroed[i].lost_end > *offset) {
      *offset = max_u64 (*offset, z->zeroed[i].lost);
      *len = z->zeroed[i].lost_end - *offset;
      return true;
    }
  return false;
}

/* What is lost is one run of a range, so only its beginning can be taken from
 * it.  Where some was lost again before OFFSET all of it stays lost.
 */
void
zeroes_redone (struct zeroes *z, uint64_t offset, uint64_t len,
               uint16_t generation, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&z->lock);
  const uint64_t end = offset + len;
  struct zeroed *r;
  unsigned i;

  if (before_u32 (epoch, z->epoch))
    return;
  for (i = find_zeroed (z, offset);
       i < nr_zeroed (z) && z->zeroed[i].offset < end; ++i) {
    r = &z->zeroed[i];
    r->generation = generation;
    if (r->lost >= offset)
      r->lost = max_u64 (r->lost, end);
  }
}

uint64_t
zeroes_bytes (struct zeroes *z)
{
  LOCK_FOR_SCOPE (&z->lock);
  uint64_t bytes = 0;
  unsigned i;

  for (i = 0; i < nr_zeroed (z); ++i)
    bytes += z->zeroed[i].end - z->zeroed[i].offset;
  return bytes;
}
