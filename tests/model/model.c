/* SPDX-License-Identifier: BSD-3-Clause */

/* Random operations of random clients over a random configuration, whose
 * history has to be one that a disk may have.
 *
 *   model [--seed N] [--count N] [--seconds S] [--operations N] [--faults 0|1]
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

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "history.h"
#include "server.h"

#define MAX_CONNECTIONS 4
#define FIXED_SEEDS     24
#define FRESH_SEEDS     8
#define READ_BACK       (UINT64_C (1) << 20)

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)

enum ending { FLUSHED, STOPPED, KILLED, NR_ENDINGS };

static const char *const ending_names[NR_ENDINGS] = { "flush", "stop", "kill" };

struct model;

struct connection {
  struct model *model;
  unsigned number;
  struct nbd_handle *nbd;
  struct rng rng;
  unsigned depth, in_flight;
};

struct model {
  uint64_t seed;
  struct rng rng; /* of the configuration and the faults */
  struct server server;
  struct history history;
  struct connection connections[MAX_CONNECTIONS];
  unsigned nr_connections;

  /* The configuration. */
  uint64_t size, hot_size, hot[3];
  unsigned weights[NR_KINDS];
  unsigned fua_percent, large_percent;
  bool faults, drops, can_flush;
  enum ending ending;

  uint64_t operations, sent;
  double progress; /* when something ended last */
  bool killed;     /* what is in flight ends no more */
  bool failed;
  char complaint[5000];
};

/* What the command line says. */
static uint64_t operations_given;
static bool keep;
static int faults_given = -1;

static bool __attribute__ ((format (printf, 2, 3)))
fail (struct model *m, const char *format, ...)
{
  va_list args;

  if (!m->failed) {
    va_start (args, format);
    vsnprintf (m->complaint, sizeof m->complaint, format, args);
    va_end (args);
  }
  m->failed = true;
  return false;
}

/* A step of the server's; what it says is why the seed fails. */
static bool
step (struct model *m, bool good)
{
  return good || fail (m, "%s", m->server.complaint);
}

/* The configuration. */

static const char *
one_of (struct rng *rng, const char *const *choices)
{
  size_t n = 0;

  while (choices[n])
    ++n;
  return choices[rng_below (rng, n)];
}

#define ONE_OF(rng, ...)                                                       \
  one_of (rng, (const char *const[]){ __VA_ARGS__, NULL })

static const char *
yes_mostly (struct rng *rng)
{
  return rng_chance (rng, 80) ? "yes" : "no";
}

static void
choose_disk (struct model *m)
{
  struct server *s = &m->server;
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
    m->nr_connections = 1;

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
  if (m->faults && rng_chance (rng, 50)) {
    server_word (s, "forget=yes");
    m->history.forgets = true;
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
    m->nr_connections = 1;
    m->drops = false;
  }
  else if (!multi_conn)
    server_word (s, "wtcache-share=always");
}

static void
choose_cache (struct model *m)
{
  struct server *s = &m->server;
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

  m->nr_connections = 1 + rng_below (rng, MAX_CONNECTIONS);
  m->faults = rng_chance (rng, 50);
  m->drops = rng_chance (rng, 25);
  m->ending = rng_below (rng, NR_ENDINGS);
  if (faults_given != -1)
    m->faults = faults_given;
  choose_disk (m);
  choose_cache (m);
  choose_load (m);
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct connection *c = &m->connections[i];

    c->model = m;
    c->number = i;
    c->rng.state = rng_next (rng);
    c->depth = 1 + rng_below (rng, 8);
  }
}

/* Connections. */

static bool
dial (struct connection *c)
{
  c->in_flight = 0;
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    return fail (c->model, "%s", nbd_get_error ());
  nbd_set_strict_mode (c->nbd, LIBNBD_STRICT_COMMANDS | LIBNBD_STRICT_FLAGS);
  if (nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_connect_unix (c->nbd, c->model->server.socket) == -1)
    return fail (c->model, "%s", nbd_get_error ());
  return true;
}

static bool
hang_up (struct connection *c)
{
  struct nbd_handle *nbd = c->nbd;
  int r;

  c->nbd = NULL;
  if (nbd == NULL)
    return true;
  r = nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return r == 0 || fail (c->model, "%s", nbd_get_error ());
}

