/* SPDX-License-Identifier: BSD-3-Clause */

/* When dirty blocks are written to the backend: flush, bounds, age, drain.
 *
 * All of these are the same act, a pass: it goes once over the held pages of
 * an export by offset, and writes the blocks that became dirty before it
 * began, in batches as large as they come.  Several threads may share a pass;
 * each takes the next batch at its cursor.
 *
 * A flush is a pass over everything, a wait for what others have in flight,
 * and one flush of the backend.  Background work is a pass that ends when
 * enough is clean, and yields to flushes.  A drain is flushes until one
 * succeeds or its time is over.
 *
 * For example, pages 1 to 4 and 9 are dirty.  A pass writes 1 to 4 as one batch
 * and 9 as another.  If a client writes page 2 again behind the cursor, the
 * next pass writes it.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "base/probes.h"
#include "export/dirty.h"
#include "export/heirs.h"
#include "export/loans.h"
#include "export/refusal.h"
#include "export/shares.h"
#include "export/writeback.h"

#define MAX_HELPERS   16
#define RETRY_NS      UINT64_C (1000000000) /* when the backend refuses */
#define DRAIN_WAIT_NS UINT64_C (200000000)

/* Of the bound: background work begins, and ends; unstable data is flushed. */
#define BEGIN_AT(bound) ((bound) / 2)
#define END_AT(bound)   ((bound) / 4)
#define FLUSH_AT(bound) ((bound) / 4)

struct pass {
  struct export *e;
  uint32_t number;   /* takes what became dirty before this pass ended */
  int64_t enough;    /* ends when so few bytes are dirty; -1: goes over all */
  bool background;   /* ends when a flush comes */
  uint64_t deadline; /* ns; 0: none */
  uint64_t turn;     /* of a flush: before writes that came after it; or 0 */
  struct completion completion;

  struct lock lock; /* RANK_PASS */
  /* Guarded by lock. */
  uint64_t index; /* the cursor: a page, and a block of it */
  uint32_t block;
  uint64_t run; /* bytes of the last batch: the next is likely alike */
  unsigned nr_helpers;
  struct helper {
    struct task task;
    struct pass *pass;
  } helpers[MAX_HELPERS];
  bool busy; /* blocks were passed over because they were in flight … */
  uint64_t busy_index; /* … first in this page */
};

static void
pass_init (struct pass *p, struct export *e, int64_t enough)
{
  memset (p, 0, sizeof *p);
  p->e = e;
  p->number = held_begin_pass (&e->pc.held);
  p->enough = enough;
  p->run = pagecache_amounts (&e->pc).dirty;
  lock_init (&p->lock, RANK_PASS);
  completion_init (&p->completion);
}

static void
pass_destroy (struct pass *p)
{
  completion_destroy (&p->completion);
  lock_destroy (&p->lock);
}

/* Copies one more run, from the cursor on, to TO.  LATER: blocks that became
 * dirty after the pass began count too.
 */
static struct span
gather_run (struct pass *p, uint32_t before, uint64_t max, bool later,
            uint8_t *to)
{
  struct pagecache *pc = &p->e->pc;
  bool busy = false;
  struct span s;

  assert_held (&p->lock);
  s = page_gather (pc, p->index, p->block, before, max >> pc->block_shift,
                   p->number, later, to, &busy);
  if (busy && !p->busy) {
    p->busy = true;
    p->busy_index = p->index;
  }
  return s;
}

/* Copies the next batch at the cursor, at most MAX bytes, to TO, and puts its
 * blocks in writeback.  Returns its length in bytes, 0 if there is none.  A
 * batch continues with blocks that became dirty after the pass began: a
 * client's writes that end during its flush would be small writes of the next
 * flush.
 */
static uint64_t
gather_batch (struct pass *p, uint8_t *to, uint64_t max, uint64_t *offset)
{
  LOCK_FOR_SCOPE (&p->lock);
  struct pagecache *pc = &p->e->pc;
  const uint32_t blocks = page_size (pc) >> pc->block_shift;
  uint64_t index = p->index, len = 0;
  struct span s = { 0 };
  struct part part;

  while (s.count == 0) {
    if (!pagecache_next_held (pc, &index))
      return 0;
    if (index != p->index)
      p->block = 0;
    p->index = index;
    s = gather_run (p, blocks, max, false, to);
    if (s.count == 0)
      index++;
  }
  *offset = (index << pc->page_shift) + ((uint64_t) s.first << pc->block_shift);
  for (;;) {
    part = span_part (pc, p->index, s);
    len += part.len;
    p->block = s.first + s.count;
    if (p->block < blocks || len >= max || *offset + len >= pc->size)
      break;
    p->index++;
    p->block = 0;
    s = gather_run (p, 1, max - len, true, to + len);
    if (s.count == 0)
      break;
  }
  p->run = len;
  return len;
}

