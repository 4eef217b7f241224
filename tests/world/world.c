/* SPDX-License-Identifier: BSD-3-Clause */

/* Random worlds that move, and whether the laws hold in them.
 *
 *   world [--seed N] [--count N] [--seconds S] [--with WORD]...
 *         [--without WORD]... [--keep]
 *   world --replay FILE
 *
 * A seed is an episode of a few seconds: it draws a world, guests and what will
 * befall them; how they meet in time differs from run to run.  With --seed it
 * is that seed and, with --count or --seconds, those that follow.  --with and
 * --without leave out worlds by what is said of them, which is printed
 * ("hangs", "remote").
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
 * rate;
 *   - once all is well again, everything is answered and a flush succeeds;
 *   - the server lives, and ends when it is told to.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../model/arguments.h"
#include "world.h"

#define IMAGES_MAX  80         /* of a place, in its history */
#define MIN_RATE    0.04       /* of what it was before */
#define CHECKED_MAX (16 * MiB) /* larger images are looked at once */
#define READ_BACK   (1 * MiB)

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

/* Judging. */

static struct guest *
guest_of (struct connection *c)
{
  return (struct guest *) ((char *) c - offsetof (struct guest, c));
}

/* For each request that ends. */
static void
judge (struct connection *c, struct op *op, int error)
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

