/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations that have their range exclusively: zero, trim, writes past the
 * cache, discard.
 *
 * They wait until no block of the range is in writeback, call the backend, and
 * then change the blocks of the range that are cached.  No write happens there
 * meanwhile, so all marks of these blocks are older than the operation.  A zero
 * that is not durable is remembered, see zeroes.c, and repeated after a
 * failure.
 *
 * To the backend a zero or trim goes in parts, side by side, see spread.c; to
 * durable.c and to the pages it is one operation.  For example, a zero of 1 GiB
 * with FUA is 16 calls at once and then one flush, where FUA is emulated.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "submit/clear.h"
#include "submit/durable.h"
#include "submit/spread.h"

/* Zero and trim go in parts of at most this, as nbdkit 1.32 demands. */
#define CLEAR_PART (64 * MiB)

/* A zero or trim that is on its way to the backend. */
struct clearing {
  struct spread spread;
  struct submit *s;
  struct backend *b;
  bool zero; /* or trim */
  bool fua;
  unsigned flags; /* of a zero, beside ZERO_FUA */
  _Atomic bool
      taken; /* the backend did a part; relaxed: read after all ended */
};

static int
clear_part (struct spread *spread, uint64_t offset, uint64_t len)
{
  struct clearing *c = container_of (spread, struct clearing, spread);
  int err;

  spread_invite (spread);
  if (c->zero)
    err = meter_zero (&c->s->meter, c->b, len, offset,
                      c->flags | (c->fua ? ZERO_FUA : 0));
  else
    err = meter_trim (&c->s->meter, c->b, len, offset, c->fua);
  if (err == 0)
    atomic_store_explicit (&c->taken, true, memory_order_relaxed);
  return err;
}

static int
clear_in_parts (struct submit *s, struct backend *b, const struct operation *op,
                bool zero, bool fua)
{
  struct clearing c;
  int err;

  c.spread.run = clear_part;
  c.spread.part = min_u64 (CLEAR_PART, b->traits.maximum);
  c.spread.origin = op->offset;
  c.spread.crew = export_number (s->pc);
  c.spread.cut[0] = c.spread.cut[1] = 0;
  c.spread.rest = NULL;
  c.spread.max_helpers =
      s->may_help && s->may_help (s->opaque) ? SPREAD_HELPERS : 0;
  c.s = s;
  c.b = b;
  c.zero = zero;
  c.fua = fua;
  c.flags = op->flags & ~ZERO_FUA;
  atomic_init (&c.taken, false);
  err = spread_run (&c.spread, op->offset, op->len);
  if (err == ENOTSUP && (c.flags & ZERO_FAST) &&
      atomic_load_explicit (&c.taken, memory_order_relaxed)) {
    /* It says that nothing has changed, and some of it has. */
    c.flags &= ~ZERO_FAST;
    err = spread_run (&c.spread, op->offset, op->len);
  }
  return err;
}

static int
zero_once (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  return clear_in_parts (s, b, op, true, fua);
}

/* Instead of zeroing, by a connection that cannot. */
static int
write_zeroes (struct submit *s, struct backend *b, const struct operation *op,
              bool fua)
{
  size_t max = min_u64 (memory_batch_size (s->memory), b->traits.maximum);
  uint8_t *zeroes =
      batch_buffer_get (s->memory, &s->pc->borrower, block_size (s->pc), &max);
  uint64_t done;
  uint32_t n;
  int err = 0;

  memset (zeroes, 0, max);
  for (done = 0; done < op->len && err == 0; done += n) {
    n = min_u64 (op->len - done, max);
    err = meter_write (&s->meter, b, zeroes, n, op->offset + done, fua);
  }
  batch_buffer_put (s->memory, &s->pc->borrower, zeroes, max);
  return err;
}

static int
trim_once (struct submit *s, struct backend *b, const struct operation *op,
           bool fua)
{
  return clear_in_parts (s, b, op, false, fua);
}

/* Makes remembered zeroes durable.  The caller has no range exclusively. */
static int
make_room (struct submit *s, struct backend *b)
{
  struct repeats repeats = { 0 };
  int err;

  do {
    err = clear_redo_zeroes (s, b);
    if (err == 0)
      err = durable_flush (s, b);
  } while (err == EAGAIN && durable_again (s, &repeats, false));
  durable_end_repeats (s, &repeats);
  return err == EAGAIN ? EIO : err;
}

/* No zero is remembered while room is wanted: so a flush that succeeds leaves
 * room, and there is no second turn unless an operation in between split a
 * range.
 */
int
clear_begin (struct submit *s, struct backend *b, struct exclusive *x,
             uint64_t offset, uint64_t len, bool forgets)
{
  struct zeroes *z = &s->pc->zeroes;
  bool wants = false;
  int err = 0;

  durable_enter (s);
  for (;;) {
    exclusive_begin (z, x, offset, len);
    if (!forgets || exclusive_reserve (z, x))
      break;
    exclusive_end (z, x);
    if (!wants)
      zeroes_keep_room (z, true);
    wants = true;
    err = b ? make_room (s, b) : ENOSPC;
    if (err != 0)
      break;
  }
  if (wants)
    zeroes_keep_room (z, false);
  if (err == 0)
    pagecache_wait_writeback (s->pc, offset, len);
  return err;
}

void
clear_end (struct submit *s, struct exclusive *x)
{
  exclusive_end (&s->pc->zeroes, x);
}

