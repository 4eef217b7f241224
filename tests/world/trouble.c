/* SPDX-License-Identifier: BSD-3-Clause */

/* The faults that befall a world, and which errors they excuse.
 *
 * A request may fail only if a fault that concerns its own bytes was there in
 * its time, or if its connection to the disk is dead.  A request may remain
 * unanswered only as long as something hangs for which it has to wait; once
 * nothing does, it has to end within a time that is measured at the disk: by
 * probes, which wait there as requests do, and are answered by the same
 * process.  So a machine that stands still, or a disk that is slow, makes no
 * request late.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

/* A request that nothing excuses is late after so long and so many probes: it
 * may be behind many that each call the disk several times.
 */
#define LATE_SECONDS 3.0
#define LATE_PROBES  200
/* …, and so many calls of the slowest kind: each of 128 zeroes may have been
 * lost, several times while flushes failed, and is zeroed again one by one.
 */
#define LATE_CALLS 1000

#define BEYOND (128 * KiB) /* what a read may take with it */

/* Probes. */

bool
probe_start (struct world *w)
{
  if (w->prober != -1)
    close (w->prober);
  w->probing = false;
  w->prober = server_dial_control (world_disk (w));
  return w->prober != -1 ||
         run_fail (&w->run, "the disk cannot be probed: %s", strerror (errno));
}

void
probe_serve (struct world *w)
{
  static const char question[] = "probe op=write\n";
  char answer[64];
  double t;

  if (!w->remote_up)
    return;
  t = now ();
  if (w->probing && recv (w->prober, answer, sizeof answer, MSG_DONTWAIT) > 0) {
    w->probing = false;
    ++w->probes;
    if (t - w->probed > w->longest_probe)
      w->longest_probe = t - w->probed;
  }
  if (!w->probing && t - w->probed >= 0.01 &&
      send (w->prober, question, sizeof question - 1, MSG_NOSIGNAL) > 0) {
    w->probing = true;
    w->probed = t;
  }
}

/* MORE is in seconds. */
bool
world_is_late (struct world *w, double since, uint64_t probes, double more)
{
  return now () - since > (LATE_SECONDS + more) * time_scale () &&
         w->probes - probes >= LATE_PROBES;
}

/* The connections that a trouble concerns. */

static bool
is_op (const struct trouble *t, const char *op)
{
  return strcmp (t->op, op) == 0 || strcmp (t->op, "any") == 0;
}

static bool
mutates (const struct op *op)
{
  return op->kind == WRITE || op->kind == ZERO || op->kind == TRIM;
}

static bool
touches (const struct op *op, uint64_t first, uint64_t last, uint64_t beyond)
{
  const uint64_t begin = op->offset > beyond ? op->offset - beyond : 0;

  return begin <= last && op->offset + op->length + beyond > first;
}

/* Whether it may wait for, or fail by, something over its own bytes. */
static bool
concerns_bytes (const struct world *w, const struct trouble *t,
                const struct op *op)
{
  const uint64_t block = w->block_min;

  if (mutates (op) &&
      (is_op (t, "write") || is_op (t, "zero") || is_op (t, "trim")))
    return touches (op, t->first, t->last, block);
  if (is_op (t, "read") && op->kind != FLUSH && op->kind != STATUS)
    return touches (op, t->first, t->last,
                    BEYOND > w->page_size ? BEYOND : w->page_size);
  if (op->kind == STATUS)
    return touches (op, t->first, t->last, BEYOND);
  return false;
}

/* Whether something of the place that is not durable may be in its way: all
 * requests there that are durable have nothing to do with a flush.
 */
static bool
holds_back_flushes (const struct trouble *t)
{
  const struct history *h = &t->place->history;

  if (is_op (t, "flush"))
    return true;
  if (!is_op (t, "write") && !is_op (t, "zero") && !is_op (t, "trim"))
    return false;
  for (size_t i = 0; i < h->nr_ops; ++i)
    if (mutates (h->ops[i]) &&
        touches (h->ops[i], t->first, t->last, 4 * KiB) &&
        (t->kind == GATE || !h->ops[i]->fua))
      return true;
  return false;
}

