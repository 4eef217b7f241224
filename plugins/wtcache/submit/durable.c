/* SPDX-License-Identifier: BSD-3-Clause */

/* Makes operations durable, and shares flushes among them.
 *
 * It depends on the connection that makes the call, since two connections to
 * one disk may be able to do different things:
 *
 *   FUA native        the flag on the write, or as below: whichever is faster
 *   FUA otherwise     the write, then one flush that began after it
 *   no flush          the flag on every write
 *   neither           the write
 *
 * One flush that has not begun yet serves all that wait.  A flush number and
 * the epoch (the count of failed flushes and FUA operations) decide what a
 * written block becomes: see held.c.  A failed flush may have cost the backend
 * anything that was not durable, and backends often report an error only once,
 * to the first call that asks.  So a durable write that such a failure
 * overlapped is done again before it is acknowledged.  One that ended while
 * another flush or FUA operation was in progress is acknowledged, but stays
 * unstable until a flush has covered it.
 *
 * For example, two FUA writes go to a backend without native FUA at once: both
 * are written, and then one flush, which began after both had ended, serves
 * both.
 *
 * May not know nbdkit or batches.
 */

#include <config.h>

#include <errno.h>

#include "base/probes.h"
#include "submit/durable.h"

/* How often failures of others undo an operation before it runs alone, and how
 * often if it cannot.
 */
#define MAX_UNDONE  3
#define MAX_REPEATS 8

/* A flush waits for writes in progress as long as this many flushes last, and
 * at most this, ns: each flush may take far longer.
 */
#define COMPANY_WAIT        4
#define MAX_COMPANY_WAIT_NS UINT64_C (1000000000)

/* A flush or a FUA operation begins, which may undo others. */
static void
begin_undoing (struct submit *s)
{
  assert_held (&s->lock);
  atomic_fetch_add_explicit (&s->undoing, 1, memory_order_relaxed);
}

static void
end_undoing (struct submit *s)
{
  assert_held (&s->lock);
  atomic_fetch_sub_explicit (&s->undoing, 1, memory_order_release);
}

void
durable_begin_fua (struct submit *s, struct fua_op *op, uint64_t now)
{
  assert_held (&s->lock);
  op->hung = false;
  op->began = now;
  op->ticket = s->tickets++;
  op->next = NULL;
  op->prev = s->newest;
  *(op->prev ? &op->prev->next : &s->oldest) = op;
  s->newest = op;
  begin_undoing (s);
}

void
durable_end_fua (struct submit *s, struct fua_op *op)
{
  assert_held (&s->lock);
  if (op->hung) /* the next flush makes stable what was kept because of it */
    atomic_store_explicit (&s->kept, 0, memory_order_relaxed);
  *(op->prev ? &op->prev->next : &s->oldest) = op->next;
  *(op->next ? &op->next->prev : &s->newest) = op->prev;
  if (s->fua_waiters > 0)
    condition_wake_all (&s->fua_ended);
  end_undoing (s);
}

/* The first FUA operation with a smaller ticket that does not hang; *HUNG:
 * whether one before it does.
 */
static struct fua_op *
find_awaited (struct submit *s, uint64_t before, bool *hung)
{
  struct fua_op *op;

  assert_held (&s->lock);
  *hung = false;
  for (op = s->oldest; op && op->ticket < before; op = op->next) {
    if (!op->hung)
      return op;
    *hung = true;
  }
  return NULL;
}

/* Waits for the FUA operations that are in progress now, for each until it is
 * seen to hang.  Returns whether one hangs.
 */
static bool
wait_fua (struct submit *s)
{
  const uint64_t before = s->tickets;
  struct fua_op *op;
  uint64_t deadline;
  bool hung;

  assert_held (&s->lock);
  s->fua_waiters++;
  while ((op = find_awaited (s, before, &hung)) != NULL) {
    deadline = op->began + policy_hang_age (&s->policy);
    if (now_ns () >= deadline)
      op->hung = true;
    else
      condition_wait_until (&s->fua_ended, &s->lock, deadline);
  }
  s->fua_waiters--;
  return hung;
}

