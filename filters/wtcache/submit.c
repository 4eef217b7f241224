/* SPDX-License-Identifier: BSD-3-Clause */

/* To the backend: batches, durability, shared flushes.
 *
 * Writes wait in a queue by offset.  There is no thread of its own: who brings
 * a write, and finds a place in flight, takes the oldest that waits together
 * with its neighbours and submits them as one batch, others' among them; who
 * finds none sleeps until his write has ended or a place is passed to him.
 * While the backend keeps up nothing ever waits and nothing is copied; when it
 * does not, what waits grows into larger batches.
 *
 * What makes a write durable depends on the backend:
 *
 *   FUA native, or no flush      the flag on the write
 *   FUA otherwise, flush         the write, then one flush that began after it
 *   neither                      the write
 *
 * Flushes are shared: one that has not begun yet serves all who wait.  A flush
 * number and the epoch (the count of failed flushes and FUA operations) decide
 * what a written block becomes: see held.c.  A failed flush may have cost the
 * backend anything that was not durable, and an error is often told once
 * only, to whoever asked first.  So a durable write that such a failure
 * overlapped is done again before it is acknowledged, and one that ended
 * while another flush or FUA operation was still under way stays unstable,
 * though it may be told as durable, until a flush has covered it.
 *
 * Knows nothing of nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "submit.h"

/* How often a durable operation is repeated when others' failures overlap. */
#define MOST_REPEATS 8

#define LEAST_PATIENCE_NS 50000000

/* The most that is merged of several requests, bytes. */
#define MERGED_MOST (256 * KiB)

/* A flush waits for writes under way as long as this many flushes last. */
#define COMPANY_WAIT 4

/* Zero and trim go in parts of at most this, as nbdkit 1.32 demands. */
#define CLEAR_PART (64 * MiB)

void
completion_init (struct completion *c)
{
  memset (c, 0, sizeof *c);
  lock_init (&c->lock, RANK_SUBMIT);
  condition_init (&c->ended);
}

void
completion_destroy (struct completion *c)
{
  assert (c->outstanding == 0);
  condition_destroy (&c->ended);
  lock_destroy (&c->lock);
}

void
completion_fail (struct completion *c, int error)
{
  int none = 0;

  if (error != 0)
    atomic_compare_exchange_strong_explicit (
        &c->error, &none, error, memory_order_relaxed, memory_order_relaxed);
}

int
completion_error (struct completion *c)
{
  return atomic_load_explicit (&c->error, memory_order_relaxed);
}

void
completion_begin (struct completion *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  c->outstanding++;
}

/* The waiter may free the completion as soon as the lock is dropped. */
void
completion_end (struct completion *c, int error)
{
  LOCK_FOR_SCOPE (&c->lock);

  completion_fail (c, error);
  assert (c->outstanding > 0);
  if (--c->outstanding == 0)
    condition_wake_all (&c->ended);
}

int
completion_wait (struct completion *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  while (c->outstanding > 0)
    condition_wait (&c->ended, &c->lock);
  return completion_error (c);
}

void
submit_init (struct submit *s, struct pagecache *pc, struct memory *memory,
             const struct backend_traits *traits, bool merge, unsigned depth)
{
  memset (s, 0, sizeof *s);
  s->pc = pc;
  s->memory = memory;
  s->traits = *traits;
  s->merge = merge;
  lock_init (&s->lock, RANK_SUBMIT);
  condition_init (&s->closed);
  condition_init (&s->flushed);
  condition_init (&s->written);
  depth_init (&s->depth, depth);
}

void
submit_destroy (struct submit *s)
{
  assert (s->first == NULL && s->in_flight == 0 && s->oldest == NULL);
  condition_destroy (&s->written);
  condition_destroy (&s->flushed);
  condition_destroy (&s->closed);
  lock_destroy (&s->lock);
}

void
submit_open (struct submit *s, struct open_op *op)
{
  LOCK_FOR_SCOPE (&s->lock);

  atomic_init (&op->acknowledged, false);
  op->fua = false;
  op->ticket = s->tickets++;
  op->next = NULL;
  op->prev = s->newest;
  *(s->newest ? &s->newest->next : &s->oldest) = op;
  s->newest = op;
}

