/* SPDX-License-Identifier: BSD-3-Clause */

/* Random operations of random clients over a random configuration, whose
 * history has to be one that a disk may have.
 *
 *   test-model [--seed N] [--count N] [--seconds S] [--operations N] [--faults
 * 0|1]
 *         [--keep]
 *
 * A seed gives the configuration and the operations of each connection; how
 * they meet in time differs from run to run.  Without arguments the fixed
 * seeds are run, then some fresh ones.  With --seed it is that seed and,
 * with --count or --seconds, those that follow.  --seconds alone runs fresh
 * ones.  --keep leaves the files of the server of a seed that fails, and a list
 * of its requests.
 *
 * A seed is a test.  In it, connections send operations of all kinds, several
 * at once and over the same blocks; faults come and go in the disk;
 * connections are cut off and made again.  At the end
 *   - all is flushed, or all clients leave and the server is told to stop, and
 *     the durable image has to be what the clients read; or
 *   - the server is killed, and the image has to have every durable write;
 * the history is searched for an order (history.c), and the disk's log for
 * two writes at once over one block.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "client.h"

#define MAX_CLIENTS 4
#define FIXED_SEEDS 24
#define FRESH_SEEDS 8
#define READ_BACK   (UINT64_C (1) << 20)

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)

enum ending { FLUSHED, STOPPED, KILLED, NR_ENDINGS };

static const char *const ending_names[NR_ENDINGS] = { "flush", "stop", "kill" };

struct model {
  struct run run;
  struct connection connections[MAX_CLIENTS];
  uint64_t seed;
  struct rng rng; /* of the configuration and the faults */

  /* The configuration. */
  uint64_t size, hot_size, hot[3];
  unsigned weights[NR_KINDS];
  unsigned fua_percent, large_percent;
  bool drops, can_flush;
  enum ending ending;

  uint64_t operations, sent;
};

/* The arguments. */
static uint64_t operations_given;
static bool keep;
static int faults_given = -1;

/* The configuration. */

static const char *
yes_mostly (struct rng *rng)
{
  return rng_chance (rng, 80) ? "yes" : "no";
}

static void
choose_disk (struct model *m)
{
  struct server *s = &m->run.server;
  struct rng *rng = &m->rng;
  const char *const block_min = ONE_OF (rng, "", "", "512", "4K", "16K");
  const char *model = "parallel";
  bool multi_conn = rng_chance (rng, 75);

  m->size = (64 + rng_below (rng, 1024)) * 4 * KiB;
  if (*block_min == '\0' && rng_chance (rng, 50))
    m->size -= 8 * rng_below (rng, 60) + rng_below (rng, 16);
  else
    m->size -= m->size % (16 * KiB);
  if (rng_chance (rng, 20))
    model = ONE_OF (rng, "serialize-connections", "serialize-all-requests",
                    "serialize-requests");
  if (strcmp (model, "serialize-connections") == 0)
    m->run.nr_connections = 1;

  server_word (s, "size=%" PRIu64, m->size);
  if (*block_min)
    server_word (s, "block-min=%s", block_min);
  if (rng_chance (rng, 20))
    server_word (s, "block-max=%s", ONE_OF (rng, "64K", "256K", "1M"));
  server_word (s, "thread-model=%s", model);
  server_word (s, "fua=%s",
               ONE_OF (rng, "native", "native", "emulate", "none"));
  m->can_flush = rng_chance (rng, 80);
  server_word (s, "flush=%s", m->can_flush ? "yes" : "no");
  server_word (s, "zero=%s", yes_mostly (rng));
  server_word (s, "fast-zero=%s", yes_mostly (rng));
  server_word (s, "trim=%s", yes_mostly (rng));
  server_word (s, "trim-keeps=%s", ONE_OF (rng, "yes", "no"));
  server_word (s, "extents=%s", yes_mostly (rng));
  if (m->run.faults && rng_chance (rng, 50)) {
    server_word (s, "forget=yes");
    m->run.history.forgets = true;
  }
  if (rng_chance (rng, 70))
    server_word (s, "read-latency=%" PRIu64 "us", rng_below (rng, 2000));
  if (rng_chance (rng, 70))
    server_word (s, "write-latency=%" PRIu64 "us", rng_below (rng, 2000));
  if (rng_chance (rng, 70))
    server_word (s, "flush-latency=%" PRIu64 "us", rng_below (rng, 4000));
  if (rng_chance (rng, 50))
    server_word (s, "zero-latency=%" PRIu64 "us", rng_below (rng, 2000));
  if (rng_chance (rng, 50))
    server_word (s, "trim-latency=%" PRIu64 "us", rng_below (rng, 2000));
  if (rng_chance (rng, 30))
    server_word (s, "serve=%" PRIu64, 1 + rng_below (rng, 6));

  /* Unshared caches promise nothing to each other, and are shared by threads
   * of the filter's own.
   */
  server_word (s, "multi-conn=%s", multi_conn ? "yes" : "no");
  if (!multi_conn &&
      (strcmp (model, "parallel") != 0 || rng_chance (rng, 30))) {
    m->run.nr_connections = 1;
    m->drops = false;
  }
  else if (!multi_conn)
    server_word (s, "wtcache-share=always");
}

