/* SPDX-License-Identifier: BSD-3-Clause */

/* Writers and a backend in virtual time, around the filter's own policy.
 *
 * Each writer has one write in progress, and begins the next when it has ended.
 * A write waits for a place in flight, then for the backend, which serves some
 * requests at once, in the order in which they came, or all that came before a
 * commit in one.  Flushes are shared as in durable.c.  A writer that waits
 * looks again when the policy says so, as its thread does in submit.c.  Time is
 * a number, and the random deviations have seeds, so a run is the same each
 * time; an hour in which all that is in flight hangs takes no time.
 */

#include <config.h>

#include "base/util.h"
#include "simulation.h"

#define HICCUP (30 * MS)
#define BYTES  UINT64_C (4096)
#define APART  (16 * BYTES)
#define MERGED (64 * BYTES) /* a batch */

/* A flush waits for writes under way as long as this many flushes last. */
#define COMPANY 4

static struct writer *
writer_of (struct policy_write *w)
{
  return container_of (w, struct writer, w);
}

static uint64_t
service (struct simulation *s, uint64_t ns)
{
  const bool hiccup =
      s->hiccups > 0 && random_below (&s->random, s->hiccups) == 0;

  return ns * (90 + random_below (&s->random, 21)) / 100 + hiccup * HICCUP;
}

/* Counts how long the limit was what it is, probes included. */
static void
advance (struct simulation *s, uint64_t to)
{
  const unsigned limit = depth_limit (&s->policy.depth);

  s->limit_time += (to - s->now) * limit;
  if (limit > 2 * s->serve)
    s->above_time += to - s->now;
  s->now = to;
}

static void
to_backend (struct simulation *s, struct writer *w)
{
  w->state = AT_BACKEND;
  w->began = s->now;
  w->turn = ++s->turns;
  if (w != &s->flusher)
    s->max_at_once = max_u64 (s->max_at_once, ++s->at_once);
}

static void
take (struct simulation *s, struct writer *w)
{
  struct policy_write *other;

  policy_take (&s->policy, &w->b, &w->w,
               policy_has_neighbours (&s->policy, &w->w) ? MERGED : 0, false,
               s->now);
  for (other = w->b.writes; other; other = other->in_batch) {
    writer_of (other)->state = IN_BATCH;
    writer_of (other)->waited = s->now - other->came;
    s->max_wait = max_u64 (s->max_wait, writer_of (other)->waited);
    w->hangs |= writer_of (other)->hangs;
  }
  to_backend (s, w);
}

/* After an event. */
static void
wake (struct simulation *s)
{
  struct policy_write *w;

  while ((w = policy_wake (&s->policy)) != NULL)
    if (w->has_place)
      take (s, writer_of (w));
    else
      writer_of (w)->looks = policy_looks_again (&s->policy, s->now);
}

static void
arrive (struct simulation *s, struct writer *w)
{
  w->state = WAITS;
  w->w.len = BYTES;
  w->w.offset = (w - s->all) * APART;
  if (s->one_stream && !w->hangs)
    w->w.offset = s->stream++ * BYTES;
  w->w.turn = 0;
  w->w.kind = 0;
  w->w.durable = s->durable;
  w->w.flagging = !s->durable               ? FLAG_NEVER
                  : s->fixed_way < 0        ? FLAG_BY_CHOICE
                  : s->fixed_way == BY_FLAG ? FLAG_ALWAYS
                                            : FLAG_NEVER;
  if (policy_arrive (&s->policy, &w->w, s->now))
    take (s, w);
  else
    w->looks = policy_looks_again (&s->policy, s->now);
  wake (s);
}

static bool
is_by_flush (const struct simulation *s, const struct writer *w)
{
  return s->durable && !w->b.flag;
}

static void
end_batch (struct simulation *s, struct writer *w)
{
  struct policy_write *other, *next;

  policy_end (&s->policy, &w->b, s->now);
  wake (s);
  w->state = IDLE;
  s->batches++;
  for (other = w->b.writes; other; other = next) {
    next = other->in_batch;
    s->ended++;
    s->by_flush += is_by_flush (s, w);
    writer_of (other)->state = IDLE;
  }
}

static void
end_write (struct simulation *s, struct writer *w)
{
  s->at_once--;
  w->hangs = false;
  policy_written (&s->policy, &w->b, s->now - w->began, is_by_flush (s, w),
                  s->now);
  wake (s);
  if (is_by_flush (s, w))
    w->state = WANTS_FLUSH;
  else
    end_batch (s, w);
}

/* The longest in a state, or NULL. */
static struct writer *
oldest (struct simulation *s, enum state state)
{
  struct writer *w = NULL;
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == state && !s->all[i].hangs &&
        (w == NULL || s->all[i].turn < w->turn))
      w = &s->all[i];
  return w;
}

