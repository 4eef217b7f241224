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
 * counted only.  Any other goes into a ring (rings.c), without a lock.  A
 * thread that has filled half of its ring hands the simulation (miniature.c) to
 * a worker, or runs it itself if there is none.
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
#include "pagecache/miniature.h"
#include "pagecache/rings.h"

/* One page in so many is in the sample; but at least so many, or one in fewer
 * if the cache is smaller yet, and at most so many of those that it holds.
 */
#define SAMPLED_ONE_IN 64
#define SAMPLED_MIN    256
#define SAMPLED_DENSE  8
#define SAMPLED_MAX    2048

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

#define WORK_FROM (RING_SLOTS / 2) /* uses of a thread that a task is worth */

/* The sample never becomes smaller than this; pages. */
#define HALVED_MIN 64

/* About how many instructions things take, and what a hit and a miss of the
 * real cache allow: a hundredth of what they take at least.
 */
#define WORK_USE   100 /* a use in the ring */
#define WORK_HIT   40  /* a hit in a simulated cache */
#define WORK_MISS  350
#define ALLOW_HIT  2.5
#define ALLOW_MISS 200.0
#define ALLOW_MAX  1e8 /* what may be saved for later */

#define PERIOD UINT64_C (3600000000000) /* ns: half of what is looked back */

/* A snapshot of the counters. */
struct mark {
  uint64_t reads;
  double misses[CURVE_SIZES];
};

struct curve {
  struct rings rings;

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

/* How many of MAX pages are in the sample. */
static size_t
sampled_pages (size_t max)
{
  const size_t min = clamp_u64 (max / SAMPLED_DENSE, HALVED_MIN, SAMPLED_MIN);
  const size_t n = clamp_u64 (max / SAMPLED_ONE_IN, min, SAMPLED_MAX);

  return min_u64 (n, max_u64 (max, 1));
}

/* Pages of the simulated cache for size I, if the one for the size itself has
 * so many.
 */
static size_t
miniature_pages (size_t pages, unsigned i)
{
  return max_u64 (i < SAME ? pages >> (SAME - i) : pages, 1);
}

/* Pages of the cache that the simulated one for size I stands for, if the real
 * one has so many.
 */
static double
stood_for (size_t pages, unsigned i)
{
  return (double) pages * (1u << (i < CURVE_SIZES ? i : SAME)) / (1u << SAME);
}

/* How much smaller the sample of size I is than the others'. */
static unsigned
sample_shift (unsigned i)
{
  return i > SAME && i < CURVE_SIZES ? i - SAME : 0;
}

/* The threshold below which PAGES of MAX hash. */
static uint32_t
threshold_for (size_t pages, size_t max)
{
  return pages >= max ? UINT32_MAX
                      : (uint32_t) ((double) pages / max * UINT32_MAX);
}

static uint32_t
threshold_now (const struct curve *c)
{
  return atomic_load_explicit (&c->threshold, memory_order_relaxed);
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
simulate_use (void *opaque, uint64_t key, bool write)
{
  const uint64_t h = miniature_hash (key);
  struct curve *c = opaque;
  bool missed[MINIATURES] = { false };
  struct miniature *m;
  unsigned i;

  assert_held (&c->lock);
  if (c->guided && c->mode != EVICT_CLOCK)
    evict_set_share (c->miniatures[SAME].evict, evict_share (c->guided));
  for (i = 0; i < MINIATURES; ++i) {
    m = &c->miniatures[i];
    if (!miniature_samples (h, m->threshold) ||
        (i >= CURVE_SIZES && !c->guided))
      continue;
    missed[i] = miniature_use (m, key, h, write);
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

/* ---- the size of the sample ---- */

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
    miniature_halve (&c->miniatures[i], stood_for (c->pages, i));
  scale_sums (c, 0.5);
  set_window (c);
}

/* Halves the sample if the simulation did more work than the requests since the
 * last look allow.
 */
static void
bound_work (struct curve *c)
{
  const double share = miniature_share (threshold_now (c));
  const struct ring_counts counts = rings_counts (&c->rings);

  assert_held (&c->lock);
  c->allowance += ((counts.reads - c->known_reads) * ALLOW_HIT +
                   (counts.misses - c->known_misses) * ALLOW_MISS) /
                  share;
  c->known_reads = counts.reads;
  c->known_misses = counts.misses;
  if (c->allowance > ALLOW_MAX)
    c->allowance = ALLOW_MAX;
  if (c->allowance >= 0 || c->pages * share / 2 < HALVED_MIN)
    return;
  c->allowance = 0;
  halve_sample (c);
}

static void
curve_drain (struct curve *c)
{
  unsigned count;

  assert_held (&c->lock);
  count = rings_take (&c->rings, simulate_use, c);
  if (count > 0)
    c->told = count;
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

bool
curve_samples (const struct curve *c, uint64_t key)
{
  return miniature_samples (miniature_hash (key), threshold_now (c));
}

void
curve_note (struct curve *c, uint64_t key, enum curve_use use)
{
  const uint64_t h = miniature_hash (key);

  if (!miniature_samples (h, threshold_now (c)))
    return;
  if (rings_note (&c->rings, key, h, use,
                  atomic_load_explicit (&c->window, memory_order_relaxed)) >=
          WORK_FROM &&
      !atomic_exchange_explicit (&c->task_runs, true, memory_order_acquire))
    workers_run (NO_CREW, &c->task);
}

/* ---- what came out ---- */

void
curve_get (struct curve *c, struct curve_counts *counts)
{
  const struct ring_counts uses = rings_counts (&c->rings);
  unsigned i;

  counts->sampled_reads = uses.reads;
  counts->dropped = uses.dropped;
  word_lock_take (&c->lock, RANK_CURVE);
  curve_drain (c);
  for (i = 0; i < CURVE_SIZES; ++i)
    counts->misses[i] = miniature_misses (&c->miniatures[i]);
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
  for (i = 0; i < MINIATURES; ++i)
    miniature_destroy (&c->miniatures[i]);
  rings_destroy (&c->rings);
  free (c);
}

struct curve *
curve_new (size_t max)
{
  const size_t pages = sampled_pages (max);
  struct curve *c = calloc (1, sizeof *c);
  unsigned i;
  int err;

  if (c == NULL)
    return NULL;
  c->task.run = curve_run_task;
  c->pages = max;
  c->allowance = ALLOW_MAX;
  atomic_init (&c->threshold, threshold_for (pages, max));
  c->told = 1;
  err = rings_init (&c->rings, max);
  for (i = 0; i < MINIATURES; ++i)
    err |= miniature_init (&c->miniatures[i], miniature_pages (pages, i),
                           threshold_now (c) >> sample_shift (i));
  if (err != 0) {
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
  while (pages * miniature_share (threshold_now (c)) >
         c->miniatures[SAME].max * 1.25)
    halve_sample (c);
  for (i = 0; i < MINIATURES; ++i)
    miniature_resize (&c->miniatures[i], stood_for (pages, i));
  scale_sums (c, (double) c->miniatures[SAME].capacity / before);
  set_window (c);
  word_lock_drop (&c->lock);
}

size_t
curve_memory (const struct curve *c)
{
  size_t bytes = sizeof *c + rings_memory (&c->rings);
  unsigned i;

  for (i = 0; i < MINIATURES; ++i)
    bytes += miniature_memory (&c->miniatures[i]);
  return bytes;
}