static bool
is_alone (const struct submit *s)
{
  assert_held (&s->lock);
  return atomic_load_explicit (&s->alone, memory_order_relaxed) &&
         now_ns () < s->alone_since + policy_hang_age (&s->policy);
}

/* Whether the caller has to wait for another thread's operation. */
static bool
is_kept_out (const struct submit *s)
{
  return is_alone (s) && !pthread_equal (s->alone_thread, pthread_self ());
}

static void
wait_alone (struct submit *s)
{
  assert_held (&s->lock);
  s->alone_waiters++;
  while (is_kept_out (s))
    condition_wait_until (&s->alone_ended, &s->lock,
                          s->alone_since + policy_hang_age (&s->policy));
  s->alone_waiters--;
}

static void
take_alone (struct submit *s)
{
  assert_held (&s->lock);
  s->alone_thread = pthread_self ();
  s->alone_since = now_ns ();
  atomic_store_explicit (&s->alone, true, memory_order_relaxed);
}

/* For an operation that has blocks, which another that runs alone may wait for:
 * so it does not wait.  False: another keeps new operations out already.
 */
static bool
try_alone (struct submit *s)
{
  LOCK_FOR_SCOPE (&s->lock);

  if (is_alone (s))
    return false;
  take_alone (s);
  return true;
}

static bool
begin_alone (struct submit *s)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&s->lock);

  wait_alone (s);
  take_alone (s);
  return true;
}

/* While an operation runs alone, each failure that undoes it is of one that had
 * begun before: so the repeats end.
 */
bool
durable_again (struct submit *s, struct repeats *r, bool blocks)
{
  r->undone++;
  if (r->undone >= MAX_UNDONE && !r->alone)
    r->alone = blocks ? try_alone (s) : begin_alone (s);
  if (r->undone < MAX_REPEATS)
    return true;

  LOCK_FOR_SCOPE (&s->lock);
  return is_alone (s);
}

/* One that took too long may have been followed by another. */
void
durable_end_repeats (struct submit *s, struct repeats *r)
{
  if (!r->alone)
    return;

  LOCK_FOR_SCOPE (&s->lock);
  if (pthread_equal (s->alone_thread, pthread_self ()))
    atomic_store_explicit (&s->alone, false, memory_order_relaxed);
  condition_wake_all (&s->alone_ended);
}

void
durable_enter (struct submit *s)
{
  if (!atomic_load_explicit (&s->alone, memory_order_relaxed))
    return;
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&s->lock);
  wait_alone (s);
}

/* Durable writes in progress will need a flush in a moment, and one that begins
 * after them serves all.  So a flush waits for them: while it waits for no more
 * than a few flushes last, the backend spends most of its time on writes.  A
 * client's flush covers only what ended before it, so it does not wait.
 */
static void
wait_for_company (struct submit *s)
{
  const uint64_t deadline =
      now_ns () +
      min_u64 (COMPANY_WAIT * s->flush_latency, MAX_COMPANY_WAIT_NS);

  assert_held (&s->lock);
  while (s->policy.unwritten > 0 && !s->hurried &&
         condition_wait_until (&s->written, &s->lock, deadline))
    ;
}

/* A flush has succeeded while a FUA operation hangs.  If that operation fails,
 * the backend may have dropped blocks that the flush covered, and have reported
 * it to that operation alone.  So they stay unstable, to be written again then,
 * within the bound, and while there is room for zeroed ranges; beyond, the
 * flush's own result counts.
 */
static bool
may_keep (struct submit *s)
{
  return !pagecache_is_beyond_bound (s->pc) &&
         !zeroes_is_room_wanted (&s->pc->zeroes) &&
         atomic_load_explicit (&s->pc->zeroes.nr_zeroed, memory_order_relaxed) <
             ZEROES_MAX / 2;
}

/* A flush has succeeded: the blocks that it covered become stable.  False: they
 * stay unstable.
 */
