/* SPDX-License-Identifier: BSD-3-Clause */

/* What the miss ratio would be with another size.
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
 * counted only.  Any other goes into a ring, without a lock; who fills half of
 * it hands the simulation to a thread of ours, or does it if there is none.
 *
 * The work is bounded.  The simulation may take about one hundredth of what
 * the requests themselves do.  Where nearly all reads hit, but would not in the
 * smaller caches, that could be more: then the sample is halved.
 *
 * What is simulated is pages that clients ask for, one by one.  What comes
 * along with a miss, readahead, pages that must stay because they are dirty,
 * and pages that are dropped, it does not know.
 *
 * Knows nothing of pages, exports, statistics or nbdkit.
 */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "curve.h"
#include "evict.h"
#include "lock.h"
#include "util.h"
#include "workers.h"

/* One page in so many is in the sample; but at least so many, or one in fewer
 * if the cache is smaller yet, and at most so many of those that it holds.
 */
#define SAMPLED_ONE_IN 64
#define SAMPLED_LEAST  256
#define SAMPLED_DENSE  8
#define SAMPLED_MOST   2048

/* The simulated cache that stands for the size itself. */
#define SAME 2

#define RING_SLOTS 256
#define WORK_FROM  (RING_SLOTS / 2) /* uses that a task is worth */

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

#define NOBODY UINT32_MAX

/* A bounded queue of many writers (Vyukov): TURN says whose turn a slot is.
 * Its release pairs with the acquire of who has the turn next.
 */
struct slot {
  _Atomic uint64_t turn;
  uint64_t key;
  bool write;
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

/* What had been counted at some time. */
struct mark {
  uint64_t reads;
  double misses[CURVE_SIZES];
};

struct curve {
  uint32_t seen_mask; /* constant */

  /* In the sample: the upper half of the hash is not above.  Relaxed: written
   * under lock, and a page told of that has just left the sample does no harm.
   */
  _Atomic uint32_t threshold;

  /* Relaxed: the hash's upper half, and the ring's head, when a use of a page
   * was last told.  A lost store makes one use be told again.
   */
  _Atomic uint64_t *seen;
  _Atomic uint32_t window; /* relaxed: uses in the ring that count as one */
  /* Relaxed: counters alone. */
  _Atomic uint64_t sampled_reads, sampled_misses, dropped;
  _Atomic uint64_t reads_before; /* relaxed: through exports that are gone */

  _Atomic uint64_t head; /* of the ring: relaxed, the slots' turns pair */
  _Atomic uint64_t tail; /* relaxed: written under lock */
  struct slot ring[RING_SLOTS];

  struct task task;
  _Atomic bool task_runs; /* acquire and release: one after the other */

  struct word_lock lock; /* RANK_CURVE */
  /* Guarded by lock. */
  struct miniature miniatures[CURVE_SIZES];
  size_t pages;                       /* of the real cache */
  uint64_t known_reads, known_misses; /* of the sample, when last looked at */
  double allowance;                   /* work that may be done */
  struct mark period, before; /* when this period and the one before began */
  uint64_t period_began;      /* ns; 0: nobody has asked yet */
};

/* The finalizer of MurmurHash3 (Appleby): every bit of the key changes every
 * bit of the hash with probability 1/2, so that the sample does not follow
 * patterns of the disk.
 */
static uint64_t
hash (uint64_t key)
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
  return i > SAME ? i - SAME : 0;
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

/* What part of all pages a threshold lets through. */
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

/* Pages used of late are remembered for as many as the smallest cache has. */
static size_t
seen_count (size_t most)
{
  return power_of_2_from (max_u64 (sampled_pages (most) / 2, 64));
}

/* ---- the simulation ---- */

static uint32_t *
chain_of (struct miniature *m, uint64_t h)
{
  return &m->chains[h & m->chain_mask];
}

static struct frame *
find (struct miniature *m, uint64_t key, uint64_t h)
{
  uint32_t i = *chain_of (m, h);

  while (i != NOBODY && m->frames[i].entry.key != key)
    i = m->frames[i].next;
  return i == NOBODY ? NULL : &m->frames[i];
}

static bool
may_go (struct evict_entry *entry, void *opaque)
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
  struct evict_entry *entry = evict_victim (m->evict, may_go, NULL);
  uint32_t *link = chain_of (m, hash (entry->key));

  while (&m->frames[*link].entry != entry)
    link = &m->frames[*link].next;
  free_frame (m, link);
}

static struct frame *
take_frame (struct miniature *m)
{
  struct frame *f;

  while (m->held >= m->capacity)
    evict_frame (m);
  m->held++;
  if (m->free == NOBODY)
    return &m->frames[m->used++];
  f = &m->frames[m->free];
  m->free = f->next;
  return f;
}

