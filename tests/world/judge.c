/* SPDX-License-Identifier: BSD-3-Clause */

/* Whether a world keeps the laws.
 *
 * While it goes on, and at its end:
 *   - after each flush that succeeded, and for each FUA write, what the disk
 *     has durable has to be what was promised (laws 1, 2);
 *   - what is older than the age has to be at the disk (law 3);
 *   - the history has to be one that a disk may have (laws 5, 8, 9, 10);
 *   - an error reaches only a guest whose own bytes a fault concerns, or whose
 *     own connection to the disk is dead (laws 12, 22);
 *   - what hangs delays its own blocks only, and every other request ends in
 *     time (laws 6, 14, 21); durable writes elsewhere keep a part of their
 *     rate;
 *   - once all is well again, everything is answered and a flush succeeds;
 *   - the server lives, and ends when it is told to.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

#define MIN_RATE    0.04       /* of what it was before */
#define CHECKED_MAX (16 * MiB) /* larger images are looked at once */

static struct guest *
guest_of (struct connection *c)
{
  return (struct guest *) ((char *) c - offsetof (struct guest, c));
}

void
judge_request (struct connection *c, struct op *op, int error)
{
  struct guest *g = guest_of (c);
  struct world *w = g->world;
  struct place *p = g->place;

  trouble_waits_no_more (w, op);
  if (error == ENOTCONN) { /* of libnbd: the server has ended the connection */
    op->outcome = IN_FLIGHT;
    op->end = NEVER;
    return;
  }
  if (op->outcome == DONE && op->kind == FLUSH &&
      (p->flush == NULL || op->start > p->flush->start))
    p->flush = op;
  if (op->outcome == DONE && op->kind == WRITE && g->steady)
    ++p->steady_done;
  if (op->outcome == DONE && w->sharing == MIXED && op->values) {
    free (op->values);
    op->values = NULL;
  }
  if (op->outcome == FAILED && !trouble_excuses_error (g, op))
    world_broken (
        w, op->kind == FLUSH ? 2 : 12,
        "%s%s %" PRIu64 "+%" PRIu64 " [%" PRIu64 "..%" PRIu64
        "] of connection %u at \"%s\" fails: %s; no fault concerns it",
        kind_names[op->kind], op->fua ? " fua" : "", op->offset, op->length,
        op->start, op->end, op->connection, p->name, strerror (error));
}

/* Images. */

static uint8_t *
copy_image (struct world *w, struct place *p, bool volatiles)
{
  struct server *s = world_disk (w);
  char path[128], command[300];
  uint8_t *buf = malloc (p->size);
  ssize_t r;
  int fd;

  snprintf (path, sizeof path, "%s/copy", s->folder);
  snprintf (command, sizeof command, "copy%s%s volatile=%d %s",
            w->nr_places > 1 ? " export=" : "", p->name, volatiles, path);
  if (buf == NULL)
    abort ();
  if (world_tell_disk (w, command)) {
    uint64_t n = 0;

    fd = open (path, O_RDONLY | O_CLOEXEC);
    while (n < p->size && (r = pread (fd, buf + n, p->size - n, n)) > 0)
      n += r;
    close (fd);
    if (n == p->size)
      return buf;
    run_fail (&w->run, "%s: too short", path);
  }
  free (buf);
  return NULL;
}

bool
judge_durable (struct world *w, struct place *p, const struct op *flush)
{
  uint8_t *image = copy_image (w, p, false);
  struct history *h = &p->history;
  bool good = image != NULL;

  if (good && !history_check_durable (h, image, flush))
    good = world_broken (w, strstr (h->complaint, "fua=1") ? 1 : 2,
                         "durable %s", h->complaint);
  free (image);
  p->looked_at = now ();
  return good;
}

/* After flushes, and now and then for FUA alone. */
bool
judge_images (struct world *w)
{
  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];
    const struct op *flush = p->flush;
    const double wait = p->size > 4 * MiB ? 0.5 : 0.03;

    if (!w->remote_up || p->size > CHECKED_MAX ||
        now () - p->looked_at < (flush ? wait : 0.3))
      continue;
    p->flush = NULL;
    if (!judge_durable (w, p, flush))
      return false;
  }
  return true;
}

/* The age. */

/* Whether the place has had, since that time, a guest whose connection helpers
 * may use.
 */
