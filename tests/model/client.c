/* SPDX-License-Identifier: BSD-3-Clause */

/* The clients of a run: connections that send requests of all kinds, several
 * at once, and write down in the history what they asked and were told.
 *
 * The caller decides which requests are sent, and to which server.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define KiB UINT64_C (1024)

bool
run_fail (struct run *run, const char *format, ...)
{
  va_list args;

  if (!run->failed) {
    va_start (args, format);
    vsnprintf (run->complaint, sizeof run->complaint, format, args);
    va_end (args);
  }
  run->failed = true;
  return false;
}

bool
run_step (struct run *run, bool good)
{
  return good || run_fail (run, "%s", run->server.complaint);
}

/* Connections. */

bool
client_dial (struct connection *c)
{
  c->in_flight = 0;
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    return run_fail (c->run, "%s", nbd_get_error ());
  nbd_set_strict_mode (c->nbd, LIBNBD_STRICT_COMMANDS | LIBNBD_STRICT_FLAGS);
  if (nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_connect_unix (c->nbd, c->run->server.socket) == -1)
    return run_fail (c->run, "%s", nbd_get_error ());
  return true;
}

bool
client_hang_up (struct connection *c)
{
  struct nbd_handle *nbd = c->nbd;
  int r;

  c->nbd = NULL;
  if (nbd == NULL)
    return true;
  r = nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return r == 0 || run_fail (c->run, "%s", nbd_get_error ());
}

/* Without a word, and without looking at the replies: what is in flight may
 * happen or not.  The server ends the connection after it, since nbdkit 1.32
 * does not bear that a client goes away while several replies are under way:
 * it closes a descriptor twice, or aborts.
 */
bool
client_cut_off (struct connection *c)
{
  const int fd = nbd_aio_get_fd (c->nbd);
  static char replies[64 * KiB];
  struct pollfd p = { .fd = fd, .events = POLLIN };
  ssize_t r = 1;

  shutdown (fd, SHUT_WR);
  while (r > 0 || (r == -1 && errno == EAGAIN)) {
    if (poll (&p, 1, 20000 * time_scale ()) == 0)
      return run_fail (c->run, "a connection does not end");
    r = recv (fd, replies, sizeof replies, MSG_DONTWAIT);
  }
  c->run->killed = true;
  nbd_close (c->nbd);
  c->run->killed = false;
  return client_dial (c);
}

bool
client_knock (struct run *run, const char *words, size_t length)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char greeting[18];
  bool good;

  strcpy (address.sun_path, run->server.socket);
  good = fd != -1 &&
         connect (fd, (struct sockaddr *) &address, sizeof address) == 0 &&
         recv (fd, greeting, sizeof greeting, MSG_WAITALL) == sizeof greeting &&
         send (fd, words, length, MSG_NOSIGNAL) == (ssize_t) length;
  close (fd);
  return good || run_fail (run, "knocking: %s", strerror (errno));
}

/* Operations. */

struct request {
  struct connection *connection;
  struct op *op;
  uint8_t *buf;
};

static bool
may_fail (const struct run *run, int error)
{
  return run->faults && (error == EIO || error == ENOSPC);
}

static void
ended (struct request *request, int error)
{
  struct run *run = request->connection->run;
  struct op *op = request->op;
  struct history *h = request->connection->history;
  const bool fast = op->flags & LIBNBD_CMD_FLAG_FAST_ZERO;

  if (error && run->killed)
    return;
  run->progress = now ();
  if (error == 0) {
    history_end (h, op, DONE, 0);
    if (op->kind == READ && !history_values (h, op, request->buf))
      run_fail (run,
                "read %" PRIu64 "+%" PRIu64 " [%" PRIu64 "..%" PRIu64 "]: %s",
                op->offset, op->length, op->start, op->end, h->complaint);
  }
  else if (fast && (error == ENOTSUP || error == EOPNOTSUPP))
    history_end (h, op, REFUSED, error);
  else {
    history_end (h, op, FAILED, error);
    if (run->judge == NULL && !may_fail (run, error))
      run_fail (run, "%s %" PRIu64 "+%" PRIu64 ": %s", kind_names[op->kind],
                op->offset, op->length, strerror (error));
  }
  if (run->judge)
    run->judge (request->connection, op, error);
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
  struct history *h = request->connection->history;

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

bool
client_start (struct connection *c, enum kind kind, uint64_t offset,
              uint64_t length, uint32_t flags)
{
  struct run *run = c->run;
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
  request->op = history_start (c->history, kind, c->number, offset, length);
  request->op->flags = flags;
  request->op->fua = flags & LIBNBD_CMD_FLAG_FUA;
  ++c->in_flight;
  if (issue (c->nbd, request) == -1)
    return run_fail (run, "%s not sent: %s", kind_names[kind],
                     nbd_get_error ());
  return true;
}

enum kind
client_choose (struct connection *c, const unsigned *weights)
{
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

/* Lets the connections go on until something comes or MS have passed. */
bool
clients_serve (struct run *run, int ms)
{
  struct pollfd fds[MAX_CONNECTIONS];
  struct nbd_handle *handles[MAX_CONNECTIONS];
  unsigned n = 0;

  for (unsigned i = 0; i < run->nr_connections; ++i) {
    struct nbd_handle *nbd = run->connections[i].nbd;
    const unsigned direction = nbd_aio_get_direction (nbd);

    handles[n] = nbd;
    fds[n].fd = nbd_aio_get_fd (nbd);
    fds[n].revents = 0;
    fds[n++].events = (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                      (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
  }
  if (poll (fds, n, ms) == -1 && errno != EINTR)
    return run_fail (run, "poll: %s", strerror (errno));
  for (unsigned i = 0; i < n; ++i) {
    int r = 0;

    if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
      r = nbd_aio_notify_read (handles[i]);
    else if (fds[i].revents & POLLOUT)
      r = nbd_aio_notify_write (handles[i]);
    if (r == -1 || nbd_aio_is_dead (handles[i]) ||
        nbd_aio_is_closed (handles[i])) {
      /* If it was the server, say so: it may take a moment to end. */
      return run_step (run, !server_ends (&run->server)) &&
             run_fail (run, "connection %u died: %s", i, nbd_get_error ());
    }
  }
  return !run->failed;
}

static bool
in_flight (const struct run *run)
{
  for (unsigned i = 0; i < run->nr_connections; ++i)
    if (run->connections[i].in_flight)
      return true;
  return false;
}

static void
tell_in_flight (const struct run *run)
{
  for (size_t i = 0; i < run->history.nr_ops; ++i) {
    const struct op *op = run->history.ops[i];

    if (op->end == NEVER)
      printf ("# hangs: conn %u %s %" PRIu64 "+%" PRIu64 " flags %" PRIu32 "\n",
              op->connection, kind_names[op->kind], op->offset, op->length,
              op->flags);
  }
}

bool
clients_serve_in_time (struct run *run)
{
  if (!clients_serve (run, 1000))
    return false;
  if (now () - run->progress < 20 * time_scale ())
    return true;
  tell_in_flight (run);
  server_stacks (&run->server);
  return run_fail (run, "requests do not end");
}

bool
clients_finish (struct run *run)
{
  run->progress = now ();
  while (in_flight (run))
    if (!clients_serve_in_time (run))
      return false;
  return true;
}
