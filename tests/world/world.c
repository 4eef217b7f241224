/* SPDX-License-Identifier: BSD-3-Clause */

/* The course of an episode: guests come, ask and are looked at, until all is
 * well again and the server ends.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

#define READ_BACK (1 * MiB)

struct server *
world_disk (struct world *w)
{
  return w->has_remote ? &w->remote : &w->run.server;
}

bool
world_broken (struct world *w, unsigned law, const char *format, ...)
{
  char text[4600];
  va_list args;

  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  return run_fail (&w->run, "law %u: %s", law, text);
}

/* The disk may be in the server that has just ended. */
bool
world_tell_disk (struct world *w, const char *command)
{
  struct server *s = world_disk (w);

  if (server_control (s, command))
    return true;
  if (s == &w->run.server && server_ends (s))
    return world_broken (w, 0, "%s", s->complaint);
  return run_step (&w->run, false);
}

static bool
look (struct world *w)
{
  return trouble_look_for_hangs (w) && judge_images (w) && judge_ages (w) &&
         judge_rates (w) && !w->run.failed;
}

static bool
ask_all (struct world *w)
{
  const double t = now ();

  for (unsigned i = 0; i < w->nr_guests && w->lull == 0; ++i) {
    struct guest *g = &w->guests[i];

    if (w->after_death == FALL_SILENT && !guest_is_well (g))
      continue;
    while (g->state == HERE && g->c.in_flight < g->c.depth && g->ready <= t &&
           w->sent < w->operations && nbd_aio_is_ready (g->c.nbd)) {
      if (!guest_ask (g))
        return false;
      if (g->pause > 0)
        g->ready = t + g->pause;
    }
  }
  return true;
}

static bool
load (struct world *w)
{
  double next = now ();

  while (now () - w->began < w->duration && w->sent < w->operations) {
    if (!ask_all (w) || !guests_serve (w, 5) || !trouble_ends (w))
      return false;
    if (now () < next)
      continue;
    next = now () + 0.02;
    if (!trouble_happens (w) || !look (w))
      return false;
  }
  return judge_compare_rates (w);
}

static bool
wait_for_all (struct world *w)
{
  while (w->nr_waiting > 0)
    if (!guests_serve (w, 20) || !trouble_look_for_hangs (w))
      return false;
  return true;
}

static struct guest *
find_well (struct world *w, const struct place *p)
{
  for (unsigned i = 0; i < w->nr_guests; ++i)
    if (w->guests[i].place == p && guest_is_well (&w->guests[i]) &&
        !w->guests[i].abilities.readonly)
      return &w->guests[i];
  return NULL;
}

/* One that can do what the disk can, in the place of one that is there no
 * more, or that has a dead connection.
 */
static struct guest *
well_guest (struct world *w, struct place *p)
{
  struct guest *g = find_well (w, p);

  for (unsigned i = 0; g == NULL && i < w->nr_guests; ++i)
    if (w->guests[i].place == p && w->guests[i].state != JOINING &&
        !guest_is_well (&w->guests[i]))
      g = &w->guests[i];
  if (g == NULL || guest_is_well (g))
    return g;
  if (g->state == HERE && !guest_cut (g))
    return NULL;
  g->abilities = w->abilities;
  g->stranger = false;
  return guest_dial (g) && guest_wait_here (g) ? g : NULL;
}

static bool
start (struct guest *g, enum kind kind, uint64_t offset, uint64_t length)
{
  struct history *h = g->c.history;

  if (!client_start (&g->c, kind, offset, length, 0))
    return false;
  trouble_waits (g, h->ops[h->nr_ops - 1]);
  return true;
}

/* All is well again: a flush succeeds, and everything is durable and read. */
static bool
end_place (struct world *w, struct place *p)
{
  struct guest *g = well_guest (w, p);
  struct history *h = &p->history;
  const struct op *flush = NULL;

  if (g == NULL)
    return !w->run.failed;
  if (nbd_can_flush (g->c.nbd) == 1 && w->sharing == SHARED) {
    if (!start (g, FLUSH, 0, 0))
      return false;
    flush = h->ops[h->nr_ops - 1];
    if (!wait_for_all (w))
      return false;
  }
  if (!judge_durable (w, p, flush))
    return false;
  if (w->sharing != SHARED)
    return true;
  for (uint64_t offset = 0; offset < p->size; offset += READ_BACK)
    if (!start (g, READ, offset,
                p->size - offset < READ_BACK ? p->size - offset : READ_BACK) ||
        !wait_for_all (w))
      return false;
  return true;
}

static bool
wait_for_joining (struct world *w)
{
  for (unsigned i = 0; i < w->nr_guests; ++i) {
    guest_wait_here (&w->guests[i]);
    if (w->run.failed)
      return false;
  }
  return true;
}

static bool
come (struct world *w)
{
  for (unsigned i = 0; i < w->nr_guests; ++i)
    if (w->guests[i].stays || i < w->nr_places || rng_chance (&w->draws, 60)) {
      if (!guest_dial (&w->guests[i]) ||
          (!guest_wait_here (&w->guests[i]) && w->run.failed))
        return false;
    }
  return true;
}

static bool
check_log (struct world *w)
{
  return w->has_remote || w->nr_places > 1 || w->sharing != SHARED ||
         run_step (&w->run, server_check_log (&w->run.server));
}

/* nbdkit does not bear to be told to stop while a connection ends. */
static bool
wait_for_leaving (struct world *w)
{
  const double since = now ();
  uint64_t connected = 1;

  while ((connected > 0 || w->nr_zombies > 0) && now () - since < 10) {
    if (!guests_serve (w, 5))
      return false;
    if (!server_lives (&w->run.server))
      return world_broken (w, 0, "%s", w->run.server.complaint);
    if (!run_step (&w->run,
                   server_counter (world_disk (w), "connected", &connected)))
      return false;
  }
  return true;
}

static bool
finish (struct world *w)
{
  if (!trouble_ends_all (w) || !wait_for_joining (w) || !wait_for_all (w))
    return false;
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (!end_place (w, &w->places[i]))
      return false;
  for (unsigned i = 0; i < w->nr_guests; ++i)
    if (w->guests[i].state != AWAY && !guest_leave (&w->guests[i]))
      return false;
  if (!wait_for_leaving (w))
    return false;
  if (!server_stop (&w->run.server))
    return world_broken (w, 24, "%s", w->run.server.complaint);
  if (!check_log (w) ||
      !run_step (&w->run, server_check_stderr (&w->run.server)))
    return false;
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (!history_check_suspects (&w->places[i].history))
      return world_broken (w, 2, "durable, as a later read tells, %s",
                           w->places[i].history.complaint);
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (!history_check (&w->places[i].history))
      return world_broken (w, 10, "\"%s\": %s", w->places[i].name,
                           w->places[i].history.complaint);
  return true;
}

bool
world_run (struct world *w)
{
  if (w->has_remote && !run_step (&w->run, server_start (&w->remote)))
    return false;
  w->remote_up = true;
  if (!run_step (&w->run, server_start (&w->run.server)) || !probe_start (w))
    return false;
  w->began = now ();
  if (!come (w))
    return false;
  w->began = now ();
  return load (w) && finish (w);
}
