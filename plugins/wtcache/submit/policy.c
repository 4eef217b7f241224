/* SPDX-License-Identifier: BSD-3-Clause */

/* Decides which write goes to the backend now, with which neighbours, by which
 * way, and when to look again.
 *
 * A write arrives and gets a place in flight, or waits.  There are as many
 * places as depth.c says.  A write with a place is taken: together with its
 * neighbours among those that wait it becomes a batch.  When the batch has
 * ended, its place passes to the write that has waited longest.
 *
 *     arrive ──── place free ────> goes ── take ──> batch ── written ── end
 *        │                          ^                 │         │        │
 *        └──> waits ── place passed ┘ <── place ──────┴─────────┴────────┘
 *               └── taken by a neighbour ──> batch    hung, or released
 *
 * For example, with one place, and writes of 4 KiB at 0, 4K, 8K and 100K that
 * come at once: the first goes alone; then 4K and 8K go as one batch of 8 KiB,
 * then 100K.
 *
 * A backend that serves one write at a time is faster with one large batch than
 * with a small one and then the rest.  The clients of a merged batch tend to
 * come back together, so the next batch is held back until as many writes have
 * come, and the writes that wait beside it, for at most a quarter of what a
 * batch takes.
 *
 * A batch in flight has an age.  One that is 8 times as old as batches of its
 * size usually become, at least 50 ms and at most 1 s, is taken to hang.  From
 * then on it holds no place, stands in no trial, and its latency counts in no
 * mean: it delays its own writes alone.  For example, with 4 places and
 * batches of 1 ms, of which 4 hang for an hour: 50 ms later four other writes
 * go, and when the hour is over the next batch that hangs is known after 50 ms
 * again.  A backend that has become slow looks the same at first.  It is known
 * as slow when three batches, each begun after the last had ended, took so
 * long, and none took less meanwhile.
 *
 * Policy alone: the caller serialises the calls and reads the clock.  May not
 * know the backend, the pages, or that there are threads.
 */

#include <config.h>

#include <assert.h>
#include <string.h>

#include "base/util.h"
#include "submit/policy.h"

/* A batch is held back for this part of the last one's latency, and for so many
 * ns at most.
 */
#define GATHER_PART   4
#define MAX_GATHER_NS 5000000

/* From this mean of writes that could be one batch, they are gathered. */
#define MERGEABLE 1.5

/* The age from which on a batch hangs: so many times the usual, within bounds,
 * ns.
 */
#define HANG_TIMES UINT64_C (8)
#define MIN_AGE_NS UINT64_C (50000000)
#define MAX_AGE_NS UINT64_C (1000000000)

/* A backend is slow, and does not hang, after so many generations. */
#define SLOW 3

void
policy_init (struct policy *p, bool merge, unsigned depth)
{
  memset (p, 0, sizeof *p);
  p->merge = merge;
  p->mergeable = 1;
  p->looks = UINT64_MAX;
  depth_init (&p->depth, depth);
}

/* The age from which on a batch is taken to hang, ns.  One that is larger than
 * usual may take as many times longer.
 */
static uint64_t
batch_hang_age (const struct policy *p, const struct policy_batch *b)
{
  const struct usual *u = &p->usual[b->flag];
  double age = HANG_TIMES * u->latency;

  if (u->latency == 0)
    return MAX_AGE_NS;
  if (b->len > u->len)
    age *= b->len / u->len;
  return age > MAX_AGE_NS ? MAX_AGE_NS : max_u64 (age, MIN_AGE_NS);
}

uint64_t
policy_hang_age (const struct policy *p)
{
  const double a = p->usual[0].latency, b = p->usual[1].latency;

  return max_u64 (MAX_AGE_NS, HANG_TIMES * (a > b ? a : b));
}

/* Whether two writes may be one batch, A first. */
static bool
is_neighbour (const struct policy_write *a, const struct policy_write *b)
{
  return a && b && a->offset + a->len == b->offset &&
         a->durable == b->durable && a->kind == b->kind && !a->alone &&
         !b->alone;
}

/* ---- the queue ---- */

static void
wake (struct policy *p, struct policy_write *w)
{
  if (w->is_awake)
    return;
  w->is_awake = true;
  w->awake = p->awake;
  p->awake = w;
}

struct policy_write *
policy_wake (struct policy *p)
{
  struct policy_write *w = p->awake;

  if (w) {
    p->awake = w->awake;
    w->is_awake = false;
  }
  return w;
}

/* No longer one of those that wait for a place. */
static void
unlist_write (struct policy *p, struct policy_write *w)
{
  *(w->earlier ? &w->earlier->later : &p->earliest) = w->later;
  *(w->later ? &w->later->earlier : &p->latest) = w->earlier;
}

