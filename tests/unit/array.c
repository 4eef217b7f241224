/* SPDX-License-Identifier: BSD-3-Clause */

/* A backend in memory that watches its caller.
 *
 * It keeps two images: what reads see, and what is durable.  A write, zero or
 * trim changes the first when it ends.  It becomes durable by the FUA flag, or
 * by a flush that began after it had ended: the flush takes the bytes as they
 * were when it began.  Each 512 bytes have a version, so that an older flush
 * never puts back what a newer call made durable.
 *
 * Every call is checked against the rules of backend.h: inside the disk,
 * aligned, not too long, allowed by the traits, no lock held.  Writes, zeroes
 * and trims over one block never overlap in time, and the bytes of a write do
 * not change before it has ended.  A caller that breaks a rule ends the
 * program.
 *
 * Calls can be made to fail, and be stopped at a gate until the test opens it:
 * see array-control.c.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>

#include "array.h"
#include "base/lock.h"
#include "base/util.h"
#include "unit.h"

#define UNIT 512

/* A call that has begun; on its thread's stack. */
struct array_in_flight {
  struct array_in_flight *next;
  uint64_t offset, end;
  bool changes;
  enum array_op op;
  size_t logged;
  struct array_watched watched;
};

static struct array *
array_of (struct backend *b)
{
  return b->next;
}

static void
lock (struct array *a)
{
  pthread_mutex_lock (&a->lock);
}

static void
unlock (struct array *a)
{
  pthread_mutex_unlock (&a->lock);
}

static void
check_range (const struct backend_traits *t, uint64_t offset, uint32_t len)
{
  must (len > 0 && len <= t->maximum);
  must (offset < t->size && len <= t->size - offset);
  must (offset % t->block == 0);
  must (len % t->block == 0 || offset + len == t->size);
}

static void
check_fua (const struct backend_traits *t, unsigned flags)
{
  must (!(flags & ZERO_FUA) || t->fua != FUA_NONE);
}

static void
check_alone (struct array *a, uint64_t offset, uint64_t end)
{
  const uint64_t block = a->backend.traits.block;
  const struct array_in_flight *f;

  end = round_up (end, block);
  for (f = a->in_flight; f; f = f->next)
    must (!f->changes || f->offset >= end ||
          round_up (f->end, block) <= offset);
}

static void
log_call (struct array *a, const struct array_call *call)
{
  if (a->logged == a->log_room) {
    a->log_room = a->log_room ? 2 * a->log_room : 64;
    a->log = realloc (a->log, a->log_room * sizeof *a->log);
    must (a->log != NULL);
  }
  a->log[a->logged++] = *call;
}

static int
fault_of (struct array *a, enum array_op op, uint64_t offset, uint64_t end)
{
  struct array_fault *f;

  for (f = a->faults; f < a->faults + a->nr_faults; ++f) {
    if (f->op != op || f->count == 0 || offset >= f->end || end <= f->offset)
      continue;
    if (f->skip > 0)
      f->skip--;
    else {
      f->count--;
      return f->error;
    }
  }
  return 0;
}

static void
stop_at_gate (struct array *a, enum array_op op, enum array_gate where)
{
  if (a->gates[op] != where)
    return;
  a->at_gate[op]++;
  pthread_cond_broadcast (&a->changed);
  while (a->gates[op] == where && a->let_by[op] == 0)
    pthread_cond_wait (&a->changed, &a->lock);
  if (a->gates[op] == where)
    a->let_by[op]--;
  a->at_gate[op]--;
  pthread_cond_broadcast (&a->changed);
}

static int
watch (struct array *a, struct array_in_flight *f, bool ended, int error)
{
  if (a->watch == NULL)
    return error;
  unlock (a);
  error = a->watch (a, &f->watched, ended, error);
  lock (a);
  return error;
}

/* A call of B begins: it is counted and may wait.  Returns what it fails with;
 * the lock is held.
 */
