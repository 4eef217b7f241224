/* SPDX-License-Identifier: BSD-3-Clause */

/* As much of nbdkit as the filter sees: its functions, a `next` over a disk in
 * an array, and the sleep of the filter's clock, which ends when a test says.
 *
 * A call of `next` is held to nbdkit's rules: what was not asked for may not be
 * used, nor what the layer below does not have.  The array checks the rest.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "host.h"
#include "unit.h"

#define LATENCY_NS 100000

/* ---- messages ---- */

static _Atomic unsigned errors;

unsigned
host_errors (void)
{
  return errors;
}

__attribute__ ((format (printf, 1, 2))) void
nbdkit_error (const char *fmt, ...)
{
  char text[4096];
  va_list args;

  va_start (args, fmt);
  must (vsnprintf (text, sizeof text, fmt, args) > 0);
  va_end (args);
  errors++;
  errno = EDOM; /* no caller may rely on it */
}

void
nbdkit_debug (const char *fmt, ...)
{
  (void) fmt;
}

char *
nbdkit_absolute_path (const char *path)
{
  return strdup (path);
}

/* ---- extents ---- */

struct nbdkit_extents {
  uint64_t start, end, next;
  size_t n, room;
  struct nbdkit_extent *extents;
};

struct nbdkit_extents *
nbdkit_extents_new (uint64_t start, uint64_t end)
{
  struct nbdkit_extents *e = calloc (1, sizeof *e);

  must (e != NULL && start < end);
  e->start = e->next = start;
  e->end = end;
  return e;
}

void
nbdkit_extents_free (struct nbdkit_extents *e)
{
  if (e)
    free (e->extents);
  free (e);
}

size_t
nbdkit_extents_count (const struct nbdkit_extents *e)
{
  return e->n;
}

struct nbdkit_extent
nbdkit_get_extent (const struct nbdkit_extents *e, size_t i)
{
  must (i < e->n);
  return e->extents[i];
}

int
nbdkit_add_extent (struct nbdkit_extents *e, uint64_t offset, uint64_t length,
                   uint32_t type)
{
  struct nbdkit_extent *last = e->n > 0 ? &e->extents[e->n - 1] : NULL;
  const uint64_t from = max_u64 (offset, e->start);
  const uint64_t to = min_u64 (offset + length, e->end);

  if (from >= to)
    return 0;
  must (from == e->next);
  e->next = to;
  if (last && last->type == type) {
    last->length += to - from;
    return 0;
  }
  if (e->n == e->room) {
    e->room = e->room ? 2 * e->room : 16;
    e->extents = realloc (e->extents, e->room * sizeof *e->extents);
    must (e->extents != NULL);
  }
  e->extents[e->n++] =
      (struct nbdkit_extent){ .offset = from, .length = to - from, type };
  return 0;
}

/* ---- the layer below ---- */

static struct host_next *
host_of (nbdkit_next *next)
{
  return (struct host_next *) next;
}

static const struct backend_traits *
said (nbdkit_next *next)
{
  return &host_of (next)->says;
}

static int64_t
get_size (nbdkit_next *next)
{
  return host_of (next)->backend.traits.size;
}

static int
below_block_size (nbdkit_next *next, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
  const struct backend_traits *t = said (next);

  *minimum = t->block == 512 ? 1 : t->block;
  *preferred = t->preferred;
  *maximum = t->maximum;
  return 0;
}

static int
can_write (nbdkit_next *next)
{
  return !host_of (next)->readonly;
}

static int
can_flush (nbdkit_next *next)
{
  return said (next)->can_flush;
}

static int
is_rotational (nbdkit_next *next)
{
  (void) next;
  return 0;
}

static int
can_trim (nbdkit_next *next)
{
  return said (next)->can_trim && !host_of (next)->readonly;
}

static int
can_zero (nbdkit_next *next)
{
  return said (next)->can_zero && !host_of (next)->readonly ? NBDKIT_ZERO_NATIVE
                                                            : NBDKIT_ZERO_NONE;
}

