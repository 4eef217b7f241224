/* SPDX-License-Identifier: BSD-3-Clause */

/* The steps of a life: connections, requests, faults, time.  After each, what
 * was read, what the disk keeps and what was answered are held against the
 * shadow.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "life.h"

#define SECOND UINT64_C (1000000000)

/* ---- connections ---- */

/* The calls of nbdkit before a client is let in. */
static void
negotiate (struct life *l, struct connection *c)
{
  const struct nbdkit_filter *f = l->filter;
  nbdkit_next *next = &c->next.next;
  uint32_t minimum, preferred, maximum;

  must (f->get_size (next, c->handle) == (int64_t) disk_size (c->disk));
  must (f->block_size (next, c->handle, &minimum, &preferred, &maximum) == 0);
  must (minimum == 1 && is_power_of_2 (preferred) && preferred >= 512 &&
        preferred <= 32 * MiB && maximum >= preferred);
  must (f->can_write (next, c->handle) == !c->next.readonly);
  must (f->can_flush (next, c->handle) == !c->next.readonly);
  must (f->can_cache (next, c->handle) == NBDKIT_CACHE_NATIVE);
  must (!f->can_multi_conn (next, c->handle) || l->shared);
}

static bool
try_open (struct life *l, struct connection *c, struct disk *d, bool readonly)
{
  static const char *const names[DISKS] = { "", "other" };
  const unsigned before = host_errors ();

  tell ("open %d: disk %d%s, size %" PRIu64 "\n", (int) (c - l->connections),
        (int) (d - l->disks), readonly ? " readonly" : "", disk_size (d));
  host_connect (&c->next, &d->host, readonly);
  c->disk = d;
  c->handle = l->filter->open (host_next_open, NULL, readonly,
                               names[d - l->disks], false);
  must (c->handle != NULL);
  if (l->filter->prepare (&c->next.next, c->handle, readonly) == 0)
    return true;
  must (host_errors () > before);
  l->filter->close (c->handle);
  c->handle = NULL;
  return false;
}

/* A disk whose size has changed may be refused while the cache holds data that
 * does not fit: then it gets its size back.
 */
void
steps_open (struct life *l, struct connection *c, struct disk *d, bool readonly)
{
  if (d->open > 0 && !l->shared)
    return;
  if (!try_open (l, c, d, readonly)) {
    must (disk_size (d) != d->last);
    d->host.array->backend.traits.size = d->last;
    must (try_open (l, c, d, readonly));
  }
  d->last = disk_size (d);
  d->open++;
  d->writers += !readonly;
  negotiate (l, c);
}

/* The last writer's bytes are durable unless the backend failed. */
void
steps_close (struct life *l, struct connection *c, bool finalize)
{
  struct disk *d = c->disk;
  const bool writer = !c->next.readonly;
  const unsigned before = disk_failures (l);

  tell ("close %d%s, failed so far %u\n", (int) (c - l->connections),
        finalize ? "" : " without finalize", before);
  if (finalize)
    must (l->filter->finalize (&c->next.next, c->handle) == 0);
  l->filter->close (c->handle);
  c->handle = NULL;
  d->open--;
  d->writers -= writer;
  if (writer && d->writers == 0 && disk_failures (l) == before)
    disk_check_all_durable (d, false);
}

static struct connection *
choose_connection (struct life *l)
{
  struct connection *c = &l->connections[input_take (&l->in) % CONNECTIONS];

  if (c->handle == NULL)
    steps_open (l, c, &l->disks[(c - l->connections) % l->nr_disks], false);
  return c->handle ? c : NULL;
}

/* ---- requests ---- */

struct range {
  uint64_t offset;
  uint32_t len;
};

/* Ranges that begin and end at blocks, pages, the end, or near them. */
static struct range
choose_range (struct life *l, const struct disk *d)
{
  static const int near[] = { 0, 0, 0, 0, 1, -1, 7, 511, -511, 100 };
  static const uint32_t units[] = { 512, 512, 4096, 4096, 65536, 1, 16384 };
  struct input *in = &l->in;
  const uint64_t size = disk_size (d);
  const uint64_t unit = CHOOSE (in, units);
  struct range r;
  int64_t len;

  r.offset = input_take_16 (in) * unit % size;
  r.offset = (r.offset + size + CHOOSE (in, near)) % size;
  len = (int64_t) (input_take (in) % 32 * unit) + CHOOSE (in, near);
  if (len <= 0)
    len = unit;
  r.len = min_u64 (len, size - r.offset);
  return r;
}

uint8_t *
steps_buffer (uint64_t len)
{
  uint8_t *bytes = malloc (len);

  must (bytes != NULL);
  memset (bytes, 0xcc, len);
  return bytes;
}

/* Whether a request ended well.  If not, the backend failed and ERR says how.
 */
static bool
is_well (struct life *l, int r, int err, unsigned failed_before)
{
  tell (" = %d, error %d, failed %u\n", r, err,
        disk_failures (l) - failed_before);
  must (r == 0 || r == -1);
  if (r == 0)
    return true;
  must (err == EIO || err == ENOSPC || err == ENOMEM || err == EPERM ||
        err == EINVAL || err == ESHUTDOWN || err == ENOTSUP);
  must (disk_failures (l) > failed_before || l->threads || l->stopped);
  return false;
}

