/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls that hang and fail, disks that die, and the failures of requests that
 * this excuses.
 *
 * Each call to a disk comes by here.  It takes a time that is drawn, and rules
 * let it hang or fail.  A request may fail only if a call failed in its time
 * that concerns its own bytes, or a flush that it needs, or if its own
 * connection is dead.  A request may be unanswered as long as a call hangs for
 * which it has to wait; while none does, for LATE_NS of virtual time in all.
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

#define LATE_NS      (20 * S)
#define LOOK_NS      (250 * MS)
#define CALLS_MAX    100000 /* a world has some thousands */
#define REMOVES      3
#define FAILURES_MAX 4096

static const char *const op_names[ARRAY_OPS] = {
  [ARRAY_READ] = "read", [ARRAY_WRITE] = "write", [ARRAY_ZERO] = "zero",
  [ARRAY_TRIM] = "trim", [ARRAY_FLUSH] = "flush",
};

/* A call to a disk that is under way. */
struct call {
  struct call *next;
  struct link *link;
  enum array_op op;
  uint64_t offset, end;
  uint64_t number;
  bool hangs;
  const struct rule *hangs_after; /* when it is done, before it is answered */
  uint64_t rest;                  /* ns from then to the answer */
  int spoilt;                     /* with what it fails after all */
};

/* A call that has failed. */
struct failure {
  const struct link *link;
  bool dead; /* the link was */
  enum array_op op;
  uint64_t offset, end;
  uint64_t when; /* in the order of asked and failures */
};

/* A client's request that is unanswered. */
struct asked {
  struct asked *next;
  struct link *link;
  struct place *place;
  const char *what;    /* without an op */
  const struct op *op; /* NULL: to join or to leave */
  uint64_t when;
  uint64_t began, waited; /* ns; WAITED with no excuse */
  char by[24];
};

static struct {
  struct world *world;
  struct call *calls;
  struct asked *asked;
  struct failure failures[FAILURES_MAX];
  uint64_t nr_failures;
  uint64_t order, nr_calls;
  struct fibre *looks;
  bool ends;
} t;

static struct link *
link_of (struct backend *b)
{
  return (struct link *) container_of (b, struct host_next, backend);
}

static bool
overlap (uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
  return a < b_end && b < a_end;
}

/* ---- calls ---- */

static void
note_failure (const struct call *c, bool dead)
{
  t.failures[t.nr_failures++ % FAILURES_MAX] = (struct failure){
    .link = c->link,
    .dead = dead,
    .op = c->op,
    .offset = c->offset,
    .end = c->end,
    .when = ++t.order,
  };
}

static bool
concerns (struct rule *r, const struct call *c, unsigned flags)
{
  if (t.ends || r->place != c->link->place || r->count == 0 ||
      !(r->ops & 1U << c->op) || world_now () < r->from)
    return false;
  /* Only a fast zero may be refused so. */
  if (r->error == ENOTSUP && r->kind != RULE_HANG &&
      !(c->op == ARRAY_ZERO && flags & ZERO_FAST))
    return false;
  if (c->op != ARRAY_FLUSH && !overlap (r->offset, r->end, c->offset, c->end))
    return false;
  if (!world_has (r->item))
    return false;
  if (r->skip > 0) {
    r->skip--;
    return false;
  }
  if (r->count != ~0U)
    r->count--;
  return true;
}

/* Most calls last about as long as usual, a few much longer.  The time passes
 * before it is done, or between that and the answer, or in part.
 */
static void
take_time (struct world *w, struct call *c)
{
  uint64_t usual = c->link->place->latency[c->op], ns;

  ns = usual / 2 + (usual ? rng_below (&w->moving, usual) : 0);
  if (rng_chance (&w->moving, 3))
    ns += 10 * usual + rng_below (&w->moving, 100 * US);
  c->rest = ns * rng_below (&w->moving, 3) / 2;
  ns -= c->rest;
  if (ns > 0)
    sched_sleep (ns);
  else
    sched_point ();
}

static void
hang (struct call *c, const struct rule *r)
{
  tell ("  call %" PRIu64 " hangs for %.3f s", c->number, r->lasts / 1e9);
  c->hangs = true;
  sched_wait (&t.ends, "a call that hangs", sched_now () + r->lasts);
  c->hangs = false;
  tell ("  call %" PRIu64 " goes on", c->number);
}

