/* SPDX-License-Identifier: BSD-3-Clause */

/* The uses of pages that threads report to the curve, until they are simulated.
 *
 * Each thread has a ring of its own, so that a use writes no line that another
 * thread's uses write; only handing over does.  When one ring is half full all
 * are emptied, each ring's uses spread among the others' as if they had come at
 * equal distances: one ring after the other would make the uses of one thread
 * seem closer together than they were.  Rings are handed out in turn.  Where
 * there are more threads than rings, some share one, which is slower for them.
 *
 *   thread 1 ──> [a b c d e f]  ─┐
 *   thread 2 ──> [u v w]        ─┴─> a u b c v d e w f
 *
 * May not know the simulation.
 */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "pagecache/rings.h"

/* One ring for so many pages, but at least and at most so many; powers of 2. */
#define RING_PAGES 256
#define RINGS_MIN  4
#define RINGS_MAX  64

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

/* Relaxed: the next turn to get a ring, and this thread's turn, from 1. */
static _Atomic uint32_t turns;
static THREAD_OWN uint32_t my_turn;

static size_t
ring_count (size_t max)
{
  return power_of_2_from (clamp_u64 (max / RING_PAGES, RINGS_MIN, RINGS_MAX));
}

/* The calling thread's. */
static struct ring *
my_ring (struct rings *rings)
{
  if (my_turn == 0)
    my_turn = atomic_fetch_add_explicit (&turns, 1, memory_order_relaxed) + 1;
  return &rings->first[my_turn & rings->mask];
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

/* Whether the thread used the page so recently that no simulated cache would
 * take notice: the smallest one's window is the shortest, and since then no
 * more pages can have come into it than uses went into the rings.  A use that
 * left the ring is none of these: what the others did since is not known.
 */
static bool
just_seen (struct ring *r, uint64_t h, uint32_t window)
{
  const uint32_t now = atomic_load_explicit (&r->head, memory_order_relaxed);
  _Atomic uint64_t *seen = &r->seen[h % RING_SLOTS];
  const uint64_t was = atomic_load_explicit (seen, memory_order_relaxed);
  const uint32_t since = now - (uint32_t) was;

  if (was >> 32 == h >> 32 && since <= ring_uses (r) && since < window)
    return true;
  atomic_store_explicit (seen, h >> 32 << 32 | now, memory_order_relaxed);
  return false;
}

uint32_t
rings_note (struct rings *rings, uint64_t key, uint64_t h, enum curve_use use,
            uint32_t window)
{
  struct ring *r = my_ring (rings);

  if (use != CURVE_WRITE)
    atomic_fetch_add_explicit (&r->sampled_reads, 1, memory_order_relaxed);
  if (use == CURVE_MISS)
    atomic_fetch_add_explicit (&r->sampled_misses, 1, memory_order_relaxed);
  if (just_seen (r, h, window))
    return 0;
  if (!ring_push (r, key, use == CURVE_WRITE))
    atomic_fetch_add_explicit (&r->dropped, 1, memory_order_relaxed);
  return ring_uses (r);
}

/* Hands the oldest use of a ring to USE; false: it is not there yet. */
static bool
take_oldest (struct ring *r, rings_use *use, void *opaque)
{
  const uint32_t tail = atomic_load_explicit (&r->tail, memory_order_relaxed);
  struct slot *s = &r->slots[tail % RING_SLOTS];
  uint64_t key;
  bool write;

  if (atomic_load_explicit (&s->turn, memory_order_acquire) != tail + 1)
    return false;
  key = s->key;
  write = s->write;
  atomic_store_explicit (&s->turn, tail + RING_SLOTS, memory_order_release);
  atomic_store_explicit (&r->tail, tail + 1, memory_order_relaxed);

  use (opaque, key, write);
  return true;
}

/* Finds the rings that have uses, and how many the fullest has. */
static uint32_t
find_uses (const struct rings *rings, struct waiting *waiting, unsigned *count)
{
  struct ring *r;
  uint32_t uses, max = 0;

  *count = 0;
  for (r = rings->first; r <= rings->first + rings->mask; ++r) {
    uses = ring_uses (r);
    if (uses == 0)
      continue;
    waiting[(*count)++] = (struct waiting){ .ring = r, .uses = uses };
    max = max_u64 (max, uses);
  }
  return max;
}

/* In each step the fullest gives one use, and any other does if it is behind
 * with its part.
 */
unsigned
rings_take (struct rings *rings, rings_use *use, void *opaque)
{
  struct waiting waiting[RINGS_MAX], *w;
  unsigned count;
  const uint32_t max = find_uses (rings, waiting, &count);
  uint32_t step;

  for (step = 0; step < max; ++step)
    for (w = waiting; w < waiting + count; ++w)
      if (w->taken < w->uses && w->taken * max <= step * w->uses) {
        if (take_oldest (w->ring, use, opaque))
          w->taken++;
        else
          w->uses = w->taken; /* those behind it have to wait as well */
      }
  return count;
}

struct ring_counts
rings_counts (const struct rings *rings)
{
  struct ring_counts counts = { 0 };
  const struct ring *r;

  for (r = rings->first; r <= rings->first + rings->mask; ++r) {
    counts.reads +=
        atomic_load_explicit (&r->sampled_reads, memory_order_relaxed);
    counts.misses +=
        atomic_load_explicit (&r->sampled_misses, memory_order_relaxed);
    counts.dropped += atomic_load_explicit (&r->dropped, memory_order_relaxed);
  }
  return counts;
}

int
rings_init (struct rings *rings, size_t pages)
{
  const size_t count = ring_count (pages);
  struct ring *r;
  unsigned i;

  rings->mask = count - 1;
  rings->first = aligned_alloc (64, count * sizeof rings->first[0]);
  if (rings->first == NULL)
    return -1;
  memset (rings->first, 0, count * sizeof rings->first[0]);
  for (r = rings->first; r < rings->first + count; ++r)
    for (i = 0; i < RING_SLOTS; ++i)
      atomic_init (&r->slots[i].turn, i);
  return 0;
}

void
rings_destroy (struct rings *rings)
{
  free (rings->first);
}

size_t
rings_memory (const struct rings *rings)
{
  return (rings->mask + 1) * sizeof rings->first[0];
}