void
submit_close (struct submit *s, struct open_op *op)
{
  LOCK_FOR_SCOPE (&s->lock);

  *(op->prev ? &op->prev->next : &s->oldest) = op->next;
  *(op->next ? &op->next->prev : &s->newest) = op->prev;
  if (s->closing_waiters > 0)
    condition_wake_all (&s->closed);
}

/* Waits for the operations open now that are of a kind. */
static void
wait_open (struct submit *s, bool (*kind) (struct open_op *))
{
  const uint64_t before = s->tickets;
  struct open_op *op;

  assert_held (&s->lock);
  s->closing_waiters++;
  for (;;) {
    for (op = s->oldest; op && op->ticket < before; op = op->next)
      if (kind (op))
        break;
    if (op == NULL || op->ticket >= before)
      break;
    condition_wait (&s->closed, &s->lock);
  }
  s->closing_waiters--;
}

static bool
is_acknowledged (struct open_op *op)
{
  return atomic_load_explicit (&op->acknowledged, memory_order_acquire);
}

static bool
is_fua (struct open_op *op)
{
  return op->fua;
}

void
submit_wait_acknowledged (struct submit *s)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&s->lock);

  wait_open (s, is_acknowledged);
}

int
submit_read (struct submit *s, struct backend *b, void *buf, uint64_t offset,
             uint64_t len)
{
  uint32_t n;
  int err = 0;

  lock_check_none_held ();
  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, s->traits.maximum);
    err = b->read (b, buf, n, offset);
    buf = (uint8_t *) buf + n;
    atomic_fetch_add_explicit (&s->reads, 1, memory_order_relaxed);
    atomic_fetch_add_explicit (&s->read_bytes, n, memory_order_relaxed);
  }
  return err;
}

/* Durable writes that are under way will want a flush in a moment, and one that
 * begins after them serves all.  That is worth waiting for: as long as a few
 * flushes last, the backend spends most of its time on writes.
 */
static void
wait_for_company (struct submit *s)
{
  const uint64_t deadline = now_ns () + COMPANY_WAIT * s->flush_latency;

  assert_held (&s->lock);
  while (s->unwritten > 0 &&
         condition_wait_until (&s->written, &s->lock, deadline))
    ;
}

/* A flush takes all who wait along. */
static int
lead_flush (struct submit *s, struct backend *b, bool company)
{
  struct flush_waiter *served, *w, *next;
  uint32_t number, epoch;
  uint64_t began, latency;
  int err;

  assert_held (&s->lock);
  s->flushing = true;
  if (company)
    wait_for_company (s);
  served = s->waiters;
  s->waiters = NULL;
  lock_drop (&s->lock);

  epoch = held_epoch (&s->pc->held);
  number = held_begin_flush (&s->pc->held);
  began = now_ns ();
  err = s->flush ? s->flush (s->opaque, b) : b->flush (b);
  latency = now_ns () - began;
  if (err != 0)
    pagecache_fail (s->pc);
  else {
    lock_take (&s->lock);
    s->flush_latency =
        s->flush_latency ? (3 * s->flush_latency + latency) / 4 : latency;
    wait_open (s, is_fua);
    lock_drop (&s->lock);
    if (held_epoch (&s->pc->held) != epoch)
      err = EAGAIN;
    else
      pagecache_settle (s->pc, number);
  }
  atomic_fetch_add_explicit (&s->flushes_done, 1, memory_order_relaxed);

  lock_take (&s->lock);
  s->flushing = false;
  s->nr_flushes++;
  for (w = served; w; w = next) {
    next = w->next;
    w->error = err;
    w->ended = true;
  }
  condition_wake_all (&s->flushed);
  return err;
}

int
submit_flush (struct submit *s, struct backend *b, bool company)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&s->lock);
  struct flush_waiter me = { .next = s->waiters };

  atomic_fetch_add_explicit (&s->flushes_asked, 1, memory_order_relaxed);
  s->waiters = &me;
  while (!me.ended)
    if (!s->flushing)
      lead_flush (s, b, company);
    else
      condition_wait (&s->flushed, &s->lock);
  return me.error;
}

/* How this backend makes a write durable. */
static bool
flag_on_every_write (const struct submit *s)
{
  return !s->traits.can_flush && s->traits.fua != FUA_NONE;
}

