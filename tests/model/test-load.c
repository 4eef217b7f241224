/* SPDX-License-Identifier: BSD-3-Clause */

/* Many clients at once, for long, that come and go: what they see is right,
 * and the server keeps nothing of those that have gone.
 *
 *   test-load [--connections N] [--operations N] [--seconds S] [--opens N]
 *        [--seed N] [--keep]
 *
 * Each connection has a range of its own, where no other writes, and one is
 * shared by all; several requests of all kinds are in flight on each.  Now and
 * then one is cut off, or takes leave, and dials again.  This goes on in
 * turns: after so many operations all wait for their answers, the disk is
 * flushed and read, the durable image has to be what was read, and the history
 * of all that has to be one that a disk may have (history.c).
 *
 * Before and after, when no client is there, the server's threads, descriptors
 * and memory are counted; so are the allocations of the filter alone, by what
 * fault/allocations.c counts.  Between them connections are opened and closed
 * by the thousand, in good order and not.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"
#include "client.h"

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)

#define OWN_RANGE  (64 * KiB)
#define SHARED     (512 * KiB)
#define READ_BACK  (1 * MiB)
#define IN_FLIGHT  4     /* of a connection, served at once by the server */
#define TURN       12000 /* operations, or a few more */
#define CACHE_SIZE (2 * MiB)

/* Resources that the server may have more of than before.  Threads: those of
 * the filter are begun as they are needed, and stay.  Memory: what the
 * allocator keeps.  Allocations of the filter: counters of threads (stats.c).
 */
#define MORE_THREADS     100
#define MORE_RESIDENT    (24 * MiB)
#define MORE_ALLOCATIONS 64

struct load {
  struct run run;
  struct connection connections[MAX_CONNECTIONS];
  uint64_t size;
  uint64_t sent, cut_off, dropped, left;
  bool drops_many; /* the server bears it with several in flight */
  const struct allocations *allocations;
};

/* The page that is shared with fault/allocations.c. */
struct allocations {
  uint64_t first, count, calls, refused;
  int64_t live;
};

static uint64_t connections = 64, operations = 3 * TURN, seconds, opens = 1000;
static bool keep;

/* The server's threads, descriptors and memory. */

struct amounts {
  unsigned threads, descriptors;
  uint64_t resident; /* bytes */
  int64_t allocations;
};

static unsigned
count_entries (const struct load *l, const char *what)
{
  char path[64];
  DIR *dir;
  unsigned n = 0;

  snprintf (path, sizeof path, "/proc/%d/%s", (int) l->run.server.pid, what);
  dir = opendir (path);
  if (dir == NULL)
    return 0;
  while (readdir (dir))
    ++n;
  closedir (dir);
  return n - 2; /* without . and .. */
}

static uint64_t
resident (const struct load *l)
{
  char path[64], line[200];
  uint64_t k = 0;
  FILE *f;

  snprintf (path, sizeof path, "/proc/%d/status", (int) l->run.server.pid);
  f = fopen (path, "re");
  while (f && fgets (line, sizeof line, f))
    if (sscanf (line, "VmRSS: %" SCNu64, &k) == 1)
      break;
  if (f)
    fclose (f);
  return k * KiB;
}

static struct amounts
measure (const struct load *l)
{
  return (struct amounts){
    .threads = count_entries (l, "task"),
    .descriptors = count_entries (l, "fd"),
    .resident = resident (l),
    .allocations = l->allocations ? l->allocations->live : 0,
  };
}

static void
tell (const char *when, const struct amounts *a)
{
  printf ("# %s: %u threads, %u descriptors, %" PRIu64 " KiB, %" PRId64
          " allocations of the filter\n",
          when, a->threads, a->descriptors, a->resident / KiB, a->allocations);
}

/* Waits until the server has no connection but ours. */
static bool
settle (struct load *l, unsigned expected)
{
  static const struct timespec moment = { .tv_nsec = 5000000 };
  const double began = now ();
  uint64_t connected;

  do {
    if (!run_step (&l->run,
                   server_counter (&l->run.server, "connected", &connected)))
      return false;
    if (connected == expected)
      return true;
    nanosleep (&moment, NULL);
  } while (now () - began < 60 * time_scale ());
  return run_fail (&l->run, "%" PRIu64 " connections instead of %u", connected,
                   expected);
}

/* Waits until nothing is left of the clients that have gone: threads and
 * descriptors go a moment after their connection.
 */
