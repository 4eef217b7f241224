/* SPDX-License-Identifier: BSD-3-Clause */
/* Which page leaves the cache: a form of Clock2Q+ with an adaptive share.
 *
 *            admit                         asked for again
 *   READ ----------------> small (FIFO) -------------------> main (CLOCK)
 *   WRITE                     |    ^                           |    ^
 *            key is in ghost  |    | was hit                   |    |
 *        ---------------------|----|---------------------------|----'
 *   AHEAD ----> ahead (FIFO) -|----'                           |
 *                   |         |                                |
 *                   v         v                                v
 *                  gone     ghost (key only)                 ghost
 *
 * A page of a warm list enters main, with the uses that it had, or small.
 *
 * New pages pass through the small queue.  Most are never asked for again
 * and leave at its end, so that a scan costs the main queue nothing.  A page
 * that is used again goes on to the main queue, a CLOCK that counts to three.
 * Uses that follow each other closely (the correlation window) are taken for
 * one, in both queues.
 *
 * The key of a page that leaves is remembered for a while in the ghost; if it
 * comes back, it may be admitted to the main queue at once: trust.c says when.
 *
 * The share of the small queue adapts: a miss on a page that has only just
 * left the small queue says that the queue is too short, one on a page that
 * has just left the main queue says the opposite.
 *
 * That looks at recent misses alone.  Where none of the pages that come back
 * has just left, the share stays, and the main queue may keep pages for ever
 * that nothing uses.  The caller can compare what other shares would have
 * missed (curve.c), and order another mode:
 *
 *   mode   small queue       it grows                          new pages enter
 *   usual  at most 50 %      by recent misses                  small
 *   widen  at most 90 %      also by 1/2 page for each victim  small
 *                            of main, 1/8 for each other one,
 *                            while main finds no use
 *   clock  leaves first      -                                 main
 *
 * Main finds no use while fewer than one in 16 of the last 512 entries at its
 * end had been used.
 *
 * Pages that were to leave and might not (dirty, pinned) wait in the held
 * queue.  It is looked at first in each call, but only a few of it, so that
 * many dirty pages neither cost time nor push others out of the main queue.
 *
 * Everything here is under the caller's eviction lock, see evict.h.
 */
#include "pagecache/evict.h"

#include <assert.h>
#include <stdlib.h>

#include "pagecache/ghost.h"
#include "pagecache/trust.h"

/* Shares of the capacity, in thousandths. */
#define SMALL_START  100  /* the small queue at the start */
#define SMALL_MAX    500  /* it never grows above, */
#define WIDEN_MAX    900  /* or above this in the mode widen, and */
#define SMALL_MIN    128  /* (pages) seldom shrinks below */
#define WINDOW       50   /* uses this close together are one */
#define RECENT       20   /* has only just left */
#define GHOST_SMALL  1000 /* remembered after the small queue */
#define GHOST_MAIN   50   /* remembered after the main queue */
#define ADAPT_STEP   5    /* the small queue changes by this, each time */
#define AHEAD_MAX    250  /* readahead that waits for its first use */
#define ADAPT_MISSES 100  /* after this many misses on recent pages, */
#define ADAPT_MIN    25   /* (of a sample, at least so many) */
#define ADAPT_FACTOR 2    /* if one side has so many times the other's */

/* How it is noticed that the pages of main are not used, and how fast main then
 * shrinks.
 */
#define CERTAIN     (1 << 16) /* a probability of 1 */
#define FOUND_GAIN  512       /* a look changes the estimate by 1/512 */
#define FOUND_MIN   16        /* (in a sample, by at most 1/16) */
#define FOUND_NONE  (CERTAIN / 16)
#define WIDEN_STEPS 8 /* in a page */
#define WIDEN_MAIN  4 /* for a victim of main */
#define WIDEN_SMALL 1 /* for one of the small queue */

/* The work of a call of evict_victim, see evict.h. */
#define LOOKS_MAX  1024
#define LOOKS_USES 512
#define LOOKS_HELD 4

#define NO_ENTRY UINT32_MAX

struct queue {
  uint32_t oldest, newest;
  size_t length;
};

struct policy {
  struct evict shared; /* what evict_hit reads: first, see policy_of */
  char *first_entry;
  size_t stride;

  size_t capacity;
  size_t times; /* its size, of what it stands for */
  size_t small_target;
  struct queue queues[EVICT_QUEUES];

