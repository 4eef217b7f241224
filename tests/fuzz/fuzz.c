/* SPDX-License-Identifier: BSD-3-Clause */

/* From bytes to a life of the filter: options, connections, requests, faults.
 *
 * The first bytes choose the options and what the disk below can do; each of
 * the following begins a step, which takes its arguments from those after it.
 * All steps go through the filter's callbacks, in the order in which nbdkit
 * calls them.  After each, what was read, what the disk keeps and what was
 * answered are held against the shadow:
 *
 *   a read returns what was written last; of a request that failed each byte
 *   may be there or not;
 *   what a FUA request, a flush or the end of the last writer acknowledged is
 *   on the durable image;
 *   a request fails only if the backend failed meanwhile;
 *   block status never calls zero what is not.
 *
 * At the end all faults are healed: a flush succeeds, the durable image holds
 * everything, and what is read is what the backend has.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "export/parameters.h"
#include "host.h"
#include "shadow.h"
#include "unit.h"

#define CONNECTIONS 3
#define DISKS       2
#define MAX_STEPS   160
#define SECOND      UINT64_C (1000000000)

extern int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len);

struct input {
  const uint8_t *at, *end;
};

struct disk {
  struct host_disk host;
  struct shadow *shadow;
  uint64_t most; /* bytes it ever has */
  uint64_t last; /* size at the last open that was not refused */
  unsigned open, writers;
  unsigned faults;
};

struct connection {
  struct host_next next;
  void *handle; /* NULL: closed */
  struct disk *disk;
};

/* All of one input. */
struct life {
  struct nbdkit_filter *filter;
  struct input in;
  struct disk disks[DISKS];
  unsigned nr_disks;
  struct connection connections[CONNECTIONS];
  bool shared;  /* connections see each other's writes */
  bool threads; /* a fault may strike between requests */
  bool stopped;
  bool learns;     /* what was read once will be read again */
  unsigned writes; /* so far: no two write the same bytes */
};

static uint8_t
take (struct input *in)
{
  return in->at < in->end ? *in->at++ : 0;
}

static unsigned
take_16 (struct input *in)
{
  const unsigned low = take (in);

  return low | take (in) << 8;
}

#define CHOOSE(in, list) ((list)[take (in) % ARRAY_LEN (list)])

/* With FUZZ_TELL in the environment each step is told. */
#define tell(...)                                                              \
  do {                                                                         \
    if (getenv ("FUZZ_TELL"))                                                  \
      fprintf (stderr, __VA_ARGS__);                                           \
  } while (0)

/* ---- options ---- */

static int
next_config (nbdkit_backend *nxdata, const char *key, const char *value)
{
  (void) nxdata;
  (void) key;
  (void) value;
  return 0;
}

static int
next_config_complete (nbdkit_backend *nxdata)
{
  (void) nxdata;
  return 0;
}

static int
configure (struct life *l, const char *key, const char *value)
{
  const unsigned before = host_errors ();
  const int r = l->filter->config (next_config, NULL, key, value);

  tell ("%s=%s: %d\n", key, value, r);

  must (r == 0 || r == -1);
  must ((r == -1) == (host_errors () > before));
  return r;
}

static const char *const keys[] = {
  "wtcache-size",      "wtcache-page-size", "wtcache-mode",
  "wtcache-dirty-max", "wtcache-dirty-age", "wtcache-drain",
  "wtcache-depth",     "wtcache-fill",      "wtcache-readahead",
  "wtcache-share",     "wtcache-key",       "wtcache-keep",
  "wtcache-stats",     "wtcache-other",     "other",
};

/* Random text: it is accepted, or refused with a message. */
static void
configure_wildly (struct life *l)
{
  const struct settings saved = settings;
  const char *key = CHOOSE (&l->in, keys);
  char value[12];
  size_t i, len = take (&l->in) % sizeof value;

  for (i = 0; i < len; ++i)
    value[i] = take (&l->in) & 0x7f;
  value[len] = '\0';
  if (configure (l, key, value) == 0)
    l->filter->config_complete (next_config_complete, NULL);
  parameters_free (&settings);
  settings = saved;
  must (configure (l, "wtcache-dirty-max", "auto") == 0);
}

