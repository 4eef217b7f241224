/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export: their lives, and flushes of all of them.
 *
 * A connection lends its backend to helpers from its first data request on: its
 * negotiation is over then.
 *
 *     joining ── first data request ──> lending ──> leaving ──> gone
 *
 * If the backend promises it to all connections (multi-conn), a flush by one
 * covers the writes of the others: but only of one remote.  When a remote dies
 * and returns, its volatile data is gone, the connections to it fail, and a new
 * one succeeds.  So a flush by a connection counts for what ended after it had
 * come.  A write that ended earlier is covered by a connection that came before
 * that, if its flush succeeds in time; else it becomes dirty and is written
 * again.  For example, A writes, B comes and flushes: the backend gets a flush
 * by A. If A is dead, it gets A's writes again, by B, and a flush by B.
 *
 * Otherwise a connection owes a flush from its first write until a flush by it
 * has succeeded that began after its last write ended, and a client's flush
 * reaches each connection that owes one.  For example, A and B write, and C
 * flushes: the backend gets a flush by A, one by B and one by C.  When C
 * flushes again it gets only C's.
 *
 * No errno tells a dead connection from a backend that fails.  So a helper's
 * call that fails is tried once by another connection, and a flush that fails
 * is repeated by another with all that was unstable.  If that succeeds the
 * first is suspect: it lends nothing while others can, until a call of its own
 * client succeeds, or a flush that was late.  If both fail it is the backend's
 * error.
 *
 * A connection leaves in this order: it lends no more, every borrower returns
 * it, it flushes what it owes, flushes no longer reach it.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "export/connections.h"
#include "export/dirty.h"
#include "export/loans.h"
#include "export/shares.h"

/* A flush by another client's connection is late after so many times what
 * flushes usually take, and after this, ns.
 */
#define LATE_TIMES  8
#define MIN_LATE_NS UINT64_C (1000000000)
#define LATE        (-1) /* no errno: no call has returned one */

void
connections_init (struct export *e, bool multi_conn)
{
  lock_init (&e->connections_lock, RANK_LOANS);
  condition_init (&e->connections_changed);
  e->flushes_each = !multi_conn;
}

void
connections_destroy (struct export *e)
{
  condition_destroy (&e->connections_changed);
  lock_destroy (&e->connections_lock);
}

/* ---- its life ---- */

void
connections_join (struct connection *c, struct export *e, struct backend *below)
{
  memset (c, 0, sizeof *c);
  c->below = below;
  c->export = e;
  c->state = CONNECTION_JOINING;
  c->number = UINT64_MAX;
  loans_set_backend (&c->backend, c);
}

void
connections_lend (struct connection *c)
{
  struct export *e = c->export;

  LOCK_FOR_SCOPE (&e->connections_lock);
  if (c->state != CONNECTION_JOINING)
    return;
  c->state = CONNECTION_LENDING;
  c->number = ledger_connect (&e->pc);
  c->next = e->connections;
  e->connections = c;
}

static void
wait_returned (struct connection *c)
{
  assert_held (&c->export->connections_lock);
  while (c->borrowers > 0)
    condition_wait (&c->export->connections_changed,
                    &c->export->connections_lock);
}

static void
unlink_connection (struct connection *c)
{
  struct connection **link = &c->export->connections;

  assert_held (&c->export->connections_lock);
  while (*link != c)
    link = &(*link)->next;
  *link = c->next;
}

/* Whether only a flush by this connection, which leaves, covers what is
 * unstable.
 */
static bool
owes_last_flush (const struct connection *c)
{
  struct export *e = c->export;
  const uint64_t covering = held_covering (&e->pc.held);
  struct connection *other;

  assert_held (&e->connections_lock);
  if (!loans_fit (c, NEED_FLUSH))
    return false;
  if (e->flushes_each)
    return atomic_load_explicit (&c->owes, memory_order_acquire);
  for (other = e->connections; other; other = other->next)
    if (other->state == CONNECTION_LENDING && loans_fit (other, NEED_FLUSH) &&
        !loans_is_suspect (other) && other->number <= covering)
      return false;
  return dirty_is_unstable (e);
}

