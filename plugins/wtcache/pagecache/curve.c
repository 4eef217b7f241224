/* SPDX-License-Identifier: BSD-3-Clause */

/* Estimates the miss ratio that the cache would have with another size.
 *
 * Six small caches are simulated, by the policy of the real one (evict.c):
 * they stand for 1/4 to 8 times its size.  Each sees only the pages whose key
 * hashes below a threshold, and has as much smaller a size (spatial sampling:
 * Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015;
 * "Cache modeling and optimization using miniature simulations", ATC 2017).
 * Those for more than the size have no more pages than the one for the size
 * itself: they see a smaller sample instead, which is enough there.
 *
 * The misses of the sample are scaled up and divided by all reads there were,
 * not by those of the sample (SHARDS-adj): whether a few very hot pages are in
 * the sample then matters little, for they hardly miss.
 *
 * A page of the sample is known by a bit that its policy entry has (evict.h),
 * so that a hit on any other page costs nothing.  A use of one that was used
 * just before would change nothing in any of the simulated caches, and is
 * counted only.  Any other goes into a ring, without a lock.  A thread that has
 * filled half of its ring hands the simulation to a worker, or runs it itself
 * if there is none.
 *
 * Each thread has a ring of its own, so that a use writes no line that another
 * thread's uses write; only handing over does.  When one ring is half full all
 * are emptied, each ring's uses spread among the others' as if they had come at
 * equal distances: one ring after the other would make the uses of one thread
 * seem closer together than they were.  Rings are handed out in turn.  Where
 * there are more threads than rings, some share one, which is slower for them.
 *
 * The work is bounded.  The simulation may take about one hundredth of what
 * the requests themselves do.  Where nearly all reads hit, but would not in the
 * smaller caches, that could be more: then the sample is halved.
 *
 * Two more small caches, of the size itself, keep the eviction from losing much
 * against a policy that knows less.  One is always in the mode *usual*, one in
 * the mode *clock* (evict.h), and the one for the size, *now*, is in the mode
 * of the real cache, with its share of the small queue.  For each use a miss of
 * *now* counts 1 for, one of another cache 1 against that other cache.  When
 * the sum comes to a part of the pages that the cache has, the real cache
 * changes its mode:
 *
 *              A: clock has missed less, 0.04       A: by 0.5
 *        usual ------------------------------> widen --------> clock
 *              <------------------------------      <--------
 *              B: usual has missed less, 0.06        C: now has, by 0.1
 *
 * The sums never fall below 0, and 1 % of the misses is taken off, so that
 * small differences do not add up.  They are in capacities, as a change may
 * cost so many misses until the cache has the right pages again: so what is
 * lost by changing is never much more than what was lost before by not
 * changing.  The first change is cheap: by itself it alters nothing unless the
 * main queue is dead.  The mode clock is expensive, as the pages of the main
 * queue are lost to it.
 *
 * The simulation sees the pages that clients use, one by one.  It does not see
 * pages that are filled along with a miss, readahead, dirty pages that must
 * stay, or discards.
 *
 * May not know pages, exports, statistics or nbdkit.
 */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/util.h"
#include "base/workers.h"
#include "pagecache/curve.h"
#include "pagecache/evict.h"

/* One page in so many is in the sample; but at least so many, or one in fewer
 * if the cache is smaller yet, and at most so many of those that it holds.
 */
#define SAMPLED_ONE_IN 64
#define SAMPLED_LEAST  256
#define SAMPLED_DENSE  8
#define SAMPLED_MOST   2048

/* The simulated cache that stands for the size itself, *now*, and two more of
 * that size.
 */
#define SAME       2
#define USUAL      CURVE_SIZES
#define CLOCK      (CURVE_SIZES + 1)
#define MINIATURES (CURVE_SIZES + 2)

/* When the mode changes, in capacities, and what is taken off each miss. */
#define OPEN_AT   0.04
#define CLOSE_AT  0.06
#define CLOCK_AT  0.5
#define LEAVE_AT  0.1
#define TAKEN_OFF 0.01

