/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export, and loans of them to helpers.
 *
 * Helpers have no connection of their own.  They borrow the backend of a live
 * one that can do what they need.  A connection lends from its first data
 * request on: its negotiation is over then.
 *
 *     joining ── first data request ──> lending ──> leaving ──> gone
 *
 * If the backend promises it to all connections (multi-conn), a flush by one
 * covers the writes of the others: but only of one remote.  When a remote dies
 * and returns, its volatile data is gone, the connections to it fail, and a new
 * one succeeds.  So a flush by a connection counts for what ended after it had
 * come.  What ended earlier is covered by a connection that came before that,
 * if its flush succeeds in time; else it becomes dirty and is written again.
 * For example, A writes, B comes and flushes: the backend gets a flush by A. If
 * A is dead, it gets A's writes again, by B, and a flush by B.
 *
 * Otherwise a connection owes a flush from its first write until a flush by it
 * has succeeded that began after its last write ended, and a client's flush
 * reaches each connection that owes one.  For example, A and B write, and C
 * flushes: the backend gets a flush by A, one by B and one by C.  When C
 * flushes again it gets only C's.
 *
 * A flush that fails by one connection while another can flush is repeated,
 * with all that was unstable, and by that other.  The first is suspect.
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

/* A flush by another client's connection is late after so many times what
 * flushes usually take, and after this, ns.
 */
#define LATE_TIMES  8
#define MIN_LATE_NS UINT64_C (1000000000)

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

/* ---- calls to the layer below ---- */

static bool
is_suspect (const struct connection *c)
{
  return atomic_load_explicit (&c->suspect, memory_order_relaxed);
}

/* One call, whichever connection makes it. */
struct call {
  enum backend_call kind;
  void *buf;         /* of a read */
  const void *bytes; /* of a write */
  uint32_t len;
  uint64_t offset;
  unsigned flags; /* enum zero_flag; ZERO_FUA of any kind */
};

static int
call_below (struct connection *c, const struct call *k)
{
  struct backend *b = c->below;
  const bool fua = k->flags & ZERO_FUA;
  int err = 0;

  switch (k->kind) {
  case CALL_READ:
    return b->read (b, k->buf, k->len, k->offset);
  case CALL_WRITE:
    err = b->write (b, k->bytes, k->len, k->offset, fua);
    break;
  case CALL_ZERO:
    err = b->zero (b, k->len, k->offset, k->flags);
    break;
  default:
    err = b->trim (b, k->len, k->offset, fua);
    break;
  }
  /* After it: a flush that begins later finds it. */
  atomic_store_explicit (&c->owes, true, memory_order_release);
  return err;
}

/* A call of the connection's own client has ended. */
static int
note_own (struct connection *c, int err)
{
  if (err == 0 && is_suspect (c))
    atomic_store_explicit (&c->suspect, false, memory_order_relaxed);
  return err;
}

static int
call_own (struct backend *b, const struct call *k)
{
  return note_own (b->connection, call_below (b->connection, k));
}

static int
connection_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  const struct call k = {
    .kind = CALL_READ, .buf = buf, .len = len, .offset = offset
  };

  return call_own (b, &k);
}

static int
connection_write (struct backend *b, const void *bytes, uint32_t len,
                  uint64_t offset, bool fua)
{
  const struct call k = { .kind = CALL_WRITE,
                          .bytes = bytes,
                          .len = len,
                          .offset = offset,
                          .flags = fua ? ZERO_FUA : 0 };

  return call_own (b, &k);
}

static int
connection_zero (struct backend *b, uint32_t len, uint64_t offset,
                 unsigned flags)
{
  const struct call k = {
    .kind = CALL_ZERO, .len = len, .offset = offset, .flags = flags
  };

  return call_own (b, &k);
}

static int
connection_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  const struct call k = {
    .kind = CALL_TRIM, .len = len, .offset = offset, .flags = fua ? ZERO_FUA : 0
  };

  return call_own (b, &k);
}

static int
connection_flush (struct backend *b)
{
  struct connection *c = b->connection;

  /* If it fails, all that is unstable becomes dirty: it owes nothing then. */
  atomic_exchange_explicit (&c->owes, false, memory_order_acq_rel);
  return c->below->flush (c->below);
}