static void
choose_options (struct life *l)
{
  static const struct {
    const char *key, *values[6];
  } choices[] = {
    { "wtcache-size", { "1M", "1M", "1100K", "2M", "8M", "1M" } },
    { "wtcache-page-size", { "4K", "4K", "8K", "16K", "64K", "4K" } },
    { "wtcache-mode",
      { "writeback", "writeback", "writethrough", "writearound", "writeback",
        "writeback" } },
    { "wtcache-dirty-max", { "auto", "64K", "50%", "1%", "128K", "512K" } },
    { "wtcache-dirty-age", { "30", "100us", "500ms", "1", "1m", "30" } },
    { "wtcache-drain", { "60", "1", "1s", "300ms", "5", "100ms" } },
    { "wtcache-depth", { "auto", "1", "2", "64", "auto", "4" } },
    { "wtcache-fill", { "auto", "512", "4K", "64K", "1M", "auto" } },
    { "wtcache-readahead", { "off", "2M", "4K", "64K", "256K", "off" } },
    { "wtcache-share",
      { "auto", "auto", "always", "never", "auto", "always" } },
    { "wtcache-key", { "name", "name", "name", "name", "all", "name" } },
    { "wtcache-keep", { "yes", "yes", "no", "yes", "no", "yes" } },
  };
  size_t i;

  for (i = 0; i < ARRAY_LEN (choices); ++i)
    must (configure (l, choices[i].key, choices[i].values[take (&l->in) % 6]) ==
          0);
  must (l->filter->config_complete (next_config_complete, NULL) == 0);
}

/* ---- disks ---- */

static uint64_t
size_of (const struct disk *d)
{
  return d->host.array->backend.traits.size;
}

/* Sizes from nothing to more than the cache holds: with a rest where the disk
 * takes any byte, and else whole blocks of it, since others are refused.
 */
static uint64_t
choose_size (struct input *in, uint64_t most, uint32_t block)
{
  const uint8_t kind = take (in);
  const uint64_t n = take (in) + 1;
  const uint64_t size = (kind & 7) == 0  ? n * 16 * KiB
                        : (kind & 7) < 4 ? n * 4 * KiB
                                         : n * 512;
  const uint64_t bytes =
      clamp_u64 (size + (kind & 8 ? take (in) * 2 + 1 : 0), 512, most);

  return block == 512 ? bytes : round_up (bytes, block);
}

static void
make_disk (struct disk *d, const struct backend_traits *says, uint8_t salt)
{
  struct backend_traits has = array_traits (d->most);
  struct array *a;
  uint64_t i;

  has.block = says->block;
  has.maximum = says->maximum;
  has.can_multi_conn = says->can_multi_conn;
  d->host.says = *says;
  d->host.array = a = array_new (&has);
  for (i = 0; salt != 0 && i < d->most; ++i)
    a->seen[i] = a->durable[i] = a->seen[i] ^ salt;
  d->shadow = shadow_new (d->most, salt);
}

