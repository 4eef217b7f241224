/* SPDX-License-Identifier: BSD-3-Clause */

/* The guests: sessions of connections, whose lanes send requests one after
 * another, and what is checked of each answer at once.
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

#include "world.h"

/* With many cells a FUA request is looked at by chance. */
#define CELLS_MANY 2000

/* nbdkit calls a stack that is not parallel for one request at a time. */
static void
enter (struct world *w)
{
  while (!w->parallel && w->busy)
    sched_wait (&w->busy, "another request", NEVER_NS);
  w->busy = true;
}

static void
leave (struct world *w)
{
  w->busy = false;
  if (!w->parallel)
    sched_wake (&w->busy);
}

/* ---- connections ---- */

void
link_kill (struct place *p)
{
  struct world *w = p->world;
  unsigned i;

  for (i = 0; i < w->nr_links; ++i)
    if (w->links[i]->place == p)
      w->links[i]->dead = true;
}

/* nbdkit asks these before a client is let in. */
static void
negotiate (struct world *w, struct link *l)
{
  const struct nbdkit_filter *f = w->filter;
  nbdkit_next *next = &l->next.next;

  if (f->get_size (next, l->handle) != (int64_t) l->place->size)
    world_broken (16, "%s has another size", l->place->name);
  if (f->can_write (next, l->handle) != !l->next.readonly)
    world_broken (22, "connection %u can write, or cannot", l->number);
}

struct link *
link_open (struct world *w, struct place *p, const struct backend_traits *says,
           bool readonly, bool tls)
{
  struct link *l = calloc (1, sizeof *l);
  struct asked *asked;
  int r;

  while (!p->up)
    sched_wait (p, "the disk's return", NEVER_NS);
  if (w->nr_links == LINKS_MAX)
    abort ();
  host_connect (&l->next, &p->disk, readonly);
  l->next.says = *says;
  l->next.backend.traits.can_multi_conn = says->can_multi_conn;
  l->place = p;
  l->number = w->nr_links;
  w->links[w->nr_links++] = l;
  tell ("connection %u to %s%s%s fua %d%s%s", l->number, p->name,
        tls ? " tls" : "", readonly ? " readonly" : "", (int) says->fua,
        says->can_flush ? " flush" : "",
        says->can_multi_conn ? " multi-conn" : "");
  enter (w);
  asked = asked_begin (l, p, "to join", NULL);
  l->handle = w->filter->open (host_next_open, NULL, readonly, p->name, tls);
  r = l->handle ? w->filter->prepare (&l->next.next, l->handle, readonly) : -1;
  asked_end (asked);
  leave (w);
  if (r == -1)
    world_broken (22, "connection %u to %s is refused", l->number, p->name);
  negotiate (w, l);
  return l;
}

void
link_close (struct link *l, bool finalize)
{
  struct world *w = l->place->world;
  struct asked *asked;

  enter (w);
  tell ("connection %u leaves%s", l->number, l->dead ? ", dead" : "");
  asked = asked_begin (l, l->place, "to leave", NULL);
  if (finalize && w->filter->finalize (&l->next.next, l->handle) != 0)
    world_broken (LAW_OTHER, "a connection's end failed");
  w->filter->close (l->handle);
  tell ("connection %u has left", l->number);
  asked_end (asked);
  leave (w);
}

/* ---- requests ---- */

static void
check_durable (struct place *p, const struct op *flush)
{
  struct history *h = &p->history;

  if (!history_check_durable (h, p->disk.array->durable, flush))
    world_broken (flush ? 2 : 1, "%s, durable after %s: %s", p->name,
                  flush ? "a flush" : "a FUA request", h->complaint);
}

static void
check_fua (struct place *p)
{
  if (p->history.nr_cells < CELLS_MANY || rng_chance (&p->world->moving, 10))
    check_durable (p, NULL);
}

static int
do_read (struct link *l, struct op *op, const struct ask *a, int *err)
{
  uint8_t *bytes = malloc (a->length);
  int r;

  memset (bytes, 0xcc, a->length);
  r = l->place->world->filter->pread (&l->next.next, l->handle, bytes,
                                      a->length, a->offset, 0, err);
  if (r == 0 && !history_values (&l->place->history, op, bytes))
    world_broken (10, "%s: a read: %s", l->place->name,
                  l->place->history.complaint);
  free (bytes);
  return r;
}

static int
do_write (struct link *l, struct op *op, const struct ask *a, int *err)
{
  uint8_t *bytes = malloc (a->length);
  int r;

  history_fill (op, bytes);
  r = l->place->world->filter->pwrite (&l->next.next, l->handle, bytes,
                                       a->length, a->offset,
                                       op->fua ? NBDKIT_FLAG_FUA : 0, err);
  free (bytes);
  return r;
}

static int
do_zero (struct link *l, struct op *op, const struct ask *a, int *err)
{
  const struct nbdkit_filter *f = l->place->world->filter;
  uint32_t flags = op->fua ? NBDKIT_FLAG_FUA : 0;
  int r;

  flags |= a->may_trim ? NBDKIT_FLAG_MAY_TRIM : 0;
  if (a->fast && f->can_fast_zero (&l->next.next, l->handle))
    flags |= NBDKIT_FLAG_FAST_ZERO;
  r = f->zero (&l->next.next, l->handle, a->length, a->offset, flags, err);
  if (r == -1 && *err == ENOTSUP && !(flags & NBDKIT_FLAG_FAST_ZERO))
    world_broken (9, "ENOTSUP answers a zero that was not fast");
  return r;
}