/* Whether the pass has reached its end before the last held page. */
static bool
is_enough (struct pass *p)
{
  if (p->enough >= 0 && pagecache_amounts (&p->e->pc).dirty <= p->enough)
    return true;
  if (p->background &&
      atomic_load_explicit (&p->e->writeback.passes, memory_order_relaxed) > 0)
    return true;
  return p->deadline != 0 && now_ns () >= p->deadline;
}

/* How large a buffer the next batch is worth: a small one where runs are
 * short, so that many are in flight.
 */
static uint64_t
buffer_size (struct pass *p, const struct backend *b)
{
  LOCK_FOR_SCOPE (&p->lock);
  const uint64_t small = max_u64 (64 * KiB, block_size (&p->e->pc));
  const uint64_t max =
      min_u64 (memory_batch_size (p->e->memory), b->traits.maximum);

  return p->run < small ? min_u64 (small, max) : max;
}

static void run_pass_helper (struct task *t);

/* Lets one more thread join the pass, if the depth of the backend allows one
 * more batch.
 */
static void
begin_helper (struct pass *p)
{
  struct helper *h = NULL;
  unsigned limit;

  if (!shares_allow_helpers (p->e))
    return;
  lock_take (&p->e->submit.lock);
  limit = depth_limit (&p->e->submit.policy.depth);
  lock_drop (&p->e->submit.lock);

  lock_take (&p->lock);
  /* One beyond those in flight is ready when one of them ends. */
  if (p->nr_helpers < MAX_HELPERS && p->nr_helpers < limit) {
    h = &p->helpers[p->nr_helpers++];
    *h = (struct helper){ .task.run = run_pass_helper, .pass = p };
    completion_begin (&p->completion);
  }
  lock_drop (&p->lock);
  /* Without a thread the slot stays unused: the next try would fail too. */
  if (h && !workers_try (p->e->number, &h->task, URGENCY_BESIDE))
    completion_end (&p->completion, 0);
}

static bool
is_more (struct pass *p)
{
  LOCK_FOR_SCOPE (&p->lock);
  uint64_t index = p->index + 1;

  return pagecache_next_held (&p->e->pc, &index);
}

/* Writes one batch; false: there was none left. */
static bool
write_batch (struct pass *p, struct backend *b)
{
  struct export *e = p->e;
  size_t size = buffer_size (p, b);
  uint8_t *buffer =
      batch_buffer_get (e->memory, &e->pc.borrower, block_size (&e->pc), &size);
  struct write w = { .bytes = buffer, .turn = p->turn };
  struct open_write open = { 0 };
  uint64_t len;

  open_begin (&e->pc, &open);
  len = gather_batch (p, buffer, size, &w.offset);
  if (len > 0) {
    if (is_more (p))
      begin_helper (p);
    w.len = len;
    completion_fail (&p->completion, submit_write (&e->submit, b, &w));
  }
  open_end (&e->pc, &open);
  batch_buffer_put (e->memory, &e->pc.borrower, buffer, size);
  return len > 0;
}

/* Takes batches until none is left. */
static void
run_pass (struct pass *p, struct backend *own)
{
  struct export *e = p->e;
  struct backend *b;
  struct loan loan;
  bool more = true;

  while (more && !is_enough (p)) {
    b = loans_take (&loan, e, own, NEED_WRITE);
    if (b == NULL)
      completion_fail (&p->completion, ENOTCONN);
    more = b && write_batch (p, b);
    loans_return (&loan);
  }
}

static void
run_pass_helper (struct task *t)
{
  struct pass *p = container_of (t, struct helper, task)->pass;

  run_pass (p, NULL);
  completion_end (&p->completion, 0);
}

/* Goes over the export once, from the cursor on, with as many threads as it has
 * batches for, up to the depth.
 */