/* Without a word, and without looking at the replies: what is in flight may
 * happen or not.  The server ends the connection after it, since nbdkit 1.32
 * does not bear that a client goes away while several replies are under way:
 * it closes a descriptor twice, or aborts.
 */
static bool
cut_off (struct connection *c)
{
  const int fd = nbd_aio_get_fd (c->nbd);
  static char replies[64 * KiB];
  struct pollfd p = { .fd = fd, .events = POLLIN };
  ssize_t r = 1;

  shutdown (fd, SHUT_WR);
  while (r > 0 || (r == -1 && errno == EAGAIN)) {
    if (poll (&p, 1, 20000 * time_scale ()) == 0)
      return fail (c->model, "a connection does not end");
    r = recv (fd, replies, sizeof replies, MSG_DONTWAIT);
  }
  c->model->killed = true;
  nbd_close (c->nbd);
  c->model->killed = false;
  return dial (c);
}

/* Operations. */

struct request {
  struct connection *connection;
  struct op *op;
  uint8_t *buf;
};

static bool
may_fail (const struct model *m, int error)
{
  return m->faults && (error == EIO || error == ENOSPC);
}

static void
ended (struct request *request, int error)
{
  struct model *m = request->connection->model;
  struct op *op = request->op;
  const bool fast = op->flags & LIBNBD_CMD_FLAG_FAST_ZERO;

  if (error && m->killed)
    return;
  m->progress = now ();
  if (error == 0) {
    history_end (&m->history, op, DONE, 0);
    if (op->kind == READ && !history_values (&m->history, op, request->buf))
      fail (m, "read %" PRIu64 "+%" PRIu64 " [%" PRIu64 "..%" PRIu64 "]: %s",
            op->offset, op->length, op->start, op->end, m->history.complaint);
  }
  else if (fast && (error == ENOTSUP || error == EOPNOTSUPP))
    history_end (&m->history, op, REFUSED, error);
  else {
    history_end (&m->history, op, FAILED, error);
    if (!may_fail (m, error))
      fail (m, "%s %" PRIu64 "+%" PRIu64 ": %s", kind_names[op->kind],
            op->offset, op->length, strerror (error));
  }
}

static int
completed (void *opaque, int *error)
{
  struct request *request = opaque;

  --request->connection->in_flight;
  ended (request, *error);
  return 1;
}

/* libnbd calls this once, also where a handle is closed before the end. */
static void
release (void *opaque)
{
  struct request *request = opaque;

  free (request->buf);
  free (request);
}

static int
extents (void *opaque, const char *context, uint64_t offset, uint32_t *entries,
         size_t nr_entries, int *error)
{
  struct request *request = opaque;
  struct history *h = &request->connection->model->history;

  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  for (size_t i = 0; i + 1 < nr_entries; i += 2) {
    if (entries[i + 1] & LIBNBD_STATE_ZERO)
      history_is_zero (h, request->op, offset, entries[i]);
    offset += entries[i];
  }
  return 0;
}

static int64_t
issue (struct nbd_handle *nbd, struct request *request)
{
  const struct op *op = request->op;
  const nbd_completion_callback done = { completed, request, release };
  const nbd_extent_callback extent = { extents, request, NULL };

  switch (op->kind) {
  case READ:
    return nbd_aio_pread (nbd, request->buf, op->length, op->offset, done, 0);
  case WRITE:
    history_fill (op, request->buf);
    return nbd_aio_pwrite (nbd, request->buf, op->length, op->offset, done,
                           op->flags);
  case ZERO:
    return nbd_aio_zero (nbd, op->length, op->offset, done, op->flags);
  case TRIM:
    return nbd_aio_trim (nbd, op->length, op->offset, done, op->flags);
  case FLUSH:
    return nbd_aio_flush (nbd, done, 0);
  case CACHE:
    return nbd_aio_cache (nbd, op->length, op->offset, done, 0);
  case STATUS:
    return nbd_aio_block_status (nbd, op->length, op->offset, extent, done, 0);
  case NR_KINDS:
    break;
  }
  abort ();
}