static void
choose_cache (struct model *m)
{
  struct server *s = &m->run.server;
  struct rng *rng = &m->rng;
  const uint64_t page = (4 * KiB)
                        << (rng_chance (rng, 60) ? 0 : rng_below (rng, 7));
  uint64_t size = MiB << (rng_chance (rng, 60) ? 0 : rng_below (rng, 4));

  if (size < 16 * page)
    size = 16 * page;
  server_word (s, "wtcache-size=%" PRIu64, size);
  server_word (s, "wtcache-page-size=%" PRIu64, page);
  if (rng_chance (rng, 80))
    server_word (
        s, "wtcache-mode=%s",
        ONE_OF (rng, "writeback", "writeback", "writethrough", "writearound"));
  if (rng_chance (rng, 60))
    server_word (s, "wtcache-dirty-max=%s",
                 ONE_OF (rng, "64K", "256K", "512K", "10%", "50%"));
  if (rng_chance (rng, 60))
    server_word (s, "wtcache-dirty-age=%s",
                 ONE_OF (rng, "1ms", "20ms", "200ms"));
  if (rng_chance (rng, 40))
    server_word (s, "wtcache-depth=%" PRIu64, 1 + rng_below (rng, 8));
  if (rng_chance (rng, 40))
    server_word (s, "wtcache-fill=%s", ONE_OF (rng, "512", "4K", "32K", "1M"));
  if (rng_chance (rng, 50))
    server_word (s, "wtcache-readahead=%s", ONE_OF (rng, "off", "4K", "256K"));
  if (rng_chance (rng, 30))
    server_word (s, "wtcache-keep=no");
}

static void
choose_load (struct model *m)
{
  static const unsigned weights[NR_KINDS] = {
    [READ] = 35, [WRITE] = 40, [ZERO] = 7,   [TRIM] = 4,
    [FLUSH] = 5, [CACHE] = 2,  [STATUS] = 6,
  };
  struct rng *rng = &m->rng;

  for (unsigned i = 0; i < NR_KINDS; ++i)
    m->weights[i] = 1 + weights[i] * (50 + rng_below (rng, 100)) / 100;
  m->fua_percent = rng_below (rng, 60);
  m->large_percent = rng_below (rng, 8);
  m->hot_size = (4 * KiB) << rng_below (rng, 6);
  for (unsigned i = 0; i < 3; ++i)
    m->hot[i] = rng_below (rng, m->size);
  m->operations =
      operations_given ? operations_given : 400 + rng_below (rng, 1200);
}