/* A flush for a connection that leaves. */
struct last_flush {
  struct task task;
  struct connection *c;
  struct completion completion;
};

static void
run_last_flush (struct task *t)
{
  struct last_flush *f = container_of (t, struct last_flush, task);

  completion_end (&f->completion,
                  durable_flush (&f->c->export->submit, &f->c->backend));
}

/* If the flush fails, all unstable blocks are dirty again, and another
 * connection writes them.  A helper calls, because the connection's own thread
 * has no client any more, and some backends fail its calls at once.
 */
static void
flush_last (struct connection *c)
{
  struct last_flush f = { .task.run = run_last_flush, .c = c };

  completion_init (&f.completion);
  completion_begin (&f.completion);
  if (!shares_allow_helpers (c->export) ||
      !workers_try (c->export->number, &f.task, URGENCY_BESIDE))
    run_last_flush (&f.task);
  completion_wait (&f.completion);
  completion_destroy (&f.completion);
}

void
connections_leave (struct connection *c)
{
  struct export *e = c->export;

  lock_take (&e->connections_lock);
  if (c->state == CONNECTION_LENDING) {
    c->state = CONNECTION_LEAVING;
    wait_returned (c); /* it writes nothing from here on */
    if (owes_last_flush (c)) {
      lock_drop (&e->connections_lock);
      flush_last (c);
      lock_take (&e->connections_lock);
      wait_returned (c); /* flushes for others */
    }
    unlink_connection (c);
  }
  c->state = CONNECTION_GONE;
  lock_drop (&e->connections_lock);
}

/* ---- flushes ---- */

/* If it changes whether a flush of one connection covers the others, unstable
 * blocks may be of connections that ended without a flush: they become dirty
 * again, and a flush in progress does not count.
 */
void
connections_agree (struct export *e, bool first, bool multi_conn)
{
  bool changes;

  assert_held (&registry.lock);
  lock_take (&e->connections_lock);
  changes =
      first ? e->flushes_each == multi_conn : !e->flushes_each && !multi_conn;
  if (changes)
    e->flushes_each = !multi_conn;
  lock_drop (&e->connections_lock);
  if (changes)
    ledger_fail (&e->pc, held_epoch (&e->pc.held));
}

/* A flush that is begun for all connections. */
struct flush_all {
  struct export *e;
  uint64_t number;
  unsigned nr;             /* connections when it began */
  struct connection *mine; /* the caller's, which it calls itself */
  bool each;               /* only a connection's own flush covers its writes */
  uint64_t covering; /* else a flush by those numbered so or less covers all */
};

/* Whether it has not failed a flush, or since it did each connection has had
 * its turn.
 */
static bool
is_its_turn (const struct flush_all *f, const struct connection *c)
{
  return c->failed_flush == 0 || f->number - c->failed_flush > f->nr;
}

/* How well a connection suits to flush; 0: not at all.  Another's is called by
 * a helper.  A flush that is repeated because it is the turn of one asks it.
 */
static unsigned
suits_to_flush (const struct flush_all *f, const struct connection *c)
{
  const bool mine = c == f->mine;

  if (!loans_fit (c, NEED_FLUSH) ||
      (!mine && (c->state != CONNECTION_LENDING || !registry.parallel)))
    return 0;
  return (loans_is_suspect (c) || !is_its_turn (f, c) ? 1 : 3) + mine;
}

/* The connection that suits best of those that came as number LAST at the
 * latest; or NULL.
 */
static struct connection *
find_flusher (const struct flush_all *f, uint64_t last)
{
  struct connection *c, *best = NULL;
  unsigned score = 0;

  assert_held (&f->e->connections_lock);
  for (c = f->e->connections; c; c = c->next)
    if (c->number <= last && suits_to_flush (f, c) > score) {
      best = c;
      score = suits_to_flush (f, c);
    }
  return best;
}

/* The next connection that this flush has not taken yet and that owes a flush,
 * or is BY.
 */