static bool
durable_by_flag (const struct submit *s, enum way way)
{
  if (s->traits.fua == FUA_NATIVE && s->traits.can_flush)
    return way == BY_FLAG;
  return s->traits.fua == FUA_NATIVE || flag_on_every_write (s);
}

/* An operation on the backend that may have to be repeated. */
struct operation {
  int (*call) (struct submit *s, struct backend *b, const struct operation *op,
               bool fua);
  /* The call has ended, not yet the flush that may follow; or NULL. */
  void (*ended) (struct submit *s, const struct operation *op);
  uint64_t offset, len;
  const uint8_t *bytes;
  unsigned flags;
  bool durable;
  enum way way; /* if it is durable and the backend can do both */
};

static int
call_write (struct submit *s, struct backend *b, const struct operation *op,
            bool fua)
{
  uint64_t done;
  uint32_t n;
  int err = 0;

  for (done = 0; done < op->len && err == 0; done += n) {
    n = min_u64 (op->len - done, s->traits.maximum);
    err = b->write (b, op->bytes + done, n, op->offset + done, fua);
  }
  return err;
}

static int
call_zero (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  (void) s;
  return b->zero (b, op->len, op->offset,
                  (op->flags & ~ZERO_FUA) | (fua ? ZERO_FUA : 0));
}

static int
call_trim (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  (void) s;
  return b->trim (b, op->len, op->offset, fua);
}

/* A call with the FUA flag: others see that it is under way.  *OVERLAPPED: so
 * was another, or a flush, when it ended.
 */
static int
call_with_fua (struct submit *s, struct backend *b, const struct operation *op,
               bool *overlapped)
{
  struct open_op open;
  struct open_op *other;
  int err;

  submit_open (s, &open);
  lock_take (&s->lock);
  open.fua = true;
  lock_drop (&s->lock);

  err = op->call (s, b, op, true);
  /* ENOTSUP of a fast zero says that nothing was tried. */
  if (err != 0 && !((op->flags & ZERO_FAST) && err == ENOTSUP))
    pagecache_fail (s->pc);

  lock_take (&s->lock);
  *overlapped = s->flushing;
  for (other = s->oldest; other && !*overlapped; other = other->next)
    *overlapped = other != &open && other->fua;
  lock_drop (&s->lock);
  submit_close (s, &open);
  return err;
}

/* What overlapped a durable write may take it back only by failing; where more
 * is held than may be, its end is waited for instead of holding one more.
 */
static bool
may_stay_unstable (struct submit *s)
{
  return pagecache_amounts (s->pc).held <=
         atomic_load_explicit (&s->pc->bound, memory_order_relaxed);
}

static void
wait_overlapping (struct submit *s)
{
  uint64_t flushes;

  LOCK_FOR_SCOPE (&s->lock);
  flushes = s->nr_flushes;
  while (s->flushing && s->nr_flushes == flushes)
    condition_wait (&s->flushed, &s->lock);
  wait_open (s, is_fua);
}

/* One operation with all that its durability asks for.  *EPOCH is the epoch
 * when it began, *STABLE whether nothing can take it back.
 */
static int
perform (struct submit *s, struct backend *b, const struct operation *op,
         uint32_t *epoch, bool *stable)
{
  const bool flag =
      op->durable ? durable_by_flag (s, op->way) : flag_on_every_write (s);
  const bool flush = op->durable && !flag && s->traits.can_flush;
  bool overlapped = false;
  unsigned i;
  int err;

  for (i = 0; i < MOST_REPEATS; ++i) {
    *epoch = held_epoch (&s->pc->held);
    err = flag ? call_with_fua (s, b, op, &overlapped)
               : op->call (s, b, op, false);
    atomic_store_explicit (&b->unflushed, true, memory_order_release);
    if (op->ended)
      op->ended (s, op);
    if (err == 0 && flush)
      err = submit_flush (s, b, true);
    if (err == 0 && op->durable && overlapped && !may_stay_unstable (s)) {
      wait_overlapping (s);
      overlapped = false;
    }
    *stable = !s->traits.can_flush || flush || (flag && !overlapped);
    if (err != 0 && err != EAGAIN)
      return err;
    if (!op->durable || held_epoch (&s->pc->held) == *epoch)
      return 0;
  }
  return EIO; /* the backend fails all the time */
}