/* A backend that calls by connection C.  Block status takes `next` from it. */
static void
set_backend (struct backend *b, struct connection *c)
{
  *b = *c->below;
  b->connection = c;
  b->read = connection_read;
  b->write = connection_write;
  b->zero = connection_zero;
  b->trim = connection_trim;
  b->flush = connection_flush;
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
  set_backend (&c->backend, c);
}

void
connections_lend (struct connection *c)
{
  struct export *e = c->export;

  LOCK_FOR_SCOPE (&e->connections_lock);
  if (c->state != CONNECTION_JOINING)
    return;
  c->state = CONNECTION_LENDING;
  c->number = pagecache_connect (&e->pc);
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

/* Whether a connection can do what is needed. */
static bool
fits (const struct connection *c, enum need need)
{
  const struct backend_traits *t = &c->below->traits;

  switch (need) {
  case NEED_WRITE:
    return t->can_write;
  case NEED_ZERO:
    return t->can_write && t->can_zero;
  case NEED_FLUSH:
    return t->can_write && t->can_flush;
  default:
    return true;
  }
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
  if (!fits (c, NEED_FLUSH))
    return false;
  if (e->flushes_each)
    return atomic_load_explicit (&c->owes, memory_order_acquire);
  for (other = e->connections; other; other = other->next)
    if (other->state == CONNECTION_LENDING && fits (other, NEED_FLUSH) &&
        !is_suspect (other) && other->number <= covering)
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
  if (!registry.parallel || !workers_try (&f.task))
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

/* ---- loans ---- */

/* Whether its writes can be made durable: nothing is known of them if it can
 * neither flush nor FUA.
 */
static bool
can_make_durable (const struct connection *c)
{
  return c->below->traits.can_flush || c->below->traits.fua != FUA_NONE;
}

/* How well a connection suits a borrower; 0: not at all. */
static unsigned
suits (const struct connection *c, enum need need)
{
  if (!fits (c, need))
    return 0;
  return need == NEED_READ || can_make_durable (c) ? 2 : 1;
}

/* The lending connection that suits best, or NULL. */
static struct connection *
find_lender (struct export *e, enum need need)
{
  struct connection *c, *best = NULL;
  unsigned score = 0;

  assert_held (&e->connections_lock);
  for (c = e->connections; c; c = c->next)
    if (c->state == CONNECTION_LENDING && suits (c, need) > score) {
      best = c;
      score = suits (c, need);
    }
  return best;
}

/* A loan of C, which is the caller's own or is borrowed. */
static struct backend *
make_loan (struct loan *l, struct connection *c, bool borrowed)
{
  l->connection = c;
  l->borrowed = borrowed;
  if (c == NULL)
    return NULL;
  set_backend (&l->backend, c);
  return &l->backend;
}

struct backend *
connections_borrow (struct loan *l, struct export *e, enum need need)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  struct connection *c = find_lender (e, need);

  if (c)
    c->borrowers++;
  return make_loan (l, c, true);
}

struct backend *
connections_take (struct loan *l, struct export *e, struct backend *own,
                  enum need need)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  struct connection *mine = own ? own->connection : NULL, *c = NULL;
  const unsigned score = mine ? suits (mine, need) : 0;

  if (registry.parallel || own == NULL)
    c = find_lender (e, need);
  if (c == NULL || score >= suits (c, need))
    return make_loan (l, score > 0 ? mine : NULL, false);
  c->borrowers++;
  return make_loan (l, c, true);
}

static void
return_connection (struct connection *c)
{
  LOCK_FOR_SCOPE (&c->export->connections_lock);

  assert (c->borrowers > 0);
  c->borrowers--;
  condition_wake_all (&c->export->connections_changed);
}

void
connections_return (struct loan *l)
{
  if (l->connection && l->borrowed)
    return_connection (l->connection);
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
    pagecache_fail (&e->pc, held_epoch (&e->pc.held));
}

/* A flush that is begun for all connections. */
struct flush_all {
  struct export *e;
  uint64_t number;
  struct connection *mine; /* the caller's, which it calls itself */
};

/* How well a connection suits to flush; 0: not at all.  Another's is called by
 * a helper.
 */