static void
enqueue (struct policy *p, struct policy_write *w)
{
  struct policy_write *after = p->last, *earlier = p->latest;

  while (after && after->offset > w->offset)
    after = after->prev;
  w->prev = after;
  w->next = after ? after->next : p->first;
  *(w->prev ? &w->prev->next : &p->first) = w;
  *(w->next ? &w->next->prev : &p->last) = w;

  while (earlier && earlier->arrival > w->arrival)
    earlier = earlier->earlier;
  w->earlier = earlier;
  w->later = earlier ? earlier->later : p->earliest;
  *(w->earlier ? &w->earlier->later : &p->earliest) = w;
  *(w->later ? &w->later->earlier : &p->latest) = w;
  w->waits = true;
  p->waiting++;
}

/* A write that leaves the queue for a batch, which needs one place, not one for
 * each.
 */
static void
dequeue (struct policy *p, struct policy_write *w)
{
  *(w->prev ? &w->prev->next : &p->first) = w->next;
  *(w->next ? &w->next->prev : &p->last) = w->prev;
  if (w->has_place)
    p->in_flight--;
  else
    unlist_write (p, w);
  w->has_place = w->waits = false;
  p->waiting--;
}

uint64_t
policy_turn (struct policy *p)
{
  return ++p->arrivals;
}

/* ---- places ---- */

/* Whether writes that wait are to become one batch with those that come. */
static bool
is_gathering (const struct policy *p, unsigned waiting, uint64_t now)
{
  return p->mergeable >= MERGEABLE && depth_serves_one (&p->depth) &&
         (p->in_flight > 0 || (waiting < p->company && now < p->gathers_until));
}

static bool
is_place_free (const struct policy *p, unsigned waiting, uint64_t now)
{
  return p->in_flight < depth_limit (&p->depth) &&
         !is_gathering (p, waiting, now);
}

static void
pass_to_waiting (struct policy *p, uint64_t now)
{
  struct policy_write *w;

  while ((w = p->earliest) != NULL && is_place_free (p, p->waiting, now)) {
    unlist_write (p, w);
    w->has_place = true;
    p->in_flight++;
    wake (p, w);
  }
}

/* Gives free places to the writes that wait longest; mostly none waits. */
static inline void
pass_places (struct policy *p, uint64_t now)
{
  if (p->earliest)
    pass_to_waiting (p, now);
}

static void
drop_place (struct policy *p, struct policy_batch *b, uint64_t now)
{
  if (!b->has_place)
    return;
  *(b->prev ? &b->prev->next : &p->oldest) = b->next;
  *(b->next ? &b->next->prev : &p->newest) = b->prev;
  b->has_place = false;
  p->in_flight--;
  pass_places (p, now);
  /* While writes are gathered, the earliest one watches the deadline. */
  if (p->earliest && p->in_flight == 0)
    wake (p, p->earliest);
}

void
policy_set_depth (struct policy *p, unsigned depth, uint64_t now)
{
  depth_init (&p->depth, depth);
  pass_places (p, now);
}

bool
policy_arrive (struct policy *p, struct policy_write *w, uint64_t now)
{
  w->came = now;
  w->arrival = w->turn ? w->turn : ++p->arrivals;
  w->waits = w->has_place = w->is_awake = false;
  if (w->durable) {
    p->durable++;
    p->unwritten++;
  }
  policy_look (p, now);
  if (p->first == NULL && is_place_free (p, 1, now)) {
    w->has_place = true;
    p->in_flight++;
  }
  else {
    enqueue (p, w);
    pass_places (p, now);
  }
  return w->has_place;
}

/* ---- batches ---- */

bool
policy_has_neighbours (const struct policy *p, const struct policy_write *w)
{
  return p->merge && w->waits &&
         (is_neighbour (w->prev, w) || is_neighbour (w, w->next));
}

/* By the flag or not.  Beyond the bound by a flush, whichever is faster
 * otherwise: it makes all unstable blocks stable, which frees room.  By the
 * flag, writes that overlap others would add unstable blocks without bound.
 */
static void
choose_way (struct policy *p, struct policy_batch *b, bool flush, uint64_t now)
{
  const enum flagging flagging = b->writes->flagging;

  b->way = flagging == FLAG_NEVER ? BY_FLUSH : BY_FLAG;
  if (flagging == FLAG_BY_CHOICE)
    b->way = flush ? BY_FLUSH : choice_way (&p->choice, p->durable, now);
  b->flag = flagging != FLAG_NEVER && b->way == BY_FLAG;
}

static void
begin_batch (struct policy *p, struct policy_batch *b, uint64_t now)
{
  p->in_flight++;
  p->company = 0;
  b->in_flight = p->in_flight;
  b->has_place = true;
  b->began = now;
  b->prev = p->newest;
  b->next = NULL;
  *(b->prev ? &b->prev->next : &p->oldest) = b;
  p->newest = b;
  p->looks = min_u64 (p->looks, now + batch_hang_age (p, b));
}