static bool
concerns (const struct world *w, const struct trouble *t, const struct op *op)
{
  if (op->kind == FLUSH)
    return holds_back_flushes (t);
  if (mutates (op) && is_op (t, "flush"))
    return true;
  return concerns_bytes (w, t, op);
}

bool
trouble_excuses_error (struct guest *g, const struct op *op)
{
  const struct world *w = g->world;

  if (!guest_is_well (g))
    return true;
  for (unsigned i = 0; i < w->nr_troubles; ++i) {
    const struct trouble *t = &w->troubles[i];

    if (t->kind == FAULT && t->place == g->place && op->end >= t->from &&
        (t->active || op->start <= t->to) && concerns (w, t, op))
      return true;
  }
  return false;
}

/* Waiting. */

void
trouble_waits (struct guest *g, struct op *op)
{
  struct world *w = g->world;

  if (w->nr_waiting == WAITING_MAX)
    abort ();
  w->waiting[w->nr_waiting++] = (struct waiting){
    .guest = g,
    .op = op,
    .since = now (),
    .probes = w->probes,
  };
}

void
trouble_waits_no_more (struct world *w, const struct op *op)
{
  for (unsigned i = 0; i < w->nr_waiting; ++i)
    if (w->waiting[i].op == op) {
      w->waiting[i] = w->waiting[--w->nr_waiting];
      return;
    }
}

static bool
hangs_by_itself (const struct world *w, const struct waiting *x)
{
  if (!w->remote_up)
    return true;
  for (unsigned i = 0; i < w->nr_troubles; ++i) {
    const struct trouble *t = &w->troubles[i];

    if (t->active && t->kind == GATE && t->place == x->guest->place &&
        concerns (w, t, x->op))
      return true;
  }
  return false;
}

/* A request that hangs keeps its blocks to itself. */
static void
find_excused (const struct world *w, bool *excused)
{
  bool more = false;

  for (unsigned i = 0; i < w->nr_waiting; ++i) {
    excused[i] = hangs_by_itself (w, &w->waiting[i]);
    more |= excused[i];
  }
  while (more) {
    more = false;
    for (unsigned i = 0; i < w->nr_waiting; ++i)
      for (unsigned j = 0; j < w->nr_waiting && !excused[i]; ++j) {
        const struct op *a = w->waiting[i].op, *b = w->waiting[j].op;

        if (excused[j] && mutates (a) && mutates (b) &&
            w->waiting[i].guest->place == w->waiting[j].guest->place &&
            touches (a, b->offset, b->offset + b->length - 1, w->block_min))
          excused[i] = more = true;
      }
  }
}

/* A large request calls the disk often, and others may be behind it. */
static uint64_t
more_probes (const struct world *w, const struct place *p)
{
  uint64_t bytes = 0;

  for (unsigned i = 0; i < w->nr_waiting; ++i)
    if (w->waiting[i].guest->place == p)
      bytes += w->waiting[i].op->length;
  return bytes / (32 * KiB);
}

static bool
tell_late (struct world *w, const struct waiting *x)
{
  const struct op *op = x->op;
  unsigned gates = 0, elsewhere = 0;

  for (unsigned i = 0; i < w->nr_troubles; ++i)
    if (w->troubles[i].active && w->troubles[i].kind == GATE) {
      ++gates;
      elsewhere += w->troubles[i].place != x->guest->place;
    }
  server_stacks (&w->run.server);
  return world_broken (
      w, gates ? 21 : 14,
      "%s%s %" PRIu64 "+%" PRIu64 " of connection %u at \"%s\" has no answer "
      "after %.1f s and %" PRIu64 " probes (the longest: %.3f s); %u gates are "
      "closed, %u of them of other exports; %u requests wait",
      kind_names[op->kind], op->fua ? " fua" : "", op->offset, op->length,
      op->connection, x->guest->place->name, now () - x->since,
      w->probes - x->probes, w->longest_probe, gates, elsewhere, w->nr_waiting);
}