static int
can_fast_zero (nbdkit_next *next)
{
  return said (next)->can_fast_zero && can_zero (next);
}

static int
can_extents (nbdkit_next *next)
{
  return said (next)->can_extents;
}

static int
can_fua (nbdkit_next *next)
{
  return said (next)->fua == FUA_NATIVE     ? NBDKIT_FUA_NATIVE
         : said (next)->fua == FUA_EMULATED ? NBDKIT_FUA_EMULATE
                                            : NBDKIT_FUA_NONE;
}

static int
can_multi_conn (nbdkit_next *next)
{
  return said (next)->can_multi_conn;
}

static int
can_cache (nbdkit_next *next)
{
  (void) next;
  return NBDKIT_CACHE_NONE;
}

/* Whether a change ends durable: asked for, or all are. */
static bool
ends_durable (nbdkit_next *next, uint32_t flags)
{
  const struct backend_traits *t = said (next);

  must (!(flags & NBDKIT_FLAG_FUA) || t->fua != FUA_NONE);
  return (flags & NBDKIT_FLAG_FUA) || (t->fua == FUA_NONE && !t->can_flush);
}

/* The error is in *ERR alone, and ENOTSUP is an answer to fast zeroes only. */
static int
result (int error, bool fast, int *err)
{
  clock_advance (LATENCY_NS);
  errno = EDOM;
  if (error == 0)
    return 0;
  *err = error == ENOTSUP && !fast ? EIO : error;
  return -1;
}

/* A zero or trim that failed may have been done in part, as may a write, which
 * the array sees to itself.
 */
static int
tear (struct host_next *n, uint32_t count, uint64_t offset, int value,
      int error)
{
  struct array *a = n->disk->array;
  const uint64_t len = round_down (count / 2, 512);
  uint64_t u;

  if (error == 0 || error == ENOTSUP || !a->tears)
    return error;
  pthread_mutex_lock (&a->lock);
  memset (a->seen + offset, value, len);
  a->versions++;
  for (u = offset / 512; u * 512 < offset + len; ++u) {
    a->version[u] = a->versions;
    a->writer[u] = &n->backend;
    a->owing[u] = ~UINT64_C (0);
  }
  pthread_mutex_unlock (&a->lock);
  return error;
}

static int
call_pread (nbdkit_next *next, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags, int *err)
{
  struct backend *b = &host_of (next)->backend;

  must (flags == 0);
  return result (b->read (b, buf, count, offset), false, err);
}

static int
call_pwrite (nbdkit_next *next, const void *buf, uint32_t count,
             uint64_t offset, uint32_t flags, int *err)
{
  struct backend *b = &host_of (next)->backend;
  const bool fua = ends_durable (next, flags);

  must (can_write (next) && !(flags & ~NBDKIT_FLAG_FUA));
  return result (b->write (b, buf, count, offset, fua), false, err);
}

static int
call_flush (nbdkit_next *next, uint32_t flags, int *err)
{
  struct backend *b = &host_of (next)->backend;

  must (flags == 0 && said (next)->can_flush);
  return result (b->flush (b), false, err);
}

static int
call_trim (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
           int *err)
{
  struct backend *b = &host_of (next)->backend;
  const bool fua = ends_durable (next, flags);

  must (can_trim (next) && !(flags & ~NBDKIT_FLAG_FUA));
  return result (tear (host_of (next), count, offset,
                       host_of (next)->disk->array->trimmed,
                       b->trim (b, count, offset, fua)),
                 false, err);
}

static int
call_zero (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
           int *err)
{
  struct backend *b = &host_of (next)->backend;
  const bool fast = flags & NBDKIT_FLAG_FAST_ZERO;
  unsigned f = ends_durable (next, flags) ? ZERO_FUA : 0;

  must (can_zero (next) != NBDKIT_ZERO_NONE);
  must (!fast || can_fast_zero (next));
  f |= flags & NBDKIT_FLAG_MAY_TRIM ? ZERO_MAY_TRIM : 0;
  f |= fast ? ZERO_FAST : 0;
  return result (
      tear (host_of (next), count, offset, 0, b->zero (b, count, offset, f)),
      fast, err);
}

