/* SPDX-License-Identifier: BSD-3-Clause */

/* Draws a world from a seed: the filter's options, disks, guests with all their
 * requests, and troubles.
 *
 * Each session draws its requests from a stream of its own.  Most choices are
 * skewed: a world has a theme (few kinds of requests, a small hot range, one
 * kind of trouble), because two things meet more often where there are few.
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

#define PICK(rng, list) ((list)[rng_below ((rng), ARRAY_LEN (list))])

static unsigned
new_item (struct world *w)
{
  if (w->nr_items == ITEMS_MAX)
    abort ();
  return w->nr_items++;
}

/* From MIN to MAX, each power of two alike. */
static uint64_t
draw_log (struct rng *rng, uint64_t min, uint64_t max)
{
  const unsigned powers = log2_u64 (max / min) + 1;
  const uint64_t base = min << rng_below (rng, powers);

  return min_u64 (base + rng_below (rng, base), max);
}

/* ---- the filter ---- */

static void
configure (struct world *w, const char *key, const char *value)
{
  snprintf (w->config[w->nr_config++], sizeof w->config[0], "%s=%s", key,
            value);
}

static void
draw_options (struct world *w)
{
  static const char *const sizes[] = { "1M", "1M", "1M", "2M", "8M", "32M" };
  static const char *const modes[] = { "writeback",    "writeback",
                                       "writeback",    "writeback",
                                       "writeback",    "through",
                                       "writethrough", "writearound" };
  static const uint32_t pages[] = { 4, 4, 4, 4, 8, 16, 64 };
  static const char *const bounds[] = { "auto", "auto", "64K", "128K", "512K" };
  static const char *const depths[] = { "auto", "auto", "auto", "1", "2", "4" };
  static const char *const fills[] = { "auto", "512", "4K", "64K", "auto" };
  static const char *const aheads[] = { "off", "off", "64K", "256K", "2M" };
  static const unsigned ages[] = { 30000, 30000, 100, 1000, 5000 };
  static const unsigned drains[] = { 60, 60, 10, 1 };
  struct rng *rng = &w->rng;
  char text[32];

  w->parallel = !rng_chance (rng, 12);
  w->mode = PICK (rng, modes);
  w->writes_back = strcmp (w->mode, "writeback") == 0;
  w->page = PICK (rng, pages) * KiB;
  w->age = PICK (rng, ages) * MS;
  w->drain = PICK (rng, drains) * S;
  configure (w, "wtcache-size", PICK (rng, sizes));
  /* Mode "through" is that of a serial model. */
  if (strcmp (w->mode, "through") == 0)
    w->parallel = false;
  else if (w->parallel || rng_chance (rng, 50))
    configure (w, "wtcache-mode", w->mode);
  else
    w->mode = "through";
  w->writes_back = strcmp (w->mode, "writeback") == 0;
  snprintf (text, sizeof text, "%u", w->page);
  configure (w, "wtcache-page-size", text);
  configure (w, "wtcache-dirty-max", PICK (rng, bounds));
  snprintf (text, sizeof text, "%ums", (unsigned) (w->age / MS));
  configure (w, "wtcache-dirty-age", text);
  snprintf (text, sizeof text, "%us", (unsigned) (w->drain / S));
  configure (w, "wtcache-drain", text);
  configure (w, "wtcache-depth", PICK (rng, depths));
  configure (w, "wtcache-fill", PICK (rng, fills));
  configure (w, "wtcache-readahead", PICK (rng, aheads));
  configure (w, "wtcache-keep", rng_chance (rng, 70) ? "yes" : "no");
}

/* ---- disks ---- */

static void
draw_abilities (struct rng *rng, struct backend_traits *t)
{
  t->fua =
      PICK (rng, ((const enum fua_kind[]){ FUA_NATIVE, FUA_NATIVE, FUA_NATIVE,
                                           FUA_EMULATED, FUA_NONE }));
  t->can_flush = rng_chance (rng, 85);
  t->can_zero = rng_chance (rng, 85);
  t->can_fast_zero = t->can_zero && rng_chance (rng, 60);
  t->can_trim = rng_chance (rng, 80);
}