static int
begin (struct backend *b, struct array_in_flight *f, enum array_op op,
       uint64_t offset, uint64_t len, unsigned flags)
{
  struct array_call call = { .op = op, .flags = flags };
  struct array *a = array_of (b);
  int err;

  lock_check_none_held ();
  lock (a);
  f->op = op;
  f->offset = offset;
  f->end = offset + len;
  f->changes = op == ARRAY_WRITE || op == ARRAY_ZERO || op == ARRAY_TRIM;
  f->watched = (struct array_watched){
    .backend = b, .op = op, .offset = offset, .len = len, .flags = flags
  };
  if (f->changes)
    check_alone (a, f->offset, f->end);
  f->next = a->in_flight;
  a->in_flight = f;
  a->calls[op]++;
  a->bytes[op] += op == ARRAY_FLUSH ? 0 : len;
  if (++a->now[op] > a->max_at_once[op])
    a->max_at_once[op] = a->now[op];
  call.offset = offset;
  call.len = op == ARRAY_FLUSH ? 0 : len;
  call.began = ++a->events;
  call.in_flight = a->now[op];
  f->logged = a->logged;
  log_call (a, &call);
  stop_at_gate (a, op, GATE_BEFORE);
  if (a->unsteady && a->events % 3 != 0) {
    unlock (a);
    sched_yield ();
    lock (a);
  }
  err = watch (a, f, false, 0);
  return err ? err : fault_of (a, op, offset, offset + len);
}

static int
end (struct array *a, struct array_in_flight *f, int error)
{
  struct array_in_flight **link = &a->in_flight;

  stop_at_gate (a, f->op, GATE_AFTER);
  error = watch (a, f, true, error);
  while (*link != f)
    link = &(*link)->next;
  *link = f->next;
  a->now[f->op]--;
  a->failed[f->op] += error != 0;
  a->log[f->logged].error = error;
  a->log[f->logged].ended = ++a->events;
  unlock (a);
  return error;
}

static uint64_t
units (const struct array *a)
{
  return (a->backend.traits.size + UNIT - 1) / UNIT;
}

static uint64_t
unit_len (const struct array *a, uint64_t unit)
{
  return min_u64 (UNIT, a->backend.traits.size - unit * UNIT);
}

static uint64_t
bit_of (const struct array *a, const struct backend *b)
{
  unsigned i;

  for (i = 0; i < ARRAY_CONNECTIONS; ++i)
    if (a->connections[i] == b)
      return UINT64_C (1) << i;
  return 1;
}

/* New bytes from OFFSET on, zeroes if BYTES is NULL. */
static void
change (struct array *a, struct backend *b, uint64_t offset, const void *bytes,
        uint64_t len, bool fua)
{
  uint64_t u;

  if (len == 0)
    return;
  if (bytes)
    memcpy (a->seen + offset, bytes, len);
  else
    memset (a->seen + offset, 0, len);
  a->versions++;
  for (u = offset / UNIT; u * UNIT < offset + len; ++u) {
    a->version[u] = a->versions;
    a->writer[u] = b;
    a->owing[u] |= bit_of (a, b);
    if (fua) {
      a->owing[u] = 0;
      a->durable_version[u] = a->versions;
      memcpy (a->durable + u * UNIT, a->seen + u * UNIT, unit_len (a, u));
    }
  }
}

/* All that is not durable is lost; a flush that is under way does not save it.
 */
static void
lose (struct array *a)
{
  uint64_t u;

  a->losses++;
  for (u = 0; u < units (a); ++u)
    if (a->version[u] != a->durable_version[u]) {
      memcpy (a->seen + u * UNIT, a->durable + u * UNIT, unit_len (a, u));
      a->version[u] = a->durable_version[u];
      a->owing[u] = 0;
    }
}