static struct connection *
borrow_unflushed (const struct flush_all *f, const struct connection *by)
{
  LOCK_FOR_SCOPE (&f->e->connections_lock);
  struct connection *c;

  for (c = f->e->connections; c; c = c->next)
    if (c->last_flush != f->number && loans_fit (c, NEED_FLUSH) &&
        (c == by || atomic_load_explicit (&c->owes, memory_order_acquire))) {
      c->last_flush = f->number;
      c->borrowers++;
      return c;
    }
  return NULL;
}

/* Calls the backend.  The errors of a connection that is dead say nothing of
 * how long a flush takes.
 */
static int
flush_and_time (struct connection *c)
{
  struct export *e = c->export;
  const uint64_t began = now_ns ();
  const int err = meter_flush (&e->submit.meter, &c->backend);

  if (err == 0) {
    LOCK_FOR_SCOPE (&e->connections_lock);
    e->flush_times[e->timed_flushes++ % ARRAY_LEN (e->flush_times)] =
        now_ns () - began;
  }
  return err;
}

static void
run_flush_for_another (struct task *t)
{
  struct connection *c = container_of (t, struct connection, flush.task);
  struct export *e = c->export;
  const int err = flush_and_time (c);

  LOCK_FOR_SCOPE (&e->connections_lock);
  c->flush.error = err;
  c->flush.runs = false;
  if (err == 0 && c->failed_flush != 0) { /* it was late: slow, not dead */
    c->failed_flush = 0;
    loans_trust (c);
  }
  c->borrowers--;
  condition_wake_all (&e->connections_changed);
}

/* A time that each of the last flushes took at least, in ns. */
static uint64_t
min_time (struct export *e)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  uint64_t min = UINT64_MAX;
  unsigned i;

  for (i = 0; i < ARRAY_LEN (e->flush_times); ++i)
    min = min_u64 (min, e->flush_times[i]);
  return min;
}

/* How long another client's connection may take for a flush, ns.  One flush
 * that hangs hardly moves the mean, nor do the first of a backend that has
 * become slow: but then each of the last ones took longer.  For example,
 * flushes took 1 ms, and take 9 s from now on: three are late after 1 s, the
 * next is not.
 */
static uint64_t
usual_time (struct export *e)
{
  const uint64_t min = min_time (e);
  LOCK_FOR_SCOPE (&e->submit.lock);

  return max_u64 (MIN_LATE_NS,
                  LATE_TIMES * max_u64 (min, e->submit.flush_latency));
}

/* Whether a connection other than C could flush, and is not busy with a flush
 * that is late itself.
 */
static bool
is_other_free (const struct flush_all *f, const struct connection *c)
{
  struct connection *other;

  assert_held (&f->e->connections_lock);
  for (other = f->e->connections; other; other = other->next)
    if (other != c && !other->flush.runs && suits_to_flush (f, other) > 0)
      return true;
  return false;
}

/* Waits for a helper's flush by C.  False: it is late.  Where no other
 * connection is free to flush, it is waited for as the backend is: to give up
 * would be an error that no call has returned.  For example, each flush begins
 * to take 5 s: one by A is late after 1 s, and one by B after that is not.
 */
static bool
wait_flushed (const struct flush_all *f, const struct connection *c,
              uint64_t deadline)
{
  uint64_t now;

  assert_held (&f->e->connections_lock);
  while (c->flush.runs) {
    now = now_ns ();
    if (now >= deadline) {
      if (is_other_free (f, c))
        return false;
      deadline = now + MIN_LATE_NS; /* one may come */
    }
    condition_wait_until (&f->e->connections_changed, &f->e->connections_lock,
                          deadline);
  }
  return true;
}

/* Flushes by another client's connection, which may be dead or hang: a helper
 * calls it.  EAGAIN: there is none.  LATE: it is late.
 */
static int
flush_by_helper (const struct flush_all *f, struct connection *c)
{
  struct export *e = c->export;
  const uint64_t deadline = now_ns () + usual_time (e);
  LOCK_FOR_SCOPE (&e->connections_lock);

  if (!wait_flushed (f, c, 0)) /* it has been late before */
    return LATE;
  c->flush.task.run = run_flush_for_another;
  c->flush.runs = true;
  c->borrowers++;
  if (!workers_try (e->number, &c->flush.task, URGENCY_BESIDE)) {
    c->flush.runs = false;
    c->borrowers--;
    return EAGAIN;
  }
  return wait_flushed (f, c, deadline) ? c->flush.error : LATE;
}