#define RING_SLOTS 128
#define WORK_FROM  (RING_SLOTS / 2) /* uses of a thread that a task is worth */

/* One ring for so many pages, but at least and at most so many; powers of 2. */
#define RING_PAGES  256
#define RINGS_LEAST 4
#define RINGS_MOST  64

/* The sample never becomes smaller than this; pages. */
#define HALVED_LEAST 64

/* About how many instructions things take, and what a hit and a miss of the
 * real cache allow: a hundredth of what they take at least.
 */
#define WORK_USE   100 /* a use in the ring */
#define WORK_HIT   40  /* a hit in a simulated cache */
#define WORK_MISS  350
#define ALLOW_HIT  2.5
#define ALLOW_MISS 200.0
#define ALLOW_MOST 1e8 /* what may be saved for later */

#define PERIOD UINT64_C (3600000000000) /* ns: half of what is looked back */

#define NO_FRAME UINT32_MAX

/* A bounded queue of many writers (Vyukov): TURN says whose turn a slot is.
 * Release by the thread that had the slot pairs with acquire by the next.
 */
struct slot {
  _Atomic uint32_t turn;
  bool write;
  uint64_t key;
};

/* The uses that a thread reports, on cache lines of its own. */
struct ring {
  _Atomic uint32_t head; /* relaxed, the slots' turns pair */
  _Atomic uint32_t tail; /* relaxed: written under lock */
  /* Relaxed: counters alone. */
  _Atomic uint64_t sampled_reads, sampled_misses, dropped;

  /* Relaxed: the hash's upper half, and the ring's head, when a use of a page
   * was last reported.  A lost store makes one use be reported again.
   */
  _Atomic uint64_t seen[RING_SLOTS];
  struct slot slots[RING_SLOTS];
} __attribute__ ((aligned (64)));

/* The uses in a ring that are to be simulated. */
struct waiting {
  struct ring *ring;
  uint32_t uses, taken;
};

/* A page that a simulated cache holds. */
struct frame {
  struct evict_entry entry;
  uint32_t next; /* in its chain, or among the free ones */
};

/* One simulated cache.  All is guarded by curve.lock. */
struct miniature {
  uint32_t threshold;
  size_t most; /* constant: frames */
  size_t capacity;
  size_t held;
  struct evict *evict;
  struct frame *frames;
  uint32_t free; /* frames that held a page before */
  uint32_t used; /* frames that ever did */
  uint32_t *chains;
  uint32_t chain_mask;
  uint64_t missed_reads; /* since the sample has this size */
  double misses_before;  /* before, of all pages */
};

/* A snapshot of the counters. */
struct mark {
  uint64_t reads;
  double misses[CURVE_SIZES];
};

struct curve {
  struct ring *rings; /* constant */
  uint32_t ring_mask; /* constant: one less than there are */

  /* In the sample: the upper half of the hash is not above.  Relaxed: written
   * under lock, and the use of a page that has just left the sample does no
   * harm.
   */
  _Atomic uint32_t threshold;

  _Atomic uint32_t window; /* relaxed: uses in one ring that count as one */
  _Atomic uint64_t reads_before; /* relaxed: through exports that are gone */

  struct task task;
  _Atomic bool task_runs; /* acquire and release: one after the other */

  struct word_lock lock; /* RANK_CURVE */
  /* Guarded by lock. */
  struct miniature miniatures[MINIATURES];
  struct evict *guided;               /* the real cache's, NULL: none */
  enum evict_mode mode;               /* that it was ordered */
  double open, close, leave;          /* the sums A, B, C: misses */
  unsigned told;                      /* rings that had uses of late, or 1 */
  size_t pages;                       /* of the real cache */
  uint64_t known_reads, known_misses; /* of the sample, when last looked at */
  double allowance;                   /* work that may be done */
  struct mark period, before; /* when this period and the one before began */
  uint64_t period_began;      /* ns; 0: curve_estimate was not called yet */
};

/* Relaxed: the next turn to get a ring, and this thread's turn, from 1. */
static _Atomic uint32_t turns;
static THREAD_OWN uint32_t my_turn;

