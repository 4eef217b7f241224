/* SPDX-License-Identifier: BSD-3-Clause */

/* The course of an episode: the server begins, guests come and go, all is well
 * again, the rest is looked at, the server ends.
 *
 * While it goes on, and at its end:
 *   - after each flush and FUA request the durable image holds what was
 *     promised; after the last flush, everything (laws 1, 2, 4);
 *   - the disk has what is older than the age, and nothing is LOST where all
 *     is well (law 3);
 *   - no two writes of a block overlap, and bytes in flight do not change
 *     (law 7);
 *   - reads and block status fit an order of the requests that respects real
 *     time (laws 5, 8, 9, 10, 19);
 *   - an error reaches only a client whose bytes, flush or connection a failed
 *     call concerns (laws 11, 12, 22);
 *   - locks are taken in order, none is held across a call, and threads do not
 *     wait for each other (law 14);
 *   - memory stays within the budget (law 15), exports stay apart (law 18);
 *   - a request is unanswered for 20 s of virtual time only if a call hangs for
 *     which it has to wait (law 21);
 *   - a connection is called only for what it can do (law 22).
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

#define READ_BACK (256 * KiB)

struct result *the_result;
const struct episode *the_episode;
struct world *the_world;

extern int __wrap_nbdkit_nanosleep (unsigned sec, unsigned nsec);
extern void __wrap_nbdkit_error (const char *format, ...)
    __attribute__ ((format (printf, 1, 2)));

/* ---- what is told ---- */

uint64_t
world_now (void)
{
  return sched_now () - the_world->began;
}

bool say_all;

void
say_line (const char *format, ...)
{
  va_list args;

  printf ("# %12.6f %-14s ", the_world->began ? world_now () / 1e9 : 0.0,
          sched_name ());
  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  putchar ('\n');
}

static void
end_episode (void)
{
  the_result->digest = sched_digest ();
  the_result->interruptions = sched_interruptions ();
  the_result->virtual_ns = the_world->began ? world_now () : 0;
}

_Noreturn void
world_broken (int law, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (the_result->complaint, sizeof the_result->complaint, format, args);
  va_end (args);
  the_result->law = law;
  end_episode ();
  fflush (stdout);
  _exit (0);
}

/* A rule of the backend or of nbdkit is broken. */
_Noreturn void
must_fail (const char *what, const char *file, int line)
{
  world_broken (LAW_OTHER, "%s:%d: %s: false", file, line, what);
}

bool
world_has (unsigned item)
{
  if (the_episode->without && the_episode->without[item])
    return false;
  the_result->used[item] = 1;
  return true;
}

static void
stuck (const char *why)
{
  world_broken (LAW_DEADLOCK, "%s", why);
}

/* ---- the server ---- */

/* The filter's clock: its sleep ends when the server is told to stop. */
int
__wrap_nbdkit_nanosleep (unsigned sec, unsigned nsec)
{
  struct world *w = the_world;

  if (!w->stopped)
    sched_wait (&w->stopped, "the clock's next tick",
                sched_now () + sec * S + nsec);
  errno = w->stopped ? ESHUTDOWN : 0;
  return w->stopped ? -1 : 0;
}

/* Else what remains of one cache may wait for no connection. */
static bool
all_of_one_kind (const struct world *w)
{
  unsigned i;

  for (i = 0; i < w->nr_places; ++i)
    if (!w->places[i].one_kind)
      return false;
  return true;
}

void
__wrap_nbdkit_error (const char *format, ...)
{
  const int was = errno;
  va_list args;
  char text[1000];

  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  tell ("log: %s", text);
  if (strstr (text, "LOST:") && the_world->over && all_of_one_kind (the_world))
    world_broken (3, "though all was well: %s", text);
  errno = was;
}

static int
next_config (nbdkit_backend *nxdata, const char *key, const char *value)
{
  (void) nxdata;
  (void) key;
  (void) value;
  return -1;
}

static int
next_config_complete (nbdkit_backend *nxdata)
{
  (void) nxdata;
  return 0;
}

static void
start_server (struct world *w)
{
  const struct nbdkit_filter *f = w->filter = filter_init ();
  char *value;
  unsigned i;

  if (f->load)
    f->load ();
  for (i = 0; i < w->nr_config; ++i) {
    tell ("%s", w->config[i]);
    value = strchr (w->config[i], '=');
    *value++ = '\0';
    must (f->config (next_config, NULL, w->config[i], value) == 0);
  }
  must (f->config_complete (next_config_complete, NULL) == 0);
  must (f->get_ready (w->parallel
                          ? NBDKIT_THREAD_MODEL_PARALLEL
                          : NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS) == 0);
  inside_begin ();
  must (f->after_fork (NULL) == 0);
}