static void
choose_disks (struct life *l)
{
  static const uint32_t blocks[] = { 512, 512, 512, 1024, 4096, 4096, 65536 };
  static const uint32_t maxima[] = { 64 * MiB, 64 * MiB, 65536, 4096, 1 * MiB };
  static const uint32_t preferred[] = { 4096, 512, 65536, 1 * MiB };
  struct input *in = &l->in;
  const uint8_t has = take (in), more = take (in);
  struct backend_traits says = {
    .block = CHOOSE (in, blocks),
    .preferred = CHOOSE (in, preferred),
    .fua = has & 3 ? 3 - (has & 3) : FUA_NATIVE,
    .can_write = true,
    .can_flush = (has & 0x1c) != 0x1c,
    .can_zero = !(has & 0x20),
    .can_fast_zero = !(has & 0x40),
    .can_trim = !(has & 0x80),
    .can_extents = !(more & 1),
    .can_multi_conn = !(more & 2) || !(more & 4),
  };
  bool forgets, tears;
  unsigned i;

  tell ("block %u preferred %u fua %d flush %d zero %d fast %d trim %d\n",
        says.block, says.preferred, says.fua, says.can_flush, says.can_zero,
        says.can_fast_zero, says.can_trim);
  says.maximum = max_u64 (CHOOSE (in, maxima), says.block);
  says.preferred = max_u64 (says.preferred, says.block);
  forgets = more & 8;
  tears = more & 0x20;
  /* Half of a write that failed may be lost again, now or when the power is
   * cut, if no flush can prevent it.
   */
  l->learns = !forgets && (!tears || says.can_flush);
  l->nr_disks = more & 0x10 && !settings.one_cache ? 2 : 1;
  for (i = 0; i < l->nr_disks; ++i) {
    l->disks[i].most = choose_size (in, 4 * MiB, says.block);
    make_disk (&l->disks[i], &says, 0x55 * i);
    tell ("disk %u: size %" PRIu64 " maximum %u multi-conn %d forgets %d "
          "tears %d\n",
          i, l->disks[i].most, says.maximum, says.can_multi_conn, forgets,
          tears);
    l->disks[i].last = l->disks[i].most;
    l->disks[i].host.array->forgets = forgets;
    l->disks[i].host.array->tears = tears;
    l->disks[i].host.array->unsteady = l->threads;
  }
}

static unsigned
failures (struct life *l)
{
  struct array *a;
  unsigned i, op, n = 0;

  for (i = 0; i < l->nr_disks; ++i) {
    a = l->disks[i].host.array;
    pthread_mutex_lock (&a->lock);
    for (op = 0; op < ARRAY_OPS; ++op)
      n += a->failed[op];
    pthread_mutex_unlock (&a->lock);
  }
  return n;
}

static void
check_durable (struct disk *d, uint64_t offset, uint64_t len)
{
  struct array *a = d->host.array;

  pthread_mutex_lock (&a->lock);
  must (shadow_keeps (d->shadow, offset, len, a->durable + offset));
  pthread_mutex_unlock (&a->lock);
}

/* FAILED_TOO: half of what failed as well, if this backend flushes for all. */
static void
check_all_durable (struct disk *d, bool failed_too)
{
  shadow_flushed (d->shadow, failed_too && d->host.says.can_multi_conn);
  check_durable (d, 0, size_of (d));
}

/* ---- connections ---- */

static int
next_open (nbdkit_context *context, int readonly, const char *exportname)
{
  (void) context;
  (void) readonly;
  (void) exportname;
  return 0;
}

/* The calls of nbdkit before a client is let in. */
static void
negotiate (struct life *l, struct connection *c)
{
  const struct nbdkit_filter *f = l->filter;
  nbdkit_next *next = &c->next.next;
  uint32_t minimum, preferred, maximum;

  must (f->get_size (next, c->handle) == (int64_t) size_of (c->disk));
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
        (int) (d - l->disks), readonly ? " readonly" : "", size_of (d));
  host_connect (&c->next, &d->host, readonly);
  c->disk = d;
  c->handle =
      l->filter->open (next_open, NULL, readonly, names[d - l->disks], false);
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
static void
open_connection (struct life *l, struct connection *c, struct disk *d,
                 bool readonly)
{
  if (d->open > 0 && !l->shared)
    return;
  if (!try_open (l, c, d, readonly)) {
    must (size_of (d) != d->last);
    d->host.array->backend.traits.size = d->last;
    must (try_open (l, c, d, readonly));
  }
  d->last = size_of (d);
  d->open++;
  d->writers += !readonly;
  negotiate (l, c);
}

/* The last writer's bytes are durable unless the backend failed. */
static void
close_connection (struct life *l, struct connection *c, bool finalize)
{
  struct disk *d = c->disk;
  const bool writer = !c->next.readonly;
  const unsigned before = failures (l);

  tell ("close %d%s, failed so far %u\n", (int) (c - l->connections),
        finalize ? "" : " without finalize", before);
  if (finalize)
    must (l->filter->finalize (&c->next.next, c->handle) == 0);
  l->filter->close (c->handle);
  c->handle = NULL;
  d->open--;
  d->writers -= writer;
  if (writer && d->writers == 0 && failures (l) == before)
    check_all_durable (d, false);
}