/* The finalizer of MurmurHash3 (Appleby): every bit of the key changes every
 * bit of the hash with probability 1/2, so that the sample does not follow
 * patterns of the disk.
 */
static uint64_t
curve_hash (uint64_t key)
{
  key ^= key >> 33;
  key *= UINT64_C (0xff51afd7ed558ccd);
  key ^= key >> 33;
  key *= UINT64_C (0xc4ceb9fe1a85ec53);
  key ^= key >> 33;
  return key;
}

static bool
is_below (uint64_t h, uint32_t threshold)
{
  return h >> 32 <= threshold;
}

/* How many of MOST pages are in the sample. */
static size_t
sampled_pages (size_t most)
{
  const size_t least =
      clamp_u64 (most / SAMPLED_DENSE, HALVED_LEAST, SAMPLED_LEAST);
  const size_t n = clamp_u64 (most / SAMPLED_ONE_IN, least, SAMPLED_MOST);

  return min_u64 (n, max_u64 (most, 1));
}

/* Pages of the simulated cache for size I, if the one for the size itself has
 * so many.
 */
static size_t
miniature_pages (size_t pages, unsigned i)
{
  return max_u64 (i < SAME ? pages >> (SAME - i) : pages, 1);
}

/* How much smaller the sample of size I is than the others'. */
static unsigned
sample_shift (unsigned i)
{
  return i > SAME && i < CURVE_SIZES ? i - SAME : 0;
}

/* The threshold below which PAGES of MOST hash. */
static uint32_t
threshold_for (size_t pages, size_t most)
{
  return pages >= most ? UINT32_MAX
                       : (uint32_t) ((double) pages / most * UINT32_MAX);
}

static uint32_t
threshold_now (const struct curve *c)
{
  return atomic_load_explicit (&c->threshold, memory_order_relaxed);
}

/* The part of all pages that a threshold lets through. */
static double
share_of (uint32_t threshold)
{
  return (threshold + 1.0) / (UINT32_MAX + 1.0);
}

static size_t
power_of_2_from (size_t n)
{
  size_t p = 1;

  while (p < n)
    p *= 2;
  return p;
}

/* Chains are one page long on average, or shorter. */
static size_t
chain_count (size_t pages)
{
  return power_of_2_from (pages);
}

static size_t
ring_count (size_t most)
{
  return power_of_2_from (
      clamp_u64 (most / RING_PAGES, RINGS_LEAST, RINGS_MOST));
}

/* ---- the simulation ---- */

static uint32_t *
miniature_chain (struct miniature *m, uint64_t h)
{
  return &m->chains[h & m->chain_mask];
}

static struct frame *
find (struct miniature *m, uint64_t key, uint64_t h)
{
  uint32_t i = *miniature_chain (m, h);

  while (i != NO_FRAME && m->frames[i].entry.key != key)
    i = m->frames[i].next;
  return i == NO_FRAME ? NULL : &m->frames[i];
}

static bool
frame_may_leave (struct evict_entry *entry, void *opaque)
{
  (void) entry;
  (void) opaque;
  return true;
}

/* Frees the frame that a link of its chain leads to. */
static void
free_frame (struct miniature *m, uint32_t *link)
{
  const uint32_t i = *link;

  *link = m->frames[i].next;
  m->frames[i].next = m->free;
  m->free = i;
  m->held--;
}

static void
evict_frame (struct miniature *m)
{
  struct evict_entry *entry = evict_victim (m->evict, frame_may_leave, NULL);
  uint32_t *link = miniature_chain (m, curve_hash (entry->key));

  while (&m->frames[*link].entry != entry)
    link = &m->frames[*link].next;
  free_frame (m, link);
}

static struct frame *
miniature_take_frame (struct miniature *m)
{
  struct frame *f;

  while (m->held >= m->capacity)
    evict_frame (m);
  m->held++;
  if (m->free == NO_FRAME)
    return &m->frames[m->used++];
  f = &m->frames[m->free];
  m->free = f->next;
  return f;
}

