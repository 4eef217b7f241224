/* SPDX-License-Identifier: BSD-3-Clause */

/* To the backend: writes as batches, and reads.
 *
 * No thread is reserved for it: a thread that submits a write and gets a place
 * in flight writes it, together with its neighbours among those that wait, as
 * one batch.  A thread that gets no place sleeps until its write has ended in
 * another thread's batch, or a place is passed to it.  While the backend keeps
 * up, no write waits and none is copied; when it does not, the writes that wait
 * grow into larger batches.
 *
 * policy.c decides which write goes when, under this part's lock and by this
 * part's clock; durable.c makes a batch durable.  May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "base/probes.h"
#include "submit.h"

/* The largest batch of several requests, bytes. */
#define MAX_MERGED (256 * KiB)

void
submit_init (struct submit *s, struct pagecache *pc, struct memory *memory,
             bool merge, unsigned depth)
{
  memset (s, 0, sizeof *s);
  s->pc = pc;
  s->memory = memory;
  lock_init (&s->lock, RANK_SUBMIT);
  condition_init (&s->fua_ended);
  condition_init (&s->flushed);
  condition_init (&s->written);
  condition_init (&s->alone_ended);
  policy_init (&s->policy, merge, depth);
}

void
submit_destroy (struct submit *s)
{
  assert (s->policy.first == NULL && s->policy.in_flight == 0);
  assert (s->oldest == NULL);
  condition_destroy (&s->alone_ended);
  condition_destroy (&s->written);
  condition_destroy (&s->flushed);
  condition_destroy (&s->fua_ended);
  lock_destroy (&s->lock);
}

int
submit_read (struct submit *s, struct backend *b, void *buf, uint64_t offset,
             uint64_t len)
{
  uint32_t n;
  int err = 0;

  lock_check_none_held ();
  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, b->traits.maximum);
    err = meter_read (&s->meter, b, buf, n, offset);
    buf = (uint8_t *) buf + n;
  }
  return err;
}

static enum outcome
outcome_of (int err, bool stable)
{
  return err != 0 ? OUTCOME_FAILED : stable ? OUTCOME_STABLE : OUTCOME_UNSTABLE;
}

/* One batch goes by the connection of one of its writes.  It makes durable
 * what it writes in its own way, so the others' connections have the same way.
 */
static void
set_kind (struct write *w, const struct backend_traits *t)
{
  struct policy_write *p = &w->policy;

  if (!t->can_flush)
    p->flagging = t->fua == FUA_NONE ? FLAG_NEVER : FLAG_ALWAYS;
  else if (!w->durable || w->by_flush || t->fua != FUA_NATIVE)
    p->flagging = FLAG_NEVER;
  else
    p->flagging = w->keeps ? FLAG_ALWAYS : FLAG_BY_CHOICE;
  p->kind = 16 * p->flagging + 4 * t->fua + 2 * t->can_flush + w->keeps;
}

/* One write to the backend. */
struct batch {
  struct policy_batch policy;
  const struct backend *backend;
  const uint8_t *bytes;
  uint8_t *buffer;  /* borrowed, if there may be more than one write */
  uint64_t room;    /* the size of the buffer, bytes */
  uint64_t latency; /* of the last call, ns; 0: it failed */
  struct fua_op fua;
  struct operation op;
};

static struct write *
write_of (const struct policy_write *w)
{
  return container_of (w, struct write, policy);
}

/* Does what an event of the policy asks for; MINE is the caller's own. */
static void
wake_writers (struct submit *s, const struct write *mine)
{
  struct policy_write *w;

  assert_held (&s->lock);
  while ((w = policy_wake (&s->policy)) != NULL)
    if (mine == NULL || w != &mine->policy)
      event_set (&write_of (w)->wake);
  if (s->policy.unwritten == 0 && s->flushing) /* else none waits */
    condition_wake_all (&s->written);
}

/* Takes a write, with its neighbours as far as they fit in a buffer.  Without
 * a buffer it goes alone.
 */