  struct ghost ghost;
  struct trust trust; /* in what the ghost remembers */

  unsigned recent_small, recent_main; /* misses since the last adaptation */

  enum evict_mode mode;
  uint64_t obeyed;  /* the order that the mode is of */
  int found;        /* how likely an entry at main's end has been used */
  unsigned widened; /* steps that are not yet a page */
};

static struct policy *
policy_of (struct evict *ev)
{
  return (struct policy *) ev;
}

/* A share of the capacity in thousandths, and never nothing. */
static size_t
share (const struct policy *p, unsigned thousandths)
{
  const size_t pages = p->capacity / 1000 * thousandths +
                       p->capacity % 1000 * thousandths / 1000;

  return pages > 0 ? pages : 1;
}

/* A number of pages, in the sample that the policy sees. */
static unsigned
fewer (const struct policy *p, unsigned pages, unsigned min)
{
  return pages / p->times > min ? pages / (unsigned) p->times : min;
}

/* ---- queues ---- */

static struct evict_entry *
entry_at (const struct policy *p, uint32_t i)
{
  return (struct evict_entry *) (p->first_entry + (size_t) i * p->stride);
}

static uint32_t
index_of (const struct policy *p, const struct evict_entry *entry)
{
  return (uint32_t) (((const char *) entry - p->first_entry) / p->stride);
}

static uint32_t
uses_of (const struct evict_entry *entry)
{
  return atomic_load_explicit (&entry->uses, memory_order_relaxed);
}

/* Watched or not, it stays that. */
static void
set_uses (struct evict_entry *entry, uint32_t uses)
{
  atomic_store_explicit (
      &entry->uses, (uses & EVICT_TIME) | (uses_of (entry) & EVICT_WATCHED),
      memory_order_relaxed);
}

static uint32_t
now (const struct policy *p)
{
  return atomic_load_explicit (&p->shared.now, memory_order_relaxed);
}

static uint32_t
window (const struct policy *p)
{
  return atomic_load_explicit (&p->shared.window, memory_order_relaxed);
}

static struct evict_entry *
oldest (const struct policy *p, enum evict_queue queue)
{
  assert (p->queues[queue].length > 0);
  return entry_at (p, p->queues[queue].oldest);
}

static size_t
length (const struct policy *p, enum evict_queue queue)
{
  return p->queues[queue].length;
}

static void
queue_push (struct policy *p, struct evict_entry *entry, enum evict_queue queue)
{
  struct queue *q = &p->queues[queue];
  const uint32_t i = index_of (p, entry);

  assert (entry->queue == EVICT_NONE);
  entry->older = q->newest;
  entry->newer = NO_ENTRY;
  if (q->newest == NO_ENTRY)
    q->oldest = i;
  else
    entry_at (p, q->newest)->newer = i;
  q->newest = i;
  q->length++;
  entry->queue = (uint8_t) queue;
}

static void
take (struct policy *p, struct evict_entry *entry)
{
  struct queue *q = &p->queues[entry->queue];

  assert (entry->queue != EVICT_NONE);
  if (entry->older == NO_ENTRY)
    q->oldest = entry->newer;
  else
    entry_at (p, entry->older)->newer = entry->newer;
  if (entry->newer == NO_ENTRY)
    q->newest = entry->older;
  else
    entry_at (p, entry->newer)->older = entry->older;
  q->length--;
  entry->queue = EVICT_NONE;
}

static void
move (struct policy *p, struct evict_entry *entry, enum evict_queue queue)
{
  take (p, entry);
  queue_push (p, entry, queue);
}

/* ---- the share of the small queue ---- */

static size_t
small_min (const struct policy *p)
{
  const size_t half = share (p, SMALL_MAX);
  const size_t min = SMALL_MIN / p->times;

  return min < half ? min : half;
}

static void
set_small_target (struct policy *p, size_t target)
{
  const size_t min = small_min (p);
  const size_t max = share (p, p->mode == EVICT_USUAL ? SMALL_MAX : WIDEN_MAX);

  p->small_target = target < min ? min : target > max ? max : target;
  atomic_store_explicit (
      &p->shared.share,
      (uint32_t) ((double) p->small_target * EVICT_WHOLE / p->capacity),
      memory_order_relaxed);
}

void
evict_set_share (struct evict *ev, uint32_t share)
{
  struct policy *p = policy_of (ev);

  set_small_target (p, (size_t) ((double) share * p->capacity / EVICT_WHOLE));
}

