/* SPDX-License-Identifier: BSD-3-Clause */

/* The guests: connections that join, ask, are judged, leave with a word or
 * without, or are cut off while they write.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "world.h"

/* The largest request: nbdkit takes 64 MiB, its blocks at the ends included. */
#define REQUEST_MAX (63 * MiB)

/* Coming. */

/* Has the disk give the next connection what this guest's is to have. */
static bool
offer (struct guest *g)
{
  const struct abilities *a = &g->abilities;
  struct world *w = g->world;
  char command[200];

  if (!w->differing || !w->remote_up)
    return true;
  snprintf (command, sizeof command,
            "offer readonly=%d flush=%d zero=%d trim=%d multi-conn=%d fua=%s",
            a->readonly, a->flush, a->zero, a->trim, a->multi_conn, a->fua);
  return world_tell_disk (w, command);
}

bool
guest_dial (struct guest *g)
{
  struct world *w = g->world;
  struct connection *c = &g->c;

  if (!offer (g))
    return false;
  c->number = w->next_number++;
  c->in_flight = 0;
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    return run_fail (&w->run, "%s", nbd_get_error ());
  nbd_set_strict_mode (c->nbd, LIBNBD_STRICT_COMMANDS | LIBNBD_STRICT_FLAGS);
  nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
  nbd_set_export_name (c->nbd, g->stranger ? "nowhere" : g->place->name);
  g->state = JOINING;
  g->life = w->life;
  g->since = now ();
  g->probes = w->probes;
  g->asked = 0;
  g->ready = 0;
  if (nbd_aio_connect_unix (c->nbd, w->run.server.socket) == -1)
    return world_broken (w, 22, "a client cannot connect: %s",
                         nbd_get_error ());
  return true;
}

bool
guest_wait_here (struct guest *g)
{
  while (g->state == JOINING)
    if (!guests_serve (g->world, 20) || !trouble_look_for_hangs (g->world))
      return false;
  return g->state == HERE;
}

/* Going. */

/* Requests in flight may happen or not. */
static void
forget_requests (struct guest *g)
{
  struct world *w = g->world;

  for (unsigned i = 0; i < w->nr_waiting;)
    if (w->waiting[i].guest == g)
      w->waiting[i] = w->waiting[--w->nr_waiting];
    else
      ++i;
}

static void
close_handle (struct guest *g)
{
  struct world *w = g->world;

  forget_requests (g);
  w->run.killed = true;
  nbd_close (g->c.nbd);
  w->run.killed = false;
  g->c.nbd = NULL;
  g->c.in_flight = 0;
  g->state = AWAY;
}

/* Keeps the connection open to read: nbdkit before 1.34 does not bear that a
 * client is gone altogether while it sends several replies.
 */
static bool
leave_half (struct guest *g)
{
  struct world *w = g->world;
  const int fd = dup (nbd_aio_get_fd (g->c.nbd));

  if (fd == -1) { /* libnbd has closed it */
    close_handle (g);
    return true;
  }
  if (w->nr_zombies == ZOMBIES_MAX)
    return run_fail (&w->run, "too many connections that do not end");
  w->zombies[w->nr_zombies++] = fd;
  close_handle (g);
  shutdown (fd, SHUT_WR);
  return true;
}

/* Not within a request that is being sent: nbdkit before 1.34 ends when it has
 * replies under way then.
 */
bool
guest_cut (struct guest *g)
{
  if (nbd_aio_get_direction (g->c.nbd) & LIBNBD_AIO_DIRECTION_WRITE)
    return true;
  return leave_half (g);
}

bool
guest_leave (struct guest *g)
{
  if (g->state == HERE && nbd_aio_is_ready (g->c.nbd))
    nbd_aio_disconnect (g->c.nbd, 0);
  return leave_half (g);
}

