/* SPDX-License-Identifier: BSD-3-Clause */

/* Draws a world from its seed: the disk, the filter, the guests and what will
 * befall them.  Each is drawn by itself, from wide distributions.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

static const char *
yes (bool value)
{
  return value ? "yes" : "no";
}

/* The disk. */

static void
draw_common_abilities (struct world *w)
{
  struct rng *rng = &w->draws;

  w->abilities = (struct abilities){
    .flush = rng_chance (rng, 85),
    .zero = rng_chance (rng, 85),
    .trim = rng_chance (rng, 85),
    .multi_conn = rng_chance (rng, 65),
    .fua = ONE_OF (rng, "native", "native", "native", "emulate", "none"),
  };
}

/* The abilities of one guest's connection, if they differ. */
void
draw_abilities (struct world *w, struct guest *g)
{
  struct rng *rng = &w->draws;
  struct abilities *a = &g->abilities;

  *a = w->abilities;
  if (!w->differing || rng_chance (rng, 40))
    return;
  a->readonly = rng_chance (rng, 25);
  a->flush = rng_chance (rng, 60);
  a->zero = rng_chance (rng, 60);
  a->trim = rng_chance (rng, 60);
  a->fua = ONE_OF (rng, "native", "emulate", "none");
  if (w->sharing == MIXED || strcmp (w->share, "always") == 0)
    a->multi_conn = rng_chance (rng, 50);
}

static void
draw_places (struct world *w)
{
  struct rng *rng = &w->draws;
  const unsigned n = rng_below (rng, 100);
  uint64_t size = (256 * KiB) << rng_below (rng, 6);

  w->nr_places = n < 60 ? 1 : n < 70 ? 2 : n < 88 ? 3 : 4;
  if (w->nr_places == 1 && rng_chance (rng, 4))
    size = 64 * MiB + 8 * MiB * rng_below (rng, 2);
  if (w->nr_places > 1 && size < 2 * MiB)
    size = 2 * MiB;
  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];

    if (w->nr_places > 1)
      snprintf (p->name, sizeof p->name, "e%u", i);
    p->size = size;
    p->ill =
        w->nr_places == 1 || (i + 1 < w->nr_places && rng_chance (rng, 85));
  }
}

static void
draw_disk (struct world *w)
{
  struct rng *rng = &w->draws;
  struct server *s = world_disk (w);
  static const char *const ops[] = { "read", "write", "flush", "zero", "trim" };
  const uint64_t scale = 200 << rng_below (rng, 4);
  const char *const block_min = ONE_OF (rng, "", "", "", "512", "4K");
  uint64_t longest = 0;

  w->block_min = strcmp (block_min, "4K") == 0 ? 4096 : 512;
  server_word (s, "size=%" PRIu64, w->places[0].size);
  if (w->nr_places > 1)
    server_word (s, "exports=%s",
                 w->nr_places == 2   ? "e0,e1"
                 : w->nr_places == 3 ? "e0,e1,e2"
                                     : "e0,e1,e2,e3");
  if (*block_min)
    server_word (s, "block-min=%s", block_min);
  if (rng_chance (rng, 10))
    server_word (s, "block-max=%s", ONE_OF (rng, "64K", "1M"));
  server_word (s, "fua=%s", w->abilities.fua);
  server_word (s, "flush=%s", yes (w->abilities.flush));
  server_word (s, "zero=%s", yes (w->abilities.zero));
  server_word (s, "trim=%s", yes (w->abilities.trim));
  server_word (s, "multi-conn=%s", yes (w->abilities.multi_conn));
  server_word (s, "flush-own=yes");
  server_word (s, "trim-keeps=%s", ONE_OF (rng, "yes", "no"));
  server_word (s, "extents=%s", yes (rng_chance (rng, 85)));
  if (rng_chance (rng, 6))
    server_word (s, "extents-max=%" PRIu64, 1 + rng_below (rng, 4000));
  if (w->forgets)
    server_word (s, "forget=yes");
  for (unsigned i = 0; i < 5; ++i) {
    const uint64_t us =
        (scale / 2 + rng_below (rng, scale)) * (rng_chance (rng, 12) ? 8 : 1);

    server_word (s, "%s-latency=%" PRIu64 "us", ops[i], us);
    longest += us;
  }
  w->latency = longest / 1e6;
  if (rng_chance (rng, 10))
    server_word (s, "serve=%" PRIu64, 2 + rng_below (rng, 8));
}