static int
begin_call (struct array_watched *a)
{
  struct world *w = t.world;
  struct call *c = calloc (1, sizeof *c);
  const struct rule *hangs = NULL;
  int err = 0;
  unsigned i;

  a->own = c;
  c->link = link_of (a->backend);
  c->op = a->op;
  c->offset = a->offset;
  c->end = a->offset + a->len;
  c->number = ++t.nr_calls;
  c->next = t.calls;
  t.calls = c;
  if (t.nr_calls == CALLS_MAX)
    world_broken (LAW_DEADLOCK, "calls to the disk go on without an end");
  tell ("  call %" PRIu64 " %s %" PRIu64 "+%" PRIu64 "%s by %u of %s",
        c->number, op_names[c->op], c->offset, a->len,
        a->flags & ZERO_FUA ? " fua" : "", c->link->number,
        c->link->place->name);
  for (i = 0; i < w->nr_rules; ++i)
    if (concerns (&w->rules[i], c, a->flags)) {
      const struct rule *r = &w->rules[i];

      if (r->kind == RULE_HANG)
        hangs = r;
      else if (r->kind == RULE_REFUSE || r->error == ENOTSUP)
        err = r->error;
      else
        c->spoilt = r->error;
    }
  if (hangs && rng_chance (&w->moving, 40))
    c->hangs_after = hangs;
  else if (hangs && !c->link->dead)
    hang (c, hangs);
  take_time (w, c);
  if (c->link->dead)
    err = EIO;
  if (err != 0) {
    note_failure (c, c->link->dead);
    tell ("  call %" PRIu64 " fails: %s", c->number, strerror (err));
  }
  return err;
}

static int
end_call (struct array_watched *a, int error)
{
  struct call *c = a->own, **link = &t.calls;

  if (c->hangs_after && error == 0 && !c->link->dead)
    hang (c, c->hangs_after);
  if (c->rest > 0)
    sched_sleep (c->rest);
  if (error == 0 && (c->spoilt != 0 || c->link->dead)) {
    error = c->spoilt ? c->spoilt : EIO;
    note_failure (c, c->link->dead);
    tell ("  call %" PRIu64 " is done and fails: %s", c->number,
          strerror (error));
  }
  else if (error == 0)
    tell ("  call %" PRIu64 " ends", c->number);
  while (*link != c)
    link = &(*link)->next;
  *link = c->next;
  free (c);
  return error;
}

int
trouble_watch (struct array *a, struct array_watched *c, bool ended, int error)
{
  (void) a;
  return ended ? end_call (c, error) : begin_call (c);
}

/* The reply of a call takes its time as well. */
void
clock_advance (uint64_t ns)
{
  (void) ns;
  sched_point ();
  if (t.world && rng_chance (&t.world->moving, 10))
    sched_sleep (1 + rng_below (&t.world->moving, 200 * US));
}

/* ---- requests ---- */

static bool
mutates (const struct op *op)
{
  return op->kind == WRITE || op->kind == ZERO || op->kind == TRIM;
}

struct asked *
asked_begin (struct link *l, struct place *p, const char *what,
             const struct op *op)
{
  struct asked *r = calloc (1, sizeof *r);

  r->link = l;
  r->place = p;
  r->what = what;
  r->op = op;
  r->when = ++t.order;
  r->began = sched_now ();
  snprintf (r->by, sizeof r->by, "%s", sched_name ());
  r->next = t.asked;
  t.asked = r;
  return r;
}

void
asked_end (struct asked *r)
{
  struct asked **link = &t.asked;

  while (*link != r)
    link = &(*link)->next;
  *link = r->next;
  free (r);
}

/* Whether a range holds bytes of a write or zero that was answered. */
static bool
is_acknowledged (const struct history *h, uint64_t offset, uint64_t end)
{
  size_t i;

  for (i = 0; i < h->nr_ops; ++i)
    if ((h->ops[i]->kind == WRITE || h->ops[i]->kind == ZERO) &&
        h->ops[i]->outcome == DONE &&
        overlap (h->ops[i]->offset, h->ops[i]->offset + h->ops[i]->length,
                 offset, end))
      return true;
  return false;
}

/* The whole blocks, or pages, of a request. */
static bool
covers_bytes (const struct asked *r, uint64_t unit, uint64_t offset,
              uint64_t end)
{
  return overlap (round_down (r->op->offset, unit),
                  round_up (r->op->offset + r->op->length, unit), offset, end);
}

static bool
explains (const struct failure *f, const struct asked *r)
{
  const uint64_t block = r->place->disk.says.block;

  if (f->when < r->when || f->link->place != r->place ||
      (f->dead && f->link != r->link))
    return false;
  if (r->op->kind == FLUSH)
    return f->op == ARRAY_FLUSH ||
           (f->op != ARRAY_READ && f->op != ARRAY_TRIM &&
            is_acknowledged (&r->place->history, f->offset, f->end));
  if (f->op == ARRAY_FLUSH)
    return mutates (r->op);
  if (!mutates (r->op) && f->op != ARRAY_READ)
    return false;
  return covers_bytes (r, block, f->offset, f->end);
}

bool
asked_may_fail (const struct asked *r)
{
  const uint64_t n = min_u64 (t.nr_failures, FAILURES_MAX);
  uint64_t i;

  if (r->link->dead)
    return true;
  for (i = 0; i < n; ++i)
    if (explains (&t.failures[i], r))
      return true;
  return false;
}

