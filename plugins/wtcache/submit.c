/* SPDX-License-Identifier: BSD-3-Clause */

/* To the backend: the queue of writes, batches, and how many are in flight.
 *
 * Writes wait in a queue by offset.  No thread is reserved for it: a thread
 * that submits a write and gets a place in flight writes it together with its
 * neighbours in the queue as one batch.  A thread that gets no place sleeps
 * until its write has ended in another thread's batch, or a place is passed to
 * it.  While the backend keeps up, no write waits and none is copied; when it
 * does not, the writes that wait grow into larger batches.
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
 * durable.c makes a batch durable.  May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "base/probes.h"
#include "submit.h"

/* The largest batch of several requests, bytes. */
#define MAX_MERGED (256 * KiB)

/* The next batch is held back for this part of the last one's latency, and for
 * so many ns at most.
 */
#define GATHER_PART   4
#define MAX_GATHER_NS 5000000

/* From this mean of writes that could be one batch, they are gathered. */
#define MERGEABLE 1.5

/* A write that waits goes beyond the limit after at least and at most this
 * time, ns.
 */
#define MIN_PATIENCE_NS UINT64_C (50000000)
#define MAX_PATIENCE_NS UINT64_C (1000000000)

void
submit_init (struct submit *s, struct pagecache *pc, struct memory *memory,
             bool merge, unsigned depth)
{
  memset (s, 0, sizeof *s);
  s->pc = pc;
  s->memory = memory;
  s->merge = merge;
  s->mergeable = 1;
  lock_init (&s->lock, RANK_SUBMIT);
  condition_init (&s->closed);
  condition_init (&s->flushed);
  condition_init (&s->written);
  condition_init (&s->alone_ended);
  depth_init (&s->depth, depth);
}