bool
trouble_look_for_hangs (struct world *w)
{
  bool excused[WAITING_MAX];

  find_excused (w, excused);
  for (unsigned i = 0; i < w->nr_waiting; ++i) {
    struct waiting *x = &w->waiting[i];

    if (excused[i]) {
      x->since = now ();
      x->probes = w->probes;
    }
    else if (w->probes - x->probes >=
                 LATE_PROBES + more_probes (w, x->guest->place) &&
             world_is_late (w, x->since, x->probes,
                            x->op->length / (8.0 * MiB) +
                                LATE_CALLS * w->latency))
      return tell_late (w, x);
  }
  for (unsigned i = 0; i < w->nr_guests; ++i) {
    struct guest *g = &w->guests[i];

    if (g->state != JOINING)
      continue;
    if (!w->remote_up || trouble_in (w, g->place)) {
      g->since = now ();
      g->probes = w->probes;
    }
    else if (world_is_late (w, g->since, g->probes, 1)) {
      server_stacks (&w->run.server);
      return world_broken (w, 22, "a client has joined \"%s\" for %.1f s",
                           g->place->name, now () - g->since);
    }
  }
  return true;
}

/* Faults that come and go. */

bool
trouble_in (const struct world *w, const struct place *p)
{
  for (unsigned i = 0; i < w->nr_troubles; ++i)
    if (w->troubles[i].active && w->troubles[i].place == p)
      return true;
  return false;
}

static bool
end_trouble (struct world *w, struct trouble *t)
{
  char command[64];

  snprintf (command, sizeof command, "%s t%u",
            t->kind == GATE ? "open" : "unfault", (unsigned) (t - w->troubles));
  t->active = false;
  t->to = t->place->history.clock;
  t->place->last_trouble = now ();
  return !w->remote_up || world_tell_disk (w, command);
}

static struct place *
ill_place (struct world *w)
{
  unsigned n = rng_below (&w->events, w->nr_places);

  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[(n + i) % w->nr_places];

    if (p->ill)
      return p;
  }
  return NULL;
}

static const char *
draw_op (struct world *w, enum trouble_kind kind)
{
  static const char *const gates[] = { "write", "write", "write", "write",
                                       "flush", "read",  "read",  "zero",
                                       "trim",  "any" };
  static const char *const faults[] = { "write", "write", "write", "flush",
                                        "flush", "flush", "flush", "read",
                                        "zero",  "zero",  "trim",  "any" };

  if (w->focus && rng_chance (&w->events, w->swarm ? 100 : 70))
    return w->focus;
  return kind == GATE
             ? gates[rng_below (&w->events, sizeof gates / sizeof gates[0])]
             : faults[rng_below (&w->events, sizeof faults / sizeof faults[0])];
}