static void
serve_zombies (struct world *w)
{
  static char replies[256 * KiB];

  for (unsigned i = 0; i < w->nr_zombies;) {
    const ssize_t r =
        recv (w->zombies[i], replies, sizeof replies, MSG_DONTWAIT);

    if (r == 0 || (r == -1 && errno != EAGAIN && errno != EINTR)) {
      close (w->zombies[i]);
      w->zombies[i] = w->zombies[--w->nr_zombies];
    }
    else if (r == -1)
      ++i;
  }
}

void
guests_close (struct world *w)
{
  w->run.killed = true;
  for (unsigned i = 0; i < w->nr_guests; ++i)
    if (w->guests[i].c.nbd)
      nbd_close (w->guests[i].c.nbd);
  for (unsigned i = 0; i < w->nr_zombies; ++i)
    close (w->zombies[i]);
}

/* Whether its own connection to the disk works, for all that it knows. */
bool
guest_is_well (const struct guest *g)
{
  return g->state == HERE && g->world->remote_up && g->life == g->world->life;
}

/* Asking. */

static void
choose_bounds (const struct guest *g, uint64_t *begin, uint64_t *end)
{
  const struct world *w = g->world;
  const uint64_t size = g->place->size;
  const unsigned i = g - w->guests;
  enum zone zone = g->zone;

  if (zone == ZONE_BOTH)
    zone = rng_chance ((struct rng *) &g->c.rng, 50) ? ZONE_WELL : ZONE_ILL;
  switch (zone) {
  case ZONE_WELL:
    *begin = 0;
    *end = size / 2;
    break;
  case ZONE_ILL:
    *begin = size / 8 * 5;
    *end = size / 8 * 7;
    break;
  default:
    *begin = 0;
    *end = size;
  }
  if (w->sharing == UNSHARED) {
    /* A part of its own, of whole blocks. */
    const uint64_t part =
        (*end - *begin) / w->nr_guests / (4 * KiB) * (4 * KiB);

    *begin += i * part;
    *end = *begin + part;
  }
}

static uint64_t
choose_length (struct guest *g, uint64_t size)
{
  struct rng *rng = &g->c.rng;
  const unsigned how = rng_below (rng, 100);

  if (how < g->large_percent)
    return rng_chance (rng, 70) ? (64 * KiB) << rng_below (rng, 5)
                                : 1 + rng_below (rng, size);
  if (how < 45)
    return 4 * KiB * (1 + rng_below (rng, 4));
  if (how < 75)
    return g->world->block_min * (1 + rng_below (rng, 6));
  return 1 + rng_below (rng, rng_chance (rng, 80) ? 3000 : 40000);
}

static void
whole_blocks (const struct world *w, uint64_t *begin, uint64_t *end)
{
  *begin -= *begin % w->block_min;
  *end += (w->block_min - *end % w->block_min) % w->block_min;
}

static void
choose_range (struct guest *g, uint64_t *offset, uint64_t *length)
{
  struct rng *rng = &g->c.rng;
  uint64_t begin, end, first, last, hot;

  choose_bounds (g, &first, &last);
  hot = last - first;
  if (rng_chance (rng, 50) && hot > 64 * KiB)
    hot = 64 * KiB;
  begin = first + rng_below (rng, hot);
  *length = choose_length (g, last - first);
  if (g->sequential) {
    if (g->next < first || g->next >= last)
      g->next = first;
    begin = g->next;
    g->next += *length;
  }
  else if (rng_chance (rng, 80)) /* as most do */
    begin -= (begin - first) % g->world->block_min;
  if (*length % (4 * KiB) == 0)
    begin -= (begin - first) % (4 * KiB);
  if (*length > REQUEST_MAX)
    *length = REQUEST_MAX;
  end = begin + *length;
  if (end > last)
    end = last;
  if (g->world->sharing == MIXED) /* else one cache writes another's bytes */
    whole_blocks (g->world, &begin, &end);
  history_round (g->c.history, &begin, &end);
  *offset = begin;
  *length = end - begin;
}