static int
sweep (struct pass *p, struct backend *own)
{
  struct pagecache *pc = &p->e->pc;
  int err;

  PROBE2 (writeback__begin, export_number (pc), pagecache_amounts (pc).dirty);
  p->nr_helpers = 0;
  run_pass (p, own);
  err = completion_wait (&p->completion);
  PROBE3 (writeback__end, export_number (pc), pagecache_amounts (pc).dirty,
          err);
  return err;
}

/* Records whether the backend took the writes of a pass. */
static void
note_result (struct export *e, int err)
{
  /* Without a connection the backend was not called. */
  if (err == ENOTCONN)
    return;
  if (err != 0)
    atomic_store_explicit (&e->writeback.retry, now_ns () + RETRY_NS,
                           memory_order_relaxed);
  refusal_note (e, err);
}

/* A pass over everything that became dirty before it.  Blocks that another
 * thread has in flight are waited for, and written if they are dirty then.
 */
static int
pass_over_all (struct export *e, struct backend *own, uint64_t deadline)
{
  struct pagecache *pc = &e->pc;
  struct pass p;
  int err;

  pass_init (&p, e, -1);
  p.deadline = deadline;
  p.turn = submit_turn (&e->submit);
  for (;;) {
    err = sweep (&p, own);
    if (!p.busy || (deadline != 0 && now_ns () >= deadline))
      break;
    p.busy = false;
    p.index = p.busy_index;
    p.block = 0;
    PROBE2 (wait__begin, export_number (pc), WAIT_IN_FLIGHT);
    page_wait_busy (pc, p.index, p.number);
    PROBE2 (wait__end, export_number (pc), WAIT_IN_FLIGHT);
  }
  if (err == 0 && deadline != 0 && pagecache_amounts (pc).dirty > 0 &&
      now_ns () >= deadline)
    err = ETIMEDOUT;
  pass_destroy (&p);
  return err;
}

/* Zeroes them by a connection that can only write.  FAILED: the one that can
 * zero and has failed with ERR, suspect if this succeeds; NULL: there is none.
 */
static int
redo_by_writing (struct export *e, struct backend *own,
                 struct connection *failed, int err)
{
  struct loan loan;
  struct backend *b = loans_take (&loan, e, own, NEED_WRITE);

  if (b && !(failed && b->traits.can_zero)) {
    err = clear_redo_zeroes (&e->submit, b);
    if (err == 0 && failed)
      loans_suspect (failed);
  }
  loans_return (&loan);
  return err;
}

/* Zeroes ranges again whose zeroes the backend may have lost. */
static int
redo_zeroes (struct export *e, struct backend *own)
{
  struct backend *b;
  struct loan loan;
  uint64_t offset = 0, len;
  int err;

  if (!zeroes_next_lost (&e->pc.zeroes, &offset, &len))
    return 0;
  b = loans_take (&loan, e, own, NEED_ZERO);
  err = b ? clear_redo_zeroes (&e->submit, b) : ENOTCONN;
  if (err != 0)
    err = redo_by_writing (e, own, loan.connection, err);
  loans_return (&loan);
  return err;
}

/* No connection can flush, so the writes of those that are attached are
 * stable.  Unstable blocks are of one that could flush and has left: they
 * become dirty again.
 */
static int
flush_without_flush (struct export *e, struct backend *own)
{
  struct loan loan;
  struct backend *b = loans_take (&loan, e, own, NEED_WRITE);

  loans_return (&loan);
  if (b == NULL)
    return ENOTCONN;
  if (!dirty_is_unstable (e))
    return 0;
  ledger_fail (&e->pc, held_epoch (&e->pc.held));
  return EAGAIN;
}

static int
flush_backend (struct export *e, struct backend *own)
{
  struct loan loan;
  struct backend *b = loans_take (&loan, e, own, NEED_FLUSH);
  int err;

  if (b == NULL)
    return flush_without_flush (e, own);
  err = durable_flush (&e->submit, b);
  loans_return (&loan);
  return err;
}

/* One attempt of a flush.  EAGAIN: something that it may cover was undone
 * meanwhile, because another operation failed.
 */