static enum fate
fate_of (bool well, bool durable)
{
  return !well ? FATE_UNKNOWN : durable ? FATE_DURABLE : FATE_SEEN;
}

static void
do_read (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l);
  struct range r;
  uint8_t *bytes;
  int err = 0, ret;

  if (c == NULL)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: read %" PRIu64 "+%u\n", (int) (c - l->connections), r.offset,
        r.len);
  bytes = steps_buffer (r.len);
  ret = l->filter->pread (&c->next.next, c->handle, bytes, r.len, r.offset, 0,
                          &err);
  if (is_well (l, ret, err, before))
    must (shadow_reads (c->disk->shadow, r.offset, r.len, bytes, l->learns));
  must (ret == 0 || err != ENOTSUP);
  free (bytes);
}

static void
do_write (struct life *l, bool fua)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l), n = ++l->writes;
  struct range r;
  uint8_t *bytes;
  uint64_t i, at;
  int err = 0, ret;
  bool well;

  if (c == NULL || c->next.readonly)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: write %" PRIu64 "+%u%s\n", (int) (c - l->connections), r.offset,
        r.len, fua ? " FUA" : "");
  bytes = steps_buffer (r.len);
  for (i = 0; i < r.len; ++i) {
    at = r.offset + i;
    bytes[i] = n * 151 + at * 7 + at / 512 * 13 + 1;
  }
  ret = l->filter->pwrite (&c->next.next, c->handle, bytes, r.len, r.offset,
                           fua ? NBDKIT_FLAG_FUA : 0, &err);
  well = is_well (l, ret, err, before);
  must (well || err != ENOTSUP);
  shadow_change (c->disk->shadow, r.offset, r.len, bytes, 0,
                 fate_of (well, fua));
  if (well && fua)
    disk_check_durable (c->disk, r.offset, r.len);
  free (bytes);
}

static void
do_flush (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l);
  int err = 0, ret;

  if (c == NULL || c->next.readonly)
    return;
  tell ("%d: flush\n", (int) (c - l->connections));
  ret = l->filter->flush (&c->next.next, c->handle, 0, &err);
  if (is_well (l, ret, err, before))
    disk_check_all_durable (c->disk, true);
  must (ret == 0 || err != ENOTSUP);
}

static void
do_zero (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l);
  const uint8_t flags = input_take (&l->in);
  const bool fua = flags & 1;
  uint32_t f = 0;
  struct range r;
  int err = 0, ret;
  bool well;

  if (c == NULL || c->next.readonly ||
      l->filter->can_zero (&c->next.next, c->handle) == NBDKIT_ZERO_NONE)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: zero %" PRIu64 "+%u flags %u\n", (int) (c - l->connections),
        r.offset, r.len, flags & 7);
  f |= fua ? NBDKIT_FLAG_FUA : 0;
  f |= flags & 2 ? NBDKIT_FLAG_MAY_TRIM : 0;
  if (flags & 4 && l->filter->can_fast_zero (&c->next.next, c->handle))
    f |= NBDKIT_FLAG_FAST_ZERO;
  ret = l->filter->zero (&c->next.next, c->handle, r.len, r.offset, f, &err);
  well = is_well (l, ret, err, before);
  if (!well && err == ENOTSUP) {
    must (f & NBDKIT_FLAG_FAST_ZERO);
    return; /* nothing has changed */
  }
  shadow_change (c->disk->shadow, r.offset, r.len, NULL, 0,
                 fate_of (well, fua));
  if (well && fua)
    disk_check_durable (c->disk, r.offset, r.len);
}

static void
do_trim (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l);
  const bool fua = input_take (&l->in) & 1;
  uint64_t block, from, to;
  struct range r;
  int err = 0, ret;

  if (c == NULL || c->next.readonly || !c->disk->host.says.can_trim)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: trim %" PRIu64 "+%u%s\n", (int) (c - l->connections), r.offset,
        r.len, fua ? " FUA" : "");
  ret = l->filter->trim (&c->next.next, c->handle, r.len, r.offset,
                         fua ? NBDKIT_FLAG_FUA : 0, &err);
  is_well (l, ret, err, before);
  must (ret == 0 || err != ENOTSUP);
  /* Blocks in part stay as they are; what is trimmed may be as the array has
   * it then, or as it was.
   */
  block = c->disk->host.says.block;
  from = round_up (r.offset, block);
  to = r.offset + r.len;
  if (to != disk_size (c->disk))
    to = round_down (to, block);
  if (from < to)
    shadow_change (c->disk->shadow, from, to - from, NULL, 0xff, FATE_TRIMMED);
}

static void
do_cache (struct life *l)
{
  struct connection *c = choose_connection (l);
  struct range r;

  if (c == NULL)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: cache %" PRIu64 "+%u\n", (int) (c - l->connections), r.offset,
        r.len);
  must (l->filter->cache (&c->next.next, c->handle, r.len, r.offset, 0, NULL) ==
        0);
}

