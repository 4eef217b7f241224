/* SPDX-License-Identifier: BSD-3-Clause */

/* The writes of one durable request: to durable.c they are one operation.
 *
 *     piece 0   claim ─ copy ─ write ┄┄┄┄ waits ┄┄┄┐
 *     piece 1   claim ─ copy ───── write ┄ waits ┄┄┼─ settled ─> blocks end
 *     piece 2   claim ─ copy ─ write ┄┄┄┄ waits ┄┄┄┘
 *
 * The write of a piece does not end its blocks: they stay in writeback, and
 * pending if nothing acknowledged was there, until all pieces are settled
 * together.  So if that fails, they become what they were; and if a failure of
 * others undid a write, it is done again from the same bytes.
 *
 * They go one way: with the FUA flag on each, or plain and then one flush.  By
 * the flag it takes no further call to settle them.  Whether other operations
 * overlapped the request, so that its blocks stay unstable (durable.c), is
 * asked when its last piece has been written; its pieces overlap each other all
 * the time, and a failure of one is one of all.
 *
 * No request waits for blocks while it has some: before a thread of it waits
 * for a block, a range or memory, it parts the series.  The writes that wait
 * are settled at once, and those in progress by themselves, which takes nothing
 * but the backend.  So what a thread waits for is held by a thread that waits
 * for the backend alone, and two requests never wait for each other, however
 * they overlap and whichever piece comes first.  By the flag what is settled
 * while other pieces are in progress stays unstable, as beside any other
 * operation.
 *
 * A piece that hangs parts the series, too, when it is as old as a call that
 * hangs: it delays its own blocks alone.
 *
 * For example, a write of 24 MiB with emulated FUA has 24 pieces and one flush.
 * If a small FUA write is in flight over the seventh, the six before it and
 * those beside it are flushed, and the seventh has its own flush.
 *
 * May not know pages or pieces.
 */

#include <config.h>

#include <errno.h>

#include "submit/durable.h"
#include "submit/series.h"

bool
series_is_due (const struct backend *b)
{
  return b->traits.can_flush;
}

/* As small writes go now.  Beyond the bound by a flush, see policy.c. */
static enum way
way_of_series (struct submit *s, const struct backend *b)
{
  if (b->traits.fua != FUA_NATIVE || pagecache_is_beyond_bound (s->pc))
    return BY_FLUSH;

  LOCK_FOR_SCOPE (&s->lock);
  return s->policy.choice.chosen;
}

void
series_init (struct series *r, struct submit *s, struct backend *b,
             struct completion *request)
{
  unsigned i;

  r->s = s;
  r->b = b;
  r->request = request;
  r->way = way_of_series (s, b);
  lock_init (&r->lock, RANK_SUBMIT);
  r->together = true;
  r->unused = r->waiting = NULL;
  for (i = 0; i < SERIES_MAX; ++i) {
    r->writes[i].next = r->unused;
    r->unused = &r->writes[i];
  }
}

void
series_destroy (struct series *r)
{
  assert (r->waiting == NULL);
  lock_destroy (&r->lock);
}

static struct series_write *
take_unused (struct series *r)
{
  LOCK_FOR_SCOPE (&r->lock);
  struct series_write *w = r->unused;

  if (w)
    r->unused = w->next;
  return w;
}

/* Writes that are settled together. */
struct settling {
  struct operation op;
  struct series_write *writes;
};

/* Writes again those that a failure overlapped. */
static int
write_undone (struct submit *s, struct backend *b, const struct operation *op,
              bool fua)
{
  const struct settling *t = container_of (op, struct settling, op);
  const uint32_t epoch = held_epoch (&s->pc->held);
  struct series_write *w;
  int err;

  for (w = t->writes; w; w = w->next)
    if (w->w.epoch != epoch) {
      const struct operation again = { .offset = w->w.offset,
                                       .len = w->w.len,
                                       .bytes = w->w.bytes };

      err = durable_write (s, b, &again, fua);
      if (err != 0)
        return err;
      w->w.epoch = epoch;
    }
  return 0;
}

/* Ends the blocks of writes, which were written without an error if ERR is 0.
 * After an error of their request they are not flushed.
 */
static int
settle_writes (struct series *r, struct series_write *writes, enum way way,
               int err)
{
  struct settling t = {
    .op = { .call = write_undone, .durable = true, .way = way },
    .writes = writes,
  };
  enum outcome outcome = OUTCOME_FAILED;
  struct series_write *w, *next;
  uint32_t epoch = 0;
  bool stable;

  if (err == 0)
    err = durable_perform (r->s, r->b, &t.op, &epoch, &stable);
  if (err == 0)
    outcome = stable ? OUTCOME_STABLE : OUTCOME_UNSTABLE;
  for (w = writes; w; w = next) {
    next = w->next;
    pagecache_end_write (r->s->pc, w->w.offset, w->w.len, outcome, epoch);
    open_end (r->s->pc, &w->open);
    LOCK_FOR_SCOPE (&r->lock);
    w->next = r->unused;
    r->unused = w;
  }
  return err;
}

/* Takes the writes that wait. */
static struct series_write *
take_waiting (struct series *r, bool together)
{
  LOCK_FOR_SCOPE (&r->lock);
  struct series_write *writes = r->waiting;

  r->waiting = NULL;
  r->together &= together;
  return writes;
}

/* Whether the write waits for the others from now on. */
static bool
waits (struct series *r, struct series_write *w)
{
  LOCK_FOR_SCOPE (&r->lock);

  if (!r->together)
    return false;
  w->next = r->waiting;
  r->waiting = w;
  return true;
}

int
series_put (struct series *r, struct series_write *w, int err)
{
  if (err == 0 && waits (r, w))
    return 0;
  w->next = NULL;
  return settle_writes (r, w, r->way,
                        err ? err : completion_error (r->request));
}

static int
settle_waiting (struct series *r, enum way way, bool together)
{
  struct series_write *writes = take_waiting (r, together);

  return writes ? settle_writes (r, writes, way, completion_error (r->request))
                : 0;
}

int
series_part (struct series *r)
{
  return settle_waiting (r, r->way, false);
}

/* Where there is no room for more, a flush makes stable what was written: by
 * the flag it would stay unstable, because other pieces are in progress.
 */
struct series_write *
series_take (struct series *r)
{
  struct series_write *w = take_unused (r);

  if (w == NULL || pagecache_is_beyond_bound (r->s->pc)) {
    completion_fail (r->request, settle_waiting (r, BY_FLUSH, true));
    if (w == NULL)
      w = take_unused (r);
  }
  if (w) {
    w->w.durable = r->way == BY_FLAG;
    w->w.keeps = true;
    w->w.by_flush = false;
    w->open.is_open = false;
  }
  return w;
}

static uint64_t
hang_age (struct submit *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  return policy_hang_age (&s->policy);
}

void
series_rest (struct series *r, struct spread *spread)
{
  spread_wait (spread, now_ns () + hang_age (r->s));
  completion_fail (r->request, series_part (r));
}
