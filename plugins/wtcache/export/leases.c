/* SPDX-License-Identifier: BSD-3-Clause */

/* The connections of an export, and loans of them to helpers.
 *
 * Helpers have no connection of their own.  They borrow the backend of a live
 * one that can do what they need.  A connection lends from its first data
 * request on: its negotiation is over then.
 *
 * A flush by one connection covers the writes of the others only if the
 * backend promises it (multi-conn) to all of them.  Otherwise a connection owes
 * a flush from its first write until a flush by it has succeeded that began
 * after its last write ended, and a client's flush reaches each connection that
 * owes one.  For example, A and B write, and C flushes: the backend gets a
 * flush by A, one by B and one by C.  When C flushes again it gets only C's.
 *
 * A connection ends in this order: it lends no more, every borrower returns
 * it, it flushes what it owes, flushes no longer reach it.
 */

#include <config.h>

#include <errno.h>

#include "export/dirty.h"
#include "export/leases.h"

void
leases_init (struct export *e, bool multi_conn)
{
  lock_init (&e->lease_lock, RANK_LEASES);
  condition_init (&e->returned);
  e->flushes_each = !multi_conn;
}

void
leases_destroy (struct export *e)
{
  condition_destroy (&e->returned);
  lock_destroy (&e->lease_lock);
}

/* Whether a connection can do what is needed. */
static bool
fits (const struct backend *b, enum need need)
{
  switch (need) {
  case NEED_WRITE:
    return b->traits.can_write;
  case NEED_ZERO:
    return b->traits.can_write && b->traits.can_zero;
  case NEED_FLUSH:
    return b->traits.can_write && b->traits.can_flush;
  default:
    return true;
  }
}

/* Whether its writes can be made durable: nothing is known of them if it can
 * neither flush nor FUA.
 */
static bool
can_make_durable (const struct backend *b)
{
  return b->traits.can_flush || b->traits.fua != FUA_NONE;
}

void
leases_attach (struct export *e, struct backend *b)
{
  LOCK_FOR_SCOPE (&e->lease_lock);

  b->leases = 0;
  b->lendable = b->leaving = false;
  b->next_attached = e->attached;
  e->attached = b;
}

void
leases_lend (struct export *e, struct backend *b)
{
  LOCK_FOR_SCOPE (&e->lease_lock);

  b->lendable = true;
}

struct backend *
leases_borrow (struct export *e, enum need need)
{
  LOCK_FOR_SCOPE (&e->lease_lock);
  struct backend *b, *found = NULL;

  for (b = e->attached; b; b = b->next_attached) {
    if (!b->lendable || !fits (b, need))
      continue;
    if (found == NULL || can_make_durable (b))
      found = b;
    if (need == NEED_READ || can_make_durable (b))
      break;
  }
  if (found)
    found->leases++;
  return found;
}

void
leases_return (struct export *e, struct backend *b)
{
  LOCK_FOR_SCOPE (&e->lease_lock);

  assert (b->leases > 0);
  b->leases--;
  condition_wake_all (&e->returned);
}

struct backend *
leases_take (struct export *e, struct backend *own, enum need need)
{
  const bool suits = own && fits (own, need);
  struct backend *b = NULL;

  if (suits && can_make_durable (own))
    return own;
  if (registry.parallel || own == NULL)
    b = leases_borrow (e, need);
  if (suits && b && !can_make_durable (b)) {
    leases_return (e, b);
    b = NULL;
  }
  return b ? b : suits ? own : NULL;
}

void
leases_put (struct export *e, struct backend *own, struct backend *b)
{
  if (b && b != own)
    leases_return (e, b);
}

/* If it changes whether a flush of one connection covers the others, unstable
 * blocks may be of connections that ended without a flush: they become dirty
 * again, and a flush in progress does not count.
 */
void
leases_agree (struct export *e, bool first, bool multi_conn)
{
  bool changes;

  assert_held (&registry.lock);
  lock_take (&e->lease_lock);
  changes =
      first ? e->flushes_each == multi_conn : !e->flushes_each && !multi_conn;
  if (changes)
    e->flushes_each = !multi_conn;
  lock_drop (&e->lease_lock);
  if (changes)
    pagecache_fail (&e->pc, held_epoch (&e->pc.held));
}