static void
take_batch (struct submit *s, struct batch *batch, struct write *w,
            uint64_t now)
{
  const uint64_t room =
      min_u64 (memory_batch_size (s->memory),
               min_u64 (w->backend->traits.maximum, MAX_MERGED));

  assert_held (&s->lock);
  batch->backend = w->backend;
  batch->room = room;
  batch->latency = 0;
  batch->buffer = policy_has_neighbours (&s->policy, &w->policy)
                      ? batch_buffer_try (s->memory, &s->pc->borrower, room)
                      : NULL;
  policy_take (&s->policy, &batch->policy, &w->policy, batch->buffer ? room : 0,
               pagecache_is_beyond_bound (s->pc), now);
  if (batch->policy.flag)
    durable_begin_fua (s, &batch->fua, now);
  batch->bytes = write_of (batch->policy.writes)->bytes;
}

/* Copies the writes of a batch together. */
static void
gather (struct batch *batch)
{
  uint8_t *to = batch->buffer;
  struct policy_write *w;

  for (w = batch->policy.writes; w; w = w->in_batch) {
    memcpy (to, write_of (w)->bytes, w->len);
    to += w->len;
  }
  batch->bytes = batch->buffer;
}

/* A moving mean over batches. */
static void
note_speed (struct submit *s, uint64_t bytes, uint64_t latency)
{
  const uint64_t speed = bytes * 1e9 / max_u64 (latency, 1);
  const uint64_t mean =
      atomic_load_explicit (&s->write_speed, memory_order_relaxed);

  assert_held (&s->lock);
  atomic_store_explicit (&s->write_speed,
                         mean == 0 ? speed : mean / 20 * 19 + speed / 20,
                         memory_order_relaxed);
}

void
submit_set_depth (struct submit *s, unsigned depth)
{
  LOCK_FOR_SCOPE (&s->lock);

  policy_set_depth (&s->policy, depth, now_ns ());
  wake_writers (s, NULL);
}

/* The backend has taken the bytes of a batch, or failed. */
static void
note_written (struct submit *s, struct batch *batch, bool release, uint64_t now)
{
  struct policy_batch *p = &batch->policy;

  assert_held (&s->lock);
  if (p->written)
    return; /* and what follows was a repeat */
  policy_written (&s->policy, p, batch->latency, release, now);
  if (batch->latency > 0 && !p->hung)
    note_speed (s, p->len * p->in_flight, batch->latency);
}

/* A batch releases its place when a flush follows: others write meanwhile, and
 * share that flush or the next.
 */
static void
note_before_flush (struct submit *s, const struct operation *op)
{
  note_written (s, container_of (op, struct batch, op), true, now_ns ());
  wake_writers (s, NULL);
}

/* Whether a batch carries writes of several connections: if it fails, because
 * the one that was used is dead, or because of one write's place, that is no
 * error of all of them.
 */
static bool
is_of_several (const struct batch *batch)
{
  const struct connection *first = batch->backend->connection;
  const struct policy_write *w = batch->policy.writes;

  while (w && write_of (w)->backend->connection == first)
    w = w->in_batch;
  return w != NULL;
}

/* A batch has ended, and with it each of its writes; AGAIN: each goes alone, by
 * its own connection.  For a write that meets no other this is the second
 * critical section of two.
 */
static void
end_batch (struct submit *s, struct batch *batch, int err, bool again,
           struct write *mine)
{
  const uint64_t now = now_ns ();
  struct policy_write *w, *next;
  struct write *ended;

  LOCK_FOR_SCOPE (&s->lock); /* a write may be freed once it is `ended` */
  note_written (s, batch, false, now);
  policy_end (&s->policy, &batch->policy, now);
  if (batch->policy.flag)
    durable_end_fua (s, &batch->fua);
  wake_writers (s, mine);
  for (w = batch->policy.writes; w; w = next) {
    next = w->in_batch;
    ended = write_of (w);
    if (!again)
      ended->error = err;
    ended->ended = !again;
    ended->again = again;
    if (ended != mine)
      event_set (&ended->wake);
  }
}