static void
begin_flush (struct simulation *s)
{
  unsigned i;

  if (s->flusher.state != IDLE || !oldest (s, WANTS_FLUSH))
    return;
  if (s->company_ends == NEVER)
    s->company_ends = s->now + COMPANY * s->flush;
  if (s->policy.unwritten > 0 && s->now < s->company_ends)
    return;
  s->company_ends = NEVER;
  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == WANTS_FLUSH)
      s->all[i].state = BEING_FLUSHED;
  to_backend (s, &s->flusher);
}

static void
end_flush (struct simulation *s)
{
  unsigned i;

  s->flusher.state = IDLE;
  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == BEING_FLUSHED)
      end_batch (s, &s->all[i]);
}

/* The writer that the backend serves next, or NULL. */
static struct writer *
next_at_backend (struct simulation *s)
{
  struct writer *w = oldest (s, AT_BACKEND);

  if (s->flusher.state == AT_BACKEND &&
      (w == NULL || s->flusher.turn < w->turn))
    return &s->flusher;
  return w;
}

static unsigned
count_served (const struct simulation *s)
{
  unsigned i, n = s->flusher.state == SERVED;

  for (i = 0; i < s->writers; ++i)
    n += s->all[i].state == SERVED;
  return n;
}

static void
serve (struct simulation *s)
{
  const uint64_t commit = s->now + service (s, s->write);
  unsigned served = count_served (s);
  struct writer *w;

  if (s->groups && served > 0)
    return;
  while ((s->groups || served < s->serve) &&
         (w = next_at_backend (s)) != NULL) {
    w->state = SERVED;
    served++;
    if (s->groups)
      w->ends = commit;
    else if (w == &s->flusher)
      w->ends = s->now + service (s, s->flush);
    else
      w->ends = s->now + service (s, s->write + (w->b.flag ? s->flush : 0));
  }
}

/* The first writer that the backend answers, or NULL. */
static struct writer *
next_served (struct simulation *s)
{
  struct writer *w = s->flusher.state == SERVED ? &s->flusher : NULL;
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == SERVED && (w == NULL || s->all[i].ends < w->ends))
      w = &s->all[i];
  return w;
}

/* The first that looks again, or NULL. */
static struct writer *
next_look (struct simulation *s)
{
  struct writer *w = NULL;
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == WAITS && (w == NULL || s->all[i].looks < w->looks))
      w = &s->all[i];
  return w;
}

static void
look (struct simulation *s, struct writer *w)
{
  policy_look (&s->policy, s->now);
  wake (s);
  if (w->state == WAITS)
    w->looks = policy_looks_again (&s->policy, s->now);
  must (w->state != WAITS || w->looks > s->now);
}

void
simulation_step (struct simulation *s, uint64_t until)
{
  struct writer *served, *looks;
  uint64_t next = until;
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state == IDLE && !s->all[i].idle)
      arrive (s, &s->all[i]);
  begin_flush (s);
  serve (s);
  served = next_served (s);
  looks = next_look (s);
  if (served)
    next = min_u64 (next, served->ends);
  if (looks)
    next = min_u64 (next, looks->looks);
  next = min_u64 (next, s->company_ends);
  must (next != NEVER && next >= s->now); /* else a write waits for ever */
  advance (s, next);
  if (served && served->ends == next) {
    if (served == &s->flusher)
      end_flush (s);
    else
      end_write (s, served);
  }
  else if (looks && looks->looks == next)
    look (s, looks);
}

void
simulation_run (struct simulation *s, uint64_t ns)
{
  const uint64_t ends = s->now + ns;

  s->ended = s->batches = s->by_flush = s->limit_time = s->above_time = 0;
  s->max_wait = s->max_at_once = 0;
  s->since = s->now;
  while (s->now < ends)
    simulation_step (s, ends);
}

double
simulation_limit (const struct simulation *s)
{
  return (double) s->limit_time / (s->now - s->since);
}

double
simulation_rate (const struct simulation *s)
{
  return s->ended * 1e9 / (s->now - s->since);
}

void
simulation_begin (struct simulation *s, unsigned depth, unsigned serve,
                  uint64_t write, uint64_t flush, unsigned writers,
                  bool durable)
{
  must (writers <= WRITERS);
  memset (s, 0, sizeof *s);
  random_seed (&s->random, serve * 1000 + writers);
  policy_init (&s->policy, true, depth);
  s->now = 1;
  s->serve = serve;
  s->write = write;
  s->flush = flush;
  s->writers = writers;
  s->durable = durable;
  s->fixed_way = -1;
  s->company_ends = NEVER;
}