static bool
check_amounts (struct load *l, const char *when, const struct amounts *max)
{
  static const struct timespec moment = { .tv_nsec = 5000000 };
  const double began = now ();
  struct amounts a;
  bool good;

  do {
    nanosleep (&moment, NULL);
    a = measure (l);
    good = a.threads <= max->threads && a.descriptors <= max->descriptors &&
           a.resident <= max->resident && a.allocations <= max->allocations;
  } while (!good && now () - began < 20 * time_scale ());
  tell (when, &a);
  return good || run_fail (&l->run, "the server keeps something of clients "
                                    "that have gone");
}

/* The load. */

static void
choose_range (struct load *l, struct connection *c, uint64_t *offset,
              uint64_t *length)
{
  const bool shared = rng_chance (&c->rng, 15);
  const uint64_t size = shared ? SHARED : OWN_RANGE;
  const uint64_t base = shared ? 0 : SHARED + c->number * OWN_RANGE;
  uint64_t begin = rng_below (&c->rng, size), end;

  if (rng_chance (&c->rng, 50)) { /* as file systems do */
    begin -= begin % (4 * KiB);
    end = begin + 4 * KiB * (1 + rng_below (&c->rng, 3));
  }
  else
    end =
        begin + 1 + rng_below (&c->rng, rng_chance (&c->rng, 90) ? 3000 : size);
  if (end > size)
    end = size;
  begin += base;
  end += base;
  history_round (&l->run.history, &begin, &end);
  *offset = begin;
  *length = end - begin;
}

static bool
start_any (struct load *l, struct connection *c)
{
  static const unsigned weights[NR_KINDS] = {
    [READ] = 40, [WRITE] = 35, [ZERO] = 6,   [TRIM] = 4,
    [FLUSH] = 1, [CACHE] = 2,  [STATUS] = 6,
  };
  const enum kind kind = client_choose (c, weights);
  uint64_t offset = 0, length = 0;
  uint32_t flags = 0;

  if (kind != FLUSH)
    choose_range (l, c, &offset, &length);
  if ((kind == WRITE || kind == ZERO || kind == TRIM) &&
      rng_chance (&c->rng, 30))
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (kind == ZERO && rng_chance (&c->rng, 30))
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  ++l->sent;
  return client_start (c, kind, offset, length, flags);
}

/* Goes away at once, with what it has in flight.  It leaves no reply unread,
 * since that would be an error of the connection, not its end.
 */
static bool
drop (struct load *l, struct connection *c)
{
  const int fd = nbd_aio_get_fd (c->nbd);
  char reply[4096];

  shutdown (fd, SHUT_RDWR);
  while (recv (fd, reply, sizeof reply, MSG_DONTWAIT) > 0)
    ;
  l->run.killed = true;
  nbd_close (c->nbd);
  l->run.killed = false;
  ++l->dropped;
  return client_dial (c);
}

/* Most stay. */
static bool
come_and_go (struct load *l, struct connection *c)
{
  const uint64_t n = rng_below (&c->rng, 1000);

  if (n == 0) {
    ++l->cut_off;
    return client_cut_off (c);
  }
  if (n <= 3 && (c->in_flight == 1 || l->drops_many))
    return drop (l, c);
  if (n <= 5 && c->in_flight == 0) {
    ++l->left;
    return client_hang_up (c) && client_dial (c);
  }
  return true;
}

/* Sends so many operations.  How many are in flight goes up and down. */
static bool
send_turn (struct load *l, uint64_t count)
{
  const uint64_t until = l->sent + count;

  l->run.progress = now ();
  while (l->sent < until) {
    bool full = true;

    for (unsigned i = 0; i < l->run.nr_connections; ++i) {
      struct connection *c = &l->connections[i];

      if (c->in_flight == 0)
        c->depth = 1 + rng_below (&c->rng, IN_FLIGHT);
      if (c->in_flight >= c->depth)
        continue;
      full = false;
      if (!come_and_go (l, c) || !start_any (l, c))
        return false;
      if (c->in_flight == c->depth)
        c->depth = 0; /* until all have been answered */
    }
    if (full ? !clients_serve_in_time (&l->run) : !clients_serve (&l->run, 0))
      return false;
  }
  return clients_finish (&l->run);
}

/* From the beginning of a history everything is known. */
static bool
write_all (struct load *l)
{
  const uint64_t part = l->size / 16;

  for (uint64_t offset = 0; offset < l->size; offset += part)
    if (!client_start (&l->connections[0], WRITE, offset, part, 0) ||
        !clients_finish (&l->run))
      return false;
  return true;
}

static bool
read_all (struct load *l, struct connection *c)
{
  for (uint64_t offset = 0; offset < l->size; offset += READ_BACK) {
    const uint64_t length = l->size - offset;

    if (!client_start (c, READ, offset, length < READ_BACK ? length : READ_BACK,
                       0) ||
        !clients_finish (&l->run))
      return false;
  }
  return true;
}