static bool
begin_trouble (struct world *w, enum trouble_kind kind, struct place *p)
{
  struct rng *rng = &w->events;
  struct trouble *t = &w->troubles[w->nr_troubles];
  const uint64_t zone = p->size / 8 * 5, length = p->size / 4;
  char command[256], range[80] = "", *at = command;

  if (w->nr_troubles == TROUBLES_MAX || !w->remote_up)
    return true;
  *t = (struct trouble){
    .kind = kind,
    .active = true,
    .place = p,
    .op = draw_op (w, kind),
    .first = zone,
    .last = zone + length - 1,
    .began = now (),
    .from = p->history.clock,
  };
  if (!w->swarm && rng_chance (rng, 40)) { /* a part of the zone */
    t->first += rng_below (rng, length / 512) * 512;
    t->last = t->first + 512 * (1 + rng_below (rng, 64)) - 1;
    if (t->last >= zone + length)
      t->last = zone + length - 1;
  }
  /* Where rates are compared, mostly what does not hold durable writes up. */
  if (w->steady && is_op (t, "flush") && rng_chance (rng, 70))
    t->op = "write";
  t->ends = w->lasting && kind == GATE
                ? now () + 1000
                : now () + (20 + rng_below (rng, 600)) / 1e3;
  if (strcmp (t->op, "flush") != 0)
    snprintf (range, sizeof range, " first=%" PRIu64 " last=%" PRIu64, t->first,
              t->last);
  at += sprintf (at, "%s t%u op=%s%s", kind == GATE ? "gate" : "fault",
                 w->nr_troubles, t->op, range);
  if (w->nr_places > 1)
    at += sprintf (at, " export=%s", p->name);
  if (kind == GATE)
    at += sprintf (at, " when=%s", rng_chance (rng, 70) ? "before" : "after");
  else {
    at += sprintf (at, " errno=%s", rng_chance (rng, 70) ? "EIO" : "ENOSPC");
    if (rng_chance (rng, 70)) {
      t->count = 1 + rng_below (rng, 3);
      at += sprintf (at, " count=%" PRIu64 " skip=%" PRIu64, t->count,
                     rng_below (rng, 4));
    }
    if (!w->forgets && !w->deaths && rng_chance (rng, 40))
      at += sprintf (at, " partial=%" PRIu64, 512 * (1 + rng_below (rng, 16)));
  }
  ++w->nr_troubles;
  if (getenv ("WT_WORLD_VERBOSE"))
    printf ("# %.2f %s\n", now () - w->began, command);
  return world_tell_disk (w, command);
}

/* The remote. */

static bool
kill_remote (struct world *w)
{
  const bool keep = rng_chance (&w->events, 40);

  for (unsigned i = 0; i < w->nr_troubles; ++i)
    if (w->troubles[i].active && !end_trouble (w, &w->troubles[i]))
      return false;
  w->remote_up = false;
  w->lull = 0;
  for (unsigned i = 0; w->after_death == LEAVE && i < w->nr_guests; ++i)
    if (w->guests[i].state == HERE && !guest_cut (&w->guests[i]))
      return false;
  for (unsigned i = 0; i < w->nr_places; ++i)
    w->places[i].last_trouble = now ();
  if (keep) /* it ends before it answers */
    server_control (&w->remote, "die keep=1");
  server_kill (&w->remote);
  w->returns = now () + rng_below (&w->events, 400) / 1e3;
  if (getenv ("WT_WORLD_VERBOSE"))
    printf ("# %.2f the remote dies, keep=%d\n", now () - w->began, keep);
  return true;
}

static bool
remote_returns (struct world *w)
{
  if (!run_step (&w->run, server_start (&w->remote)))
    return false;
  w->remote_up = true;
  ++w->life;
  for (unsigned i = 0; i < w->nr_places; ++i)
    w->places[i].last_trouble = now ();
  return probe_start (w);
}

/* Guests. */

/* A server that has ended is the worse of the two. */
static bool
knock (struct world *w, const char *words, size_t length)
{
  if (client_knock (&w->run, words, length))
    return true;
  if (server_ends (&w->run.server) || w->run.server.pid == 0) {
    w->run.failed = false;
    return world_broken (w, 0, "%s", w->run.server.complaint);
  }
  return false;
}

static bool
guests_change (struct world *w)
{
  static const char flags[] = { 0, 0, 0, 3 };
  struct guest *g = &w->guests[rng_below (&w->events, w->nr_guests)];
  const unsigned how = rng_below (&w->events, 100);

  for (unsigned i = 0; i < w->nr_guests; ++i)
    if (w->guests[i].state == JOINING)
      return true;
  if (how < 10)
    return knock (w, flags, how % 2 ? sizeof flags : 0);
  if (g->state == AWAY) {
    g->stranger = w->nr_places > 1 && how < 15;
    return guest_dial (g);
  }
  if (g->state != HERE || (g->stays && g->life == w->life))
    return true;
  if (g->life != w->life && how < 50)
    return true; /* it has a dead connection, and stays a while */
  return how < 55 ? guest_leave (g) : guest_cut (g);
}

/* Limits. */