/* Returns whether it missed. */
static bool
simulate (struct miniature *m, uint64_t key, uint64_t h, bool write)
{
  struct frame *f = find (m, key, h);

  if (f) {
    evict_hit (m->evict, &f->entry);
    return false;
  }
  f = miniature_take_frame (m);
  f->entry.key = key;
  f->next = *miniature_chain (m, h);
  *miniature_chain (m, h) = (uint32_t) (f - m->frames);
  evict_admit (m->evict, &f->entry, write ? ADMIT_WRITE : ADMIT_READ);
  return true;
}

/* ---- the rings ---- */

/* The calling thread's. */
static struct ring *
my_ring (struct curve *c)
{
  if (my_turn == 0)
    my_turn = atomic_fetch_add_explicit (&turns, 1, memory_order_relaxed) + 1;
  return &c->rings[my_turn & c->ring_mask];
}

/* Exact under the lock but for uses that come meanwhile. */
static uint32_t
ring_uses (const struct ring *r)
{
  const uint32_t tail = atomic_load_explicit (&r->tail, memory_order_relaxed);

  return atomic_load_explicit (&r->head, memory_order_relaxed) - tail;
}

/* False: there is no room. */
static bool
ring_push (struct ring *r, uint64_t key, bool write)
{
  uint32_t head = atomic_load_explicit (&r->head, memory_order_relaxed);
  uint32_t turn;
  struct slot *s;

  for (;;) {
    s = &r->slots[head % RING_SLOTS];
    turn = atomic_load_explicit (&s->turn, memory_order_acquire);
    if (before_u32 (turn, head))
      return false;
    if (turn != head)
      head = atomic_load_explicit (&r->head, memory_order_relaxed);
    else if (atomic_compare_exchange_weak_explicit (&r->head, &head, head + 1,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed))
      break;
  }
  s->key = key;
  s->write = write;
  atomic_store_explicit (&s->turn, head + 1, memory_order_release);
  return true;
}

/* ---- the mode of the real cache ---- */

static uint32_t
share_now (const struct curve *c, unsigned i)
{
  return evict_share (c->miniatures[i].evict);
}

/* Changes the mode, of the real cache and of those that stand for it; the small
 * queue of *now* and of the real cache has SHARE from now on.
 */
static void
set_mode (struct curve *c, enum evict_mode mode, uint32_t share)
{
  const enum evict_mode simulated = mode == EVICT_CLOCK ? EVICT_WIDEN : mode;
  unsigned i;

  assert_held (&c->lock);
  c->mode = mode;
  for (i = 0; i < CURVE_SIZES; ++i)
    evict_order (c->miniatures[i].evict, i == SAME ? simulated : mode,
                 i == SAME ? share : share_now (c, i));
  evict_order (c->guided, mode, share);
}

/* A sum of what one cache missed more than another one, and is not to miss. */
static double
add_up (double sum, bool missed, bool other)
{
  sum += missed * (1 - TAKEN_OFF) - other;
  return sum > 0 ? sum : 0;
}

/* After a use that missed in some of the three caches, or in none. */
static void
choose_mode (struct curve *c, bool now, bool usual, bool clock)
{
  const double n = c->miniatures[SAME].capacity;

  assert_held (&c->lock);
  c->open = add_up (c->open, now, clock);
  c->close = add_up (c->close, now, usual);
  c->leave = add_up (c->leave, clock, now);
  if (c->mode == EVICT_USUAL) {
    if (c->open < OPEN_AT * n)
      return;
    c->close = 0;
    set_mode (c, EVICT_WIDEN, share_now (c, SAME));
  }
  else if (c->mode == EVICT_WIDEN) {
    if (c->close >= CLOSE_AT * n) {
      c->open = 0;
      set_mode (c, EVICT_USUAL, share_now (c, USUAL));
    }
    else if (c->open >= CLOCK_AT * n) {
      c->leave = 0;
      set_mode (c, EVICT_CLOCK, share_now (c, SAME));
    }
  }
  else if (c->leave >= LEAVE_AT * n) {
    c->open = 0;
    set_mode (c, EVICT_WIDEN, share_now (c, SAME));
  }
}