static void
choose (struct model *m)
{
  struct rng *rng = &m->rng;

  m->run.nr_connections = 1 + rng_below (rng, MAX_CLIENTS);
  m->run.faults = rng_chance (rng, 50);
  m->drops = rng_chance (rng, 25);
  m->ending = rng_below (rng, NR_ENDINGS);
  if (faults_given != -1)
    m->run.faults = faults_given;
  choose_disk (m);
  choose_cache (m);
  choose_load (m);
  for (unsigned i = 0; i < m->run.nr_connections; ++i) {
    struct connection *c = &m->connections[i];

    c->run = &m->run;
    c->history = &m->run.history;
    c->number = i;
    c->rng.state = rng_next (rng);
    c->depth = 1 + rng_below (rng, 8);
  }
}

/* Ends at cells, mostly in the hot ranges, mostly small. */
static void
choose_range (struct model *m, struct connection *c, uint64_t *offset,
              uint64_t *length)
{
  struct rng *rng = &c->rng;
  const unsigned how = rng_below (rng, 100);
  uint64_t begin, end;

  if (rng_chance (rng, 85))
    begin = m->hot[rng_below (rng, 3)] + rng_below (rng, m->hot_size);
  else
    begin = rng_next (rng);
  begin %= m->size;
  if (how < 25) { /* as file systems do */
    begin -= begin % (4 * KiB);
    end = begin + 4 * KiB * (1 + rng_below (rng, 4));
  }
  else if (how < 45) { /* blocks */
    begin -= begin % BLOCK_SIZE;
    end = begin + BLOCK_SIZE * (1 + rng_below (rng, 12));
  }
  else if (how < 100 - m->large_percent)
    end = begin + 1 + rng_below (rng, rng_chance (rng, 70) ? 3000 : 40000);
  else
    end = begin + 1 + rng_below (rng, rng_chance (rng, 70) ? 600000 : m->size);
  if (end > m->size)
    end = m->size;
  history_round (&m->run.history, &begin, &end);
  *offset = begin;
  *length = end - begin;
}