/* The filter. */

static void
draw_filter (struct world *w)
{
  static const struct {
    const char *text;
    double seconds;
  } ages[] = { { "5ms", 0.005 }, { "20ms", 0.02 }, { "100ms", 0.1 },
               { "300ms", 0.3 }, { "500ms", 0.5 }, { "30", 30 } };
  struct server *s = &w->run.server;
  struct rng *rng = &w->draws;
  const char *const mode = ONE_OF (rng, "writeback", "writeback", "writeback",
                                   "writeback", "writethrough", "writearound");
  const unsigned age = rng_below (rng, w->swarm ? 5 : 6);
  uint64_t size = MiB << rng_below (rng, 7);

  w->page_size = (4 * KiB) << (rng_chance (rng, 65) ? 0 : rng_below (rng, 7));
  if (size < 16 * w->page_size)
    size = 16 * w->page_size;
  if (w->places[0].size > 8 * MiB && rng_chance (rng, 70))
    size = 64 * MiB;
  if (w->sharing != SHARED && size < 32 * MiB)
    size = 32 * MiB; /* for a cache each, else they may not join */
  w->writes_back = strcmp (mode, "writeback") == 0;
  w->dirty_age = ages[age].seconds;
  server_word (s, "wtcache-control=%s/limits", s->folder);
  server_word (s, "wtcache-size=%" PRIu64, size);
  server_word (s, "wtcache-page-size=%" PRIu64, w->page_size);
  server_word (s, "wtcache-mode=%s", mode);
  server_word (s, "wtcache-dirty-age=%s", ages[age].text);
  server_word (s, "wtcache-share=%s", w->share);
  /* Bytes held for a dead connection cannot be saved; do not try for long. */
  server_word (s, "wtcache-drain=1");
  if (rng_chance (rng, 50))
    server_word (s, "wtcache-dirty-max=%s",
                 ONE_OF (rng, "64K", "256K", "512K", "10%", "37%", "50%"));
  if (rng_chance (rng, 40))
    server_word (s, "wtcache-depth=%" PRIu64, 1 + rng_below (rng, 16));
  if (rng_chance (rng, 30))
    server_word (s, "wtcache-fill=%s", ONE_OF (rng, "512", "4K", "64K"));
  if (rng_chance (rng, 50))
    server_word (s, "wtcache-readahead=%s", ONE_OF (rng, "off", "64K", "2M"));
  if (rng_chance (rng, 25))
    server_word (s, "wtcache-keep=no");
}

/* The guests. */

#define PROFILES       7
#define HOLES          2
#define HOLES_AND_SYNC 6

static void
draw_weights (struct world *w, struct guest *g)
{
  static const unsigned profiles[PROFILES][NR_KINDS] = {
    /* of all */
    { [READ] = 35,
      [WRITE] = 40,
      [ZERO] = 7,
      [TRIM] = 4,
      [FLUSH] = 5,
      [CACHE] = 2,
      [STATUS] = 6 },
    /* a journal */
    { [READ] = 5, [WRITE] = 90, [FLUSH] = 2 },
    /* a file system that discards */
    { [READ] = 25, [WRITE] = 50, [ZERO] = 350, [TRIM] = 75, [FLUSH] = 2 },
    /* a copy, then a sync */
    { [WRITE] = 96, [FLUSH] = 4 },
    /* a reader */
    { [READ] = 96, [CACHE] = 1, [STATUS] = 3 },
    /* a data base */
    { [READ] = 25, [WRITE] = 55, [FLUSH] = 20 },
    /* one that punches holes beside what it syncs */
    { [READ] = 5, [WRITE] = 50, [ZERO] = 25, [TRIM] = 15, [FLUSH] = 5 },
  };
  struct rng *rng = &w->draws;
  const unsigned profile = w->theme < PROFILES    ? w->theme
                           : rng_chance (rng, 35) ? 0
                                                  : rng_below (rng, PROFILES);

  memcpy (g->weights, profiles[profile], sizeof g->weights);
  g->fua_percent = profile == 1
                       ? 60 + rng_below (rng, 41)
                       : (rng_chance (rng, 50) ? 0 : rng_below (rng, 60));
  g->large_percent = profile == 3   ? 20 + rng_below (rng, 60)
                     : profile == 4 ? rng_below (rng, 80)
                                    : rng_below (rng, 6);
  g->sequential = (profile == 4 && rng_chance (rng, 60)) ||
                  (profile == 3 && rng_chance (rng, 40));
  if (g->large_percent >= 20 && rng_chance (rng, 60))
    g->fua_percent = 0;
  if (w->durable_rarely)
    g->fua_percent = 0;
  if (w->flushes_rarely)
    g->weights[FLUSH] = 0;
}