static void
draw_latencies (struct world *w, struct place *p)
{
  static const uint64_t some[] = { 0,        10 * US, 100 * US,
                                   500 * US, 3 * MS,  10 * MS };
  const uint64_t usual = PICK (&w->rng, some);
  unsigned op;

  for (op = 0; op < ARRAY_OPS; ++op)
    p->latency[op] = rng_chance (&w->rng, 70) ? usual : PICK (&w->rng, some);
}

static uint64_t
draw_size (struct rng *rng)
{
  const uint64_t size = 128 * KiB
                        << (rng_chance (rng, 85) ? rng_below (rng, 3)
                                                 : rng_below (rng, 6));

  /* Some have a last block that is short, of at least a cell. */
  return size + (rng_chance (rng, 25)
                     ? 512 * rng_below (rng, 4) + 16 + rng_below (rng, 496)
                     : 0);
}

static void
draw_place (struct world *w, struct place *p)
{
  struct backend_traits *t = &p->disk.says;
  struct rng *rng = &w->rng;
  struct backend_traits has;
  struct array *a;

  p->world = w;
  p->number = p - w->places;
  snprintf (p->name, sizeof p->name, "disk%u", p->number);
  p->size = draw_size (rng);
  *t = array_traits (p->size);
  draw_abilities (rng, t);
  t->can_extents = rng_chance (rng, 70);
  t->can_multi_conn = rng_chance (rng, 70);
  if (rng_chance (rng, 20)) {
    t->block = rng_chance (rng, 50) ? 1024 : 4096;
    p->size = round_up (p->size, t->block);
    t->size = p->size;
  }
  t->maximum = PICK (rng, ((const uint32_t[]){ 64 * MiB, 64 * MiB, 65536 }));
  t->preferred = t->block > 512 || rng_chance (rng, 60) ? 4096 : 512;
  draw_latencies (w, p);
  p->apart = rng_chance (rng, 50);
  p->resident = rng_chance (rng, 60);
  p->up = true;

  has = array_traits (p->size); /* the host sees to what it says */
  has.block = t->block;
  has.maximum = t->maximum;
  has.can_multi_conn = t->can_multi_conn;
  p->disk.array = a = array_new (&has);
  memset (a->seen, 0, p->size);
  memset (a->durable, 0, p->size);
  a->trimmed = 0;
  a->forgets = rng_chance (rng, 35);
  a->tears = rng_chance (rng, 35);
  a->watch = trouble_watch;
  history_init (&p->history, p->size, rng);
  p->history.base = (uint64_t) p->number << 32;
}

/* ---- guests ---- */

static void
draw_session_abilities (struct world *w, struct guest *g, struct session *s,
                        bool differ)
{
  struct rng *rng = &w->rng;

  s->says = g->place->disk.says;
  if (!differ || rng_chance (rng, 50))
    return;
  s->readonly = rng_chance (rng, 20);
  if (rng_chance (rng, 60))
    draw_abilities (rng, &s->says);
  if (g->place->shared && rng_chance (rng, 20))
    s->says.can_multi_conn = false;
}

/* The kinds of requests that a guest sends most. */
struct habits {
  unsigned weights[NR_KINDS];
  unsigned fua, odd, large;
  uint64_t hot, pause;
  bool sequential;
};