static unsigned
suits_to_flush (const struct flush_all *f, const struct connection *c)
{
  const bool mine = c == f->mine;

  if (!fits (c, NEED_FLUSH) ||
      (!mine && (c->state != CONNECTION_LENDING || !registry.parallel)))
    return 0;
  return (is_suspect (c) ? 1 : 3) + mine;
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
    if (c->last_flush != f->number && fits (c, NEED_FLUSH) &&
        (c == by || atomic_load_explicit (&c->owes, memory_order_acquire))) {
      c->last_flush = f->number;
      c->borrowers++;
      return c;
    }
  return NULL;
}

static void
run_flush_for_another (struct task *t)
{
  struct connection *c = container_of (t, struct connection, flush.task);
  struct export *e = c->export;
  const int err = meter_flush (&e->submit.meter, &c->backend);

  LOCK_FOR_SCOPE (&e->connections_lock);
  c->flush.error = err;
  c->flush.runs = false;
  c->borrowers--;
  condition_wake_all (&e->connections_changed);
}

/* How long another client's connection may take for a flush, ns. */
static uint64_t
usual_time (struct export *e)
{
  LOCK_FOR_SCOPE (&e->submit.lock);

  return max_u64 (MIN_LATE_NS, LATE_TIMES * e->submit.flush_latency);
}

/* Flushes by another client's connection, which may be dead or hang: a helper
 * calls it.  EAGAIN: there is none.
 */
static int
flush_by_helper (struct connection *c)
{
  struct export *e = c->export;
  const uint64_t deadline = now_ns () + usual_time (e);
  LOCK_FOR_SCOPE (&e->connections_lock);

  if (c->flush.runs) /* it has been late before */
    return EIO;
  c->flush.task.run = run_flush_for_another;
  c->flush.runs = true;
  c->borrowers++;
  if (!workers_try (&c->flush.task)) {
    c->flush.runs = false;
    c->borrowers--;
    return EAGAIN;
  }
  while (c->flush.runs && condition_wait_until (&e->connections_changed,
                                                &e->connections_lock, deadline))
    ;
  return c->flush.runs ? EIO : c->flush.error;
}

/* Flushes by a connection that is the caller's own or borrowed. */
static int
flush_connection (const struct flush_all *f, struct connection *c)
{
  int err;

  if (c == f->mine)
    err = meter_flush (&f->e->submit.meter, &c->backend);
  else
    err = flush_by_helper (c);
  if (err != 0 && err != EAGAIN) {
    lock_take (&f->e->connections_lock);
    c->failed_flush = f->number;
    lock_drop (&f->e->connections_lock);
  }
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
    return_connection (c);
  }
  return first;
}

/* Whether a connection can be asked by which this flush has not failed. */
static bool
is_another (const struct flush_all *f)
{
  struct connection *c;

  assert_held (&f->e->connections_lock);
  for (c = f->e->connections; c; c = c->next)
    if (suits_to_flush (f, c) > 0 && !is_suspect (c) &&
        c->failed_flush != f->number)
      return true;
  return false;
}

/* The error of a flush that failed.  EAGAIN, if another connection may do
 * better when all that was unstable is written again: those that failed are
 * suspect.
 */
static int
blame (const struct flush_all *f, int err)
{
  LOCK_FOR_SCOPE (&f->e->connections_lock);
  struct connection *c;

  if (err == EAGAIN || !is_another (f))
    return err;
  for (c = f->e->connections; c; c = c->next)
    if (c->failed_flush == f->number)
      atomic_store_explicit (&c->suspect, true, memory_order_relaxed);
  return EAGAIN;
}

/* Begins a flush.  *BY: the connection that flushes, borrowed; NULL, and the
 * error: none can, or EAGAIN: none that covers what is unstable.
 */
static int
begin_flush_all (struct flush_all *f, struct connection **by, bool *each)
{
  LOCK_FOR_SCOPE (&f->e->connections_lock);
  const uint64_t covering = held_covering (&f->e->pc.held);

  f->number = ++f->e->flushes;
  *each = f->e->flushes_each;
  *by = find_flusher (f, *each ? UINT64_MAX : covering);
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
  bool each;
  int err;

  err = begin_flush_all (&f, &by, &each);
  if (by == NULL)
    return err;
  err = each ? flush_each (&f, by) : flush_connection (&f, by);
  return_connection (by);
  return err == 0 ? 0 : blame (&f, err);
}