/* Whether a request has to wait for a call that hangs. */
static bool
holds_up (const struct call *c, const struct asked *r)
{
  const uint64_t page = max_u64 (t.world->page, r->place->disk.says.block);

  if (!c->hangs || c->link->place != r->place)
    return false;
  /* Where no thread of the filter calls the disk, a request writes back. */
  if (r->op == NULL || !t.world->parallel)
    return true;
  if (r->op->kind == FLUSH)
    return c->op != ARRAY_READ;
  if (c->op == ARRAY_FLUSH)
    return mutates (r->op);
  if (!mutates (r->op) && c->op != ARRAY_READ)
    return false;
  return covers_bytes (r, page, c->offset, c->end);
}

/* By such a call; or, at so many removes, behind another change of its own
 * bytes that is.
 */
static bool
is_held_up (const struct asked *r, unsigned removes)
{
  const uint64_t page = max_u64 (t.world->page, r->place->disk.says.block);
  const struct call *c;
  const struct asked *a;

  for (c = t.calls; c; c = c->next)
    if (holds_up (c, r))
      return true;
  if (removes == 0 || r->op == NULL || !mutates (r->op))
    return false;
  for (a = t.asked; a; a = a->next)
    if (a != r && a->place == r->place && a->op && mutates (a->op) &&
        covers_bytes (r, page, round_down (a->op->offset, page),
                      round_up (a->op->offset + a->op->length, page)) &&
        is_held_up (a, removes - 1))
      return true;
  return false;
}

static uint64_t
limit (const struct asked *r)
{
  return LATE_NS + (r->op == NULL ? t.world->drain : 0);
}

static size_t
describe_calls (char *text, size_t size)
{
  const struct call *c;
  size_t used = 0;

  for (c = t.calls; c && used + 100 < size; c = c->next)
    used += snprintf (text + used, size - used,
                      "\n  %s %" PRIu64 "+%" PRIu64 " by %u of %s%s",
                      op_names[c->op], c->offset, c->end - c->offset,
                      c->link->number, c->link->place->name,
                      c->hangs ? " hangs" : "");
  return used;
}

static void
late (const struct asked *r)
{
  static char text[6000];
  size_t n;

  n = snprintf (text, sizeof text, "\n at the disks:");
  n += describe_calls (text + n, sizeof text / 2 - n);
  n += snprintf (text + n, sizeof text - n, "\n threads:");
  sched_describe (text + n, sizeof text - n);
  world_broken (21,
                "%s: %s %" PRIu64 "+%" PRIu64 " of %s is unanswered for %.1f "
                "s, of which nothing excuses %.1f s%s",
                r->by, r->op ? kind_names[r->op->kind] : r->what,
                r->op ? r->op->offset : 0, r->op ? r->op->length : 0,
                r->place->name, (sched_now () - r->began) / 1e9,
                r->waited / 1e9, text);
}

static void *
look (void *arg)
{
  struct asked *r;

  while (!t.ends) {
    sched_wait (&t.looks, "a time", sched_now () + LOOK_NS);
    for (r = t.asked; r; r = r->next) {
      if (is_held_up (r, REMOVES) || sched_now () - r->began < LOOK_NS)
        continue;
      r->waited += LOOK_NS;
      if (r->waited > limit (r))
        late (r);
    }
    inside_check ();
  }
  return arg;
}

/* ---- what happens at a time ---- */

static void
die (struct place *p, const struct event *e)
{
  tell ("%s dies%s", p->name,
        e->kind == EVENT_DIE_LOSING ? " and loses what is not durable" : "");
  p->up = false;
  link_kill (p);
  if (e->kind == EVENT_DIE_LOSING)
    array_forget (p->disk.array);
  sched_wait (&t.ends, "its return", sched_now () + e->lasts);
  p->up = true;
  tell ("%s is back", p->name);
  sched_wake (p);
}

static void *
happen (void *arg)
{
  struct event *e = arg;
  struct world *w = t.world;

  sched_wait (&t.ends, "an event", w->began + e->at);
  if (t.ends || !world_has (e->item))
    return arg;
  switch (e->kind) {
  case EVENT_DIE:
  case EVENT_DIE_LOSING:
    if (e->place->up)
      die (e->place, e);
    break;
  case EVENT_SET:
    course_set (w, e->command);
    break;
  case EVENT_STOP:
    tell ("the server is told to stop");
    w->stopped = true;
    sched_wake (&w->stopped);
    break;
  }
  return arg;
}

static struct fibre *happening[EVENTS_MAX];

void
trouble_begin (struct world *w)
{
  unsigned i;

  t.world = w;
  for (i = 0; i < w->nr_events; ++i)
    happening[i] = sched_begin ("event", happen, &w->events[i]);
  t.looks = sched_begin ("look", look, NULL);
}

void
trouble_end (struct world *w)
{
  unsigned i;

  tell ("all is well");
  t.ends = true;
  sched_wake (&t.ends);
  for (i = 0; i < w->nr_events; ++i)
    sched_join (happening[i]);
}