static bool
start_any (struct model *m, struct connection *c)
{
  struct rng *rng = &c->rng;
  const enum kind kind = client_choose (c, m->weights);
  uint64_t offset = 0, length = 0;
  uint32_t flags = 0;

  if (kind != FLUSH)
    choose_range (m, c, &offset, &length);
  if ((kind == WRITE || kind == ZERO || kind == TRIM) &&
      rng_chance (rng, m->fua_percent) && nbd_can_fua (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (kind == ZERO && rng_chance (rng, 40))
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (kind == ZERO && rng_chance (rng, 30) && nbd_can_fast_zero (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  ++m->sent;
  return client_start (c, kind, offset, length, flags);
}

/* Faults. */

static bool
change_faults (struct model *m)
{
  struct rng *rng = &m->rng;
  char command[200];

  if (rng_chance (rng, 40))
    return run_step (&m->run, server_control (&m->run.server, "unfault all"));
  snprintf (command, sizeof command,
            "fault f%" PRIu64 " op=%s errno=%s skip=%" PRIu64 " count=%" PRIu64
            " partial=%" PRIu64,
            rng_below (rng, 3),
            ONE_OF (rng, "any", "write", "write", "flush", "flush", "read",
                    "zero", "trim"),
            ONE_OF (rng, "EIO", "ENOSPC"), rng_below (rng, 10),
            1 + rng_below (rng, rng_chance (rng, 70) ? 3 : 30),
            rng_chance (rng, 30) ? 512 * rng_below (rng, 16) : 0);
  return run_step (&m->run, server_control (&m->run.server, command));
}

/* A run. */

static bool
send_all (struct model *m)
{
  uint64_t next_change = 50;

  m->run.progress = now ();
  while (m->sent < m->operations) {
    bool full = true;

    if (m->run.faults && m->sent >= next_change) {
      if (!change_faults (m))
        return false;
      next_change = m->sent + 10 + rng_below (&m->rng, 80);
    }
    for (unsigned i = 0; i < m->run.nr_connections; ++i) {
      struct connection *c = &m->run.connections[i];

      if (c->in_flight == c->depth)
        continue;
      full = false;
      if (m->drops && rng_below (&c->rng, 400) == 0 && !client_cut_off (c))
        return false;
      if (!start_any (m, c))
        return false;
    }
    if (full ? !clients_serve_in_time (&m->run) : !clients_serve (&m->run, 0))
      return false;
  }
  return true;
}

/* Reads the whole disk on every connection: what they see is checked as all
 * else is.
 */
static bool
read_all (struct model *m)
{
  for (unsigned i = 0; i < m->run.nr_connections; ++i)
    for (uint64_t offset = 0; offset < m->size; offset += READ_BACK) {
      uint64_t length = m->size - offset;

      if (!client_start (&m->run.connections[i], READ, offset,
                         length < READ_BACK ? length : READ_BACK, 0) ||
          !clients_finish (&m->run))
        return false;
    }
  return true;
}

/* The durable image has to be what the last reads have seen.  Unless the disk
 * was flushed, what failed, and trims, may have left there something that is
 * not durable.
 */
static bool
check_image (struct model *m, const char *when)
{
  struct history *h = &m->run.history;
  const bool flushed = m->ending == FLUSHED && m->can_flush;
  uint8_t *image = malloc (m->size);
  struct op *op = history_start (h, READ, MAX_CLIENTS, 0, m->size);
  bool good;

  if (image == NULL)
    abort ();
  good = run_step (&m->run, server_durable (&m->run.server, image, m->size));
  if (good && !history_values (h, op, image))
    good = run_fail (&m->run, "durable image %s: %s", when, h->complaint);
  history_end (h, op, DONE, 0);
  if (good && !flushed)
    history_overlook_uncertain (h, op);
  for (size_t i = h->nr_ops - 1; good && i-- > 0;) {
    const struct op *read = h->ops[i];
    const size_t first = history_cell (h, read->offset);
    size_t cell = first;

    if (read->kind != READ || read->outcome != DONE)
      break;
    for (; cell < history_cell (h, read->offset + read->length); ++cell)
      if (read->values[cell - first] != op->values[cell] &&
          read->values[cell - first] != VALUE_UNKNOWN &&
          op->values[cell] != VALUE_UNKNOWN)
        good = run_fail (&m->run,
                         "durable image %s at %" PRIu64 ": write %" PRIu32
                         ", but clients read write %" PRIu32,
                         when, h->cells[cell], op->values[cell],
                         read->values[cell - first]);
    if (read->connection == 0 && read->offset == 0)
      break;
  }
  free (image);
  return good;
}

static bool
leave_all (struct model *m)
{
  bool good = true;

  for (unsigned i = 0; i < m->run.nr_connections; ++i)
    good &= client_hang_up (&m->run.connections[i]);
  return good && run_step (&m->run, server_stop (&m->run.server));
}

static bool
end_flushed (struct model *m)
{
  struct connection *c =
      &m->run.connections[rng_below (&m->rng, m->run.nr_connections)];

  if (!clients_finish (&m->run) ||
      !run_step (&m->run, server_control (&m->run.server, "unfault all")))
    return false;
  if (nbd_can_flush (c->nbd) == 1) {
    if (!client_start (c, FLUSH, 0, 0, 0) || !clients_finish (&m->run))
      return false;
    if (m->run.history.ops[m->run.history.nr_ops - 1]->outcome != DONE)
      return run_fail (&m->run, "the last flush fails though no fault is left");
  }
  return read_all (m) && check_image (m, "after the flush") && leave_all (m) &&
         check_image (m, "at the end");
}

static bool
end_stopped (struct model *m)
{
  return clients_finish (&m->run) &&
         run_step (&m->run, server_control (&m->run.server, "unfault all")) &&
         read_all (m) && leave_all (m) && check_image (m, "after the stop");
}

static bool
end_killed (struct model *m)
{
  uint8_t *image = malloc (m->size);
  bool good;

  if (image == NULL)
    abort ();
  server_kill (&m->run.server);
  /* Replies that have arrived count, all else is unknown. */
  m->run.killed = true;
  for (unsigned i = 0; i < m->run.nr_connections; ++i) {
    struct connection *c = &m->run.connections[i];

    while (c->in_flight && !nbd_aio_is_dead (c->nbd) &&
           !nbd_aio_is_closed (c->nbd))
      nbd_aio_notify_read (c->nbd);
    nbd_close (c->nbd);
    c->nbd = NULL;
  }
  good = run_step (&m->run, server_durable (&m->run.server, image, m->size)) &&
         (history_check_durable (&m->run.history, image, NULL) ||
          run_fail (&m->run, "after kill -9: %s", m->run.history.complaint));
  free (image);
  return good;
}

static bool
run (struct model *m)
{
  if (!run_step (&m->run, server_start (&m->run.server)))
    return false;
  for (unsigned i = 0; i < m->run.nr_connections; ++i)
    if (!client_dial (&m->run.connections[i]))
      return false;
  if (!send_all (m))
    return false;
  switch (m->ending) {
  case FLUSHED:
    if (!end_flushed (m))
      return false;
    break;
  case STOPPED:
    if (!end_stopped (m))
      return false;
    break;
  default:
    if (!end_killed (m))
      return false;
  }
  return run_step (&m->run, server_check_log (&m->run.server)) &&
         run_step (&m->run, server_check_stderr (&m->run.server)) &&
         (history_check (&m->run.history) ||
          run_fail (&m->run, "%s", m->run.history.complaint));
}

static void
list_requests (const struct model *m)
{
  char path[128];
  FILE *f;

  snprintf (path, sizeof path, "%s/requests", m->run.server.folder);
  f = fopen (path, "we");
  if (f == NULL)
    return;
  history_list (&m->run.history, "", f);
  fclose (f);
}

static bool
run_seed (unsigned test, uint64_t seed)
{
  struct model *m = calloc (1, sizeof *m);
  const double began = now ();
  bool good;

  if (m == NULL)
    abort ();
  m->run.connections = m->connections;
  m->seed = m->rng.state = seed;
  server_init (&m->run.server, 0);
  server_filter (&m->run.server);
  server_disk (&m->run.server);
  choose (m);
  {
    bool forgets = m->run.history.forgets;

    history_init (&m->run.history, m->size, &m->rng);
    m->run.history.forgets = forgets;
  }
  good = run (m);
  printf ("%s %u - seed %" PRIu64 ": %" PRIu64 " operations, %u connections, "
          "%s%s%s (%.1f s)\n",
          good ? "ok" : "not ok", test, seed, m->sent, m->run.nr_connections,
          m->run.faults ? "faults, " : "", m->drops ? "drops, " : "",
          ending_names[m->ending], now () - began);
  if (!good) {
    printf ("# ");
    tap_comment (m->run.complaint);
    server_report (&m->run.server);
    if (keep)
      list_requests (m);
  }
  fflush (stdout);
  m->run.killed = true;
  for (unsigned i = 0; i < m->run.nr_connections; ++i)
    nbd_close (m->run.connections[i].nbd);
  server_free (&m->run.server, keep && !good);
  history_free (&m->run.history);
  free (m);
  return good;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    SEEDS_OPTIONS,
    { "operations", required_argument, NULL, 'o' },
    { "faults", required_argument, NULL, 'f' },
    { "keep", no_argument, NULL, 'k' },
    { 0 },
  };
  struct seeds seeds = { 0 };
  bool good = true;
  unsigned test = 0;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 'o':
      operations_given = number (optarg);
      break;
    case 'f':
      faults_given = number (optarg);
      break;
    case 'k':
      keep = true;
      break;
    default:
      if (!seeds_option (&seeds, opt, optarg))
        return EXIT_FAILURE;
    }
  if (seeds.given || seeds.count > 0 || seeds.seconds > 0) {
    seeds_begin (&seeds, now ());
    for (; seeds_go_on (&seeds, test, now ()); ++test)
      good &= run_seed (test + 1, seeds_next (&seeds));
  }
  else
    for (; test < FIXED_SEEDS + FRESH_SEEDS; ++test)
      good &=
          run_seed (test + 1, test < FIXED_SEEDS ? test + 1 : fresh_seed ());
  printf ("1..%u\n", test);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