static enum outcome
outcome_of (int err, bool stable)
{
  return err != 0 ? OUTCOME_FAILED : stable ? OUTCOME_STABLE : OUTCOME_UNSTABLE;
}

/* The backend has something else now in a range that may be remembered as
 * zero; or, if ERR, nobody knows, so that it is to be zeroed again.  The
 * caller has it exclusively.
 */
static int
forget_zeroes (struct submit *s, struct backend *b, uint64_t offset,
               uint64_t len, int err)
{
  if (err != 0) {
    if (zeroes_any (&s->pc->zeroes, offset, len))
      zeroes_lose (&s->pc->zeroes);
    return err;
  }
  while (!zeroes_forget (&s->pc->zeroes, offset, len)) {
    /* None can be split: a flush makes an end of them all. */
    err = submit_flush (s, b, false);
    if (err != 0 && err != EAGAIN)
      return err;
  }
  return 0;
}

int
submit_write_past (struct submit *s, struct backend *b, const void *bytes,
                   uint64_t offset, uint64_t len)
{
  const struct operation op = { .call = call_write,
                                .offset = offset,
                                .len = len,
                                .bytes = bytes,
                                .durable = true };
  uint32_t epoch;
  bool stable;
  int err;

  err = perform (s, b, &op, &epoch, &stable);
  err = forget_zeroes (s, b, offset, len, err);
  pagecache_clear (s->pc, offset, len, err ? CLEAR_FAILED : CLEAR_UNKNOWN);
  return err;
}

static bool
is_neighbour (const struct write *a, const struct write *b)
{
  return a->offset + a->len == b->offset && a->durable == b->durable;
}

static void
dequeue (struct submit *s, struct write *w)
{
  assert_held (&s->lock);
  *(w->prev ? &w->prev->next : &s->first) = w->next;
  *(w->next ? &w->next->prev : &s->last) = w->prev;
  w->waits = false;
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
  w->arrival = w->turn ? w->turn : ++s->arrivals;
}

/* One write to the backend. */
struct batch {
  struct write *writes; /* linked by in_batch, by offset */
  uint64_t offset, len;
  const uint8_t *bytes;
  uint8_t *buffer; /* borrowed, if there may be more than one write */
  uint64_t most;   /* the buffer's size, bytes */
  unsigned nr;
  bool has_place; /* counted in submit.in_flight */
  enum way way;
  struct operation op;
};

/* Takes a write, with its neighbours as far as they fit in a buffer.  Without
 * a buffer it goes alone.
 */