/* The durable image is as one more read, of all. */
static bool
read_image (struct load *l)
{
  struct history *h = &l->run.history;
  struct op *op = history_start (h, READ, MAX_CONNECTIONS, 0, l->size);
  uint8_t *image = malloc (l->size);
  bool good;

  if (image == NULL)
    abort ();
  good = run_step (&l->run, server_durable (&l->run.server, image, l->size));
  if (good && !history_values (h, op, image))
    good = run_fail (&l->run, "durable image: %s", h->complaint);
  history_end (h, op, DONE, 0);
  free (image);
  return good;
}

static bool
run_turn (struct load *l, uint64_t count)
{
  struct rng rng = { .state = l->sent };
  struct history *h = &l->run.history;
  bool good;

  history_init (h, l->size, &rng);
  /* Those that went away are ended, with what they had in flight, before the
   * disk is judged.
   */
  good = write_all (l) && send_turn (l, count) &&
         settle (l, l->run.nr_connections) &&
         client_start (&l->connections[0], FLUSH, 0, 0, 0) &&
         clients_finish (&l->run) && read_all (l, &l->connections[1]) &&
         read_image (l) &&
         (history_check (h) || run_fail (&l->run, "%s", h->complaint));
  l->run.killed = true; /* what is left of the history is not looked at */
  history_free (h);
  l->run.killed = false;
  return good;
}

static bool
dial_all (struct load *l)
{
  for (unsigned i = 0; i < l->run.nr_connections; ++i)
    if (!client_dial (&l->connections[i]))
      return false;
  return true;
}

static bool
leave_all (struct load *l)
{
  for (unsigned i = 0; i < l->run.nr_connections; ++i)
    if (!client_hang_up (&l->connections[i]))
      return false;
  return settle (l, 0);
}

/* Opens and closes. */

static bool
open_and_close (struct load *l, uint64_t n)
{
  static const char flags[] = { 0, 0, 0, 3 };
  struct connection *c = &l->connections[0];
  char byte;

  switch (n % 4) {
  case 0:
    return client_knock (&l->run, flags, n % 8 ? sizeof flags : 0);
  case 1:
    return client_dial (c) && client_hang_up (c);
  case 2:
    if (!client_dial (c))
      return false;
    shutdown (nbd_aio_get_fd (c->nbd), SHUT_RDWR);
    break;
  default:
    if (!client_dial (c))
      return false;
    if (nbd_pread (c->nbd, &byte, 1, n % l->size, 0) == -1)
      return run_fail (&l->run, "%s", nbd_get_error ());
  }
  nbd_close (c->nbd);
  c->nbd = NULL;
  return true;
}

static bool
open_and_close_all (struct load *l, uint64_t count)
{
  for (uint64_t n = 0; n < count; ++n)
    if (!open_and_close (l, n))
      return false;
  return settle (l, 0);
}

/* A run. */

static bool
go_on (struct load *l)
{
  const double end = now () + seconds;
  const uint64_t until = l->sent + operations;

  while (seconds > 0 ? now () < end : l->sent < until)
    if (!run_turn (l, TURN))
      return false;
  return true;
}

static bool
run (struct load *l)
{
  struct amounts max;

  if (!run_step (&l->run, server_start (&l->run.server)) || !settle (l, 0))
    return false;
  max = measure (l);
  max.threads += MORE_THREADS;
  max.resident = max.allocations = INT64_MAX;
  /* Threads and buffers that are made once are made before the first count. */
  if (!dial_all (l) || !run_turn (l, l->run.nr_connections * 20) ||
      !leave_all (l) || !open_and_close_all (l, 20) ||
      !check_amounts (l, "before", &max))
    return false;
  if (l->allocations) /* else a sanitizer has memory of its own */
    max.resident = resident (l) + MORE_RESIDENT;
  max.allocations = measure (l).allocations + MORE_ALLOCATIONS;
  return dial_all (l) && go_on (l) && leave_all (l) &&
         open_and_close_all (l, opens) && check_amounts (l, "after", &max) &&
         run_step (&l->run, server_stop (&l->run.server)) &&
         (seconds > 0 ||
          run_step (&l->run, server_check_log (&l->run.server))) &&
         run_step (&l->run, server_check_stderr (&l->run.server));
}

/* nbdkit before 1.34 does not bear that a client goes away while several of
 * its requests are being answered: it ends with a failed assertion.  Nor does
 * it with one, if it finds an error rather than the end of the connection.
 */