static enum kind
choose_kind (struct guest *g)
{
  const enum kind kind = client_choose (&g->c, g->weights);

  if ((kind == WRITE || kind == ZERO || kind == TRIM) &&
      nbd_is_read_only (g->c.nbd) == 1)
    return READ;
  return kind;
}

bool
guest_ask (struct guest *g)
{
  struct connection *c = &g->c;
  const enum kind kind = choose_kind (g);
  uint64_t offset = 0, length = 0;
  uint32_t flags = 0;

  if (kind != FLUSH)
    choose_range (g, &offset, &length);
  if ((kind == WRITE || kind == ZERO || kind == TRIM) &&
      rng_chance (&c->rng, g->fua_percent) && nbd_can_fua (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (kind == ZERO && rng_chance (&c->rng, 40))
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (kind == ZERO && rng_chance (&c->rng, 20) &&
      nbd_can_fast_zero (c->nbd) == 1)
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  ++g->world->sent;
  if (kind != FLUSH)
    ++g->asked;
  if (!client_start (c, kind, offset, length, flags))
    return false;
  trouble_waits (g, c->history->ops[c->history->nr_ops - 1]);
  return true;
}

/* Serving. */

/* The server ended the connection, or the handshake failed. */
static bool
ended_by_server (struct guest *g)
{
  struct world *w = g->world;
  const bool joining = g->state == JOINING;
  char why[300];

  snprintf (why, sizeof why, "%s", nbd_get_error () ? nbd_get_error () : "?");
  close_handle (g);
  if (!server_lives (&w->run.server) || server_ends (&w->run.server))
    return world_broken (w, 0, "%s", w->run.server.complaint);
  if (joining && (g->stranger || !w->remote_up || g->life != w->life))
    return true;
  return world_broken (w, 22, "%s: %s",
                       joining ? "a client cannot join"
                               : "the connection of a client ended",
                       why);
}

static bool
serve_guest (struct guest *g, short revents)
{
  struct nbd_handle *nbd = g->c.nbd;
  int r = 0;

  if (revents & (POLLIN | POLLHUP | POLLERR))
    r = nbd_aio_notify_read (nbd);
  else if (revents & POLLOUT)
    r = nbd_aio_notify_write (nbd);
  if (g->world->run.failed)
    return false;
  if (r == -1 || nbd_aio_is_dead (nbd) || nbd_aio_is_closed (nbd))
    return ended_by_server (g);
  if (g->state == JOINING && nbd_aio_is_ready (nbd)) {
    g->state = HERE;
    g->since = now ();
    g->probes = g->world->probes;
  }
  return true;
}

bool
guests_serve (struct world *w, int ms)
{
  struct pollfd fds[GUESTS_MAX + ZOMBIES_MAX + 1];
  struct guest *of[GUESTS_MAX];
  unsigned n = 0, guests;

  for (unsigned i = 0; i < w->nr_guests; ++i) {
    struct guest *g = &w->guests[i];
    unsigned direction;

    if (g->state == AWAY)
      continue;
    direction = nbd_aio_get_direction (g->c.nbd);
    of[n] = g;
    fds[n++] = (struct pollfd){
      .fd = nbd_aio_get_fd (g->c.nbd),
      .events = (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0),
    };
  }
  guests = n;
  for (unsigned i = 0; i < w->nr_zombies; ++i)
    fds[n++] = (struct pollfd){ .fd = w->zombies[i], .events = POLLIN };
  fds[n++] = (struct pollfd){ .fd = w->prober, .events = POLLIN };
  if (poll (fds, n, ms) == -1 && errno != EINTR)
    return run_fail (&w->run, "poll: %s", strerror (errno));
  probe_serve (w);
  serve_zombies (w);
  for (unsigned i = 0; i < guests; ++i)
    if (fds[i].revents && !serve_guest (of[i], fds[i].revents))
      return false;
  return !w->run.failed;
}
