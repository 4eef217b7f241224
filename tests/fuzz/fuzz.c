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

#include <inttypes.h>
#include <stdio.h>

#include "export/parameters.h"
#include "life.h"

#define MAX_STEPS 160

extern int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len);

uint8_t
input_take (struct input *in)
{
  return in->at < in->end ? *in->at++ : 0;
}

unsigned
input_take_16 (struct input *in)
{
  const unsigned low = input_take (in);

  return low | input_take (in) << 8;
}

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
  size_t i, len = input_take (&l->in) % sizeof value;

  for (i = 0; i < len; ++i)
    value[i] = input_take (&l->in) & 0x7f;
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
    must (configure (l, choices[i].key,
                     choices[i].values[input_take (&l->in) % 6]) == 0);
  must (l->filter->config_complete (next_config_complete, NULL) == 0);
}

/* ---- disks ---- */

uint64_t
disk_size (const struct disk *d)
{
  return d->host.array->backend.traits.size;
}

/* Sizes from nothing to more than the cache holds: with a rest where the disk
 * takes any byte, and else whole blocks of it, since others are refused.
 */
uint64_t
disk_choose_size (struct input *in, uint64_t max, uint32_t block)
{
  const uint8_t kind = input_take (in);
  const uint64_t n = input_take (in) + 1;
  const uint64_t size = (kind & 7) == 0  ? n * 16 * KiB
                        : (kind & 7) < 4 ? n * 4 * KiB
                                         : n * 512;
  const uint64_t bytes =
      clamp_u64 (size + (kind & 8 ? input_take (in) * 2 + 1 : 0), 512, max);

  return block == 512 ? bytes : round_up (bytes, block);
}

static void
make_disk (struct disk *d, const struct backend_traits *says, uint8_t salt)
{
  struct backend_traits has = array_traits (d->max);
  struct array *a;
  uint64_t i;

  has.block = says->block;
  has.maximum = says->maximum;
  has.can_multi_conn = says->can_multi_conn;
  d->host.says = *says;
  d->host.array = a = array_new (&has);
  for (i = 0; salt != 0 && i < d->max; ++i)
    a->seen[i] = a->durable[i] = a->seen[i] ^ salt;
  d->shadow = shadow_new (d->max, salt);
}

static void
choose_disks (struct life *l)
{
  static const uint32_t blocks[] = { 512, 512, 512, 1024, 4096, 4096, 65536 };
  static const uint32_t maxima[] = { 64 * MiB, 64 * MiB, 65536, 4096, 1 * MiB };
  static const uint32_t preferred[] = { 4096, 512, 65536, 1 * MiB };
  struct input *in = &l->in;
  const uint8_t has = input_take (in), more = input_take (in);
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
    l->disks[i].max = disk_choose_size (in, 4 * MiB, says.block);
    make_disk (&l->disks[i], &says, 0x55 * i);
    tell ("disk %u: size %" PRIu64 " maximum %u multi-conn %d forgets %d "
          "tears %d\n",
          i, l->disks[i].max, says.maximum, says.can_multi_conn, forgets,
          tears);
    l->disks[i].last = l->disks[i].max;
    l->disks[i].host.array->forgets = forgets;
    l->disks[i].host.array->tears = tears;
    l->disks[i].host.array->unsteady = l->threads;
  }
}

unsigned
disk_failures (struct life *l)
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

void
disk_heal (struct disk *d)
{
  array_heal (d->host.array);
  d->faults = 0;
}

void
disk_check_durable (struct disk *d, uint64_t offset, uint64_t len)
{
  struct array *a = d->host.array;

  pthread_mutex_lock (&a->lock);
  must (shadow_keeps (d->shadow, offset, len, a->durable + offset));
  pthread_mutex_unlock (&a->lock);
}

void
disk_check_all_durable (struct disk *d, bool failed_too)
{
  shadow_flushed (d->shadow, failed_too && d->host.says.can_multi_conn);
  disk_check_durable (d, 0, disk_size (d));
}

/* ---- the end ---- */

/* With nothing in the way, all that was acknowledged is there. */
static void
settle (struct life *l, struct disk *d)
{
  struct connection *c = &l->connections[0];
  struct array *a = d->host.array;
  const uint64_t piece = 64 * KiB;
  uint8_t *bytes = steps_buffer (piece);
  uint64_t at, len;
  int err = 0;

  tell ("settle\n");
  steps_open (l, c, d, false);
  must (l->filter->flush (&c->next.next, c->handle, 0, &err) == 0);
  disk_check_all_durable (d, true);
  for (at = 0; at < disk_size (d); at += len) {
    len = min_u64 (piece, disk_size (d) - at);
    must (l->filter->pread (&c->next.next, c->handle, bytes, len, at, 0,
                            &err) == 0);
    must (shadow_reads (d->shadow, at, len, bytes, l->learns));
    pthread_mutex_lock (&a->lock);
    must (memcmp (bytes, a->seen + at, len) == 0);
    pthread_mutex_unlock (&a->lock);
  }
  free (bytes);
  steps_close (l, c, true);
}

static void
end_life (struct life *l)
{
  struct array *a;
  unsigned i;

  for (i = 0; i < l->nr_disks; ++i)
    disk_heal (&l->disks[i]);
  for (i = 0; i < CONNECTIONS; ++i)
    if (l->connections[i].handle)
      steps_close (l, &l->connections[i], true);
  for (i = 0; i < l->nr_disks; ++i)
    settle (l, &l->disks[i]);
  host_stop ();
  l->filter->cleanup (NULL);
  l->filter->unload ();
  for (i = 0; i < l->nr_disks; ++i) {
    a = l->disks[i].host.array;
    a->backend.traits.size = l->disks[i].max;
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

  kind = input_take (&l->in);
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
    steps_run (l);
  end_life (l);
  free (l);
  return 0;
}