static void
note_failure (struct array *a, int error, bool fua)
{
  if (error != 0 && error != ENOTSUP && fua && a->forgets)
    lose (a);
}

static int
array_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  struct array *a = array_of (b);
  struct array_in_flight f;
  int err;

  check_range (&b->traits, offset, len);
  err = begin (b, &f, ARRAY_READ, offset, len, 0);
  if (err == 0)
    memcpy (buf, a->seen + offset, len);
  else
    memset (buf, 0xee, len); /* so that a test notices a use of these bytes */
  return end (a, &f, err);
}

static int
array_write (struct backend *b, const void *buf, uint32_t len, uint64_t offset,
             bool fua)
{
  struct array *a = array_of (b);
  const unsigned flags = fua ? ZERO_FUA : 0;
  struct array_in_flight f;
  uint8_t *then = malloc (len);
  int err;

  must (then != NULL && b->traits.can_write);
  check_range (&b->traits, offset, len);
  check_fua (&b->traits, flags);
  memcpy (then, buf, len);
  err = begin (b, &f, ARRAY_WRITE, offset, len, flags);
  must (memcmp (then, buf, len) == 0);
  free (then);
  if (err == 0)
    change (a, b, offset, buf, len, fua);
  else if (a->tears)
    change (a, b, offset, buf, round_down (len / 2, UNIT), false);
  note_failure (a, err, fua);
  return end (a, &f, err);
}

static int
array_zero (struct backend *b, uint32_t len, uint64_t offset, unsigned flags)
{
  struct array *a = array_of (b);
  struct array_in_flight f;
  int err;

  must (b->traits.can_write && b->traits.can_zero);
  must (!(flags & ZERO_FAST) || b->traits.can_fast_zero);
  check_range (&b->traits, offset, len);
  check_fua (&b->traits, flags);
  err = begin (b, &f, ARRAY_ZERO, offset, len, flags);
  if (err == 0)
    change (a, b, offset, NULL, len, flags & ZERO_FUA);
  else if (err != ENOTSUP && a->tears)
    change (a, b, offset, NULL, round_down (len / 2, UNIT), false);
  note_failure (a, err, flags & ZERO_FUA);
  return end (a, &f, err);
}

/* Trimmed bytes read as ones unless told otherwise: no caller may rely on
 * zeroes.
 */
static int
array_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  struct array *a = array_of (b);
  const unsigned flags = fua ? ZERO_FUA : 0;
  struct array_in_flight f;
  uint8_t *ones = malloc (len);
  int err;

  must (ones != NULL && b->traits.can_write && b->traits.can_trim);
  check_range (&b->traits, offset, len);
  check_fua (&b->traits, flags);
  memset (ones, a->trimmed, len);
  err = begin (b, &f, ARRAY_TRIM, offset, len, flags);
  if (err == 0)
    change (a, b, offset, ones, len, fua);
  else if (a->tears)
    change (a, b, offset, ones, round_down (len / 2, UNIT), false);
  free (ones);
  note_failure (a, err, fua);
  return end (a, &f, err);
}

/* The bytes that a flush makes durable, as they were when it began. */
struct kept {
  struct kept *next;
  uint64_t unit;
  uint32_t version;
  uint8_t bytes[UNIT];
};

static struct kept *
keep_all (struct array *a, struct backend *b)
{
  struct kept *all = NULL, *k;
  uint64_t u;

  for (u = 0; u < units (a); ++u) {
    if (a->version[u] == a->durable_version[u] ||
        (!b->traits.can_multi_conn && !(a->owing[u] & bit_of (a, b))))
      continue;
    k = malloc (sizeof *k);
    must (k != NULL);
    k->unit = u;
    k->version = a->version[u];
    memcpy (k->bytes, a->seen + u * UNIT, unit_len (a, u));
    k->next = all;
    all = k;
  }
  return all;
}