/* Simulates a use of a page in all caches whose sample has it. */
static void
simulate_use (struct curve *c, uint64_t key, bool write)
{
  const uint64_t h = curve_hash (key);
  bool missed[MINIATURES] = { false };
  struct miniature *m;
  unsigned i;

  assert_held (&c->lock);
  if (c->guided && c->mode != EVICT_CLOCK)
    evict_set_share (c->miniatures[SAME].evict, evict_share (c->guided));
  for (i = 0; i < MINIATURES; ++i) {
    m = &c->miniatures[i];
    if (!is_below (h, m->threshold) || (i >= CURVE_SIZES && !c->guided))
      continue;
    missed[i] = simulate (m, key, h, write);
    c->allowance -= missed[i] ? WORK_MISS : WORK_HIT;
  }
  if (c->guided)
    choose_mode (c, missed[SAME], missed[USUAL], missed[CLOCK]);
  if (c->mode == EVICT_CLOCK)
    missed[SAME] = missed[CLOCK];
  for (i = 0; !write && i < CURVE_SIZES; ++i)
    c->miniatures[i].missed_reads += missed[i];
  c->allowance -= WORK_USE;
}

/* Simulates the oldest use in a ring; false: it is not there yet. */
static bool
simulate_oldest (struct curve *c, struct ring *r)
{
  const uint32_t tail = atomic_load_explicit (&r->tail, memory_order_relaxed);
  struct slot *s = &r->slots[tail % RING_SLOTS];
  uint64_t key;
  bool write;

  assert_held (&c->lock);
  if (atomic_load_explicit (&s->turn, memory_order_acquire) != tail + 1)
    return false;
  key = s->key;
  write = s->write;
  atomic_store_explicit (&s->turn, tail + RING_SLOTS, memory_order_release);
  atomic_store_explicit (&r->tail, tail + 1, memory_order_relaxed);

  simulate_use (c, key, write);
  return true;
}

/* Finds the rings that have uses, and how many the fullest has. */
static uint32_t
find_uses (struct curve *c, struct waiting *waiting, unsigned *count)
{
  struct ring *r;
  uint32_t uses, most = 0;

  *count = 0;
  for (r = c->rings; r <= c->rings + c->ring_mask; ++r) {
    uses = ring_uses (r);
    if (uses == 0)
      continue;
    waiting[(*count)++] = (struct waiting){ .ring = r, .uses = uses };
    most = max_u64 (most, uses);
  }
  return most;
}

/* Simulates what is in the rings now.  In each step the fullest gives one use,
 * and any other does if it is behind with its part.
 */
static void
simulate_all (struct curve *c)
{
  struct waiting waiting[RINGS_MOST], *w;
  unsigned count;
  const uint32_t most = find_uses (c, waiting, &count);
  uint32_t step;

  for (step = 0; step < most; ++step)
    for (w = waiting; w < waiting + count; ++w)
      if (w->taken < w->uses && w->taken * most <= step * w->uses) {
        if (simulate_oldest (c, w->ring))
          w->taken++;
        else
          w->uses = w->taken; /* those behind it have to wait as well */
      }
  if (count > 0)
    c->told = count;
}

/* ---- the size of the sample ---- */

static double
all_misses (const struct miniature *m)
{
  return m->misses_before + m->missed_reads / share_of (m->threshold);
}

/* The capacity of the simulated cache for size I, if the real one has so many
 * pages.
 */
static void
miniature_resize (struct miniature *m, size_t pages, unsigned i)
{
  const double of_size =
      (double) pages * (1u << (i < CURVE_SIZES ? i : SAME)) / (1u << SAME);

  m->capacity = clamp_u64 (of_size * share_of (m->threshold) + 0.5, 1, m->most);
  evict_resize (m->evict, m->capacity);
  while (m->held > m->capacity)
    evict_frame (m);
}