void
submit_destroy (struct submit *s)
{
  assert (s->first == NULL && s->in_flight == 0 && s->oldest == NULL);
  condition_destroy (&s->alone_ended);
  condition_destroy (&s->written);
  condition_destroy (&s->flushed);
  condition_destroy (&s->closed);
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
static bool
is_neighbour (const struct write *a, const struct write *b)
{
  const struct backend_traits *t = &a->backend->traits,
                              *u = &b->backend->traits;

  return a->offset + a->len == b->offset && a->durable == b->durable &&
         t->fua == u->fua && t->can_flush == u->can_flush;
}

static void
dequeue (struct submit *s, struct write *w)
{
  assert_held (&s->lock);
  *(w->prev ? &w->prev->next : &s->first) = w->next;
  *(w->next ? &w->next->prev : &s->last) = w->prev;
  w->waits = false;
  s->waiting--;
}

static void
enqueue (struct submit *s, struct write *w)
{
  struct write *after = s->last;

  assert_held (&s->lock);
  while (after && after->offset > w->offset)
    after = after->prev;
  w->prev = after;
  w->next = after ? after->next : s->first;
  *(w->prev ? &w->prev->next : &s->first) = w;
  *(w->next ? &w->next->prev : &s->last) = w;
  w->waits = true;
  s->waiting++;
  w->arrival = w->turn ? w->turn : ++s->arrivals;
}

/* One write to the backend. */
struct batch {
  const struct backend *backend;
  struct batch *prev, *next; /* in the list of those under way, by began */
  uint64_t began;            /* ns */
  bool listed;
  bool hung;            /* seen to take far longer than usual: not counted */
  struct write *writes; /* linked by in_batch, by offset */
  uint64_t offset, len;
  const uint8_t *bytes;
  uint8_t *buffer; /* borrowed, if there may be more than one write */
  uint64_t most;   /* the size of the buffer, bytes */
  unsigned nr;
  bool has_place; /* counted in submit.in_flight */
  bool written;   /* no longer counted in submit.unwritten */
  enum way way;
  struct operation op;
};

static void
list_batch (struct submit *s, struct batch *batch)
{
  assert_held (&s->lock);
  batch->began = now_ns ();
  batch->prev = s->newest_batch;
  batch->next = NULL;
  *(batch->prev ? &batch->prev->next : &s->oldest_batch) = batch;
  s->newest_batch = batch;
  batch->listed = true;
}

static void
unlist_batch (struct submit *s, struct batch *batch)
{
  assert_held (&s->lock);
  if (!batch->listed)
    return;
  *(batch->prev ? &batch->prev->next : &s->oldest_batch) = batch->next;
  *(batch->next ? &batch->next->prev : &s->newest_batch) = batch->prev;
  batch->listed = false;
}

/* Beyond the bound by a flush, whichever is faster otherwise: it makes all
 * unstable blocks stable, which frees room.  By the flag, writes that overlap
 * others would add unstable blocks without bound.
 */
static enum way
choose_way (struct submit *s)
{
  assert_held (&s->lock);
  return pagecache_is_beyond_bound (s->pc)
             ? BY_FLUSH
             : choice_way (&s->choice, s->durable, now_ns ());
}

/* Takes a write, with its neighbours as far as they fit in a buffer.  Without
 * a buffer it goes alone.
 */
static void
take_batch (struct submit *s, struct batch *batch, struct write *w)
{
  struct write *next, **link = &batch->writes;
  const uint64_t most =
      min_u64 (memory_batch_size (s->memory),
               min_u64 (w->backend->traits.maximum, MAX_MERGED));

  assert_held (&s->lock);
  memset (batch, 0, sizeof *batch);
  batch->backend = w->backend;
  if (s->merge && ((w->prev && is_neighbour (w->prev, w)) ||
                   (w->next && is_neighbour (w, w->next))))
    batch->buffer = batch_buffer_try (s->memory, &s->pc->borrower, most);
  batch->most = most;
  batch->len = w->len;
  if (batch->buffer)
    while (w->prev && is_neighbour (w->prev, w) &&
           batch->len + w->prev->len <= most) {
      w = w->prev;
      batch->len += w->len;
    }
  batch->offset = w->offset;
  batch->bytes = w->bytes;
  batch->len = 0;
  do {
    next = w->next && is_neighbour (w, w->next) ? w->next : NULL;
    dequeue (s, w);
    if (w->has_place) { /* the batch needs one place, not one for each */
      w->has_place = false;
      s->in_flight--;
    }
    *link = w;
    link = &w->in_batch;
    batch->len += w->len;
    batch->nr++;
    w = next;
  } while (batch->buffer && w && batch->len + w->len <= most);
  *link = NULL;
  s->in_flight++;
  batch->has_place = true;
  list_batch (s, batch);
  s->company = 0;
  if (batch->writes->durable)
    batch->way = choose_way (s);
}

/* Copies the writes of a batch together. */
static void
gather (struct batch *batch)
{
  uint8_t *to = batch->buffer;
  struct write *w;

  for (w = batch->writes; w; w = w->in_batch) {
    memcpy (to, w->bytes, w->len);
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

/* Whether writes that wait are to become one batch with those that come. */
static bool
is_gathering (const struct submit *s)
{
  return s->mergeable >= MERGEABLE && depth_serves_one (&s->depth) &&
         (s->in_flight > 0 ||
          (s->waiting < s->company && now_ns () < s->gathers_until));
}

/* The write that has waited longest without a place. */
static struct write *
oldest_waiting (struct submit *s)
{
  struct write *w, *oldest = NULL;

  assert_held (&s->lock);
  for (w = s->first; w; w = w->next)
    if (!w->has_place && (!oldest || w->arrival < oldest->arrival))
      oldest = w;
  return oldest;
}

/* Gives free places in flight to the writes that wait longest. */
static void
pass_places (struct submit *s)
{
  struct write *w;

  assert_held (&s->lock);
  while (s->in_flight < depth_limit (&s->depth) && !is_gathering (s)) {
    w = oldest_waiting (s);
    if (w == NULL)
      return;
    w->has_place = true;
    s->in_flight++;
    event_set (&w->wake);
  }
}

void
submit_set_depth (struct submit *s, unsigned depth)
{
  LOCK_FOR_SCOPE (&s->lock);

  depth_init (&s->depth, depth);
  pass_places (s);
}

/* Whether a write that waits lies next to a batch. */
static bool
is_adjoined (const struct submit *s, const struct batch *batch)
{
  const struct write *w = s->first;

  assert_held (&s->lock);
  while (w && w->offset + w->len < batch->offset)
    w = w->next;
  return w && (w->offset + w->len == batch->offset ||
               w->offset == batch->offset + batch->len);
}

/* The clients of a batch are about to come back.  If writes that wait adjoin
 * the batch, both belong to one stream that happened to split: they become one
 * batch again, or the halves would alternate for ever.
 */
static void
begin_gathering (struct submit *s, const struct batch *batch, uint64_t now)
{
  const uint64_t took = now - batch->writes->came;
  const unsigned adjoined = is_adjoined (s, batch) ? s->waiting : 0;

  assert_held (&s->lock);
  s->company = max_u64 (s->company, adjoined) + batch->nr;
  /* A mean: one late client must not end the gathering for all. */
  s->mergeable = (7 * s->mergeable + adjoined + batch->nr) / 8;
  s->gathers_until = now + min_u64 (took / GATHER_PART, MAX_GATHER_NS);
}

static void
release_place (struct submit *s, struct batch *batch)
{
  struct write *w;

  assert_held (&s->lock);
  if (!batch->has_place)
    return;
  batch->has_place = false;
  s->in_flight--;
  pass_places (s);
  /* While writes are gathered, the oldest one watches the deadline. */
  if (is_gathering (s) && (w = oldest_waiting (s)) != NULL)
    event_set (&w->wake);
}

/* No flush waits any longer for the durable writes of a batch. */
static void
end_unwritten (struct submit *s, struct batch *batch)
{
  assert_held (&s->lock);
  if (!batch->writes->durable || batch->written)
    return;
  batch->written = true;
  s->unwritten -= batch->nr;
  if (s->unwritten == 0)
    condition_wake_all (&s->written);
}

/* A batch that hangs delays its own blocks alone: it holds no place, no flush
 * waits for its company, and it stands in no trial.
 */
static void
note_hung (struct submit *s)
{
  const uint64_t before = now_ns () - durable_hang (s);
  struct batch *batch;

  assert_held (&s->lock);
  while ((batch = s->oldest_batch) != NULL &&
         (int64_t) (batch->began - before) <= 0) {
    unlist_batch (s, batch);
    batch->hung = true;
    if (batch->writes->durable)
      s->durable -= batch->nr;
    end_unwritten (s, batch);
    release_place (s, batch);
  }
}

/* The write of a batch has ended.  If a flush follows, the batch releases its
 * place: others write meanwhile, and share that flush or the next.
 */
static void
note_written (struct submit *s, const struct operation *op)
{
  struct batch *batch = container_of (op, struct batch, op);

  assert_held (&s->lock);
  unlist_batch (s, batch);
  if (!op->durable || batch->written)
    return; /* a repeat, or it hung */
  end_unwritten (s, batch);
  if (durable_ends_with_flush (batch->backend, op))
    release_place (s, batch);
}

/* A batch has ended: ends each of its writes. */
static void
end_batch (struct submit *s, struct batch *batch, int err)
{
  struct write *w, *next;
  const uint64_t now = now_ns ();

  LOCK_FOR_SCOPE (&s->lock); /* a write may be freed once it is `ended` */
  begin_gathering (s, batch, now);
  release_place (s, batch);
  for (w = batch->writes; w; w = next) {
    next = w->in_batch;
    completion_fail (w->completion, err);
    if (w->durable && !batch->hung) {
      s->durable--;
      choice_sample (&s->choice, batch->op.way, w->came, now);
    }
    w->ended = true;
    event_set (&w->wake);
  }
}

/* A batch has been written.  One that hung counts for at most twice the mean:
 * a backend that has become so slow is known as such in the end.
 */
static void
note_latency (struct submit *s, const struct operation *op, bool fua,
              uint64_t latency, unsigned in_flight)
{
  const struct batch *batch = container_of (op, struct batch, op);
  const uint64_t mean =
      s->latency ? s->latency : min_u64 (latency, durable_hang (s));

  assert_held (&s->lock);
  if (batch->hung) {
    s->latency = (7 * mean + min_u64 (latency, 2 * mean)) / 8;
    return;
  }
  s->latency = (7 * mean + latency) / 8;
  depth_sample (&s->depth, op->len, fua, latency, in_flight, s->last_ended);
  note_speed (s, op->len * in_flight, latency);
}

/* One attempt of a batch. */
static int
call_batch (struct submit *s, struct backend *b, const struct operation *op,
            bool fua)
{
  uint64_t began, latency;
  unsigned in_flight;
  int err;

  lock_take (&s->lock);
  in_flight = s->in_flight;
  lock_drop (&s->lock);

  began = now_ns ();
  err = durable_write (s, b, op, fua);
  latency = now_ns () - began;

  lock_take (&s->lock);
  s->last_ended = began + latency;
  note_hung (s); /* perhaps this one */
  if (err == 0)
    note_latency (s, op, fua, latency, in_flight);
  lock_drop (&s->lock);
  return err;
}

static void
run_batch (struct submit *s, struct backend *b, struct batch *batch)
{
  uint32_t epoch;
  bool stable;
  int err;

  if (batch->nr > 1)
    gather (batch);
  histogram_note (&s->batch_writes, &number_scale, batch->nr);
  batch->op = (struct operation){
    .call = call_batch,
    .ended = note_written,
    .offset = batch->offset,
    .len = batch->len,
    .bytes = batch->bytes,
    .durable = batch->writes->durable,
    .way = batch->way,
  };
  PROBE5 (batch__submit, export_number (s->pc), batch->offset, batch->len,
          batch->nr, batch->op.durable);
  err = durable_perform (s, b, &batch->op, &epoch, &stable);
  PROBE4 (batch__end, export_number (s->pc), batch->offset, batch->len, err);
  pagecache_end_write (s->pc, batch->offset, batch->len,
                       outcome_of (err, stable), epoch);
  if (batch->buffer)
    batch_buffer_put (s->memory, &s->pc->borrower, batch->buffer, batch->most);
  end_batch (s, batch, err);
}

/* How long no batch may end before a write that waits goes without, ns. */
static uint64_t
patience (const struct submit *s)
{
  return clamp_u64 (4 * s->latency, MIN_PATIENCE_NS, MAX_PATIENCE_NS);
}

/* Batches that hang have all the places.  A write waits for its own blocks, not
 * for those, so it goes beyond the limit.
 */
static bool
is_stalled (const struct submit *s, const struct write *w)
{
  const uint64_t now = now_ns ();

  return w->waits && now >= w->came + patience (s) &&
         now >= s->last_ended + patience (s);
}

uint64_t
submit_turn (struct submit *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  return ++s->arrivals;
}

void
submit_write (struct submit *s, struct backend *b, struct write *w)
{
  struct batch batch;
  uint64_t wait;
  bool mine;

  lock_check_none_held ();
  w->backend = b;
  w->ended = w->has_place = false;
  w->came = now_ns ();
  atomic_init (&w->wake.set, 0);

  lock_take (&s->lock);
  if (w->durable) {
    s->durable++;
    s->unwritten++;
  }
  enqueue (s, w);
  for (;;) {
    note_hung (s);
    pass_places (s);
    if (w->has_place || w->ended)
      break;
    if (is_stalled (s, w)) {
      w->has_place = true;
      s->in_flight++;
      break;
    }
    wait = w->waits && s->in_flight == 0 ? s->gathers_until
                                         : now_ns () + patience (s);
    lock_drop (&s->lock);
    event_wait_until (&w->wake, wait);
    lock_take (&s->lock);
  }
  mine = w->has_place; /* else it ended in a neighbour's batch */
  if (mine) {
    take_batch (s, &batch, w);
    pass_places (s);
  }
  lock_drop (&s->lock);
  if (mine)
    run_batch (s, b, &batch);
}