static bool
check_durable (struct world *w, struct place *p, const struct op *flush)
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
static bool
look_at_images (struct world *w)
{
  for (unsigned i = 0; i < w->nr_places; ++i) {
    struct place *p = &w->places[i];
    const struct op *flush = p->flush;
    const double wait = p->size > 4 * MiB ? 0.5 : 0.03;

    if (!w->remote_up || p->size > CHECKED_MAX ||
        now () - p->looked_at < (flush ? wait : 0.3))
      continue;
    p->flush = NULL;
    if (!check_durable (w, p, flush))
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

static bool
look_at_ages (struct world *w)
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

/* Calm from 0.5 s on to the first trouble, and from 0.7 s after that. */
static bool
look_at_rates (struct world *w)
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

static bool
compare_rates (struct world *w)
{
  if (w->phase != HANGING || w->sent >= w->operations)
    return true;
  for (unsigned i = 0; i < w->nr_places; ++i)
    if (!compare (w, i))
      return false;
  return true;
}

/* An episode. */

static bool
look (struct world *w)
{
  return trouble_look_for_hangs (w) && look_at_images (w) && look_at_ages (w) &&
         look_at_rates (w) && !w->run.failed;
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
  return compare_rates (w);
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
  if (!check_durable (w, p, flush))
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

static bool
run (struct world *w)
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

/* A seed. */

static bool keep;

/* Words that a world's description has to have, or may not. */
#define WORDS_MAX 16
static const char *with[WORDS_MAX], *without[WORDS_MAX];
static unsigned nr_with, nr_without;

static bool
is_wanted (const struct world *w)
{
  bool wanted = true;

  for (unsigned i = 0; i < nr_with; ++i)
    wanted &= strstr (w->description, with[i]) != NULL;
  for (unsigned i = 0; i < nr_without; ++i)
    wanted &= strstr (w->description, without[i]) == NULL;
  return wanted;
}

static void
comment (const char *text)
{
  printf ("# ");
  for (; *text; ++text) {
    putchar (*text);
    if (*text == '\n')
      printf ("# ");
  }
  putchar ('\n');
}

static void
tell_troubles (const struct world *w)
{
  for (unsigned i = 0; i < w->nr_troubles; ++i) {
    const struct trouble *t = &w->troubles[i];

    printf ("# %s t%u of %s at \"%s\" %" PRIu64 "..%" PRIu64 ", count %" PRIu64
            ": clock %" PRIu64 "..%" PRIu64 "%s\n",
            t->kind == GATE ? "gate" : "fault", i, t->op, t->place->name,
            t->first, t->last, t->count, t->from, t->to,
            t->active ? " (still)" : "");
  }
}

static void
list_requests (const struct world *w)
{
  char path[128];
  FILE *f;

  snprintf (path, sizeof path, "%s/requests", w->run.server.folder);
  f = fopen (path, "we");
  for (unsigned i = 0; f && i < w->nr_places; ++i) {
    const struct history *h = &w->places[i].history;

    for (size_t j = 0; j < h->nr_ops; ++j) {
      const struct op *op = h->ops[j];

      fprintf (f,
               "%s %" PRIu64 " %" PRId64 " %u %s %" PRIu64 " %" PRIu64
               " flags=%" PRIu32 " version=%" PRIu32 " outcome=%d error=%d\n",
               w->places[i].name, op->start, (int64_t) op->end, op->connection,
               kind_names[op->kind], op->offset, op->length, op->flags,
               op->version, (int) op->outcome, op->error);
    }
  }
  if (f)
    fclose (f);
}

static void
free_world (struct world *w, bool good)
{
  guests_close (w);
  if (w->prober != -1)
    close (w->prober);
  for (unsigned i = 0; i < w->nr_children; ++i) {
    kill (w->children[i], SIGKILL);
    waitpid (w->children[i], NULL, 0);
  }
  server_free (&w->run.server, keep && !good);
  if (w->has_remote)
    server_free (&w->remote, keep && !good);
  for (unsigned i = 0; i < w->nr_places; ++i)
    history_free (&w->places[i].history);
  free (w);
}

static struct world *
make_world (uint64_t seed)
{
  struct world *w = calloc (1, sizeof *w);

  if (w == NULL)
    abort ();
  w->seed = w->draws.state = seed;
  w->events.state = ~seed;
  w->prober = -1;
  w->run.judge = judge;
  draw_world (w);
  return w;
}

static void
tell_failure (const struct world *w)
{
  comment (w->run.complaint);
  tell_troubles (w);
  server_report (&w->run.server);
  if (keep)
    list_requests (w);
}

/* A TEST of 0 says nothing but what went wrong.  Returns the number of the law
 * that is broken, -1 for another fault, -2 if all is well, and -3 if the world
 * is not wanted.
 */
static int
run_seed (unsigned test, uint64_t seed)
{
  struct world *w = make_world (seed);
  const double began = now ();
  int law = -2;

  if (!is_wanted (w)) {
    free_world (w, true);
    return -3;
  }
  if (!run (w) && sscanf (w->run.complaint, "law %d", &law) != 1)
    law = -1;
  if (test)
    printf ("%s %u - ", law == -2 ? "ok" : "not ok", test);
  else
    printf ("# ");
  printf ("seed %" PRIu64 ": %s: %u requests (%.1f s)\n", seed, w->description,
          w->sent, now () - began);
  if (law != -2)
    tell_failure (w);
  fflush (stdout);
  free_world (w, law == -2);
  return law;
}

/* Seeds that have failed.  A line of the file is
 *
 *   SEED mended|open LAW WHAT...
 *
 * One that is mended has to pass.  One that is open may fail with its law, as
 * what meets in time is not the same each time.
 */
static bool
replay_line (unsigned test, const char *line)
{
  char state[16], what[200];
  uint64_t seed;
  int law, found;

  if (sscanf (line, "%" SCNu64 " %15s %d %199[^\n]", &seed, state, &law,
              what) != 4) {
    printf ("not ok %u - a line that is none: %s\n", test, line);
    return false;
  }
  found = run_seed (0, seed);
  if (found == -2)
    printf ("ok %u - seed %" PRIu64 ": %s\n", test, seed, what);
  else if (strcmp (state, "open") == 0)
    printf ("not ok %u - seed %" PRIu64 ": %s # TODO law %d\n", test, seed,
            what, found);
  else
    printf ("not ok %u - seed %" PRIu64 ": %s\n", test, seed, what);
  fflush (stdout);
  return found == -2 || strcmp (state, "open") == 0;
}

static bool
replay (const char *path)
{
  FILE *f = fopen (path, "re");
  char line[300];
  unsigned test = 0;
  bool good = f != NULL;

  while (f && fgets (line, sizeof line, f))
    if (line[0] != '#' && line[0] != '\n')
      good &= replay_line (++test, line);
  if (f)
    fclose (f);
  else
    perror (path);
  printf ("1..%u\n", test);
  return good;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "count", required_argument, NULL, 'c' },
    { "seconds", required_argument, NULL, 't' },
    { "with", required_argument, NULL, 'w' },
    { "without", required_argument, NULL, 'o' },
    { "replay", required_argument, NULL, 'r' },
    { "keep", no_argument, NULL, 'k' },
    { 0 },
  };
  uint64_t seed = 0, count = 0, seconds = 0;
  bool seed_given = false, good = true;
  const char *file = NULL;
  unsigned test = 0;
  double end;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 's':
      seed = number (optarg);
      seed_given = true;
      break;
    case 'c':
      count = number (optarg);
      break;
    case 't':
      seconds = number (optarg);
      break;
    case 'w':
      if (nr_with < WORDS_MAX)
        with[nr_with++] = optarg;
      break;
    case 'o':
      if (nr_without < WORDS_MAX)
        without[nr_without++] = optarg;
      break;
    case 'r':
      file = optarg;
      break;
    case 'k':
      keep = true;
      break;
    default:
      return EXIT_FAILURE;
    }
  signal (SIGPIPE, SIG_IGN);
  if (file)
    return replay (file) ? EXIT_SUCCESS : EXIT_FAILURE;
  end = now () + seconds;
  if (count == 0)
    count = seconds ? UINT64_MAX : 1;
  for (; test < count && (seconds == 0 || now () < end); ++seed) {
    const int law = run_seed (test + 1, seed_given ? seed : fresh_seed ());

    test += law != -3;
    good &= law == -2 || law == -3;
  }
  printf ("1..%u\n", test);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