/* Zeroes are holes. */
static int
call_extents (nbdkit_next *next, uint32_t count, uint64_t offset,
              uint32_t flags, struct nbdkit_extents *extents, int *err)
{
  struct array *a = host_of (next)->disk->array;
  uint64_t at, i, n;
  bool zero;

  (void) err;
  must (can_extents (next) && !(flags & ~NBDKIT_FLAG_REQ_ONE));
  must (offset + count <= (uint64_t) get_size (next));
  for (at = offset; at < offset + count; at += n) {
    n = min_u64 (512, offset + count - at);
    zero = true;
    pthread_mutex_lock (&a->lock);
    for (i = 0; i < n; ++i)
      zero = zero && a->seen[at + i] == 0;
    pthread_mutex_unlock (&a->lock);
    nbdkit_add_extent (extents, at, n,
                       zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0);
  }
  return 0;
}

void
host_connect (struct host_next *n, struct host_disk *disk, bool readonly)
{
  memset (n, 0, sizeof *n);
  n->next = (nbdkit_next){
    .get_size = get_size,
    .block_size = below_block_size,
    .can_write = can_write,
    .can_flush = can_flush,
    .is_rotational = is_rotational,
    .can_trim = can_trim,
    .can_zero = can_zero,
    .can_fast_zero = can_fast_zero,
    .can_extents = can_extents,
    .can_fua = can_fua,
    .can_multi_conn = can_multi_conn,
    .can_cache = can_cache,
    .pread = call_pread,
    .pwrite = call_pwrite,
    .flush = call_flush,
    .trim = call_trim,
    .zero = call_zero,
    .extents = call_extents,
  };
  array_connect (disk->array, &n->backend);
  n->disk = disk;
  n->says = disk->says;
  n->readonly = readonly;
}

/* ---- the filter's clock ---- */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* Guarded by lock. */
  unsigned asked, begun; /* ticks */
  bool asleep, stop;
} ticks = { .lock = PTHREAD_MUTEX_INITIALIZER,
            .changed = PTHREAD_COND_INITIALIZER };

int
nbdkit_nanosleep (unsigned sec, unsigned nsec)
{
  int r = 0;

  (void) sec;
  (void) nsec;
  pthread_mutex_lock (&ticks.lock);
  ticks.asleep = true;
  pthread_cond_broadcast (&ticks.changed);
  while (ticks.asked == ticks.begun && !ticks.stop)
    pthread_cond_wait (&ticks.changed, &ticks.lock);
  if (ticks.stop)
    r = -1;
  else
    ticks.begun++;
  ticks.asleep = false;
  pthread_mutex_unlock (&ticks.lock);
  errno = r == -1 ? ESHUTDOWN : 0;
  return r;
}

void
host_clock_start (void)
{
  ticks.asked = ticks.begun = 0;
  ticks.stop = ticks.asleep = false;
}

void
host_tick (void)
{
  pthread_mutex_lock (&ticks.lock);
  if (!ticks.stop) {
    ticks.asked++;
    pthread_cond_broadcast (&ticks.changed);
    while (ticks.asked != ticks.begun || !ticks.asleep)
      pthread_cond_wait (&ticks.changed, &ticks.lock);
  }
  pthread_mutex_unlock (&ticks.lock);
}

void
host_stop (void)
{
  pthread_mutex_lock (&ticks.lock);
  ticks.stop = true;
  pthread_cond_broadcast (&ticks.changed);
  pthread_mutex_unlock (&ticks.lock);
}

int
host_next_open (nbdkit_context *context, int readonly, const char *exportname)
{
  (void) context;
  (void) readonly;
  (void) exportname;
  return 0;
}