static struct connection *
choose_connection (struct life *l)
{
  struct connection *c = &l->connections[take (&l->in) % CONNECTIONS];

  if (c->handle == NULL)
    open_connection (l, c, &l->disks[(c - l->connections) % l->nr_disks],
                     false);
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
  const uint64_t size = size_of (d);
  const uint64_t unit = CHOOSE (in, units);
  struct range r;
  int64_t len;

  r.offset = take_16 (in) * unit % size;
  r.offset = (r.offset + size + CHOOSE (in, near)) % size;
  len = (int64_t) (take (in) % 32 * unit) + CHOOSE (in, near);
  if (len <= 0)
    len = unit;
  r.len = min_u64 (len, size - r.offset);
  return r;
}

static uint8_t *
buffer_of (uint64_t len)
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
  tell (" = %d, error %d, failed %u\n", r, err, failures (l) - failed_before);
  must (r == 0 || r == -1);
  if (r == 0)
    return true;
  must (err == EIO || err == ENOSPC || err == ENOMEM || err == EPERM ||
        err == EINVAL || err == ESHUTDOWN || err == ENOTSUP);
  must (failures (l) > failed_before || l->threads || l->stopped);
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
  const unsigned before = failures (l);
  struct range r;
  uint8_t *bytes;
  int err = 0, ret;

  if (c == NULL)
    return;
  r = choose_range (l, c->disk);
  tell ("%d: read %" PRIu64 "+%u\n", (int) (c - l->connections), r.offset,
        r.len);
  bytes = buffer_of (r.len);
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
  const unsigned before = failures (l), n = ++l->writes;
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
  bytes = buffer_of (r.len);
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
    check_durable (c->disk, r.offset, r.len);
  free (bytes);
}

static void
do_flush (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = failures (l);
  int err = 0, ret;

  if (c == NULL || c->next.readonly)
    return;
  tell ("%d: flush\n", (int) (c - l->connections));
  ret = l->filter->flush (&c->next.next, c->handle, 0, &err);
  if (is_well (l, ret, err, before))
    check_all_durable (c->disk, true);
  must (ret == 0 || err != ENOTSUP);
}

static void
do_zero (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = failures (l);
  const uint8_t flags = take (&l->in);
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
    check_durable (c->disk, r.offset, r.len);
}

static void
do_trim (struct life *l)
{
  struct connection *c = choose_connection (l);
  const unsigned before = failures (l);
  const bool fua = take (&l->in) & 1;
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
  if (to != size_of (c->disk))
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
  const unsigned before = failures (l);
  struct nbdkit_extents *extents;
  struct nbdkit_extent e;
  struct range r;
  uint32_t flags;
  size_t i, n;
  int err = 0, ret;

  if (c == NULL || !c->disk->host.says.can_extents)
    return;
  flags = take (&l->in) & 1 ? NBDKIT_FLAG_REQ_ONE : 0;
  r = choose_range (l, c->disk);
  tell ("%d: extents %" PRIu64 "+%u\n", (int) (c - l->connections), r.offset,
        r.len);
  extents = nbdkit_extents_new (r.offset, size_of (c->disk));
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
  struct connection *c = &l->connections[take (&l->in) % CONNECTIONS];
  const uint8_t how = take (&l->in);

  if (c->handle == NULL)
    open_connection (l, c, &l->disks[(how >> 1) % l->nr_disks], how & 1);
}

static void
do_close (struct life *l)
{
  struct connection *c = &l->connections[take (&l->in) % CONNECTIONS];
  const uint8_t how = take (&l->in);

  if (c->handle)
    close_connection (l, c, !(how & 1));
}

static void
heal (struct disk *d)
{
  array_heal (d->host.array);
  d->faults = 0;
}