static void
stop_server (struct world *w)
{
  w->stopped = true;
  sched_wake (&w->stopped);
  w->filter->cleanup (NULL);
  w->filter->unload ();
}

void
course_set (struct world *w, const char *command)
{
  char line[64];

  (void) w;
  tell ("command: %s", command);
  snprintf (line, sizeof line, "%s", command);
  inside_set (line);
}

/* ---- the end ---- */

/* A connection that can do all that the disk can. */
static struct link *
come (struct world *w, struct place *p)
{
  return link_open (w, p, &p->disk.says, false, false);
}

static void
ask (struct link *l, enum kind kind, uint64_t offset, uint64_t length)
{
  const struct ask a = { .kind = kind, .offset = offset, .length = length };

  if (!guest_ask (l, &a))
    world_broken (12, "%s: a %s fails though all is well", l->place->name,
                  kind_names[kind]);
}

/* While a writer is there, the disk has all data older than the age. */
static void
check_age (struct world *w, struct place *p)
{
  struct history *h = &p->history;

  if (!w->parallel || !w->writes_back || w->stopped)
    return;
  sched_sleep (max_u64 (w->age, 30 * S) + 5 * S); /* it may have been set */
  if (!history_check_since (h, p->disk.array->seen, h->clock))
    world_broken (3, "%s: older than the age: %s", p->name, h->complaint);
}

static void
read_all (struct link *l)
{
  const uint64_t size = l->place->size;
  uint64_t offset, len;

  for (offset = 0; offset < size; offset += len) {
    len = min_u64 (READ_BACK, size - offset);
    ask (l, READ, offset, len);
  }
}

static void
end_place (struct world *w, struct place *p)
{
  struct history *h = &p->history;
  struct link *l = p->stays;

  if (l && l->dead) {
    link_close (l, true);
    l = NULL;
  }
  if (l)
    check_age (w, p);
  else
    l = come (w, p);
  if (p->one_kind) {
    ask (l, FLUSH, 0, 0);
    if (!history_check_since (h, p->disk.array->durable, h->clock))
      world_broken (2, "%s: after the last flush: %s", p->name, h->complaint);
    read_all (l);
  }
  link_close (l, true);
}

/* Data that was not durable may be lost, and with it the bytes of failed
 * requests.
 */
static void
overlook (struct place *p)
{
  struct history *h = &p->history;
  size_t i;

  for (i = 0; p->reverts && i < h->nr_ops; ++i)
    if ((h->ops[i]->kind == READ || h->ops[i]->kind == STATUS) &&
        h->ops[i]->values)
      history_overlook_uncertain (h, h->ops[i]);
}

static void
judge (struct place *p)
{
  struct history *h = &p->history;

  if (!history_check_suspects (h))
    world_broken (2, "%s: durable, as a later read tells, %s", p->name,
                  h->complaint);
  overlook (p);
  if (!history_check (h))
    world_broken (10, "%s: %s", p->name, h->complaint);
}

/* A connection that stays.  It lends its backend from its first request on. */
static void
stay (struct world *w, struct place *p)
{
  const struct ask a = { .kind = READ, .length = p->disk.says.block };

  p->stays = come (w, p);
  guest_ask (p->stays, &a);
}

static void
run (void *arg)
{
  struct world *w = arg;
  unsigned i;

  w->began = sched_now ();
  start_server (w);
  w->began = sched_now ();
  trouble_begin (w);
  for (i = 0; i < w->nr_places; ++i)
    if (w->places[i].resident)
      stay (w, &w->places[i]);
  for (i = 0; i < w->nr_guests; ++i)
    w->guests[i].fibre = sched_begin ("guest", guest_run, &w->guests[i]);
  for (i = 0; i < w->nr_guests; ++i)
    sched_join (w->guests[i].fibre);
  trouble_end (w);
  w->over = true;
  for (i = 0; i < w->nr_places; ++i)
    end_place (w, &w->places[i]);
  stop_server (w);
  for (i = 0; i < w->nr_places; ++i)
    judge (&w->places[i]);
}

void
course_run (const struct episode *e, struct result *r)
{
  struct world *w = calloc (1, sizeof *w);
  struct sched_options o;

  the_episode = e;
  say_all = e->tell;
  the_result = r;
  the_world = w;
  draw_world (w, e->seed);
  r->nr_items = w->nr_items;
  snprintf (r->description, sizeof r->description, "%s", w->description);
  o = w->sched;
  o.seed = e->schedule;
  o.interruptions = e->interruptions;
  o.stuck = stuck;
  w->moving.state ^= e->schedule;
  sched_run (&o, run, w);
  end_episode ();
}