static int
flush_once (struct export *e, struct backend *own, uint64_t deadline)
{
  const uint64_t unmade = unmade_total (&e->pc);
  int err, pass_err, flush_err;

  err = redo_zeroes (e, own);
  pass_err = pass_over_all (e, own, deadline);
  err = err ? err : pass_err;
  open_wait (&e->pc);
  note_result (e, err);
  flush_err = flush_backend (e, own);
  err = err ? err : flush_err;
  return err == 0 && unmade_total (&e->pc) != unmade ? EAGAIN : err;
}

/* All that was dirty before this moment is durable: what is dirty now has no
 * earlier age.  Clients that write all the time never let the amount fall to 0,
 * where the age begins anew by itself.
 */
static void
raise_age (struct export *e, uint64_t began)
{
  uint64_t since =
      atomic_load_explicit (&e->pc.dirty_since, memory_order_relaxed);

  while (since != 0 && since < began &&
         !atomic_compare_exchange_weak_explicit (&e->pc.dirty_since, &since,
                                                 began, memory_order_relaxed,
                                                 memory_order_relaxed))
    ;
}

static int
flush_by (struct export *e, struct backend *own, uint64_t deadline)
{
  const uint32_t inherited = heirs_begin_flush (e);
  const uint64_t began = now_ns ();
  struct repeats repeats = { 0 };
  int err;

  atomic_fetch_add_explicit (&e->writeback.passes, 1, memory_order_relaxed);
  do
    err = flush_once (e, own, deadline);
  while (err == EAGAIN && durable_again (&e->submit, &repeats, false));
  durable_end_repeats (&e->submit, &repeats);
  atomic_fetch_sub_explicit (&e->writeback.passes, 1, memory_order_relaxed);
  if (err == 0) {
    heirs_settle (e, inherited);
    raise_age (e, began);
  }
  return err == EAGAIN ? EIO : err;
}

int
writeback_flush (struct export *e, struct backend *own)
{
  return flush_by (e, own, 0);
}

/* Whether ordinary writes may stay dirty here. */
static bool
may_hold (struct export *e)
{
  return atomic_load_explicit (&e->holds, memory_order_relaxed) &&
         shares_mode (e) == MODE_WRITEBACK;
}

static bool
is_old (struct export *e, uint64_t now)
{
  const uint64_t since =
      atomic_load_explicit (&e->pc.dirty_since, memory_order_relaxed);

  return since != 0 && pagecache_amounts (&e->pc).dirty > 0 &&
         now >= since + SETTING (dirty_age);
}

/* Whether so much is unstable that a flush is due.  Blocks that an earlier
 * flush covered in vain do not count: another flush does not make them stable.
 */
static bool
is_much_unstable (struct export *e, int64_t bound)
{
  const int64_t kept =
      atomic_load_explicit (&e->submit.kept, memory_order_relaxed);

  return pagecache_amounts (&e->pc).unstable - kept > FLUSH_AT (bound);
}

/* Whether the amount of held data calls for write-back. */
static bool
is_much (struct export *e)
{
  const int64_t bound = dirty_bound (e);
  const struct amounts a = pagecache_amounts (&e->pc);

  return (a.held > BEGIN_AT (bound) && a.dirty > 0) ||
         is_much_unstable (e, bound);
}

/* Whether age, mode or a refusal, rather than volume, calls for write-back. */
static bool
is_time (struct export *e, uint64_t now)
{
  if (pagecache_amounts (&e->pc).dirty == 0)
    return false;
  return is_old (e, now) || !may_hold (e) ||
         atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed);
}

/* A backend that refuses is called again only after RETRY_NS. */
static bool
may_try (struct export *e, uint64_t now)
{
  const struct writeback *wb = &e->writeback;

  return !atomic_load_explicit (&wb->refusing, memory_order_relaxed) ||
         now >= atomic_load_explicit (&wb->retry, memory_order_relaxed);
}

/* Writes all dirty blocks if some are old or were refused (writing fewer might
 * not try the refused ones), else as many as bring the amount down.  After a
 * whole pass the age counts from blocks that became dirty during it.
 */