static void
draw_habits (struct world *w, struct habits *h, uint64_t range)
{
  static const unsigned weights[] = { 0, 0, 1, 1, 4, 16 };
  struct rng *rng = &w->rng;
  unsigned k, sum = 0;

  memset (h, 0, sizeof *h);
  for (k = 0; k < NR_KINDS; ++k)
    sum += h->weights[k] = PICK (rng, weights);
  if (sum == 0 || rng_chance (rng, 30)) {
    h->weights[READ] = 30;
    h->weights[WRITE] = 40;
    h->weights[FLUSH] = 8;
    h->weights[ZERO] = 10;
    h->weights[TRIM] = 4;
    h->weights[CACHE] = 2;
    h->weights[STATUS] = 4;
  }
  h->fua = PICK (rng, ((const unsigned[]){ 0, 10, 30, 50, 90 }));
  h->odd = PICK (rng, ((const unsigned[]){ 0, 0, 15, 50 }));
  h->large = PICK (rng, ((const unsigned[]){ 0, 0, 2, 10 }));
  h->hot = min_u64 (range,
                    PICK (rng, ((const uint64_t[]){ 4 * KiB, 16 * KiB, 64 * KiB,
                                                    UINT64_MAX, UINT64_MAX })));
  h->pause = PICK (
      rng, ((const uint64_t[]){ 0, 0, 100 * US, 5 * MS, 200 * MS, 2 * S }));
  h->sequential = rng_chance (rng, 20);
}

static uint64_t
draw_length (struct rng *rng, const struct habits *h, uint64_t range)
{
  if (rng_chance (rng, h->large))
    return rng_chance (rng, 60) ? (64 * KiB) << rng_below (rng, 6)
                                : 1 + rng_below (rng, range);
  if (rng_chance (rng, h->odd))
    return 1 + rng_below (rng, 3000);
  if (rng_chance (rng, 50))
    return 512 * (1 + rng_below (rng, 4));
  return 4 * KiB * (1 + rng_below (rng, rng_chance (rng, 80) ? 2 : 8));
}

static void
draw_range (struct rng *rng, const struct guest *g, const struct habits *h,
            uint64_t *next, struct ask *a)
{
  const struct place *p = g->place;
  const uint64_t block = p->disk.says.block;
  uint64_t begin, end, len = draw_length (rng, h, g->end - g->first);

  begin = g->first + rng_below (rng, h->hot);
  if (h->sequential) {
    begin = *next;
    *next += len;
    if (*next >= g->end)
      *next = g->first;
  }
  else if (!rng_chance (rng, h->odd))
    begin = round_down (begin, len % 4096 == 0 ? 4096 : 512);
  end = min_u64 (begin + len, g->end);
  if (!p->shared) { /* else one cache writes another's bytes */
    begin = round_down (begin, block);
    end = min_u64 (round_up (end, block), p->size);
  }
  begin = max_u64 (begin, g->first);
  if (begin >= end)
    begin = g->first;
  history_round (&p->history, &begin, &end);
  a->offset = begin;
  a->length = end - begin;
}

static enum kind
draw_kind (struct rng *rng, const struct habits *h)
{
  unsigned sum = 0, k;
  uint64_t n;

  for (k = 0; k < NR_KINDS; ++k)
    sum += h->weights[k];
  n = rng_below (rng, sum);
  for (k = 0; n >= h->weights[k]; ++k)
    n -= h->weights[k];
  return k;
}

static void
draw_ask (struct world *w, struct rng *rng, const struct guest *g,
          const struct habits *h, uint64_t *next, struct ask *a)
{
  a->item = new_item (w);
  a->kind = draw_kind (rng, h);
  a->fua = (a->kind == WRITE || a->kind == ZERO || a->kind == TRIM) &&
           rng_chance (rng, h->fua);
  a->may_trim = rng_chance (rng, 50);
  a->fast = rng_chance (rng, 20);
  a->one = rng_chance (rng, 20);
  a->pause = h->pause ? rng_below (rng, 2 * h->pause) : 0;
  if (rng_chance (rng, 1))
    a->pause = draw_log (rng, 1 * S, 60 * S);
  if (a->kind != FLUSH)
    draw_range (rng, g, h, next, a);
}