/* An order is one word: its number, so that it differs from the last one, the
 * share, and the mode.
 */
#define ORDER_SHARE  8
#define ORDER_NUMBER 32

void
evict_order (struct evict *ev, enum evict_mode mode, uint32_t share)
{
  const uint64_t last = atomic_load_explicit (&ev->order, memory_order_relaxed);

  atomic_store_explicit (&ev->order,
                         ((last >> ORDER_NUMBER) + 1) << ORDER_NUMBER |
                             (uint64_t) share << ORDER_SHARE | mode,
                         memory_order_relaxed);
}

static void
obey (struct policy *p)
{
  const uint64_t order =
      atomic_load_explicit (&p->shared.order, memory_order_relaxed);

  if (order == p->obeyed)
    return;
  p->obeyed = order;
  p->mode = order & ((1u << ORDER_SHARE) - 1);
  evict_set_share (&p->shared, (uint32_t) order >> ORDER_SHARE);
}

/* A victim has left, in the mode widen. */
static void
widen (struct policy *p, enum evict_queue from)
{
  if (p->mode != EVICT_WIDEN || p->found >= FOUND_NONE ||
      length (p, EVICT_MAIN) == 0)
    return;
  p->widened += from == EVICT_MAIN ? WIDEN_MAIN : WIDEN_SMALL;
  if (p->widened < WIDEN_STEPS)
    return;
  p->widened -= WIDEN_STEPS;
  set_small_target (p, p->small_target + 1);
}

/* A page that had only just left came back. */
static void
evict_adapt_target (struct policy *p, bool from_main)
{
  const size_t step = share (p, ADAPT_STEP);

  if (from_main)
    p->recent_main++;
  else
    p->recent_small++;
  if (p->recent_small + p->recent_main < fewer (p, ADAPT_MISSES, ADAPT_MIN))
    return;

  if (p->recent_small > ADAPT_FACTOR * p->recent_main)
    set_small_target (p, p->small_target + step);
  else if (p->recent_main > ADAPT_FACTOR * p->recent_small)
    set_small_target (p, p->small_target > step ? p->small_target - step : 0);
  p->recent_small = p->recent_main = 0;
}

/* ---- admission ---- */

/* Put an entry that is in no queue where a page that is asked for belongs. */
static void
enter (struct policy *p, struct evict_entry *entry)
{
  const uint32_t slot = ghost_recall (&p->ghost, entry->key);
  const unsigned class =
      slot != 0 ? trust_class (&p->ghost, slot, share (p, GHOST_SMALL)) : 0;
  const bool trust = class > 0 && trust_given (&p->trust, class);

  if (slot != 0 && ghost_age (&p->ghost, slot) <= share (p, RECENT))
    evict_adapt_target (p, ghost_from_main (slot));

  set_uses (entry, now (p));
  entry->trust = trust ? (uint8_t) class : 0;
  queue_push (p, entry,
              trust || p->mode == EVICT_CLOCK ? EVICT_MAIN : EVICT_SMALL);
}

void
evict_watch (struct evict_entry *entry, bool watched)
{
  assert (entry->queue == EVICT_NONE);
  atomic_store_explicit (&entry->uses, watched ? EVICT_WATCHED : 0,
                         memory_order_relaxed);
}

void
evict_hit_watched (const struct evict *ev, struct evict_entry *entry)
{
  const struct policy *p = (const struct policy *) ev;
  const uint32_t uses = uses_of (entry) & EVICT_TIME;

  if ((uses & EVICT_USES) != EVICT_USES &&
      ((now (p) - (uses & ~EVICT_USES)) & EVICT_TIME) >= window (p))
    set_uses (entry, (now (p) | (uses & EVICT_USES)) + 1);
}

/* The next use counts, however soon it comes. */
static void
await_use (const struct policy *p, struct evict_entry *entry)
{
  set_uses (entry, now (p) - window (p));
  entry->trust = 0;
}

/* In main, HEAT - 1 uses are left to it. */
static void
enter_warm (struct policy *p, struct evict_entry *entry, unsigned heat)
{
  set_uses (entry, now (p) | (heat > 0 ? heat - 1 : 0));
  entry->trust = 0;
  queue_push (p, entry, heat > 0 ? EVICT_MAIN : EVICT_SMALL);
}