/* Flushes by a connection that is the caller's own or borrowed.  If only that
 * flush covers its writes, the caller calls it where no helper is free; over a
 * serial stack only its own client may, so its writes are written again.
 */
static int
flush_connection (const struct flush_all *f, struct connection *c)
{
  int err = EAGAIN;

  if (c != f->mine && !registry.parallel) {
    atomic_exchange_explicit (&c->owes, false, memory_order_acq_rel);
    return EAGAIN;
  }
  if (c != f->mine)
    err = flush_by_helper (f, c);
  if (err == EAGAIN && (c == f->mine || f->each))
    err = flush_and_time (c);
  if (err == EAGAIN)
    return err;
  /* All that is unstable becomes dirty, and this is before the epoch changes:
   * so it owes nothing then, though its flush may still hang.
   */
  if (err != 0)
    atomic_exchange_explicit (&c->owes, false, memory_order_acq_rel);
  lock_take (&f->e->connections_lock);
  c->failed_flush = err != 0 ? f->number : 0;
  lock_drop (&f->e->connections_lock);
  return err;
}

/* Flushes BY, and each other connection that owes a flush. */
static int
flush_each (const struct flush_all *f, const struct connection *by)
{
  struct connection *c;
  int err, first = 0;

  while ((c = borrow_unflushed (f, by)) != NULL) {
    err = flush_connection (f, c);
    first = first ? first : err;
    loans_give_back (c);
  }
  return first;
}

/* Whether a connection can be asked that has not failed a flush just now.  That
 * it takes writes says nothing, as a backend may fail each flush alone.
 */
static bool
is_another (const struct flush_all *f)
{
  struct connection *c;

  assert_held (&f->e->connections_lock);
  for (c = f->e->connections; c; c = c->next)
    if (suits_to_flush (f, c) > 0 && !loans_is_suspect (c) &&
        is_its_turn (f, c))
      return true;
  return false;
}

/* The error of a flush that failed.  EAGAIN, if another connection may do
 * better when all that was unstable is written again: those that failed are
 * suspect.  One that is late leaves another free: see wait_flushed.
 */
static int
blame (const struct flush_all *f, int err)
{
  LOCK_FOR_SCOPE (&f->e->connections_lock);
  struct connection *c;

  if (err == EAGAIN || (err != LATE && !is_another (f)))
    return err;
  for (c = f->e->connections; c; c = c->next)
    if (c->failed_flush == f->number)
      loans_suspect (c);
  return EAGAIN;
}

/* Begins a flush.  *BY: the connection that flushes, borrowed; NULL, and the
 * error: none can, or EAGAIN: none that covers what is unstable.
 */
static int
begin_flush_all (struct flush_all *f, struct connection **by)
{
  LOCK_FOR_SCOPE (&f->e->connections_lock);
  struct connection *c;

  f->number = ++f->e->flushes;
  f->nr = 0;
  for (c = f->e->connections; c; c = c->next)
    f->nr++;
  f->each = f->e->flushes_each;
  f->covering = f->each ? UINT64_MAX : held_covering (&f->e->pc.held);
  *by = find_flusher (f, f->covering);
  if (*by) {
    (*by)->borrowers++;
    return 0;
  }
  return find_flusher (f, UINT64_MAX) ? EAGAIN : EIO;
}

int
connections_flush (void *opaque, struct backend *own)
{
  struct flush_all f = { .e = opaque, .mine = own->connection };
  struct connection *by;
  int err;

  err = begin_flush_all (&f, &by);
  if (by == NULL)
    return err;
  err = f.each ? flush_each (&f, by) : flush_connection (&f, by);
  loans_give_back (by);
  /* No helper is free to ask a better one, or that is late. */
  if ((err == EAGAIN || err == LATE) && !f.each &&
      f.mine->number <= f.covering && loans_fit (f.mine, NEED_FLUSH))
    err = flush_connection (&f, f.mine);
  return err == 0 ? 0 : blame (&f, err);
}