static int
clean_some (struct export *e, struct backend *own)
{
  const bool all =
      is_old (e, now_ns ()) || !may_hold (e) ||
      atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed);
  uint64_t since = 0;
  struct pass p;
  int err;

  if (all)
    since =
        atomic_exchange_explicit (&e->pc.dirty_since, 0, memory_order_relaxed);
  pass_init (&p, e, all ? -1 : (int64_t) END_AT (dirty_bound (e)));
  p.background = true;
  err = redo_zeroes (e, own);
  if (err == 0)
    err = sweep (&p, own);
  if (since != 0 && (err != 0 || p.busy || is_enough (&p)))
    atomic_store_explicit (&e->pc.dirty_since, since, memory_order_relaxed);
  pass_destroy (&p);
  return err;
}

/* Does the write-back that is due now. */
static void
work (struct export *e, struct backend *own)
{
  int err = 0;

  if (pagecache_amounts (&e->pc).dirty > 0) {
    err = clean_some (e, own);
    note_result (e, err);
  }
  if (err == 0 && is_much_unstable (e, dirty_bound (e)))
    flush_backend (e, own); /* on failure all is dirty again */
}

static void
run_background (struct task *t)
{
  struct export *e = container_of (t, struct export, writeback.task);
  struct writeback *wb = &e->writeback;

  do {
    atomic_store_explicit (&wb->wanted, false, memory_order_relaxed);
    work (e, NULL);
  } while (atomic_load_explicit (&wb->wanted, memory_order_relaxed) &&
           atomic_load_explicit (&wb->passes, memory_order_relaxed) == 0 &&
           is_much (e) && may_try (e, now_ns ()));
  atomic_store_explicit (&wb->running, false, memory_order_release);
}

static void
begin_work (struct export *e)
{
  struct writeback *wb = &e->writeback;

  atomic_store_explicit (&wb->wanted, true, memory_order_relaxed);
  if (atomic_exchange_explicit (&wb->running, true, memory_order_acquire))
    return;
  wb->task.run = run_background;
  workers_run (e->number, &wb->task);
}

/* Where threads may call the backend the clock checks the age; a write checks
 * the amount alone.
 */
void
writeback_poke (struct export *e, struct backend *own)
{
  if (shares_allow_helpers (e)) {
    if (is_much (e) && may_try (e, now_ns ()))
      begin_work (e);
  }
  else if (own->traits.can_write && (is_much (e) || is_time (e, now_ns ())) &&
           may_try (e, now_ns ()))
    work (e, own);
}

void
writeback_tick (struct export *e, void *opaque)
{
  const uint64_t now = now_ns ();

  (void) opaque;
  if (shares_allow_helpers (e) && e->writers > 0 &&
      (is_much (e) || is_time (e, now)) && may_try (e, now))
    begin_work (e);
}

static int
drain_by (struct export *e, struct backend *own)
{
  const struct timespec pause = { .tv_nsec = DRAIN_WAIT_NS };
  const uint64_t deadline = now_ns () + SETTING (drain);
  int err;

  for (;;) {
    err = flush_by (e, own, deadline);
    if (err == 0 || err == ENOTCONN || now_ns () + DRAIN_WAIT_NS >= deadline)
      return err;
    nanosleep (&pause, NULL);
  }
}

struct drain {
  struct task task;
  struct export *e;
  struct completion completion;
};

static void
run_drain (struct task *t)
{
  struct drain *d = container_of (t, struct drain, task);

  completion_end (&d->completion, drain_by (d->e, NULL));
}

int
writeback_drain (struct export *e, struct backend *own)
{
  struct drain d = { .task.run = run_drain, .e = e };
  int err;

  completion_init (&d.completion);
  completion_begin (&d.completion);
  if (!shares_allow_helpers (e) ||
      !workers_try (e->number, &d.task, URGENCY_NEEDED))
    completion_end (&d.completion, drain_by (e, own));
  err = completion_wait (&d.completion);
  completion_destroy (&d.completion);
  return err;
}

static void
run_begun_drain (struct task *t)
{
  struct export *e = container_of (t, struct export, writeback.drain_task);

  drain_by (e, NULL);
  atomic_fetch_sub_explicit (&e->writeback.drains, 1, memory_order_release);
}

void
writeback_begin_drain (struct export *e, void *opaque)
{
  (void) opaque;
  if (!shares_allow_helpers (e))
    return;
  atomic_fetch_add_explicit (&e->writeback.drains, 1, memory_order_relaxed);
  e->writeback.drain_task.run = run_begun_drain;
  workers_run (e->number, &e->writeback.drain_task);
}