/* Uses this close together are one in all of them, see evict.h.  While one ring
 * takes so many, the others take as many each; only a page used twice in a row
 * by one thread is taken for used once whatever the others do.
 */
static void
set_window (struct curve *c)
{
  const struct evict *smallest = c->miniatures[0].evict;
  const uint32_t uses =
      atomic_load_explicit (&smallest->window, memory_order_relaxed) /
      (EVICT_USES + 1);

  assert_held (&c->lock);
  atomic_store_explicit (&c->window, max_u64 (uses / c->told, 2),
                         memory_order_relaxed);
}

static void
miniature_sample (struct miniature *m, uint32_t threshold)
{
  m->threshold = threshold;
  evict_stand_for (m->evict, (size_t) (1 / share_of (threshold) + 0.5));
}

/* Only half of the pages stay in the sample. */
static void
miniature_halve (struct miniature *m, size_t pages, unsigned i)
{
  const uint32_t threshold = m->threshold >> 1;
  uint32_t *chain, *link;
  struct frame *f;

  m->misses_before = all_misses (m);
  m->missed_reads = 0;
  for (chain = m->chains; chain <= m->chains + m->chain_mask; ++chain)
    for (link = chain; *link != NO_FRAME;) {
      f = &m->frames[*link];
      if (is_below (curve_hash (f->entry.key), threshold)) {
        link = &f->next;
        continue;
      }
      evict_forget (m->evict, &f->entry);
      free_frame (m, link);
    }
  miniature_sample (m, threshold);
  miniature_resize (m, pages, i);
}

/* The sums are in pages. */
static void
scale_sums (struct curve *c, double by)
{
  assert_held (&c->lock);
  c->open *= by;
  c->close *= by;
  c->leave *= by;
}

static void
halve_sample (struct curve *c)
{
  unsigned i;

  assert_held (&c->lock);
  atomic_store_explicit (&c->threshold, threshold_now (c) >> 1,
                         memory_order_relaxed);
  for (i = 0; i < MINIATURES; ++i)
    miniature_halve (&c->miniatures[i], c->pages, i);
  scale_sums (c, 0.5);
  set_window (c);
}

/* Halves the sample if the simulation did more work than the requests since the
 * last look allow.
 */
static void
bound_work (struct curve *c)
{
  const double share = share_of (threshold_now (c));
  uint64_t reads = 0, misses = 0;
  const struct ring *r;

  assert_held (&c->lock);
  for (r = c->rings; r <= c->rings + c->ring_mask; ++r) {
    reads += atomic_load_explicit (&r->sampled_reads, memory_order_relaxed);
    misses += atomic_load_explicit (&r->sampled_misses, memory_order_relaxed);
  }
  c->allowance += ((reads - c->known_reads) * ALLOW_HIT +
                   (misses - c->known_misses) * ALLOW_MISS) /
                  share;
  c->known_reads = reads;
  c->known_misses = misses;
  if (c->allowance > ALLOW_MOST)
    c->allowance = ALLOW_MOST;
  if (c->allowance >= 0 || c->pages * share / 2 < HALVED_LEAST)
    return;
  c->allowance = 0;
  halve_sample (c);
}

static void
curve_drain (struct curve *c)
{
  assert_held (&c->lock);
  simulate_all (c);
  set_window (c);
  bound_work (c);
}

static void
curve_run_task (struct task *t)
{
  struct curve *c = container_of (t, struct curve, task);

  if (word_lock_try (&c->lock, RANK_CURVE)) {
    curve_drain (c);
    word_lock_drop (&c->lock);
  }
  atomic_store_explicit (&c->task_runs, false, memory_order_release);
}

/* Whether the thread used the page so recently that no simulated cache would
 * take notice: the smallest one's window is the shortest, and since then no
 * more pages can have come into it than uses went into the rings.  A use that
 * left the ring is none of these: what the others did since is not known.
 */