void
policy_take (struct policy *p, struct policy_batch *b, struct policy_write *w,
             uint64_t max, bool flush, uint64_t now)
{
  struct policy_write *next, **link = &b->writes;
  uint64_t before = w->len;

  assert (w->has_place);
  memset (b, 0, sizeof *b);
  if (!w->waits) { /* it met no other */
    w->has_place = false;
    p->in_flight--;
    max = 0;
  }
  while (w->waits && is_neighbour (w->prev, w) &&
         before + w->prev->len <= max) {
    w = w->prev;
    before += w->len;
  }
  b->offset = w->offset;
  do {
    next = w->waits && is_neighbour (w, w->next) ? w->next : NULL;
    if (w->waits)
      dequeue (p, w);
    *link = w;
    link = &w->in_batch;
    b->len += w->len;
    b->nr++;
    w = next;
  } while (w && b->len + w->len <= max);
  *link = NULL;
  choose_way (p, b, flush, now);
  begin_batch (p, b, now);
  pass_places (p, now);
}

static void
note_hung (struct policy *p, struct policy_batch *b, uint64_t now)
{
  b->hung = true;
  if (b->writes->durable) {
    p->durable -= b->nr;
    p->unwritten -= b->written ? 0 : b->nr;
  }
  drop_place (p, b, now);
}

static void
look_at_batches (struct policy *p, uint64_t now)
{
  struct policy_batch *b, *next;
  uint64_t hangs;

  p->looks = UINT64_MAX;
  for (b = p->oldest; b; b = next) {
    next = b->next;
    hangs = b->began + batch_hang_age (p, b);
    if (now >= hangs)
      note_hung (p, b, now);
    else
      p->looks = min_u64 (p->looks, hangs);
  }
}

void
policy_look (struct policy *p, uint64_t now)
{
  if (now >= p->looks)
    look_at_batches (p, now);
  pass_places (p, now);
}

/* A batch that begins after the call may hang sooner than those in flight.  The
 * caller's write may be in a batch that hangs, while no other one waits.
 */
uint64_t
policy_looks_again (const struct policy *p, uint64_t now)
{
  if (p->in_flight == 0 && p->earliest)
    return p->gathers_until;
  return min_u64 (p->looks, now + MIN_AGE_NS);
}

/* Whether a batch that hung counts as one of a slow backend. */
static bool
is_slow (struct usual *u, const struct policy_batch *b, uint64_t now)
{
  if (b->began >= u->generation) {
    u->generation = now;
    u->slow++;
  }
  return u->slow >= SLOW;
}

static void
note_latency (struct policy *p, const struct policy_batch *b, uint64_t latency,
              uint64_t now)
{
  struct usual *u = &p->usual[b->flag];
  const uint64_t counted = min_u64 (latency, MAX_AGE_NS);

  if (b->hung && !is_slow (u, b, now))
    return;
  if (!b->hung) {
    u->slow = 0;
    depth_sample (&p->depth, b->len, b->flag, latency, b->in_flight, now);
  }
  u->latency = u->latency == 0 ? counted : (7 * u->latency + counted) / 8;
  u->len = u->len == 0 ? b->len : (7 * u->len + b->len) / 8;
}

void
policy_written (struct policy *p, struct policy_batch *b, uint64_t latency,
                bool release, uint64_t now)
{
  policy_look (p, now); /* perhaps this one hangs */
  if (b->writes->durable && !b->hung)
    p->unwritten -= b->nr;
  b->written = true;
  if (latency > 0)
    note_latency (p, b, latency, now);
  if (release)
    drop_place (p, b, now);
}

/* Whether a write that waits lies next to a batch. */
static bool
is_adjoined (const struct policy *p, const struct policy_batch *b)
{
  const struct policy_write *w = p->first;

  while (w && w->offset + w->len < b->offset)
    w = w->next;
  return w &&
         (w->offset + w->len == b->offset || w->offset == b->offset + b->len);
}

/* The clients of a batch are about to come back.  If writes that wait adjoin
 * the batch, both belong to one stream that happened to split: they become one
 * batch again, or the halves would alternate for ever.
 */
static void
begin_gathering (struct policy *p, const struct policy_batch *b, uint64_t now)
{
  const uint64_t took = now - b->writes->came;
  const unsigned adjoined = is_adjoined (p, b) ? p->waiting : 0;

  p->company = max_u64 (p->company, adjoined) + b->nr;
  /* A mean: one late client must not end the gathering for all. */
  p->mergeable = (7 * p->mergeable + adjoined + b->nr) / 8;
  p->gathers_until = now + min_u64 (took / GATHER_PART, MAX_GATHER_NS);
}

void
policy_end (struct policy *p, struct policy_batch *b, uint64_t now)
{
  const struct policy_write *w;

  if (b->hung)
    return;
  begin_gathering (p, b, now);
  if (b->writes->durable)
    p->durable -= b->nr;
  if (b->writes->durable && b->writes->flagging == FLAG_BY_CHOICE)
    for (w = b->writes; w; w = w->in_batch)
      choice_sample (&p->choice, b->way, w->came, now);
  drop_place (p, b, now);
}