static void
draw_session (struct world *w, struct guest *g, unsigned max, bool differ,
              bool tls)
{
  struct session *s = &g->sessions[g->nr_sessions++];
  struct rng *rng = &w->rng, own;
  struct habits h;
  uint64_t next = g->first;
  unsigned i, j;

  s->item = new_item (w);
  draw_session_abilities (w, g, s, differ);
  s->tls = tls;
  s->finalizes = !rng_chance (rng, 10);
  s->leaves_dead = rng_chance (rng, 70);
  s->delay = rng_chance (rng, 50) ? 0 : draw_log (rng, 1 * US, 1 * S);
  s->nr_lanes = rng_chance (rng, 60) ? 1 : 1 + rng_below (rng, LANES_MAX);
  own.state = rng_next (rng);
  draw_habits (w, &h, g->end - g->first);
  for (i = 0; i < s->nr_lanes; ++i) {
    struct lane *l = &s->lanes[i];

    l->guest = g;
    l->nr_asks = 1 + rng_below (rng, max);
    l->asks = calloc (l->nr_asks, sizeof *l->asks);
    for (j = 0; j < l->nr_asks; ++j)
      draw_ask (w, &own, g, &h, &next, &l->asks[j]);
  }
}

/* The bytes that a guest uses: its own part where caches are not shared. */
static void
draw_bounds (struct world *w, struct guest *g, unsigned nr, unsigned number)
{
  const struct place *p = g->place;
  uint64_t first = 0, end = p->size, part;

  if (p->apart && number % 3 != 0) /* away from troubles */
    end = round_down (p->size / 2, 64 * KiB);
  else if (p->apart)
    first = round_down (p->size / 2, 64 * KiB);
  if (!p->shared) {
    part = max_u64 (round_down ((end - first) / nr, 4 * KiB), 4 * KiB);
    first = min_u64 (first + number * part, end - 4 * KiB);
    end = number + 1 == nr ? end : min_u64 (first + part, end);
  }
  (void) w;
  g->first = first;
  g->end = end;
}

/* Two caches over one disk that are in use at once need not see each other's
 * writes.  So where caches are not shared each guest has bytes of its own, and
 * its connections are of one kind.
 */
static void
draw_guests (struct world *w)
{
  struct rng *rng = &w->rng;
  const bool differ = rng_chance (rng, 30), tls = rng_chance (rng, 8);
  const char *share = rng_chance (rng, 50)   ? "always"
                      : rng_chance (rng, 85) ? "auto"
                                             : "never";
  const unsigned churn = PICK (rng, ((const unsigned[]){ 1, 1, 2, 4 }));
  unsigned max = PICK (rng, ((const unsigned[]){ 5, 15, 30, 60 }));
  unsigned i, j;

  configure (w, "wtcache-share", share);
  w->nr_guests = 1 + rng_below (rng, rng_chance (rng, 70) ? 5 : GUESTS_MAX);
  if (rng_chance (rng, 6)) { /* few, with many requests */
    w->nr_guests = 1 + rng_below (rng, 2);
    max = ASKS_MAX;
  }
  for (i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];

    p->shared = !tls && w->parallel && strcmp (share, "never") != 0 &&
                (strcmp (share, "always") == 0 ||
                 (p->disk.says.can_multi_conn && !differ));
    if (!w->parallel)
      p->shared = !tls && strcmp (share, "never") != 0 &&
                  p->disk.says.can_multi_conn && !differ;
    p->one_kind = !tls;
    p->history.flushes_own = !p->shared;
    p->resident = p->resident && p->shared;
    /* One cache does not learn that a flush of another failed. */
    p->disk.array->forgets &= p->shared;
    p->reverts = p->history.forgets = p->disk.array->forgets;
  }
  for (i = 0; i < w->nr_guests; ++i) {
    struct guest *g = &w->guests[i];
    const unsigned sessions = 1 + rng_below (rng, churn);
    bool kind; /* of its connections: with TLS */

    g->world = w;
    g->number = i;
    g->place = &w->places[rng_below (rng, w->nr_places)];
    draw_bounds (w, g, w->nr_guests, i);
    kind = tls && rng_chance (rng, 50);
    for (j = 0; j < sessions; ++j) {
      /* Alone it sees its own writes by either kind: see above. */
      if (tls && w->nr_guests == 1)
        kind = rng_chance (rng, 50);
      draw_session (w, g, max, differ, kind);
    }
  }
}