/* One attempt of a batch. */
static int
call_batch (struct submit *s, struct backend *b, const struct operation *op,
            bool fua)
{
  struct batch *batch = container_of (op, struct batch, op);
  const uint64_t began = now_ns ();
  int err;

  err = durable_write (s, b, op, fua);
  batch->latency = err == 0 ? max_u64 (now_ns () - began, 1) : 0;
  return err;
}

static void
note_epoch (const struct policy_batch *p, uint32_t epoch)
{
  struct policy_write *w;

  for (w = p->writes; w; w = w->in_batch)
    write_of (w)->epoch = epoch;
}

static void
run_batch (struct submit *s, struct backend *b, struct batch *batch,
           struct write *mine)
{
  const struct policy_batch *p = &batch->policy;
  bool stable, again;
  uint32_t epoch;
  int err;

  if (p->nr > 1)
    gather (batch);
  histogram_note (&s->batch_writes, &number_scale, p->nr);
  batch->op = (struct operation){
    .call = call_batch,
    .before_flush = note_before_flush,
    .fua = p->flag ? &batch->fua : NULL,
    .offset = p->offset,
    .len = p->len,
    .bytes = batch->bytes,
    .durable = p->writes->durable,
    .way = p->way,
  };
  PROBE5 (batch__submit, export_number (s->pc), p->offset, p->len, p->nr,
          batch->op.durable);
  err = durable_perform (s, b, &batch->op, &epoch, &stable);
  PROBE4 (batch__end, export_number (s->pc), p->offset, p->len, err);
  again = err != 0 && is_of_several (batch);
  if (write_of (p->writes)->keeps)
    note_epoch (p, epoch);
  else if (!again)
    pagecache_end_write (s->pc, p->offset, p->len, outcome_of (err, stable),
                         epoch);
  if (batch->buffer)
    batch_buffer_put (s->memory, &s->pc->borrower, batch->buffer, batch->room);
  end_batch (s, batch, err, again, mine);
}

uint64_t
submit_turn (struct submit *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  return policy_turn (&s->policy);
}

/* The write waits until it has a place, or a neighbour's batch with it has
 * ended.
 */
static void
wait_for_place (struct submit *s, struct write *w)
{
  uint64_t until;

  assert_held (&s->lock);
  while (!w->policy.has_place && !w->ended && !w->again) {
    until = policy_looks_again (&s->policy, now_ns ());
    lock_drop (&s->lock);
    event_wait_until (&w->wake, until);
    lock_take (&s->lock);
    policy_look (&s->policy, now_ns ());
    wake_writers (s, w);
  }
}

/* Goes as a batch, or in a neighbour's.  False: that failed, and it has to go
 * again.
 */
static bool
submit_once (struct submit *s, struct backend *b, struct write *w)
{
  uint64_t now = now_ns ();
  struct batch batch;
  bool goes;

  atomic_init (&w->wake.set, 0);
  w->ended = w->again = false;
  lock_take (&s->lock);
  if (!policy_arrive (&s->policy, &w->policy, now)) {
    wake_writers (s, w);
    wait_for_place (s, w);
    now = now_ns ();
  }
  goes = w->policy.has_place; /* else a neighbour's batch had it */
  if (goes)
    take_batch (s, &batch, w, now);
  wake_writers (s, w);
  lock_drop (&s->lock);
  if (goes)
    run_batch (s, b, &batch, w);
  return !w->again;
}

int
submit_write (struct submit *s, struct backend *b, struct write *w)
{
  lock_check_none_held ();
  w->backend = b;
  w->policy.offset = w->offset;
  w->policy.len = w->len;
  w->policy.turn = w->turn;
  w->policy.alone = false;
  w->policy.durable = w->durable;
  set_kind (w, &b->traits);
  while (!submit_once (s, b, w))
    w->policy.alone = true;
  return w->error;
}