/* The next backend that owes a flush and that flush NUMBER did not take yet. */
static struct backend *
borrow_unflushed (struct export *e, uint64_t number)
{
  LOCK_FOR_SCOPE (&e->lease_lock);
  struct backend *b;

  for (b = e->attached; b; b = b->next_attached)
    if (b->last_flush != number && fits (b, NEED_FLUSH) &&
        atomic_exchange_explicit (&b->unflushed, false, memory_order_acq_rel)) {
      b->last_flush = number;
      b->leases++;
      return b;
    }
  return NULL;
}

/* Flushes BY, and each other connection that owes a flush.  A write sets
 * `unflushed` after it, so a flush that begins later finds it set.
 */
static int
flush_each (struct export *e, struct backend *by, uint64_t number)
{
  struct backend *b;
  int err, first = 0;

  atomic_store_explicit (&by->unflushed, true, memory_order_release);
  while ((b = borrow_unflushed (e, number)) != NULL) {
    err = meter_flush (&e->submit.meter, b);
    if (err != 0)
      atomic_store_explicit (&b->unflushed, true, memory_order_release);
    first = first ? first : err;
    leases_return (e, b);
  }
  return first;
}

int
leases_flush (void *opaque, struct backend *own)
{
  struct export *e = opaque;
  struct backend *by = leases_take (e, own, NEED_FLUSH);
  uint64_t number;
  bool each;
  int err;

  if (by == NULL)
    return EIO;
  lock_take (&e->lease_lock);
  number = ++e->flushes;
  each = e->flushes_each;
  lock_drop (&e->lease_lock);

  err = each ? flush_each (e, by, number) : meter_flush (&e->submit.meter, by);
  leases_put (e, own, by);
  return err;
}

/* Whether only a flush by this connection, which ends, covers its writes. */
static bool
owes_flush (struct export *e, struct backend *b)
{
  struct backend *other;

  assert_held (&e->lease_lock);
  if (!fits (b, NEED_FLUSH))
    return false;
  if (e->flushes_each)
    return atomic_load_explicit (&b->unflushed, memory_order_acquire);
  for (other = e->attached; other; other = other->next_attached)
    if (!other->leaving && fits (other, NEED_FLUSH))
      return false;
  return dirty_is_unstable (e);
}

/* A flush for a connection that ends. */
struct last_flush {
  struct task task;
  struct export *e;
  struct backend *b;
  struct completion completion;
};

static void
run_last_flush (struct task *t)
{
  struct last_flush *f = container_of (t, struct last_flush, task);

  completion_end (&f->completion, durable_flush (&f->e->submit, f->b));
}

/* If the flush fails, all unstable blocks are dirty again, and another
 * connection writes them.  A helper calls, because the connection's own thread
 * has no client any more, and some backends fail its calls at once.
 */
static void
flush_last (struct export *e, struct backend *b)
{
  struct last_flush f = { .task.run = run_last_flush, .e = e, .b = b };

  completion_init (&f.completion);
  completion_begin (&f.completion);
  if (!registry.parallel || !workers_try (&f.task))
    run_last_flush (&f.task);
  completion_wait (&f.completion);
  completion_destroy (&f.completion);
}

static void
wait_returned (struct export *e, struct backend *b)
{
  assert_held (&e->lease_lock);
  while (b->leases > 0)
    condition_wait (&e->returned, &e->lease_lock);
}

void
leases_withdraw (struct export *e, struct backend *b)
{
  struct backend **link = &e->attached;

  lock_take (&e->lease_lock);
  b->lendable = false;
  b->leaving = true;
  wait_returned (e, b); /* it writes nothing from here on */
  if (owes_flush (e, b)) {
    lock_drop (&e->lease_lock);
    flush_last (e, b);
    lock_take (&e->lease_lock);
    wait_returned (e, b); /* flushes for others */
  }
  while (*link != b)
    link = &(*link)->next_attached;
  *link = b->next_attached;
  lock_drop (&e->lease_lock);
}