static bool
server_bears_drops (void)
{
  unsigned major = 0, minor = 0;
  FILE *f = popen ("nbdkit --dump-config", "r");
  char line[1000];

  while (f && fgets (line, sizeof line, f))
    if (sscanf (line, "version=%u.%u", &major, &minor) == 2)
      break;
  if (f)
    pclose (f);
  return major > 1 || (major == 1 && minor >= 34);
}

/* Has the filter's allocations counted, unless a sanitizer is in the way. */
static void
count_allocations (struct load *l)
{
  const char *const top = getenv ("top_builddir");
  char module[500], path[128];
  int fd;
  void *p;

  if (getenv ("WT_LD_PRELOAD") || getenv ("WT_NBDKIT_WRAPPER") ||
      getenv ("WT_NBDKIT"))
    return;
  snprintf (module, sizeof module, "%s/tests/fault/.libs/allocations.so",
            top ? top : ".");
  snprintf (path, sizeof path, "%s/page", l->run.server.folder);
  fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (access (module, R_OK) == -1 || fd == -1 ||
      ftruncate (fd, sizeof *l->allocations) == -1)
    return;
  p = mmap (NULL, sizeof *l->allocations, PROT_READ, MAP_SHARED, fd, 0);
  close (fd);
  if (p == MAP_FAILED)
    return;
  l->allocations = p;
  setenv ("WT_LD_PRELOAD", module, 1);
  setenv ("WT_ALLOCATIONS", path, 1);
}

static void
prepare (struct load *l, uint64_t seed)
{
  struct server *s = &l->run.server;
  struct rng rng = { .state = seed };

  l->run.nr_connections = connections;
  l->run.connections = l->connections;
  l->size = SHARED + connections * OWN_RANGE;
  for (unsigned i = 0; i < connections; ++i) {
    l->connections[i].run = &l->run;
    l->connections[i].history = &l->run.history;
    l->connections[i].number = i;
    l->connections[i].rng.state = rng_next (&rng);
  }
  l->drops_many = server_bears_drops ();
  /* The allocator keeps what a thread has freed, in more heaps the more
   * processors there are.
   */
  setenv ("MALLOC_ARENA_MAX", "2", 1);
  server_init (s, IN_FLIGHT);
  server_filter (s);
  server_disk (s);
  count_allocations (l);
  server_word (s, "size=%" PRIu64, l->size);
  server_word (s, "write-latency=100us");
  server_word (s, "flush-latency=500us");
  server_word (s, "wtcache-size=%" PRIu64, CACHE_SIZE);
  server_word (s, "wtcache-dirty-max=512K");
  server_word (s, "wtcache-dirty-age=20ms");
  server_word (s, "wtcache-readahead=64K");
  if (seconds > 0)
    server_forget_log (s);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "connections", required_argument, NULL, 'c' },
    { "operations", required_argument, NULL, 'o' },
    { "seconds", required_argument, NULL, 't' },
    { "opens", required_argument, NULL, 'p' },
    { "seed", required_argument, NULL, 's' },
    { "keep", no_argument, NULL, 'k' },
    { 0 },
  };
  static struct load l;
  uint64_t seed = fresh_seed ();
  double began;
  bool good;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 'c':
      connections = number (optarg);
      break;
    case 'o':
      operations = number (optarg);
      break;
    case 't':
      seconds = number (optarg);
      break;
    case 'p':
      opens = number (optarg);
      break;
    case 's':
      seed = number (optarg);
      break;
    case 'k':
      keep = true;
      break;
    default:
      return EXIT_FAILURE;
    }
  if (connections < 2 || connections > MAX_CONNECTIONS) {
    fprintf (stderr, "test-load: from 2 to %d connections\n", MAX_CONNECTIONS);
    return EXIT_FAILURE;
  }

  printf ("1..1\n");
  prepare (&l, seed);
  began = now ();
  good = run (&l);
  printf ("# %" PRIu64 " operations, %" PRIu64 " cut off, %" PRIu64
          " dropped%s, %" PRIu64 " came again\n",
          l.sent, l.cut_off, l.dropped,
          l.drops_many ? "" : " (with one request in flight)", l.left);
  printf ("%s 1 - seed %" PRIu64 ", %" PRIu64 " connections (%.1f s)\n",
          good ? "ok" : "not ok", seed, connections, now () - began);
  if (!good) {
    printf ("# %s\n", l.run.complaint);
    server_report (&l.run.server);
  }
  l.run.killed = true;
  for (unsigned i = 0; i < connections; ++i)
    nbd_close (l.connections[i].nbd);
  server_free (&l.run.server, keep && !good);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