static int
do_status (struct link *l, struct op *op, const struct ask *a, int *err)
{
  struct history *h = &l->place->history;
  struct nbdkit_extents *extents =
      nbdkit_extents_new (a->offset, l->place->size);
  const uint64_t end = a->offset + a->length;
  struct nbdkit_extent e;
  size_t i;
  int r;

  r = l->place->world->filter->extents (
      &l->next.next, l->handle, a->length, a->offset,
      a->one ? NBDKIT_FLAG_REQ_ONE : 0, extents, err);
  if (r == 0 && nbdkit_extents_count (extents) == 0)
    world_broken (19, "block status says nothing");
  for (i = 0; r == 0 && i < nbdkit_extents_count (extents); ++i) {
    e = nbdkit_get_extent (extents, i);
    if ((e.type & NBDKIT_EXTENT_ZERO) && e.offset < end)
      history_is_zero (h, op, e.offset, min_u64 (e.length, end - e.offset));
  }
  nbdkit_extents_free (extents);
  return r;
}

static int
perform (struct link *l, struct op *op, const struct ask *a, int *err)
{
  const struct nbdkit_filter *f = l->place->world->filter;
  nbdkit_next *next = &l->next.next;

  switch (a->kind) {
  case READ:
    return do_read (l, op, a, err);
  case WRITE:
    return do_write (l, op, a, err);
  case ZERO:
    return do_zero (l, op, a, err);
  case TRIM:
    return f->trim (next, l->handle, a->length, a->offset,
                    op->fua ? NBDKIT_FLAG_FUA : 0, err);
  case FLUSH:
    return f->flush (next, l->handle, 0, err);
  case CACHE:
    return f->cache (next, l->handle, a->length, a->offset, 0, NULL);
  default:
    return do_status (l, op, a, err);
  }
}

/* Whether nbdkit lets such a request through. */
static bool
is_possible (const struct link *l, enum kind kind)
{
  const struct nbdkit_filter *f = l->place->world->filter;
  nbdkit_next *next = (nbdkit_next *) &l->next.next;

  switch (kind) {
  case WRITE:
  case FLUSH:
    return !l->next.readonly;
  case ZERO:
    return !l->next.readonly &&
           f->can_zero (next, l->handle) != NBDKIT_ZERO_NONE;
  case TRIM:
    return !l->next.readonly && l->next.says.can_trim;
  case STATUS:
    return l->next.says.can_extents;
  default:
    return true;
  }
}

static void
tell_begin (const struct link *l, const struct op *op)
{
  tell ("%u: %s%s %" PRIu64 "+%" PRIu64 " version %u", l->number,
        kind_names[op->kind], op->fua ? " fua" : "", op->offset, op->length,
        op->version);
}

static enum outcome
outcome_of (int r, int err)
{
  return r == 0 ? DONE : err == ENOTSUP ? REFUSED : FAILED;
}

/* One request.  False: it failed. */
bool
guest_ask (struct link *l, const struct ask *a)
{
  struct place *p = l->place;
  struct history *h = &p->history;
  struct asked *asked;
  struct op *op;
  int err = 0, r;

  if (!is_possible (l, a->kind))
    return true;
  enter (p->world);
  op = history_start (h, a->kind, l->number, a->offset, a->length);
  op->fua = a->fua;
  tell_begin (l, op);
  asked = asked_begin (l, p, NULL, op);
  r = perform (l, op, a, &err);
  history_end (h, op, outcome_of (r, err), err);
  the_result->requests++;
  tell ("%u: %s %" PRIu64 "+%" PRIu64 " answered: %s", l->number,
        kind_names[op->kind], op->offset, op->length,
        r == 0 ? "0" : strerror (err));
  if (op->outcome == FAILED && !asked_may_fail (asked))
    world_broken (12,
                  "%s: %s %" PRIu64 "+%" PRIu64 " fails (%s), and nothing "
                  "explains it",
                  p->name, kind_names[op->kind], op->offset, op->length,
                  strerror (err));
  asked_end (asked);
  if (op->outcome == DONE && op->kind == FLUSH)
    check_durable (p, op);
  else if (op->outcome == DONE && op->fua)
    check_fua (p);
  leave (p->world);
  return r == 0 || op->outcome == REFUSED;
}

static void *
run_lane (void *arg)
{
  struct lane *lane = arg;
  unsigned i;

  for (i = 0; i < lane->nr_asks; ++i)
    if (world_has (lane->asks[i].item)) {
      if (lane->asks[i].pause > 0)
        sched_sleep (lane->asks[i].pause);
      if (!guest_ask (lane->link, &lane->asks[i]) && lane->link->dead)
        break;
    }
  return NULL;
}

static void
run_session (struct guest *g, struct session *s)
{
  struct fibre *fibres[LANES_MAX];
  struct link *l;
  char name[24];
  unsigned i;

  if (s->delay > 0)
    sched_sleep (s->delay);
  l = link_open (g->world, g->place, &s->says, s->readonly, s->tls);
  for (i = 0; i < s->nr_lanes; ++i) {
    s->lanes[i].link = l;
    snprintf (name, sizeof name, "guest %u.%u.%u", g->number,
              (unsigned) (s - g->sessions), i);
    fibres[i] = sched_begin (name, run_lane, &s->lanes[i]);
  }
  for (i = 0; i < s->nr_lanes; ++i)
    sched_join (fibres[i]);
  link_close (l, s->finalizes);
}

void *
guest_run (void *arg)
{
  struct guest *g = arg;
  unsigned i;

  for (i = 0; i < g->nr_sessions; ++i)
    if (world_has (g->sessions[i].item))
      run_session (g, &g->sessions[i]);
  return NULL;
}