/* ---- troubles ---- */

static unsigned
draw_ops (struct rng *rng)
{
  static const unsigned some[] = {
    1 << ARRAY_READ,
    1 << ARRAY_WRITE,
    1 << ARRAY_WRITE,
    1 << ARRAY_WRITE,
    1 << ARRAY_ZERO,
    1 << ARRAY_TRIM,
    1 << ARRAY_FLUSH,
    1 << ARRAY_FLUSH,
    1 << ARRAY_WRITE | 1 << ARRAY_ZERO | 1 << ARRAY_TRIM,
    (1 << ARRAY_OPS) - 1,
  };

  return PICK (rng, some);
}

static void
draw_rule (struct world *w, struct rule *r, bool hangs)
{
  static const int errors[] = { EIO, EIO, ENOSPC, EPERM, ENOTSUP };
  struct rng *rng = &w->rng;
  uint64_t first, len;

  r->item = new_item (w);
  r->place = &w->places[rng_below (rng, w->nr_places)];
  r->kind = hangs ? RULE_HANG : rng_chance (rng, 50) ? RULE_REFUSE : RULE_SPOIL;
  r->ops = draw_ops (rng);
  first = r->place->apart ? round_down (r->place->size / 2, 64 * KiB) : 0;
  len = r->place->size - first;
  r->offset = first;
  r->end = r->place->size;
  if (rng_chance (rng, 60)) {
    r->offset = first + round_down (rng_below (rng, len), 512);
    r->end = r->offset + draw_log (rng, 512, 64 * KiB);
  }
  r->skip = rng_chance (rng, 50) ? 0 : rng_below (rng, 20);
  r->count = rng_chance (rng, 60) ? 1 + rng_below (rng, 3) : ~0U;
  r->from = rng_chance (rng, 50) ? 0 : draw_log (rng, 100 * US, 2 * S);
  r->lasts = draw_log (rng, 100 * MS, 7200 * S);
  if (hangs && rng_chance (rng, 60))
    r->lasts = draw_log (rng, 1 * S, 120 * S);
  r->error = PICK (rng, errors);
}

static void
draw_set (struct world *w, struct event *e)
{
  static const char *const commands[] = {
    "set mode=writeback",
    "set mode=writethrough",
    "set mode=writearound",
    "set dirty-max=64K",
    "set dirty-max=auto",
    "set dirty-age=100ms",
    "set dirty-age=30",
    "set depth=1",
    "set depth=auto",
    "set readahead=256K",
    "set readahead=off",
    "set size=1M",
    "set size=4M",
    "flush",
    "drop",
  };

  e->kind = EVENT_SET;
  snprintf (e->command, sizeof e->command, "%s", PICK (&w->rng, commands));
}

static void
draw_events (struct world *w, bool deaths, bool sets)
{
  struct rng *rng = &w->rng;
  unsigned n = rng_below (rng, EVENTS_MAX - 1);

  for (; n > 0; --n) {
    struct event *e = &w->events[w->nr_events];

    e->item = new_item (w);
    e->place = &w->places[rng_below (rng, w->nr_places)];
    e->at = draw_log (rng, 100 * US, 10 * S);
    e->lasts = draw_log (rng, 1 * MS, 20 * S);
    if (deaths && (!sets || rng_chance (rng, 50))) {
      e->kind = rng_chance (rng, 50) ? EVENT_DIE : EVENT_DIE_LOSING;
      if (e->kind == EVENT_DIE_LOSING)
        e->place->reverts = true;
      /* A write in flight then is not done by half. */
      e->place->disk.array->tears = false;
    }
    else if (sets)
      draw_set (w, e);
    else
      return;
    w->nr_events++;
  }
}