static void
do_extents (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = disk_failures (l);
  struct nbdkit_extents *extents;
  struct nbdkit_extent e;
  struct range r;
  uint32_t flags;
  size_t i, n;
  int err = 0, ret;

  if (c == NULL || !c->disk->host.says.can_extents)
    return;
  flags = input_take (&l->in) & 1 ? NBDKIT_FLAG_REQ_ONE : 0;
  r = choose_range (l, c->disk);
  tell ("%d: extents %" PRIu64 "+%u\n", (int) (c - l->connections), r.offset,
        r.len);
  extents = nbdkit_extents_new (r.offset, disk_size (c->disk));
  ret = l->filter->extents (&c->next.next, c->handle, r.len, r.offset, flags,
                            extents, &err);
  if (is_well (l, ret, err, before)) {
    n = nbdkit_extents_count (extents);
    must (n > 0 && nbdkit_get_extent (extents, 0).offset == r.offset);
    for (i = 0; i < n; ++i) {
      e = nbdkit_get_extent (extents, i);
      if (e.type & NBDKIT_EXTENT_ZERO)
        must (shadow_may_be_zero (c->disk->shadow, e.offset, e.length));
    }
  }
  nbdkit_extents_free (extents);
}

/* ---- what happens to the server ---- */

static void
do_open (struct life *l)
{
  struct connection *c = &l->connections[input_take (&l->in) % CONNECTIONS];
  const uint8_t how = input_take (&l->in);

  if (c->handle == NULL)
    steps_open (l, c, &l->disks[(how >> 1) % l->nr_disks], how & 1);
}

static void
do_close (struct life *l)
{
  struct connection *c = &l->connections[input_take (&l->in) % CONNECTIONS];
  const uint8_t how = input_take (&l->in);

  if (c->handle)
    steps_close (l, c, !(how & 1));
}

static void
do_fault (struct life *l)
{
  static const int kinds[] = { EIO, EIO, ENOSPC, ENOTSUP, ENOMEM, EINVAL };
  struct disk *d = &l->disks[input_take (&l->in) % l->nr_disks];
  const enum array_op op = input_take (&l->in) % ARRAY_OPS;
  const uint8_t how = input_take (&l->in);
  const int error = CHOOSE (&l->in, kinds);
  struct range r;

  tell ("fault op %d how 0x%x error %d\n", op, how, error);
  if (++d->faults > ARRAY_FAULTS) {
    disk_heal (d);
    d->faults = 1;
  }
  if (how & 0x80) {
    r = choose_range (l, d);
    tell ("  %" PRIu64 "+%u\n", r.offset, r.len);
    array_fail_range (d->host.array, op, r.offset, r.len, error);
  }
  else
    array_fail (d->host.array, op, how & 7,
                (how >> 3 & 3) == 3 ? 1000 : 1 + (how >> 3 & 3), error);
}

static void
do_heal (struct life *l)
{
  tell ("heal\n");
  disk_heal (&l->disks[input_take (&l->in) % l->nr_disks]);
}

static void
do_tick (struct life *l)
{
  static const uint64_t times[] = { SECOND / 10, SECOND, SECOND * 2,
                                    SECOND * 31, SECOND * 3600 };

  tell ("tick\n");
  clock_advance (CHOOSE (&l->in, times));
  host_tick ();
}

static void
do_resize (struct life *l)
{
  struct disk *d = &l->disks[input_take (&l->in) % l->nr_disks];
  const uint64_t size = disk_choose_size (&l->in, d->max, d->host.says.block);

  if (d->open > 0)
    return;
  tell ("resize %" PRIu64 " to %" PRIu64 "\n", disk_size (d), size);
  shadow_cut (d->shadow, min_u64 (size, disk_size (d)));
  pthread_mutex_lock (&d->host.array->lock);
  d->host.array->backend.traits.size = size;
  pthread_mutex_unlock (&d->host.array->lock);
}

static void
do_stop (struct life *l)
{
  /* A whole life after it would hold nothing back: now and then only. */
  if (input_take (&l->in) % 16 != 0)
    return;
  tell ("stop\n");
  l->stopped = true;
  host_stop ();
}

void
steps_run (struct life *l)
{
  switch (input_take (&l->in) % 20) {
  case 0:
    do_open (l);
    break;
  case 1:
    do_close (l);
    break;
  case 2:
  case 3:
  case 4:
    do_read (l);
    break;
  case 5:
  case 6:
  case 7:
    do_write (l, false);
    break;
  case 8:
    do_write (l, true);
    break;
  case 9:
    do_flush (l);
    break;
  case 10:
  case 11:
    do_zero (l);
    break;
  case 12:
    do_trim (l);
    break;
  case 13:
    do_cache (l);
    break;
  case 14:
    do_extents (l);
    break;
  case 15:
  case 16:
    do_fault (l);
    break;
  case 17:
    do_heal (l);
    break;
  case 18:
    do_tick (l);
    break;
  default:
    if (input_take (&l->in) & 1)
      do_resize (l);
    else
      do_stop (l);
  }
}