static bool
just_seen (const struct curve *c, struct ring *r, uint64_t h)
{
  const uint32_t now = atomic_load_explicit (&r->head, memory_order_relaxed);
  _Atomic uint64_t *seen = &r->seen[h % RING_SLOTS];
  const uint64_t was = atomic_load_explicit (seen, memory_order_relaxed);
  const uint32_t since = now - (uint32_t) was;

  if (was >> 32 == h >> 32 && since <= ring_uses (r) &&
      since < atomic_load_explicit (&c->window, memory_order_relaxed))
    return true;
  atomic_store_explicit (seen, h >> 32 << 32 | now, memory_order_relaxed);
  return false;
}

bool
curve_samples (const struct curve *c, uint64_t key)
{
  return is_below (curve_hash (key), threshold_now (c));
}

void
curve_note (struct curve *c, uint64_t key, enum curve_use use)
{
  const uint64_t h = curve_hash (key);
  struct ring *r;

  if (!is_below (h, threshold_now (c)))
    return;
  r = my_ring (c);
  if (use != CURVE_WRITE)
    atomic_fetch_add_explicit (&r->sampled_reads, 1, memory_order_relaxed);
  if (use == CURVE_MISS)
    atomic_fetch_add_explicit (&r->sampled_misses, 1, memory_order_relaxed);
  if (just_seen (c, r, h))
    return;
  if (!ring_push (r, key, use == CURVE_WRITE))
    atomic_fetch_add_explicit (&r->dropped, 1, memory_order_relaxed);
  if (ring_uses (r) >= WORK_FROM &&
      !atomic_exchange_explicit (&c->task_runs, true, memory_order_acquire))
    workers_run (&c->task);
}

/* ---- what came out ---- */

void
curve_get (struct curve *c, struct curve_counts *counts)
{
  const struct ring *r;
  unsigned i;

  counts->sampled_reads = counts->dropped = 0;
  for (r = c->rings; r <= c->rings + c->ring_mask; ++r) {
    counts->sampled_reads +=
        atomic_load_explicit (&r->sampled_reads, memory_order_relaxed);
    counts->dropped += atomic_load_explicit (&r->dropped, memory_order_relaxed);
  }
  word_lock_take (&c->lock, RANK_CURVE);
  curve_drain (c);
  for (i = 0; i < CURVE_SIZES; ++i)
    counts->misses[i] = all_misses (&c->miniatures[i]);
  word_lock_drop (&c->lock);
}

void
curve_add_reads (struct curve *c, uint64_t pages)
{
  atomic_fetch_add_explicit (&c->reads_before, pages, memory_order_relaxed);
}

/* By chance, the sample's misses scaled up may be more than all reads. */
static double
at_most_1 (double ratio)
{
  return ratio < 1 ? ratio : 1;
}

/* A period has ended, or the first begins. */
static void
begin_period (struct curve *c, uint64_t now, const struct mark *mark)
{
  assert_held (&c->lock);
  if (c->period_began == 0)
    c->period_began = now;
  else if (now - c->period_began >= PERIOD) {
    c->before = c->period;
    c->period = *mark;
    c->period_began = now;
  }
}

void
curve_estimate (struct curve *c, uint64_t reads, uint64_t now,
                struct curve_estimate *estimate)
{
  struct curve_counts counts;
  struct mark mark;
  double misses;
  unsigned i;

  curve_get (c, &counts);
  mark.reads =
      reads + atomic_load_explicit (&c->reads_before, memory_order_relaxed);
  memcpy (mark.misses, counts.misses, sizeof mark.misses);
  word_lock_take (&c->lock, RANK_CURVE);
  begin_period (c, now, &mark);
  estimate->reads =
      mark.reads > c->before.reads ? mark.reads - c->before.reads : 0;
  for (i = 0; i < CURVE_SIZES; ++i) {
    misses = mark.misses[i] - c->before.misses[i];
    estimate->miss_ratio[i] =
        estimate->reads > 0 ? at_most_1 (misses / estimate->reads) : 0;
    /* A larger cache never misses more; a sample may say so, by chance. */
    if (i > 0 && estimate->miss_ratio[i] > estimate->miss_ratio[i - 1])
      estimate->miss_ratio[i] = estimate->miss_ratio[i - 1];
  }
  word_lock_drop (&c->lock);
}