int
evict_heat (const struct evict_entry *entry)
{
  const int uses = (int) (uses_of (entry) & EVICT_USES);

  switch (entry->queue) {
  case EVICT_MAIN:
    return 1 + uses;
  case EVICT_SMALL:
  case EVICT_HELD:
    return uses;
  case EVICT_AHEAD:
    return uses > 0 ? 0 : -1;
  default:
    return -1;
  }
}

void
evict_admit (struct evict *ev, struct evict_entry *entry, enum admission why)
{
  struct policy *p = policy_of (ev);

  atomic_store_explicit (&ev->now, (now (p) + EVICT_USES + 1) & EVICT_TIME,
                         memory_order_relaxed);
  if (why >= ADMIT_WARM)
    enter_warm (p, entry, why - ADMIT_WARM);
  else if (why != ADMIT_AHEAD)
    enter (p, entry);
  else {
    /* The ghost is asked at the first use, if there is one. */
    await_use (p, entry);
    queue_push (p, entry, EVICT_AHEAD);
  }
}

void
evict_forget (struct evict *ev, struct evict_entry *entry)
{
  if (entry->queue != EVICT_NONE)
    take (policy_of (ev), entry);
}

/* ---- eviction ---- */

/* One call of evict_victim. */
struct search {
  bool (*may_go) (struct evict_entry *, void *);
  void *opaque;
  unsigned looks;         /* left */
  size_t refused_by_main; /* in a row */
  bool last_resort;       /* evicts any page that may leave */
};

static bool
search_may_take (struct search *s, struct evict_entry *entry)
{
  return s->may_go (entry, s->opaque);
}

static bool
honour_uses (const struct search *s)
{
  return !s->last_resort && s->looks > LOOKS_MAX - LOOKS_USES;
}

/* The CLOCK has come to an entry that had been used or not. */
static void
learn (struct policy *p, struct evict_entry *entry, bool used)
{
  trust_learn (&p->trust, entry->trust, used,
               fewer (p, TRUST_GAIN, TRUST_GAIN_MIN));
  entry->trust = 0;
  p->found += ((used ? CERTAIN : 0) - p->found) /
              (int) fewer (p, FOUND_GAIN, FOUND_MIN);
}

/* The oldest of ahead: it leaves and is not remembered, unless it was asked
 * for. Then it is as if it came in now.
 */
static struct evict_entry *
look_at_ahead (struct policy *p, struct search *s)
{
  struct evict_entry *entry = oldest (p, EVICT_AHEAD);

  s->looks--;
  if (uses_of (entry) & EVICT_USES && honour_uses (s)) {
    take (p, entry);
    enter (p, entry);
    return NULL;
  }
  if (!search_may_take (s, entry)) {
    move (p, entry, EVICT_HELD);
    return NULL;
  }
  take (p, entry);
  return entry;
}

/* The oldest of small or held. */
static struct evict_entry *
look_at_new (struct policy *p, struct search *s, enum evict_queue queue)
{
  struct evict_entry *entry = oldest (p, queue);
  const uint32_t uses = uses_of (entry);

  s->looks--;
  if (uses & EVICT_USES && honour_uses (s)) {
    set_uses (entry, uses - 1);
    move (p, entry, EVICT_MAIN);
    return NULL;
  }
  if (!search_may_take (s, entry)) {
    move (p, entry, EVICT_HELD);
    return NULL;
  }
  take (p, entry);
  ghost_remember (&p->ghost, entry->key, false);
  widen (p, queue);
  return entry;
}

static struct evict_entry *
look_at_main (struct policy *p, struct search *s)
{
  struct evict_entry *entry = oldest (p, EVICT_MAIN);
  const uint32_t uses = uses_of (entry);

  s->looks--;
  if (uses & EVICT_USES && honour_uses (s)) {
    learn (p, entry, true);
    set_uses (entry, uses - 1);
    move (p, entry, EVICT_MAIN);
    s->refused_by_main = 0;
    return NULL;
  }
  if (!search_may_take (s, entry)) {
    move (p, entry, EVICT_MAIN);
    s->refused_by_main++;
    return NULL;
  }
  learn (p, entry, false);
  take (p, entry);
  ghost_remember (&p->ghost, entry->key, true);
  widen (p, EVICT_MAIN);
  return entry;
}

static bool
main_may_have_some (const struct policy *p, const struct search *s)
{
  return s->refused_by_main < length (p, EVICT_MAIN) &&
         s->refused_by_main < LOOKS_MAX / 4;
}