static bool
settle (struct submit *s, uint32_t number, bool hung)
{
  const bool keep = hung && may_keep (s);

  if (keep)
    held_disregard_flush (&s->pc->held);
  else
    ledger_settle (s->pc, number);
  atomic_store_explicit (&s->kept,
                         keep ? pagecache_amounts (s->pc).unstable : 0,
                         memory_order_relaxed);
  return !keep;
}

/* A moving mean, in which a flush that hung weighs no more than others. */
static uint64_t
mean_flush (const struct submit *s, uint64_t latency)
{
  const uint64_t mean = s->flush_latency;

  if (mean == 0)
    return min_u64 (latency, policy_hang_age (&s->policy));
  return (3 * mean + min_u64 (latency, max_u64 (4 * mean, 50000000))) / 4;
}

/* Flushes for all that wait. */
static int
lead_flush (struct submit *s, struct backend *b)
{
  struct flush_waiter *served, *w, *next;
  uint32_t number, epoch;
  uint64_t began, latency;
  bool hung, kept = false;
  int err;

  assert_held (&s->lock);
  s->flushing = true;
  begin_undoing (s);
  wait_for_company (s);
  served = s->waiters;
  s->waiters = NULL;
  s->hurried = false;
  lock_drop (&s->lock);

  epoch = held_epoch (&s->pc->held);
  number = held_begin_flush (&s->pc->held);
  began = now_ns ();
  PROBE2 (flush__begin, export_number (s->pc), number);
  err = s->flush ? s->flush (s->opaque, b) : meter_flush (&s->meter, b);
  PROBE3 (flush__end, export_number (s->pc), number, err);
  latency = now_ns () - began;
  if (err != 0)
    ledger_fail (s->pc, epoch);
  else {
    lock_take (&s->lock);
    s->flush_latency = mean_flush (s, latency);
    hung = wait_fua (s);
    lock_drop (&s->lock);
    if (held_epoch (&s->pc->held) != epoch)
      err = EAGAIN;
    else
      kept = !settle (s, number, hung);
  }
  atomic_fetch_add_explicit (&s->flushes_done, 1, memory_order_relaxed);

  lock_take (&s->lock);
  s->flushing = false;
  end_undoing (s);
  s->nr_flushes++;
  for (w = served; w; w = next) {
    next = w->next;
    w->error = err;
    w->kept = kept;
    w->ended = true;
  }
  condition_wake_all (&s->flushed);
  return err;
}

/* A flush for an operation, or that a client asks for (NULL).  In one critical
 * section the operation stops being in progress and begins to wait: else a
 * flush could begin between the two, and it would need the next one.  *KEPT:
 * the blocks that the flush covered stay unstable.
 */
static int
share_flush (struct submit *s, struct backend *b, const struct operation *op,
             bool *kept)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&s->lock);
  struct flush_waiter me = { .next = s->waiters };

  atomic_fetch_add_explicit (&s->flushes_asked, 1, memory_order_relaxed);
  s->waiters = &me;
  if (op && op->before_flush)
    op->before_flush (s, op);
  if (!op) {
    s->hurried = true;
    condition_wake_all (&s->written);
  }
  PROBE2 (wait__begin, export_number (s->pc), WAIT_FLUSH);
  while (!me.ended)
    if (!s->flushing)
      lead_flush (s, b);
    else
      condition_wait (&s->flushed, &s->lock);
  PROBE2 (wait__end, export_number (s->pc), WAIT_FLUSH);
  *kept = me.kept;
  return me.error;
}

int
durable_flush (struct submit *s, struct backend *b)
{
  bool kept;

  durable_enter (s);
  return share_flush (s, b, NULL, &kept);
}

int
durable_write (struct submit *s, struct backend *b, const struct operation *op,
               bool fua)
{
  uint64_t done;
  uint32_t n;
  int err = 0;

  for (done = 0; done < op->len && err == 0; done += n) {
    n = min_u64 (op->len - done, b->traits.maximum);
    err =
        meter_write (&s->meter, b, op->bytes + done, n, op->offset + done, fua);
  }
  return err;
}