static void
take_batch (struct submit *s, struct batch *batch, struct write *w)
{
  struct write *next, **link = &batch->writes;
  const uint64_t most = min_u64 (memory_batch_size (s->memory),
                                 min_u64 (s->traits.maximum, MERGED_MOST));

  assert_held (&s->lock);
  memset (batch, 0, sizeof *batch);
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
  if (batch->writes->durable)
    batch->way = choice_way (&s->choice, s->durable, now_ns ());
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

/* A batch has ended: its writes have, each of them once. */
static void
end_batch (struct submit *s, const struct batch *batch, int err)
{
  struct write *w, *next;

  const uint64_t now = now_ns ();

  LOCK_FOR_SCOPE (&s->lock); /* who sees `ended` under it may free the write */
  for (w = batch->writes; w; w = next) {
    next = w->in_batch;
    completion_fail (w->completion, err);
    if (w->durable) {
      s->durable--;
      choice_sample (&s->choice, batch->op.way, w->came, now);
    }
    w->ended = true;
    event_set (&w->wake);
  }
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

/* Gives free places in flight to the writes that wait longest. */
static void
pass_places (struct submit *s)
{
  struct write *w, *oldest;

  assert_held (&s->lock);
  while (s->in_flight < depth_limit (&s->depth)) {
    oldest = NULL;
    for (w = s->first; w; w = w->next)
      if (!w->has_place && (!oldest || w->arrival < oldest->arrival))
        oldest = w;
    if (oldest == NULL)
      return;
    oldest->has_place = true;
    s->in_flight++;
    event_set (&oldest->wake);
  }
}

/* The place in flight is given up when the write has ended, before the flush
 * that may follow: others write meanwhile, and share that flush or the next.
 */
static void
give_place_up (struct submit *s, const struct operation *op)
{
  struct batch *batch = container_of (op, struct batch, op);

  LOCK_FOR_SCOPE (&s->lock);
  if (!batch->has_place)
    return; /* a repeat: it has none any more */
  batch->has_place = false;
  s->in_flight--;
  pass_places (s);
  if (op->durable) {
    s->unwritten -= batch->nr;
    if (s->unwritten == 0)
      condition_wake_all (&s->written);
  }
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
  err = call_write (s, b, op, fua);
  latency = now_ns () - began;

  lock_take (&s->lock);
  s->last_ended = began + latency;
  if (err == 0) {
    s->latency = s->latency ? (7 * s->latency + latency) / 8 : latency;
    depth_sample (&s->depth, op->len, fua, latency, in_flight, began + latency);
    note_speed (s, op->len * in_flight, latency);
  }
  lock_drop (&s->lock);
  atomic_fetch_add_explicit (&s->writes, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&s->written_bytes, op->len, memory_order_relaxed);
  return err;
}

static void
run_batch (struct submit *s, struct backend *b, struct batch *batch)
{
  uint32_t epoch;
  bool stable;
  int err;

  if (batch->nr > 1) {
    gather (batch);
    atomic_fetch_add_explicit (&s->merged, batch->nr - 1, memory_order_relaxed);
  }
  batch->op = (struct operation){
    .call = call_batch,
    .ended = give_place_up,
    .offset = batch->offset,
    .len = batch->len,
    .bytes = batch->bytes,
    .durable = batch->writes->durable,
    .way = batch->way,
  };
  err = perform (s, b, &batch->op, &epoch, &stable);
  pagecache_end_write (s->pc, batch->offset, batch->len,
                       outcome_of (err, stable), epoch);
  if (batch->buffer)
    batch_buffer_put (s->memory, &s->pc->borrower, batch->buffer, batch->most);
  end_batch (s, batch, err);
}

/* How long no batch may end before those that wait go on without, ns. */
static uint64_t
patience (const struct submit *s)
{
  return max_u64 (LEAST_PATIENCE_NS, 4 * s->latency);
}

/* Batches hang that have all the places: a write waits for its own blocks, not
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
  w->ended = w->has_place = false;
  w->came = now_ns ();
  atomic_init (&w->wake.set, 0);

  lock_take (&s->lock);
  if (w->durable) {
    s->durable++;
    s->unwritten++;
  }
  enqueue (s, w);
  pass_places (s);
  while (!w->has_place && !w->ended) {
    if (is_stalled (s, w)) {
      w->has_place = true;
      s->in_flight++;
      break;
    }
    wait = now_ns () + patience (s);
    lock_drop (&s->lock);
    event_wait_until (&w->wake, wait);
    lock_take (&s->lock);
  }
  mine = w->has_place; /* else it went along with a neighbour */
  if (mine) {
    take_batch (s, &batch, w);
    pass_places (s);
  }
  lock_drop (&s->lock);
  if (mine)
    run_batch (s, b, &batch);
}

/* Remembers what the backend zeroed and may yet forget.  False: it cannot be
 * remembered.
 */
static bool
remember (struct submit *s, uint64_t offset, uint64_t len, uint32_t epoch)
{
  if (!zeroes_remember (&s->pc->zeroes, offset, len,
                        held_flushes (&s->pc->held)))
    return false;
  /* A failure in between may have come before it was there to be lost. */
  if (held_epoch (&s->pc->held) != epoch)
    zeroes_lose (&s->pc->zeroes);
  return true;
}

static int
clear_part (struct submit *s, struct backend *b, struct operation *op,
            enum clear how)
{
  uint32_t epoch;
  bool stable;
  int err;

  err = perform (s, b, op, &epoch, &stable);
  if (err == 0 && !stable && how == CLEAR_ZEROED &&
      !remember (s, op->offset, op->len, epoch)) {
    op->durable = true;
    err = perform (s, b, op, &epoch, &stable);
  }
  if (how == CLEAR_UNKNOWN || (err != 0 && err != ENOTSUP))
    err = forget_zeroes (s, b, op->offset, op->len, err);
  if (err != ENOTSUP || !(op->flags & ZERO_FAST))
    pagecache_clear (s->pc, op->offset, op->len, err ? CLEAR_FAILED : how);
  return err;
}

int
submit_zero (struct submit *s, struct backend *b, uint64_t offset, uint64_t len,
             unsigned flags)
{
  struct operation op = { .call = call_zero };
  uint64_t n;
  int err = 0;

  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, min_u64 (CLEAR_PART, s->traits.maximum));
    op.offset = offset;
    op.len = n;
    op.flags = flags & ~ZERO_FUA;
    op.durable = flags & ZERO_FUA;
    err = clear_part (s, b, &op, CLEAR_ZEROED);
    flags &= ~ZERO_FAST; /* it is fast, or the first part had said so */
  }
  return err;
}