static bool
start (struct connection *c, enum kind kind, uint64_t offset, uint64_t length,
       uint32_t flags)
{
  struct model *m = c->model;
  struct request *request = calloc (1, sizeof *request);

  if (request == NULL)
    abort ();
  request->connection = c;
  if (kind == READ || kind == WRITE) {
    request->buf = malloc (length);
    if (request->buf == NULL)
      abort ();
    memset (request->buf, 0x5a, length);
  }
  request->op = history_start (&m->history, kind, c->number, offset, length);
  request->op->flags = flags;
  request->op->fua = flags & LIBNBD_CMD_FLAG_FUA;
  ++c->in_flight;
  if (issue (c->nbd, request) == -1)
    return fail (m, "%s not sent: %s", kind_names[kind], nbd_get_error ());
  return true;
}

/* Ends at cells, mostly in the hot ranges, mostly small. */
static void
choose_range (struct connection *c, uint64_t *offset, uint64_t *length)
{
  struct model *m = c->model;
  const struct history *h = &m->history;
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

  /* Down to where the cell begins, up to where it ends. */
  while (h->cells[history_cell (h, begin)] != begin)
    --begin;
  while (h->cells[history_cell (h, end)] != end)
    ++end;
  *offset = begin;
  *length = end - begin;
}

static enum kind
choose_kind (struct connection *c)
{
  const unsigned *weights = c->model->weights;
  unsigned sum = 0, n, kind = 0;

  for (unsigned i = 0; i < NR_KINDS; ++i)
    sum += weights[i];
  n = rng_below (&c->rng, sum);
  while (n >= weights[kind])
    n -= weights[kind++];
  if ((kind == ZERO && nbd_can_zero (c->nbd) != 1) ||
      (kind == TRIM && nbd_can_trim (c->nbd) != 1) ||
      (kind == FLUSH && nbd_can_flush (c->nbd) != 1) ||
      (kind == CACHE && nbd_can_cache (c->nbd) != 1))
    return READ;
  return kind;
}