/* How this backend makes a write durable. */
static bool
flag_on_every_write (const struct backend *b)
{
  return !b->traits.can_flush && b->traits.fua != FUA_NONE;
}

static bool
durable_by_flag (const struct backend *b, enum way way)
{
  if (b->traits.fua == FUA_NATIVE && b->traits.can_flush)
    return way == BY_FLAG;
  return b->traits.fua == FUA_NATIVE || flag_on_every_write (b);
}

/* Whether its durability asks for a flush after the call. */
static bool
ends_with_flush (const struct backend *b, const struct operation *op)
{
  return op->durable && b->traits.can_flush && !durable_by_flag (b, op->way);
}

/* A call with the FUA flag, begun in an epoch; it is listed while in progress.
 * *OVERLAPPED: another one, or a flush, was in progress when it ended.  Acquire
 * pairs with release in end_undoing: the failure of one that has ended is seen
 * by its epoch.  One that has not had begun before, if it affected this call.
 */
static int
call_with_fua (struct submit *s, struct backend *b, const struct operation *op,
               uint32_t epoch, bool *overlapped)
{
  struct fua_op fua_op;
  int err;

  if (op->fua == NULL) {
    LOCK_FOR_SCOPE (&s->lock);
    durable_begin_fua (s, &fua_op, now_ns ());
  }
  err = op->call (s, b, op, true);
  /* After ENOTSUP of a fast zero nothing was tried. */
  if (err != 0 && !((op->flags & ZERO_FAST) && err == ENOTSUP))
    ledger_fail (s->pc, epoch);
  *overlapped = atomic_load_explicit (&s->undoing, memory_order_acquire) > 1;
  if (op->fua == NULL) {
    LOCK_FOR_SCOPE (&s->lock);
    durable_end_fua (s, &fua_op);
  }
  return err;
}

/* For a durable operation of which no copy stays: waits for flushes and FUA
 * operations that overlapped it, or until they are seen to hang, because their
 * failure would undo it.
 */
static void
wait_overlapping (struct submit *s)
{
  uint64_t flushes, deadline;

  LOCK_FOR_SCOPE (&s->lock);
  flushes = s->nr_flushes;
  deadline = now_ns () + policy_hang_age (&s->policy);
  while (s->flushing && s->nr_flushes == flushes &&
         condition_wait_until (&s->flushed, &s->lock, deadline))
    ;
  wait_fua (s);
}

/* One attempt of an operation.  EAGAIN: a failure of others undid it. */
static int
attempt (struct submit *s, struct backend *b, const struct operation *op,
         uint32_t *epoch, bool *stable)
{
  const bool flag =
      op->durable ? durable_by_flag (b, op->way) : flag_on_every_write (b);
  const bool flush = ends_with_flush (b, op);
  bool overlapped = false, kept = false;
  int err;

  *epoch = held_epoch (&s->pc->held);
  err = flag ? call_with_fua (s, b, op, *epoch, &overlapped)
             : op->call (s, b, op, false);
  if (err == 0 && flush)
    err = share_flush (s, b, op, &kept);
  if (err == 0 && overlapped && op->uncached) {
    wait_overlapping (s);
    overlapped = false;
  }
  *stable = !b->traits.can_flush || (flush && !kept) || (flag && !overlapped);
  if (err != 0 && err != EAGAIN)
    return err;
  if (!op->durable || op->unpromised || held_epoch (&s->pc->held) == *epoch)
    return 0;
  return EAGAIN;
}

int
durable_perform (struct submit *s, struct backend *b,
                 const struct operation *op, uint32_t *epoch, bool *stable)
{
  struct repeats repeats = { 0 };
  int err;

  do
    err = attempt (s, b, op, epoch, stable);
  while (err == EAGAIN && durable_again (s, &repeats, true));
  durable_end_repeats (s, &repeats);
  return err == EAGAIN ? EIO : err;
}