static void
make_durable (struct array *a, struct kept *all, bool really)
{
  struct kept *k, *next;

  for (k = all; k; k = next) {
    next = k->next;
    if (really && k->version > a->durable_version[k->unit]) {
      memcpy (a->durable + k->unit * UNIT, k->bytes, unit_len (a, k->unit));
      a->durable_version[k->unit] = k->version;
      if (k->version == a->version[k->unit])
        a->owing[k->unit] = 0;
    }
    free (k);
  }
}

static int
array_flush (struct backend *b)
{
  struct array *a = array_of (b);
  struct array_in_flight f;
  struct kept *kept;
  uint32_t losses;
  int err;

  must (b->traits.can_flush);
  lock (a);
  kept = keep_all (a, b);
  losses = a->losses;
  unlock (a);
  err = begin (b, &f, ARRAY_FLUSH, 0, b->traits.size, 0);
  make_durable (a, kept, err == 0 && losses == a->losses);
  note_failure (a, err, true);
  return end (a, &f, err);
}

struct backend_traits
array_traits (uint64_t size)
{
  return (struct backend_traits){
    .size = size,
    .block = 512,
    .preferred = 4096,
    .maximum = 64 * MiB,
    .fua = FUA_NATIVE,
    .can_write = true,
    .can_flush = true,
    .can_zero = true,
    .can_fast_zero = true,
    .can_trim = true,
    .can_multi_conn = true,
  };
}

void
array_connect (struct array *a, struct backend *b)
{
  const struct backend_traits traits = a->backend.traits;

  memset (b, 0, sizeof *b);
  b->traits = traits;
  b->next = a;
  a->connections[a->nr_connections++ % ARRAY_CONNECTIONS] = b;
  b->read = array_read;
  b->write = array_write;
  b->zero = array_zero;
  b->trim = array_trim;
  b->flush = array_flush;
}

/* Byte I becomes (I / UNIT * 7 + I) % 251, so that no two of the first 251
 * units begin with the same byte.
 */
static void
fill_with_pattern (uint8_t *bytes, uint64_t len)
{
  uint8_t period[251 + UNIT];
  uint64_t i;

  for (i = 0; i < sizeof period; ++i)
    period[i] = i % 251;
  for (i = 0; i < len; i += UNIT)
    memcpy (bytes + i, period + (i / UNIT * 7 + i) % 251,
            min_u64 (UNIT, len - i));
}

struct array *
array_new (const struct backend_traits *traits)
{
  struct array *a = calloc (1, sizeof *a);

  must (a != NULL);
  a->backend.traits = *traits;
  array_connect (a, &a->backend);
  pthread_mutex_init (&a->lock, NULL);
  pthread_cond_init (&a->changed, NULL);
  a->trimmed = 0xff;
  a->seen = malloc (traits->size + 1);
  a->durable = malloc (traits->size + 1);
  a->version = calloc (units (a) + 1, sizeof *a->version);
  a->durable_version = calloc (units (a) + 1, sizeof *a->durable_version);
  a->writer = calloc (units (a) + 1, sizeof *a->writer);
  a->owing = calloc (units (a) + 1, sizeof *a->owing);
  must (a->seen && a->durable && a->version && a->durable_version &&
        a->writer && a->owing);
  fill_with_pattern (a->seen, traits->size);
  memcpy (a->durable, a->seen, traits->size);
  return a;
}

void
array_free (struct array *a)
{
  must (a->in_flight == NULL);
  free (a->seen);
  free (a->durable);
  free (a->version);
  free (a->durable_version);
  free (a->writer);
  free (a->owing);
  free (a->log);
  pthread_cond_destroy (&a->changed);
  pthread_mutex_destroy (&a->lock);
  free (a);
}

void
array_crash (struct array *a)
{
  lock (a);
  must (a->in_flight == NULL);
  lose (a);
  unlock (a);
}

void
array_forget (struct array *a)
{
  lock (a);
  lose (a);
  unlock (a);
}
