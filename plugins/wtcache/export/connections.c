/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export, and loans of them to helpers.
 *
 * Helpers have no connection of their own.  They borrow the backend of a live
 * one that can do what they need.  A connection lends from its first data
 * request on: its negotiation is over then.
 *
 *     joining ── first data request ──> lending ──> leaving ──> gone
 *
 * A flush by one connection covers the writes of the others only if the
 * backend promises it (multi-conn) to all of them.  Otherwise a connection owes
 * a flush from its first write until a flush by it has succeeded that began
 * after its last write ended, and a client's flush reaches each connection that
 * owes one.  For example, A and B write, and C flushes: the backend gets a
 * flush by A, one by B and one by C.  When C flushes again it gets only C's.
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

static int
connection_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  const struct call k = {
    .kind = CALL_READ, .buf = buf, .len = len, .offset = offset
  };

  return call_below (b->connection, &k);
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

  return call_below (b->connection, &k);
}

static int
connection_zero (struct backend *b, uint32_t len, uint64_t offset,
                 unsigned flags)
{
  const struct call k = {
    .kind = CALL_ZERO, .len = len, .offset = offset, .flags = flags
  };

  return call_below (b->connection, &k);
}

static int
connection_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  const struct call k = {
    .kind = CALL_TRIM, .len = len, .offset = offset, .flags = fua ? ZERO_FUA : 0
  };

  return call_below (b->connection, &k);
}

static int
connection_flush (struct backend *b)
{
  struct connection *c = b->connection;
  const bool owed =
      atomic_exchange_explicit (&c->owes, false, memory_order_acq_rel);
  const int err = c->below->flush (c->below);

  if (err != 0 && owed)
    atomic_store_explicit (&c->owes, true, memory_order_release);
  return err;
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

/* Whether only a flush by this connection, which leaves, covers its writes. */
static bool
owes_last_flush (const struct connection *c)
{
  struct export *e = c->export;
  struct connection *other;

  assert_held (&e->connections_lock);
  if (!fits (c, NEED_FLUSH))
    return false;
  if (e->flushes_each)
    return atomic_load_explicit (&c->owes, memory_order_acquire);
  for (other = e->connections; other; other = other->next)
    if (other->state == CONNECTION_LENDING && fits (other, NEED_FLUSH))
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

/* The next connection that flush NUMBER has not taken yet and that owes a
 * flush, or is BY.
 */
static struct connection *
borrow_unflushed (struct export *e, struct connection *by, uint64_t number)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  struct connection *c;

  for (c = e->connections; c; c = c->next)
    if (c->last_flush != number && fits (c, NEED_FLUSH) &&
        (c == by || atomic_load_explicit (&c->owes, memory_order_acquire))) {
      c->last_flush = number;
      c->borrowers++;
      return c;
    }
  return NULL;
}

/* Flushes BY, and each other connection that owes a flush. */
static int
flush_each (struct export *e, struct connection *by, uint64_t number)
{
  struct connection *c;
  int err, first = 0;

  while ((c = borrow_unflushed (e, by, number)) != NULL) {
    err = meter_flush (&e->submit.meter, &c->backend);
    first = first ? first : err;
    return_connection (c);
  }
  return first;
}

int
connections_flush (void *opaque, struct backend *own)
{
  struct export *e = opaque;
  struct backend *b;
  struct loan by;
  uint64_t number;
  bool each;
  int err;

  b = connections_take (&by, e, own, NEED_FLUSH);
  if (b == NULL)
    return EIO;
  lock_take (&e->connections_lock);
  number = ++e->flushes;
  each = e->flushes_each;
  lock_drop (&e->connections_lock);

  err = each ? flush_each (e, by.connection, number)
             : meter_flush (&e->submit.meter, b);
  connections_return (&by);
  return err;
}