/* Returns how much work it was. */
static unsigned
simulate (struct miniature *m, uint64_t key, uint64_t h, bool write)
{
  struct frame *f = find (m, key, h);

  if (f) {
    evict_hit (m->evict, &f->entry);
    return WORK_HIT;
  }
  m->missed_reads += !write;
  f = take_frame (m);
  f->entry.key = key;
  f->next = *chain_of (m, h);
  *chain_of (m, h) = (uint32_t) (f - m->frames);
  evict_admit (m->evict, &f->entry, write ? ADMIT_WRITE : ADMIT_READ);
  return WORK_MISS;
}

/* ---- the ring ---- */

/* False: there is no room. */
static bool
ring_push (struct curve *c, uint64_t key, bool write)
{
  uint64_t head = atomic_load_explicit (&c->head, memory_order_relaxed);
  uint64_t turn;
  struct slot *s;

  for (;;) {
    s = &c->ring[head % RING_SLOTS];
    turn = atomic_load_explicit (&s->turn, memory_order_acquire);
    if ((int64_t) (turn - head) < 0)
      return false;
    if (turn != head)
      head = atomic_load_explicit (&c->head, memory_order_relaxed);
    else if (atomic_compare_exchange_weak_explicit (&c->head, &head, head + 1,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed))
      break;
  }
  s->key = key;
  s->write = write;
  atomic_store_explicit (&s->turn, head + 1, memory_order_release);
  return true;
}

/* Simulates the oldest use in the ring; false: none is there. */
static bool
simulate_oldest (struct curve *c)
{
  const uint64_t tail = atomic_load_explicit (&c->tail, memory_order_relaxed);
  struct slot *s = &c->ring[tail % RING_SLOTS];
  uint64_t key, h;
  unsigned i;
  bool write;

  assert_held (&c->lock);
  if (atomic_load_explicit (&s->turn, memory_order_acquire) != tail + 1)
    return false;
  key = s->key;
  write = s->write;
  atomic_store_explicit (&s->turn, tail + RING_SLOTS, memory_order_release);
  atomic_store_explicit (&c->tail, tail + 1, memory_order_relaxed);

  h = hash (key);
  for (i = 0; i < CURVE_SIZES && is_below (h, c->miniatures[i].threshold); ++i)
    c->allowance -= simulate (&c->miniatures[i], key, h, write);
  c->allowance -= WORK_USE;
  return true;
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
  const double of_size = (double) pages * (1u << i) / (1u << SAME);

  m->capacity = clamp_u64 (of_size * share_of (m->threshold) + 0.5, 1, m->most);
  evict_resize (m->evict, m->capacity);
  while (m->held > m->capacity)
    evict_frame (m);
}