static void
reap (struct world *w)
{
  for (unsigned i = 0; i < w->nr_children;)
    if (waitpid (w->children[i], NULL, WNOHANG) != 0)
      w->children[i] = w->children[--w->nr_children];
    else
      ++i;
}

static bool
change_limits (struct world *w)
{
  static const char *const settings[][2] = {
    { "size", "1M" },           { "size", "4M" },
    { "size", "2M" },           { "dirty-max", "64K" },
    { "dirty-max", "1M" },      { "dirty-max", "50%" },
    { "dirty-age", "10ms" },    { "dirty-age", "5" },
    { "depth", "1" },           { "depth", "16" },
    { "depth", "auto" },        { "readahead", "off" },
    { "readahead", "1M" },      { "mode", "writeback" },
    { "mode", "writethrough" }, { "mode", "writearound" },
  };
  const char *const top = getenv ("top_builddir");
  const unsigned n =
      rng_below (&w->events, sizeof settings / sizeof settings[0] + 4);
  char program[500], control[128];
  pid_t pid;

  reap (w);
  if (w->nr_children == 32)
    return true;
  snprintf (program, sizeof program, "%s/tools/wtcachectl", top ? top : ".");
  snprintf (control, sizeof control, "%s/limits", w->run.server.folder);
  w->writes_back = false; /* nothing is known of ages any more */
  fflush (NULL);
  pid = fork ();
  if (pid == 0) {
    if (freopen ("/dev/null", "w", stdout) == NULL ||
        freopen ("/dev/null", "w", stderr) == NULL)
      _exit (127);
    if (n < 4)
      execl (program, program, control, n < 2 ? "flush" : "drop", NULL);
    else
      execl (program, program, control, "set", settings[n - 4][0],
             settings[n - 4][1], NULL);
    _exit (127);
  }
  if (pid > 0)
    w->children[w->nr_children++] = pid;
  return true;
}

/* All of it. */

bool
trouble_ends (struct world *w)
{
  if (!w->remote_up && now () >= w->returns && !remote_returns (w))
    return false;
  for (unsigned i = 0; i < w->nr_troubles; ++i) {
    struct trouble *t = &w->troubles[i];

    if (t->active && now () >= t->ends && !end_trouble (w, t))
      return false;
  }
  return true;
}

bool
trouble_ends_all (struct world *w)
{
  if (!w->remote_up && !remote_returns (w))
    return false;
  for (unsigned i = 0; i < w->nr_troubles; ++i)
    if (w->troubles[i].active && !end_trouble (w, &w->troubles[i]))
      return false;
  return true;
}

/* Once: what hangs to the end begins to, in one or several places. */
static bool
begin_lasting (struct world *w)
{
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (w->places[i].ill)
      for (unsigned n = 1 + rng_below (&w->events, 2); n > 0; --n)
        if (!begin_trouble (w, GATE, &w->places[i]))
          return false;
  return true;
}

bool
trouble_happens (struct world *w)
{
  const double t = now () - w->began;
  struct place *p = ill_place (w);

  if (w->lasting && w->nr_troubles == 0 && t > 1.5 && !begin_lasting (w))
    return false;
  if (p && w->hangs && !w->lasting && rng_chance (&w->events, 6) &&
      !begin_trouble (w, GATE, p))
    return false;
  if (p && w->faults && rng_chance (&w->events, 18) &&
      !begin_trouble (w, FAULT, p))
    return false;
  if (w->lull > 0 && now () > w->lull && !kill_remote (w))
    return false;
  if (w->deaths && w->remote_up && w->lull == 0 && t > 0.3 &&
      rng_chance (&w->events, 3)) {
    if (w->lulls)
      w->lull = now () + rng_below (&w->events, 500) / 1e3;
    else if (!kill_remote (w))
      return false;
  }
  if ((w->churn || w->life > 0) &&
      rng_chance (&w->events, w->churn ? 60 : 25) && !guests_change (w))
    return false;
  return !w->limits || !rng_chance (&w->events, 8) || change_limits (w);
}