static void
do_fault (struct life *l)
{
  static const int kinds[] = { EIO, EIO, ENOSPC, ENOTSUP, ENOMEM, EINVAL };
  struct disk *d = &l->disks[take (&l->in) % l->nr_disks];
  const enum array_op op = take (&l->in) % ARRAY_OPS;
  const uint8_t how = take (&l->in);
  const int error = CHOOSE (&l->in, kinds);
  struct range r;

  tell ("fault op %d how 0x%x error %d\n", op, how, error);
  if (++d->faults > ARRAY_FAULTS) {
    heal (d);
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
  heal (&l->disks[take (&l->in) % l->nr_disks]);
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
  struct disk *d = &l->disks[take (&l->in) % l->nr_disks];
  const uint64_t size = choose_size (&l->in, d->most, d->host.says.block);

  if (d->open > 0)
    return;
  tell ("resize %" PRIu64 " to %" PRIu64 "\n", size_of (d), size);
  shadow_cut (d->shadow, min_u64 (size, size_of (d)));
  pthread_mutex_lock (&d->host.array->lock);
  d->host.array->backend.traits.size = size;
  pthread_mutex_unlock (&d->host.array->lock);
}

static void
do_stop (struct life *l)
{
  /* A whole life after it would hold nothing back: now and then only. */
  if (take (&l->in) % 16 != 0)
    return;
  tell ("stop\n");
  l->stopped = true;
  host_stop ();
}

static void
step (struct life *l)
{
  switch (take (&l->in) % 20) {
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
    if (take (&l->in) & 1)
      do_resize (l);
    else
      do_stop (l);
  }
}

/* With nothing in the way, all that was acknowledged is there. */
static void
settle (struct life *l, struct disk *d)
{
  struct connection *c = &l->connections[0];
  struct array *a = d->host.array;
  const uint64_t piece = 64 * KiB;
  uint8_t *bytes = buffer_of (piece);
  uint64_t at, len;
  int err = 0;

  tell ("settle\n");
  open_connection (l, c, d, false);
  must (l->filter->flush (&c->next.next, c->handle, 0, &err) == 0);
  check_all_durable (d, true);
  for (at = 0; at < size_of (d); at += len) {
    len = min_u64 (piece, size_of (d) - at);
    must (l->filter->pread (&c->next.next, c->handle, bytes, len, at, 0,
                            &err) == 0);
    must (shadow_reads (d->shadow, at, len, bytes, l->learns));
    pthread_mutex_lock (&a->lock);
    must (memcmp (bytes, a->seen + at, len) == 0);
    pthread_mutex_unlock (&a->lock);
  }
  free (bytes);
  close_connection (l, c, true);
}

static void
end_life (struct life *l)
{
  struct array *a;
  unsigned i;

  for (i = 0; i < l->nr_disks; ++i)
    heal (&l->disks[i]);
  for (i = 0; i < CONNECTIONS; ++i)
    if (l->connections[i].handle)
      close_connection (l, &l->connections[i], true);
  for (i = 0; i < l->nr_disks; ++i)
    settle (l, &l->disks[i]);
  host_stop ();
  l->filter->cleanup (NULL);
  l->filter->unload ();
  for (i = 0; i < l->nr_disks; ++i) {
    a = l->disks[i].host.array;
    a->backend.traits.size = l->disks[i].most;
    array_free (a);
    shadow_free (l->disks[i].shadow);
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len)
{
  struct life *l = calloc (1, sizeof *l);
  uint8_t kind;
  unsigned i;

  must (l != NULL);
  l->filter = filter_init ();
  l->filter->load ();
  l->in.at = bytes;
  l->in.end = bytes + len;

  kind = take (&l->in);
  l->threads = (kind & 15) == 15;
  host_use_threads (l->threads);
  if (kind & 0x40)
    configure_wildly (l);
  choose_options (l);
  choose_disks (l);

  host_clock_start ();
  must (l->filter->get_ready (
            kind & 0x30 ? NBDKIT_THREAD_MODEL_PARALLEL
                        : NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS) == 0);
  must (l->filter->after_fork (NULL) == 0);
  l->shared = l->disks[0].host.says.can_multi_conn
                  ? settings.share != SHARE_NEVER
                  : settings.share == SHARE_ALWAYS && kind & 0x30;
  for (i = 0; i < MAX_STEPS && l->in.at < l->in.end; ++i)
    step (l);
  end_life (l);
  free (l);
  return 0;
}