int
clear_write_past (struct submit *s, struct backend *b, const void *bytes,
                  uint64_t offset, uint64_t len)
{
  const struct operation op = { .call = durable_write,
                                .offset = offset,
                                .len = len,
                                .bytes = bytes,
                                .durable = true,
                                .uncached = true };
  uint32_t epoch;
  bool stable;
  int err;

  err = durable_perform (s, b, &op, &epoch, &stable);
  pagecache_clear (s->pc, offset, len, err ? CLEAR_FAILED : CLEAR_UNKNOWN);
  return err;
}

int
clear_range (struct submit *s, struct backend *b, uint64_t offset, uint64_t len,
             enum clear how, unsigned flags)
{
  const bool zero = how == CLEAR_ZEROED;
  struct operation op = { .call = zero ? zero_once : trim_once,
                          .offset = offset,
                          .len = len,
                          .flags = flags & ~ZERO_FUA,
                          .durable = flags & ZERO_FUA,
                          .unpromised = !zero };
  uint32_t epoch;
  bool stable;
  int err;

  err = durable_perform (s, b, &op, &epoch, &stable);
  if (err == 0 && !stable && zero &&
      !zeroes_remember (&s->pc->zeroes, offset, len,
                        held_flushes (&s->pc->held), epoch)) {
    op.durable = true;
    op.flags &= ~ZERO_FAST; /* it was fast */
    err = durable_perform (s, b, &op, &epoch, &stable);
  }
  if (err == ENOTSUP && (op.flags & ZERO_FAST))
    return err; /* nothing was tried */
  pagecache_clear (s->pc, offset, len, err ? CLEAR_FAILED : how);
  return err;
}

static uint64_t
count_zeroed (struct zeroes *z, uint64_t offset, uint64_t len)
{
  uint64_t n, sum = 0;
  bool zeroed;

  for (; len > 0; offset += n, len -= n) {
    n = zeroes_prefix (z, offset, len, &zeroed);
    sum += zeroed ? n : 0;
  }
  return sum;
}

/* No write of the range begins meanwhile and none is in flight, so no other
 * thread ends what is held there.  The backend is not called: a discard works
 * without a connection.
 */
int
clear_discard (struct submit *s, uint64_t offset, uint64_t len, uint64_t *held,
               uint64_t *zeroed)
{
  struct pagecache *pc = s->pc;
  struct exclusive x;
  const int err = clear_begin (s, NULL, &x, offset, len, true);

  if (err != 0)
    return err;
  *held = pagecache_range_amounts (pc, offset, len).held;
  *zeroed = count_zeroed (&pc->zeroes, offset, len);
  pagecache_clear (pc, offset, len, CLEAR_UNKNOWN);
  clear_end (s, &x);
  return 0;
}

/* The first run of held blocks from OFFSET on: where it begins, and its length
 * in *LEN; UINT64_MAX: none.
 */
static uint64_t
find_held_run (struct pagecache *pc, uint64_t offset, uint64_t *len)
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
      held = find_held_run (pc, *offset, &len);
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
  struct operation op = { .call = b->traits.can_zero ? zero_once : write_zeroes,
                          .flags = ZERO_MAY_TRIM };
  uint32_t epoch;
  bool stable;
  int err = 0;

  while (err == 0 && (op.len = next_gap (s->pc, &offset, end)) > 0) {
    op.offset = offset;
    err = durable_perform (s, b, &op, &epoch, &stable);
    offset += op.len;
  }
  return err;
}

/* How much from OFFSET on is held, or is not; at most LEN bytes, and as much as
 * one call zeroes.
 */
static uint64_t
alike (struct pagecache *pc, uint64_t offset, uint64_t len)
{
  uint64_t held_len, n;
  const uint64_t held = find_held_run (pc, offset, &held_len);

  n = held <= offset ? held + held_len - offset : held - offset;
  return min_u64 (min_u64 (n, len), CLEAR_PART);
}

/* Zeroes the beginning of what was lost again, a part that is alike. */
static int
redo_part (struct submit *s, struct backend *b, uint64_t offset, uint64_t len)
{
  struct zeroes *z = &s->pc->zeroes;
  struct exclusive x;
  uint32_t epoch;
  int err = clear_begin (s, b, &x, offset, len, false);

  if (err != 0)
    return err;
  epoch = held_epoch (&s->pc->held);
  err = zero_gaps (s, b, offset, offset + len);
  /* By a connection that cannot flush: no flush will settle it. */
  if (err == 0 && !b->traits.can_flush && exclusive_reserve (z, &x))
    zeroes_forget (z, offset, len);
  else if (err == 0)
    zeroes_redone (z, offset, len, held_flushes (&s->pc->held), epoch);
  clear_end (s, &x);
  return err;
}

/* Goes over what was lost once, by offset, in parts: a call that hangs keeps
 * writes from its own blocks alone.  For example, of 0 … 64 KiB - 1 the page at
 * 4096 was written since: the parts are 4096 bytes before it, that page, and
 * the rest.  What is lost again meanwhile is seen by a flush, as any failure
 * that overlaps it.
 */
int
clear_redo_zeroes (struct submit *s, struct backend *b)
{
  uint64_t offset = 0, len;
  int err = 0;

  while (err == 0 && zeroes_next_lost (&s->pc->zeroes, &offset, &len)) {
    len = alike (s->pc, offset, len);
    err = redo_part (s, b, offset, len);
    offset += len;
  }
  return err;
}