static bool
start_any (struct connection *c)
{
  struct model *m = c->model;
  struct rng *rng = &c->rng;
  const enum kind kind = choose_kind (c);
  uint64_t offset = 0, length = 0;
  uint32_t flags = 0;

  if (kind != FLUSH)
    choose_range (c, &offset, &length);
  if ((kind == WRITE || kind == ZERO || kind == TRIM) &&
      rng_chance (rng, m->fua_percent) && nbd_can_fua (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (kind == ZERO && rng_chance (rng, 40))
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (kind == ZERO && rng_chance (rng, 30) && nbd_can_fast_zero (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  ++m->sent;
  return start (c, kind, offset, length, flags);
}

/* Lets the connections go on until something comes or MS have passed. */
static bool
serve (struct model *m, int ms)
{
  struct pollfd fds[MAX_CONNECTIONS];
  struct nbd_handle *handles[MAX_CONNECTIONS];
  unsigned n = 0;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct nbd_handle *nbd = m->connections[i].nbd;
    const unsigned direction = nbd_aio_get_direction (nbd);

    handles[n] = nbd;
    fds[n].fd = nbd_aio_get_fd (nbd);
    fds[n].revents = 0;
    fds[n++].events = (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                      (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
  }
  if (poll (fds, n, ms) == -1 && errno != EINTR)
    return fail (m, "poll: %s", strerror (errno));
  for (unsigned i = 0; i < n; ++i) {
    int r = 0;

    if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
      r = nbd_aio_notify_read (handles[i]);
    else if (fds[i].revents & POLLOUT)
      r = nbd_aio_notify_write (handles[i]);
    if (r == -1 || nbd_aio_is_dead (handles[i]) ||
        nbd_aio_is_closed (handles[i])) {
      /* If it was the server, say so: it may take a moment to end. */
      return step (m, !server_ends (&m->server)) &&
             fail (m, "connection %u died: %s", i, nbd_get_error ());
    }
  }
  return !m->failed;
}

static bool
in_flight (const struct model *m)
{
  for (unsigned i = 0; i < m->nr_connections; ++i)
    if (m->connections[i].in_flight)
      return true;
  return false;
}

static void
tell_in_flight (const struct model *m)
{
  for (size_t i = 0; i < m->history.nr_ops; ++i) {
    const struct op *op = m->history.ops[i];

    if (op->end == NEVER)
      printf ("# hangs: conn %u %s %" PRIu64 "+%" PRIu64 " flags %" PRIu32 "\n",
              op->connection, kind_names[op->kind], op->offset, op->length,
              op->flags);
  }
}

static bool
serve_in_time (struct model *m)
{
  if (!serve (m, 1000))
    return false;
  if (now () - m->progress < 20 * time_scale ())
    return true;
  tell_in_flight (m);
  server_stacks (&m->server);
  return fail (m, "requests do not end");
}

static bool
finish_all (struct model *m)
{
  m->progress = now ();
  while (in_flight (m))
    if (!serve_in_time (m))
      return false;
  return true;
}

/* Faults. */

static bool
change_faults (struct model *m)
{
  struct rng *rng = &m->rng;
  char command[200];

  if (rng_chance (rng, 40))
    return step (m, server_control (&m->server, "unfault all"));
  snprintf (command, sizeof command,
            "fault f%" PRIu64 " op=%s errno=%s skip=%" PRIu64 " count=%" PRIu64
            " partial=%" PRIu64,
            rng_below (rng, 3),
            ONE_OF (rng, "any", "write", "write", "flush", "flush", "read",
                    "zero", "trim"),
            ONE_OF (rng, "EIO", "ENOSPC"), rng_below (rng, 10),
            1 + rng_below (rng, rng_chance (rng, 70) ? 3 : 30),
            rng_chance (rng, 30) ? 512 * rng_below (rng, 16) : 0);
  return step (m, server_control (&m->server, command));
}

/* A run. */

static bool
send_all (struct model *m)
{
  uint64_t next_change = 50;

  m->progress = now ();
  while (m->sent < m->operations) {
    bool full = true;

    if (m->faults && m->sent >= next_change) {
      if (!change_faults (m))
        return false;
      next_change = m->sent + 10 + rng_below (&m->rng, 80);
    }
    for (unsigned i = 0; i < m->nr_connections; ++i) {
      struct connection *c = &m->connections[i];

      if (c->in_flight == c->depth)
        continue;
      full = false;
      if (m->drops && rng_below (&c->rng, 400) == 0 && !cut_off (c))
        return false;
      if (!start_any (c))
        return false;
    }
    if (full ? !serve_in_time (m) : !serve (m, 0))
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
  for (unsigned i = 0; i < m->nr_connections; ++i)
    for (uint64_t offset = 0; offset < m->size; offset += READ_BACK) {
      uint64_t length = m->size - offset;

      if (!start (&m->connections[i], READ, offset,
                  length < READ_BACK ? length : READ_BACK, 0) ||
          !finish_all (m))
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
  struct history *h = &m->history;
  const bool flushed = m->ending == FLUSHED && m->can_flush;
  uint8_t *image = malloc (m->size);
  struct op *op = history_start (h, READ, MAX_CONNECTIONS, 0, m->size);
  bool good;

  if (image == NULL)
    abort ();
  good = step (m, server_durable (&m->server, image, m->size));
  if (good && !history_values (h, op, image))
    good = fail (m, "durable image %s: %s", when, h->complaint);
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
        good = fail (m,
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

  for (unsigned i = 0; i < m->nr_connections; ++i)
    good &= hang_up (&m->connections[i]);
  return good && step (m, server_stop (&m->server));
}

static bool
end_flushed (struct model *m)
{
  struct connection *c =
      &m->connections[rng_below (&m->rng, m->nr_connections)];

  if (!finish_all (m) || !step (m, server_control (&m->server, "unfault all")))
    return false;
  if (nbd_can_flush (c->nbd) == 1) {
    if (!start (c, FLUSH, 0, 0, 0) || !finish_all (m))
      return false;
    if (m->history.ops[m->history.nr_ops - 1]->outcome != DONE)
      return fail (m, "the last flush fails though no fault is left");
  }
  return read_all (m) && check_image (m, "after the flush") && leave_all (m) &&
         check_image (m, "at the end");
}

static bool
end_stopped (struct model *m)
{
  return finish_all (m) &&
         step (m, server_control (&m->server, "unfault all")) && read_all (m) &&
         leave_all (m) && check_image (m, "after the stop");
}

static bool
end_killed (struct model *m)
{
  uint8_t *image = malloc (m->size);
  bool good;

  if (image == NULL)
    abort ();
  server_kill (&m->server);
  /* Replies that have arrived count, all else is unknown. */
  m->killed = true;
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct connection *c = &m->connections[i];

    while (c->in_flight && !nbd_aio_is_dead (c->nbd) &&
           !nbd_aio_is_closed (c->nbd))
      nbd_aio_notify_read (c->nbd);
    nbd_close (c->nbd);
    c->nbd = NULL;
  }
  good = step (m, server_durable (&m->server, image, m->size)) &&
         (history_check_durable (&m->history, image) ||
          fail (m, "after kill -9: %s", m->history.complaint));
  free (image);
  return good;
}

static bool
run (struct model *m)
{
  if (!step (m, server_start (&m->server)))
    return false;
  for (unsigned i = 0; i < m->nr_connections; ++i)
    if (!dial (&m->connections[i]))
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
  return step (m, server_check_log (&m->server)) &&
         step (m, server_check_stderr (&m->server)) &&
         (history_check (&m->history) || fail (m, "%s", m->history.complaint));
}

static void
comment (const char *text)
{
  printf ("# ");
  for (; *text; ++text) {
    putchar (*text);
    if (*text == '\n')
      printf ("# ");
  }
  putchar ('\n');
}

static void
list_requests (const struct model *m)
{
  char path[128];
  FILE *f;

  snprintf (path, sizeof path, "%s/requests", m->server.folder);
  f = fopen (path, "we");
  if (f == NULL)
    return;
  for (size_t i = 0; i < m->history.nr_ops; ++i) {
    const struct op *op = m->history.ops[i];

    fprintf (f,
             "%" PRIu64 " %" PRId64 " %u %s %" PRIu64 " %" PRIu64
             " flags=%" PRIu32 " version=%" PRIu32 " outcome=%d error=%d\n",
             op->start, (int64_t) op->end, op->connection, kind_names[op->kind],
             op->offset, op->length, op->flags, op->version, (int) op->outcome,
             op->error);
  }
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
  m->seed = m->rng.state = seed;
  server_init (&m->server);
  choose (m);
  {
    bool forgets = m->history.forgets;

    history_init (&m->history, m->size, &m->rng);
    m->history.forgets = forgets;
  }
  good = run (m);
  printf ("%s %u - seed %" PRIu64 ": %" PRIu64 " operations, %u connections, "
          "%s%s%s (%.1f s)\n",
          good ? "ok" : "not ok", test, seed, m->sent, m->nr_connections,
          m->faults ? "faults, " : "", m->drops ? "drops, " : "",
          ending_names[m->ending], now () - began);
  if (!good) {
    comment (m->complaint);
    server_report (&m->server);
    if (keep)
      list_requests (m);
  }
  fflush (stdout);
  m->killed = true;
  for (unsigned i = 0; i < m->nr_connections; ++i)
    nbd_close (m->connections[i].nbd);
  server_free (&m->server, keep && !good);
  history_free (&m->history);
  free (m);
  return good;
}

static uint64_t
fresh_seed (void)
{
  uint32_t seed;

  if (getrandom (&seed, sizeof seed, 0) != sizeof seed)
    abort ();
  return seed;
}

static uint64_t
number (const char *text)
{
  char *end;
  uint64_t n = strtoull (text, &end, 10);

  if (*text == '\0' || *end != '\0') {
    fprintf (stderr, "model: not a number: %s\n", text);
    exit (EXIT_FAILURE);
  }
  return n;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "count", required_argument, NULL, 'c' },
    { "seconds", required_argument, NULL, 't' },
    { "operations", required_argument, NULL, 'o' },
    { "faults", required_argument, NULL, 'f' },
    { "keep", no_argument, NULL, 'k' },
    { 0 },
  };
  uint64_t seed = 0, count = 0, seconds = 0;
  bool seed_given = false, good = true;
  double end;
  unsigned test = 0;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 's':
      seed = number (optarg);
      seed_given = true;
      break;
    case 'c':
      count = number (optarg);
      break;
    case 't':
      seconds = number (optarg);
      break;
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
      return EXIT_FAILURE;
    }
  end = now () + seconds;
  if (seconds > 0)
    for (; now () < end; ++test)
      good &= run_seed (test + 1, seed_given ? seed + test : fresh_seed ());
  else if (seed_given || count > 0)
    for (count = count ? count : 1; test < count; ++test)
      good &= run_seed (test + 1, seed_given ? seed + test : fresh_seed ());
  else
    for (; test < FIXED_SEEDS + FRESH_SEEDS; ++test)
      good &=
          run_seed (test + 1, test < FIXED_SEEDS ? test + 1 : fresh_seed ());
  printf ("1..%u\n", test);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