int
submit_trim (struct submit *s, struct backend *b, uint64_t offset, uint64_t len,
             bool fua)
{
  struct operation op = { .call = call_trim, .durable = fua };
  uint64_t n;
  int err = 0;

  for (; len > 0 && err == 0; offset += n, len -= n) {
    n = min_u64 (len, min_u64 (CLEAR_PART, s->traits.maximum));
    op.offset = offset;
    op.len = n;
    err = clear_part (s, b, &op, CLEAR_UNKNOWN);
  }
  return err;
}

/* The first run of held blocks from OFFSET on: where it begins, and its length
 * in *LEN; UINT64_MAX: none.
 */
static uint64_t
next_held_run (struct pagecache *pc, uint64_t offset, uint64_t *len)
{
  uint64_t index = offset >> pc->page_shift;
  struct span run = page_held_run (
      pc, index, (offset & (page_size (pc) - 1)) >> pc->block_shift);
  struct part part;

  while (run.count == 0) {
    index++;
    if (!pagecache_next_held (pc, &index))
      return UINT64_MAX;
    run = page_held_run (pc, index, 0);
  }
  part = span_part (pc, index, run);
  *len = part.len;
  return (index << pc->page_shift) + part.offset;
}

/* The first blocks of a range that are remembered as zero and not held: *OFFSET
 * moves up to them.  Their length, 0 if there are none.
 */
static uint64_t
next_gap (struct pagecache *pc, uint64_t *offset, uint64_t end)
{
  uint64_t n, held, len;
  bool zeroed;

  while (*offset < end) {
    n = zeroes_prefix (&pc->zeroes, *offset, end - *offset, &zeroed);
    if (!zeroed)
      *offset += n;
    else {
      held = next_held_run (pc, *offset, &len);
      if (held > *offset)
        return min_u64 (n, held - *offset);
      *offset = held + len;
    }
  }
  return 0;
}

/* Zeroes what of a range is still remembered and not held; the caller has the
 * range exclusively, so that none becomes held meanwhile.
 */
static int
zero_gaps (struct submit *s, struct backend *b, uint64_t offset, uint64_t end)
{
  const uint64_t most = min_u64 (CLEAR_PART, s->traits.maximum);
  struct operation op = { .call = call_zero, .flags = ZERO_MAY_TRIM };
  uint64_t len;
  uint32_t epoch;
  bool stable;
  int err = 0;

  while (err == 0 && (len = next_gap (s->pc, &offset, end)) > 0) {
    op.offset = offset;
    op.len = min_u64 (len, most);
    err = perform (s, b, &op, &epoch, &stable);
    offset += op.len;
  }
  return err;
}

int
submit_redo_zeroes (struct submit *s, struct backend *b)
{
  struct exclusive x;
  uint64_t offset, len;
  uint32_t epoch;
  int err = 0;

  while (err == 0 && zeroes_first_lost (&s->pc->zeroes, &offset, &len)) {
    exclusive_begin (&s->pc->zeroes, &x, offset, len);
    pagecache_wait_writeback (s->pc, offset, len);
    epoch = held_epoch (&s->pc->held);
    err = zero_gaps (s, b, offset, offset + len);
    if (err == 0) {
      zeroes_redone (&s->pc->zeroes, offset, len, held_flushes (&s->pc->held));
      if (held_epoch (&s->pc->held) != epoch)
        zeroes_lose (&s->pc->zeroes);
    }
    exclusive_end (&s->pc->zeroes, &x);
  }
  return err;
}