/* ---- life ---- */

static int
miniature_init (struct miniature *m, size_t most, uint32_t threshold)
{
  const size_t chains = chain_count (most);

  m->most = m->capacity = most;
  m->free = NO_FRAME;
  m->chain_mask = chains - 1;
  m->frames = calloc (most, sizeof m->frames[0]);
  m->chains = malloc (chains * sizeof m->chains[0]);
  if (m->frames && m->chains)
    m->evict = evict_new (most, most, &m->frames[0].entry, sizeof m->frames[0]);
  if (!m->evict)
    return -1;
  memset (m->chains, 0xff, chains * sizeof m->chains[0]); /* NO_FRAME */
  miniature_sample (m, threshold);
  return 0;
}

bool
curve_runs (const struct curve *c)
{
  return atomic_load_explicit (&c->task_runs, memory_order_acquire);
}

void
curve_free (struct curve *c)
{
  unsigned i;

  if (c == NULL)
    return;
  assert (!curve_runs (c));
  for (i = 0; i < MINIATURES; ++i) {
    evict_free (c->miniatures[i].evict);
    free (c->miniatures[i].frames);
    free (c->miniatures[i].chains);
  }
  free (c->rings);
  free (c);
}

static struct ring *
rings_new (size_t count)
{
  struct ring *rings = aligned_alloc (64, count * sizeof rings[0]), *r;
  unsigned i;

  if (rings == NULL)
    return NULL;
  memset (rings, 0, count * sizeof rings[0]);
  for (r = rings; r < rings + count; ++r)
    for (i = 0; i < RING_SLOTS; ++i)
      atomic_init (&r->slots[i].turn, i);
  return rings;
}

struct curve *
curve_new (size_t most)
{
  const size_t pages = sampled_pages (most);
  struct curve *c = calloc (1, sizeof *c);
  int err = 0;
  unsigned i;

  if (c == NULL)
    return NULL;
  c->task.run = curve_run_task;
  c->pages = most;
  c->allowance = ALLOW_MOST;
  atomic_init (&c->threshold, threshold_for (pages, most));
  c->told = 1;
  c->ring_mask = ring_count (most) - 1;
  c->rings = rings_new (ring_count (most));
  for (i = 0; i < MINIATURES; ++i)
    err |= miniature_init (&c->miniatures[i], miniature_pages (pages, i),
                           threshold_now (c) >> sample_shift (i));
  if (err != 0 || c->rings == NULL) {
    curve_free (c);
    return NULL;
  }
  return c;
}

void
curve_guide (struct curve *c, struct evict *ev)
{
  word_lock_take (&c->lock, RANK_CURVE);
  c->guided = ev;
  evict_order (c->miniatures[CLOCK].evict, EVICT_CLOCK, share_now (c, CLOCK));
  word_lock_drop (&c->lock);
}

void
curve_resize (struct curve *c, size_t pages)
{
  const size_t before = c->miniatures[SAME].capacity;
  unsigned i;

  word_lock_take (&c->lock, RANK_CURVE);
  c->pages = pages;
  /* A little more than there was room for changes the estimate little. */
  while (pages * share_of (threshold_now (c)) > c->miniatures[SAME].most * 1.25)
    halve_sample (c);
  for (i = 0; i < MINIATURES; ++i)
    miniature_resize (&c->miniatures[i], pages, i);
  scale_sums (c, (double) c->miniatures[SAME].capacity / before);
  set_window (c);
  word_lock_drop (&c->lock);
}

size_t
curve_memory (const struct curve *c)
{
  size_t bytes = sizeof *c + (c->ring_mask + 1) * sizeof c->rings[0];
  const struct miniature *m;
  unsigned i;

  for (i = 0; i < MINIATURES; ++i) {
    m = &c->miniatures[i];
    bytes += m->most * sizeof m->frames[0] +
             ((size_t) m->chain_mask + 1) * sizeof m->chains[0] +
             evict_memory (m->evict);
  }
  return bytes;
}
