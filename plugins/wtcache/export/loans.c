/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls to the backend by connections, and loans of connections to helpers.
 *
 * Helpers have no connection of their own.  They borrow a live one that can do
 * what they need, for one act.
 *
 * No errno tells a dead connection from a backend that fails: called from our
 * threads, most plugins report EIO for everything.  So a call by a loan that
 * fails is tried once by another connection, a suspect if there is no better
 * one.  If that succeeds the first is suspect: it lends nothing while others
 * can, until a call of its own client succeeds.  If both fail it is the
 * backend's error.  For example, A's remote has reset the connection, and a
 * helper writes back what B's client wrote: the write fails by A, and succeeds
 * by B, from which helpers borrow from then on.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "export/loans.h"

bool
loans_is_suspect (const struct connection *c)
{
  return atomic_load_explicit (&c->suspect, memory_order_relaxed);
}

bool
loans_fit (const struct connection *c, enum need need)
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

void
loans_give_back (struct connection *c)
{
  LOCK_FOR_SCOPE (&c->export->connections_lock);

  assert (c->borrowers > 0);
  c->borrowers--;
  condition_wake_all (&c->export->connections_changed);
}

/* Whether a call by another connection is as durable as by C, if it may be
 * tried again.  Where both can flush it is a call without FUA, and what they do
 * with FUA does not matter.
 */
static bool
does_the_same (const struct connection *other, const struct connection *c)
{
  const struct backend_traits *t = &c->below->traits,
                              *u = &other->below->traits;

  return u->can_flush == t->can_flush && (t->can_flush || u->fua == t->fua) &&
         u->maximum >= t->maximum;
}

/* Another connection that does the same in the same way, borrowed; or NULL.  A
 * suspect is asked where there is no other, as all may have failed by turns,
 * but not one whose flush hangs.
 */
static struct connection *
borrow_instead (const struct connection *c, enum need need)
{
  LOCK_FOR_SCOPE (&c->export->connections_lock);
  struct connection *other, *best = NULL;

  if (!registry.parallel)
    return NULL;
  for (other = c->export->connections; other; other = other->next)
    if (other != c && other->state == CONNECTION_LENDING &&
        loans_fit (other, need) && does_the_same (other, c) &&
        (!loans_is_suspect (other) || !(best || other->flush.runs))) {
      best = other;
      if (!loans_is_suspect (other))
        break;
    }
  if (best)
    best->borrowers++;
  return best;
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

void
loans_trust (struct connection *c)
{
  if (loans_is_suspect (c))
    atomic_store_explicit (&c->suspect, false, memory_order_relaxed);
}

/* A call of the connection's own client has ended. */
static int
note_own (struct connection *c, int err)
{
  if (err == 0)
    loans_trust (c);
  return err;
}

void
loans_suspect (struct connection *c)
{
  atomic_store_explicit (&c->suspect, true, memory_order_relaxed);
}

/* A failed call whose failure says no more than that it failed.  A FUA call
 * may report that earlier writes were lost, and a fast zero that it is not
 * fast: the caller has to know.
 */
static bool
may_try_again (const struct connection *c, const struct call *k, int err)
{
  if (k->kind == CALL_ZERO && k->flags & ZERO_FAST && err == ENOTSUP)
    return false;
  return !(k->flags & ZERO_FUA) || !c->below->traits.can_flush;
}

static int
call_loan (const struct loan *l, const struct call *k)
{
  struct connection *c = l->connection, *other;
  int err = call_below (c, k);

  if (!l->borrowed)
    note_own (c, err);
  if (err == 0 || !may_try_again (c, k, err))
    return err;
  other = borrow_instead (c, l->need);
  if (other == NULL)
    return err;
  if (call_below (other, k) == 0) {
    loans_suspect (c);
    loans_trust (other);
    err = 0;
  }
  loans_give_back (other);
  return err;
}

/* A call by a connection's own client, or by a loan. */
static int
call (struct backend *b, const struct call *k)
{
  if (b == &b->connection->backend)
    return note_own (b->connection, call_below (b->connection, k));
  return call_loan (container_of (b, struct loan, backend), k);
}

static int
connection_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  const struct call k = {
    .kind = CALL_READ, .buf = buf, .len = len, .offset = offset
  };

  return call (b, &k);
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

  return call (b, &k);
}

static int
connection_zero (struct backend *b, uint32_t len, uint64_t offset,
                 unsigned flags)
{
  const struct call k = {
    .kind = CALL_ZERO, .len = len, .offset = offset, .flags = flags
  };

  return call (b, &k);
}

static int
connection_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  const struct call k = {
    .kind = CALL_TRIM, .len = len, .offset = offset, .flags = fua ? ZERO_FUA : 0
  };

  return call (b, &k);
}

static int
connection_flush (struct backend *b)
{
  struct connection *c = b->connection;

  /* If it fails, all that is unstable becomes dirty: it owes nothing then. */
  atomic_exchange_explicit (&c->owes, false, memory_order_acq_rel);
  return c->below->flush (c->below);
}

void
loans_set_backend (struct backend *b, struct connection *c)
{
  *b = *c->below;
  b->connection = c;
  b->read = connection_read;
  b->write = connection_write;
  b->zero = connection_zero;
  b->trim = connection_trim;
  b->flush = connection_flush;
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
  if (!loans_fit (c, need))
    return 0;
  return (need == NEED_READ || can_make_durable (c) ? 2 : 1) +
         (loans_is_suspect (c) ? 0 : 2);
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
make_loan (struct loan *l, struct connection *c, enum need need, bool borrowed)
{
  l->connection = c;
  l->need = need;
  l->borrowed = borrowed;
  if (c == NULL)
    return NULL;
  loans_set_backend (&l->backend, c);
  return &l->backend;
}

struct backend *
loans_borrow (struct loan *l, struct export *e, enum need need)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  struct connection *c = find_lender (e, need);

  if (c)
    c->borrowers++;
  return make_loan (l, c, need, true);
}

struct backend *
loans_take (struct loan *l, struct export *e, struct backend *own,
            enum need need)
{
  LOCK_FOR_SCOPE (&e->connections_lock);
  struct connection *mine = own ? own->connection : NULL, *c = NULL;
  const unsigned score = mine ? suits (mine, need) : 0;

  if (registry.parallel || own == NULL)
    c = find_lender (e, need);
  if (c == NULL || score >= suits (c, need))
    return make_loan (l, score > 0 ? mine : NULL, need, false);
  c->borrowers++;
  return make_loan (l, c, need, true);
}

void
loans_return (struct loan *l)
{
  if (l->connection && l->borrowed)
    loans_give_back (l->connection);
}