static void
draw_troubles (struct world *w)
{
  struct rng *rng = &w->rng;
  const unsigned kind = rng_below (rng, 100);
  const bool deaths = rng_chance (rng, 12) && w->parallel;
  unsigned n = kind < 25 ? 0 : 1 + rng_below (rng, 4);

  if (kind >= 90)
    n = 1 + rng_below (rng, RULES_MAX);
  for (; n > 0; --n) {
    struct rule *r = &w->rules[w->nr_rules++];

    draw_rule (w, r, kind < 50 || (kind >= 75 && rng_chance (rng, 50)));
    w->hangs |= r->kind == RULE_HANG;
  }
  draw_events (w, deaths, rng_chance (rng, 25));
  if (rng_chance (rng, 5)) {
    struct event *e = &w->events[w->nr_events++];

    e->item = new_item (w);
    e->kind = EVENT_STOP;
    e->at = draw_log (rng, 1 * MS, 5 * S);
    e->place = &w->places[0];
  }
}

static void
draw_schedule (struct world *w)
{
  struct sched_options *o = &w->sched;
  struct rng *rng = &w->rng;

  o->policy = rng_chance (rng, 35) ? POLICY_PRIORITY : POLICY_UNIFORM;
  o->atomics = rng_chance (rng, 50);
  o->run = o->policy == POLICY_PRIORITY
               ? PICK (rng, ((const unsigned[]){ 50, 300, 2000 }))
               : PICK (rng, ((const unsigned[]){ 2, 6, 20, 100, 500 }));
  o->stalls = PICK (rng, ((const unsigned[]){ 0, 0, 5, 20 }));
  o->stall_ns = draw_log (rng, 10 * US, 50 * MS);
  o->step_ns = PICK (rng, ((const uint64_t[]){ 16, 100, 1000 }));
  w->moving.state = rng_next (rng);
}

static void
describe (struct world *w)
{
  char *text = w->description;
  size_t size = sizeof w->description, used = 0;
  unsigned i;

  used += snprintf (text + used, size - used, "%s%s", w->mode,
                    w->parallel ? "" : " serial");
  used += snprintf (text + used, size - used, " %s%s run %u stalls %u,",
                    w->sched.policy == POLICY_UNIFORM ? "uniform" : "priority",
                    w->sched.atomics ? " atomics" : "", w->sched.run,
                    w->sched.stalls);
  for (i = 0; i < w->nr_places; ++i) {
    const struct place *p = &w->places[i];
    const struct backend_traits *t = &p->disk.says;

    used += snprintf (
        text + used, size - used, " %s %" PRIu64 "K fua %d%s%s%s%s%s%s,",
        p->name, p->size / 1024, (int) t->fua, t->can_flush ? " flush" : "",
        t->can_multi_conn ? " multi" : "", p->shared ? " shared" : "",
        p->disk.array->forgets ? " forgets" : "",
        p->disk.array->tears ? " tears" : "", p->apart ? " apart" : "");
  }
  snprintf (text + used, size - used, " guests %u rules %u events %u",
            w->nr_guests, w->nr_rules, w->nr_events);
}

void
draw_world (struct world *w, uint64_t seed)
{
  unsigned i;

  w->seed = seed;
  w->rng.state = seed;
  draw_options (w);
  w->nr_places = rng_chance (&w->rng, 75) ? 1 : 1 + rng_below (&w->rng, 3);
  for (i = 0; i < w->nr_places; ++i)
    draw_place (w, &w->places[i]);
  draw_guests (w);
  draw_troubles (w);
  draw_schedule (w);
  describe (w);
}