/* In a swarm, many read what hangs, in patches, and few write what is well. */
static void
draw_of_swarm (struct world *w, struct guest *g)
{
  struct rng *rng = &w->draws;

  g->abilities = w->abilities;
  g->stays = true;
  g->pause = 0;
  g->sequential = false;
  g->fua_percent = 0;
  memset (g->weights, 0, sizeof g->weights);
  if (g->place->ill) {
    g->zone = ZONE_ILL;
    g->c.depth = 12;
    g->large_percent = 30 + rng_below (rng, 50);
    g->weights[READ] = 80;
    g->weights[WRITE] = 20;
  }
  else {
    g->large_percent = 0;
    g->weights[READ] = 10;
    g->weights[WRITE] = 90;
  }
}

static void
draw_guest (struct world *w, unsigned i)
{
  struct rng *rng = &w->draws;
  struct guest *g = &w->guests[i];

  memset (g, 0, sizeof *g);
  g->world = w;
  g->place = &w->places[i < w->nr_places ? w->nr_places - 1 - i
                                         : rng_below (rng, w->nr_places)];
  g->c.run = &w->run;
  g->c.history = &g->place->history;
  g->c.rng.state = rng_next (rng);
  g->c.depth = 1 + rng_below (rng, 12);
  draw_weights (w, g);
  draw_abilities (w, g);
  g->stays = rng_chance (rng, 50);
  g->pause = rng_chance (rng, 60) ? 0 : rng_below (rng, 20) / 1e3;
  if (w->hangs || w->faults)
    g->zone = !g->place->ill                 ? ZONE_BOTH
              : w->apart && w->nr_places > 1 ? ZONE_ILL
              : rng_chance (rng, 50)         ? ZONE_WELL
              : rng_chance (rng, 70)         ? ZONE_ILL
                                             : ZONE_BOTH;
  else
    g->zone = ZONE_ALL;
  if (w->steady && rng_chance (rng, 40)) {
    g->steady = g->stays = true;
    g->zone = ZONE_WELL;
    g->pause = 0;
    g->abilities = w->abilities;
    g->fua_percent = 100;
    g->large_percent = 0;
    g->sequential = false;
    g->c.depth = 1 + rng_below (rng, 4);
    memset (g->weights, 0, sizeof g->weights);
    g->weights[WRITE] = 9;
    g->weights[READ] = 1;
  }
  if (w->swarm)
    draw_of_swarm (w, g);
}

/* Their faults. */

static void
draw_troubles (struct world *w)
{
  struct rng *rng = &w->draws;

  w->hangs = rng_chance (rng, 50);
  w->faults = rng_chance (rng, 35);
  w->deaths = w->has_remote && rng_chance (rng, 70);
  w->churn = rng_chance (rng, 50);
  w->limits = rng_chance (rng, 15);
  w->differing = rng_chance (rng, 15);
  w->lasting = w->hangs && rng_chance (rng, 60);
  w->swarm = w->lasting && w->nr_places > 1 && rng_chance (rng, 40);
  w->steady = w->lasting && !w->swarm && rng_chance (rng, 70);
  if (w->steady || w->swarm)
    w->faults = w->deaths = w->limits = w->differing = w->churn = false;
  w->after_death = rng_below (rng, NR_AFTER);
  w->lulls = rng_chance (rng, 60);
  w->flushes_rarely = rng_chance (rng, 35);
  w->durable_rarely = rng_chance (rng, 30);
  w->apart = rng_chance (rng, 50);
  w->theme = rng_chance (rng, 40)   ? rng_below (rng, PROFILES)
             : rng_chance (rng, 15) ? HOLES
             : rng_chance (rng, 18) ? HOLES_AND_SYNC
                                    : PROFILES;
  if (w->steady || rng_chance (rng, 40))
    w->focus = NULL;
  else if (w->theme == HOLES || w->theme == HOLES_AND_SYNC)
    w->focus = ONE_OF (rng, "zero", "trim", "flush");
  else
    w->focus = ONE_OF (rng, "zero", "trim", "flush", "write", "read");
  if (w->swarm)
    w->focus = ONE_OF (rng, "read", "read", "any");
  w->forgets = w->faults && rng_chance (rng, 40);
  w->duration = w->swarm     ? 9.0
                : w->lasting ? 6.0
                             : 0.7 + rng_below (rng, 25) / 10.0;
}