static bool
has_lender (const struct world *w, const struct place *p, double since)
{
  for (unsigned i = 0; i < w->nr_guests; ++i) {
    const struct guest *g = &w->guests[i];

    if (g->place == p && guest_is_well (g) && g->since < since &&
        g->asked > 100 && !g->abilities.readonly)
      return true;
  }
  return false;
}

static bool
check_age (struct world *w, struct place *p)
{
  struct history *h = &p->history;
  uint64_t clock = 0;
  uint8_t *image;
  bool good;

  for (unsigned i = 0; i < p->nr_moments && i < MOMENTS; ++i) {
    const struct moment *m = &p->moments[i];

    if (m->clock > clock && m->time > p->last_trouble &&
        has_lender (w, p, m->time) &&
        world_is_late (w, m->time, m->probes, w->dirty_age))
      clock = m->clock;
  }
  if (clock == 0)
    return true;
  image = copy_image (w, p, true);
  good =
      image && (history_check_since (h, image, clock) ||
                world_broken (w, 3, "not written back at \"%s\", age %.2f: %s",
                              p->name, w->dirty_age, h->complaint));
  free (image);
  return good;
}

bool
judge_ages (struct world *w)
{
  static const double step = 0.1;

  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];
    struct moment *last = &p->moments[(p->nr_moments - 1) % MOMENTS];

    if (p->nr_moments > 0 && now () - last->time < step)
      continue;
    p->moments[p->nr_moments++ % MOMENTS] =
        (struct moment){ now (), w->probes, p->history.clock };
    if (p->nr_moments % 8 == 0 && w->writes_back && w->dirty_age < 1 &&
        w->sharing == SHARED && w->remote_up && p->size <= CHECKED_MAX &&
        !trouble_in (w, p) && !check_age (w, p))
      return false;
  }
  return true;
}

/* Rates. */

static bool
has_gate_for_flushes (const struct world *w, const struct place *p)
{
  for (unsigned i = 0; i < w->nr_troubles; ++i) {
    const struct trouble *t = &w->troubles[i];

    if (t->active && t->place == p &&
        (strcmp (t->op, "flush") == 0 || strcmp (t->op, "any") == 0))
      return true;
  }
  return false;
}

static void
begin_measuring (struct world *w)
{
  w->measured = now ();
  for (unsigned i = 0; i < w->nr_places; ++i)
    w->begun[i] = (struct measure){ .done = w->places[i].steady_done,
                                    .probes = w->probes };
}

static struct measure
measure (const struct world *w, unsigned i)
{
  return (struct measure){
    .seconds = now () - w->measured,
    .done = w->places[i].steady_done - w->begun[i].done,
    .probes = w->probes - w->begun[i].probes,
  };
}

/* A disk that answers slower by now excuses as much. */
static bool
compare (struct world *w, unsigned i)
{
  struct place *p = &w->places[i];
  const struct measure hang = measure (w, i), calm = p->calm;
  double before, after, probes;

  if (calm.done < 40 || calm.probes < 15 || hang.probes < 50 ||
      has_gate_for_flushes (w, p))
    return true;
  before = calm.done / calm.seconds;
  after = hang.done / hang.seconds;
  probes = (hang.probes / hang.seconds) / (calm.probes / calm.seconds);
  if (probes > 1)
    probes = 1;
  if (after >= before * probes * MIN_RATE)
    return true;
  return world_broken (w, 21,
                       "durable writes where nothing hangs at \"%s\": %.0f a "
                       "second before, %.1f beside what hangs (probes: %.2f)",
                       p->name, before, after, probes);
}

bool
judge_rates (struct world *w)
{
  if (!w->steady)
    return true;
  if (w->phase == BEFORE && now () - w->began > 0.5) {
    begin_measuring (w);
    w->phase = CALM;
  }
  else if (w->phase == CALM && w->nr_troubles > 0) {
    for (unsigned i = 0; i < w->nr_places; ++i)
      w->places[i].calm = measure (w, i);
    w->measured = now () + 0.7;
    w->phase = SETTLING;
  }
  else if (w->phase == SETTLING && now () >= w->measured) {
    begin_measuring (w);
    w->phase = HANGING;
  }
  return true;
}

bool
judge_compare_rates (struct world *w)
{
  if (w->phase != HANGING || w->sent >= w->operations)
    return true;
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (!compare (w, i))
      return false;
  return true;
}