/* Uses this close together are one in all of them, see evict.h. */
static void
set_window (struct curve *c)
{
  const struct evict *smallest = c->miniatures[0].evict;

  atomic_store_explicit (
      &c->window,
      atomic_load_explicit (&smallest->window, memory_order_relaxed) /
          (EVICT_USES + 1),
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
    for (link = chain; *link != NOBODY;) {
      f = &m->frames[*link];
      if (is_below (hash (f->entry.key), threshold)) {
        link = &f->next;
        continue;
      }
      evict_forget (m->evict, &f->entry);
      free_frame (m, link);
    }
  miniature_sample (m, threshold);
  miniature_resize (m, pages, i);
}

static void
halve_sample (struct curve *c)
{
  unsigned i;

  assert_held (&c->lock);
  atomic_store_explicit (&c->threshold, threshold_now (c) >> 1,
                         memory_order_relaxed);
  for (i = 0; i < CURVE_SIZES; ++i)
    miniature_halve (&c->miniatures[i], c->pages, i);
  set_window (c);
}

/* What was done is compared with what the requests since then allow. */
static void
bound_work (struct curve *c)
{
  const uint64_t reads =
      atomic_load_explicit (&c->sampled_reads, memory_order_relaxed);
  const uint64_t misses =
      atomic_load_explicit (&c->sampled_misses, memory_order_relaxed);
  const double share = share_of (threshold_now (c));

  assert_held (&c->lock);
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
drain (struct curve *c)
{
  unsigned most = RING_SLOTS;

  assert_held (&c->lock);
  while (most-- > 0 && simulate_oldest (c))
    ;
  bound_work (c);
}

static void
run_task (struct task *t)
{
  struct curve *c = container_of (t, struct curve, task);

  if (word_lock_try (&c->lock, RANK_CURVE)) {
    drain (c);
    word_lock_drop (&c->lock);
  }
  atomic_store_explicit (&c->task_runs, false, memory_order_release);
}

/* Whether the page was used so recently that no simulated cache would take
 * notice: the smallest one's window is the shortest, and since then no more
 * pages can have come into it than uses went into the ring.
 */
static bool
just_seen (struct curve *c, uint64_t h)
{
  const uint32_t now =
      (uint32_t) atomic_load_explicit (&c->head, memory_order_relaxed);
  _Atomic uint64_t *seen = &c->seen[h & c->seen_mask];
  const uint64_t was = atomic_load_explicit (seen, memory_order_relaxed);

  if (was >> 32 == h >> 32 &&
      now - (uint32_t) was <
          atomic_load_explicit (&c->window, memory_order_relaxed))
    return true;
  atomic_store_explicit (seen, h >> 32 << 32 | now, memory_order_relaxed);
  return false;
}

bool
curve_samples (const struct curve *c, uint64_t key)
{
  return is_below (hash (key), threshold_now (c));
}

void
curve_note (struct curve *c, uint64_t key, enum curve_use use)
{
  const uint64_t h = hash (key);
  uint64_t waiting;

  if (!is_below (h, threshold_now (c)))
    return;
  if (use != CURVE_WRITE)
    atomic_fetch_add_explicit (&c->sampled_reads, 1, memory_order_relaxed);
  if (use == CURVE_MISS)
    atomic_fetch_add_explicit (&c->sampled_misses, 1, memory_order_relaxed);
  if (just_seen (c, h))
    return;
  if (!ring_push (c, key, use == CURVE_WRITE))
    atomic_fetch_add_explicit (&c->dropped, 1, memory_order_relaxed);
  waiting = atomic_load_explicit (&c->head, memory_order_relaxed) -
            atomic_load_explicit (&c->tail, memory_order_relaxed);
  if (waiting >= WORK_FROM &&
      !atomic_exchange_explicit (&c->task_runs, true, memory_order_acquire))
    workers_run (&c->task);
}

/* ---- what came out ---- */

void
curve_get (struct curve *c, struct curve_counts *counts)
{
  unsigned i;

  counts->sampled_reads =
      atomic_load_explicit (&c->sampled_reads, memory_order_relaxed);
  counts->dropped = atomic_load_explicit (&c->dropped, memory_order_relaxed);
  word_lock_take (&c->lock, RANK_CURVE);
  drain (c);
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
  }
  word_lock_drop (&c->lock);
}

/* ---- life ---- */

static int
miniature_init (struct miniature *m, size_t most, uint32_t threshold)
{
  const size_t chains = chain_count (most);

  m->most = m->capacity = most;
  m->free = NOBODY;
  m->chain_mask = chains - 1;
  m->frames = calloc (most, sizeof m->frames[0]);
  m->chains = malloc (chains * sizeof m->chains[0]);
  if (m->frames && m->chains)
    m->evict = evict_new (most, most, &m->frames[0].entry, sizeof m->frames[0]);
  if (!m->evict)
    return -1;
  memset (m->chains, 0xff, chains * sizeof m->chains[0]); /* NOBODY */
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
  for (i = 0; i < CURVE_SIZES; ++i) {
    evict_free (c->miniatures[i].evict);
    free (c->miniatures[i].frames);
    free (c->miniatures[i].chains);
  }
  free (c->seen);
  free (c);
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
  c->task.run = run_task;
  c->pages = most;
  c->allowance = ALLOW_MOST;
  atomic_init (&c->threshold, threshold_for (pages, most));
  for (i = 0; i < RING_SLOTS; ++i)
    atomic_init (&c->ring[i].turn, i);
  c->seen_mask = seen_count (most) - 1;
  c->seen = calloc (seen_count (most), sizeof c->seen[0]);
  for (i = 0; i < CURVE_SIZES; ++i)
    err |= miniature_init (&c->miniatures[i], miniature_pages (pages, i),
                           threshold_now (c) >> sample_shift (i));
  if (err != 0 || c->seen == NULL) {
    curve_free (c);
    return NULL;
  }
  return c;
}

void
curve_resize (struct curve *c, size_t pages)
{
  unsigned i;

  word_lock_take (&c->lock, RANK_CURVE);
  c->pages = pages;
  /* A little more than there was room for changes the estimate little. */
  while (pages * share_of (threshold_now (c)) > c->miniatures[SAME].most * 1.25)
    halve_sample (c);
  for (i = 0; i < CURVE_SIZES; ++i)
    miniature_resize (&c->miniatures[i], pages, i);
  set_window (c);
  word_lock_drop (&c->lock);
}

size_t
curve_memory (const struct curve *c)
{
  size_t bytes = sizeof *c + (c->seen_mask + 1) * sizeof c->seen[0];
  const struct miniature *m;
  unsigned i;

  for (i = 0; i < CURVE_SIZES; ++i) {
    m = &c->miniatures[i];
    bytes += m->most * sizeof m->frames[0] +
             ((size_t) m->chain_mask + 1) * sizeof m->chains[0] +
             evict_memory (m->evict);
  }
  return bytes;
}