static void
draw_sharing (struct world *w)
{
  struct rng *rng = &w->draws;

  w->share = ONE_OF (rng, "auto", "auto", "always", "always", "never");
  if (strcmp (w->share, "never") == 0)
    w->sharing = UNSHARED;
  else if (strcmp (w->share, "always") == 0)
    w->sharing = SHARED;
  else if (w->differing && rng_chance (rng, 40))
    w->sharing = MIXED;
  else
    w->sharing = w->abilities.multi_conn ? SHARED : UNSHARED;
  /* A part of each zone for each guest. */
  for (unsigned i = 0; w->sharing == UNSHARED && i < w->nr_places; ++i)
    if (w->places[i].size < 2 * MiB)
      w->places[i].size = 2 * MiB;
}

static void
describe (struct world *w)
{
  static const char *const sharings[] = { "shared", "unshared", "mixed" };

  snprintf (w->description, sizeof w->description,
            "%s%u place%s of %" PRIu64 " KiB, %u guests, %s (share=%s), fua %s"
            "%s%s%s%s%s%s%s%s%s%s%s",
            w->has_remote ? "remote, " : "", w->nr_places,
            w->nr_places > 1 ? "s" : "", w->places[0].size / KiB, w->nr_guests,
            sharings[w->sharing], w->share, w->abilities.fua,
            w->abilities.flush ? "" : ", no flush",
            w->abilities.multi_conn ? "" : ", no multi-conn",
            w->hangs ? ", hangs" : "", w->lasting ? " that last" : "",
            w->steady  ? ", rates"
            : w->swarm ? ", swarm"
                       : "",
            w->faults ? ", faults" : "", w->forgets ? " that forget" : "",
            w->deaths ? ", deaths" : "", w->churn ? ", churn" : "",
            w->limits ? ", limits" : "", w->differing ? ", differing" : "");
}

void
draw_world (struct world *w)
{
  struct rng *rng = &w->draws;
  struct server *s = &w->run.server;
  const unsigned threads = 16 + rng_below (rng, 17);

  w->has_remote = rng_chance (rng, 35);
  server_init (s, threads);
  server_filter (s);
  if (w->has_remote) {
    server_init (&w->remote, 64);
    server_disk (&w->remote);
  }
  draw_common_abilities (w);
  draw_places (w);
  draw_troubles (w);
  draw_sharing (w);
  /* One cache is told of each failure; of several, each of its own only. */
  w->forgets = w->forgets && w->sharing == SHARED;
  /* Bytes that one of them has to write again may be older than the other's, or
   * than what the same guest has written on its next connection.
   */
  if (w->sharing != SHARED)
    w->deaths = w->faults = false;
  if (w->sharing != SHARED) /* each cache has to have its memory */
    w->limits = w->swarm = false;
  if (w->has_remote) {
    server_word (s, "nbd");
    server_word (s, "socket=%s", w->remote.socket);
    if (w->nr_places > 1)
      server_word (s, "dynamic-export=true");
  }
  else
    server_disk (s);
  draw_disk (w);
  draw_filter (w);
  w->nr_guests = w->nr_places + 1 +
                 rng_below (rng, rng_chance (rng, 75) ? 8 : GUESTS_MAX - 8);
  if (w->swarm)
    w->nr_guests = GUESTS_MAX - rng_below (rng, 16);
  for (unsigned i = 0; i < w->nr_guests; ++i)
    draw_guest (w, i);
  w->operations = w->steady ? 60000 : 15000;
  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];

    history_init (&p->history, p->size, rng);
    p->history.forgets = w->forgets || w->deaths;
    p->history.flushes_own = w->sharing != SHARED;
  }
  describe (w);
}