/* Readahead that waits too long, or is too much, was in vain. */
static bool
ahead_is_due (const struct policy *p)
{
  const size_t max = share (p, AHEAD_MAX);
  uint32_t age;

  if (length (p, EVICT_AHEAD) == 0)
    return false;
  if (length (p, EVICT_AHEAD) > max)
    return true;
  /* It came a window later than it says, see await_use. */
  age = (now (p) - uses_of (oldest (p, EVICT_AHEAD)) - window (p)) & EVICT_TIME;
  return age / (EVICT_USES + 1) > max;
}

struct evict_entry *
evict_victim (struct evict *ev, bool (*go) (struct evict_entry *, void *),
              void *opaque)
{
  struct policy *p = policy_of (ev);
  struct search s = { .may_go = go, .opaque = opaque, .looks = LOOKS_MAX };
  struct evict_entry *victim = NULL;
  size_t n, small;

  obey (p);
  small = p->mode == EVICT_CLOCK ? 0 : p->small_target;

  n = length (p, EVICT_HELD) < LOOKS_HELD ? length (p, EVICT_HELD) : LOOKS_HELD;
  while (victim == NULL && s.looks > 0 && n-- > 0)
    victim = look_at_new (p, &s, EVICT_HELD);

  while (victim == NULL && s.looks > 0 && ahead_is_due (p))
    victim = look_at_ahead (p, &s);

  while (victim == NULL && s.looks > 0) {
    if (length (p, EVICT_SMALL) > small)
      victim = look_at_new (p, &s, EVICT_SMALL);
    else if (main_may_have_some (p, &s))
      victim = look_at_main (p, &s);
    else
      break;
  }

  s.last_resort = true;
  while (victim == NULL && s.looks > 0 && length (p, EVICT_SMALL) > 0)
    victim = look_at_new (p, &s, EVICT_SMALL);
  while (victim == NULL && s.looks > 0 && length (p, EVICT_AHEAD) > 0)
    victim = look_at_ahead (p, &s);
  n = length (p, EVICT_HELD);
  while (victim == NULL && s.looks > 0 && n-- > 0)
    victim = look_at_new (p, &s, EVICT_HELD);
  return victim;
}

/* ---- life ---- */

void
evict_resize (struct evict *ev, size_t capacity)
{
  struct policy *p = policy_of (ev);
  const size_t before = p->capacity;

  p->capacity = capacity > 0 ? capacity : 1;
  ghost_resize (&p->ghost, p->capacity, share (p, GHOST_SMALL),
                share (p, GHOST_MAIN));
  atomic_store_explicit (&ev->window,
                         (uint32_t) share (p, WINDOW) * (EVICT_USES + 1),
                         memory_order_relaxed);
  set_small_target (p, before == 0 ? share (p, SMALL_START)
                                   : (size_t) ((double) p->small_target *
                                               p->capacity / before));
}

void
evict_stand_for (struct evict *ev, size_t times)
{
  struct policy *p = policy_of (ev);

  p->times = times;
  set_small_target (p, share (p, SMALL_START));
}

struct evict *
evict_new (size_t capacity, size_t max, void *first_entry, size_t stride)
{
  struct policy *p;

  assert (capacity <= max && max < NO_ENTRY);
  p = calloc (1, sizeof *p);
  if (p == NULL)
    return NULL;
  p->first_entry = first_entry;
  p->stride = stride;
  p->times = 1;
  for (unsigned i = 0; i < EVICT_QUEUES; ++i)
    p->queues[i] = (struct queue){ NO_ENTRY, NO_ENTRY, 0 };
  p->found = CERTAIN / 2;
  trust_init (&p->trust);
  if (ghost_init (&p->ghost, max) == -1) {
    free (p);
    return NULL;
  }
  evict_resize (&p->shared, capacity);
  return &p->shared;
}

void
evict_free (struct evict *ev)
{
  if (ev != NULL) {
    ghost_destroy (&policy_of (ev)->ghost);
    free (ev);
  }
}

size_t
evict_memory (const struct evict *ev)
{
  const struct policy *p = (const struct policy *) ev;

  return sizeof *p + ghost_memory (&p->ghost);
}

size_t
evict_count (const struct evict *ev)
{
  const struct policy *p = (const struct policy *) ev;
  size_t n = 0;

  for (unsigned i = 0; i < EVICT_QUEUES; ++i)
    n += p->queues[i].length;
  return n;
}
