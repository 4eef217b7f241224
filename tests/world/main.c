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
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../model/arguments.h"
#include "world.h"

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
    char name[sizeof w->places[i].name + 1];

    snprintf (name, sizeof name, "%s ", w->places[i].name);
    history_list (&w->places[i].history, name, f);
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
  w->run.judge = judge_request;
  draw_world (w);
  return w;
}

static void
tell_failure (struct world *w)
{
  printf ("# ");
  tap_comment (w->run.complaint);
  tell_troubles (w);
  server_report (&w->run.server);
  if (keep) {
    list_requests (w);
    if (w->remote_up) /* the disk's log, as far as it goes */
      server_control (world_disk (w), "sync");
  }
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
  if (!world_run (w) && sscanf (w->run.complaint, "law %d", &law) != 1)
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
    SEEDS_OPTIONS,
    { "with", required_argument, NULL, 'w' },
    { "without", required_argument, NULL, 'o' },
    { "replay", required_argument, NULL, 'r' },
    { "keep", no_argument, NULL, 'k' },
    { 0 },
  };
  struct seeds seeds = { 0 };
  bool good = true;
  const char *file = NULL;
  unsigned test = 0;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
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
      if (!seeds_option (&seeds, opt, optarg))
        return EXIT_FAILURE;
    }
  signal (SIGPIPE, SIG_IGN);
  if (file)
    return replay (file) ? EXIT_SUCCESS : EXIT_FAILURE;
  seeds_begin (&seeds, now ());
  while (seeds_go_on (&seeds, test, now ())) {
    const int law = run_seed (test + 1, seeds_next (&seeds));

    test += law != -3;
    good &= law == -2 || law == -3;
  }
  printf ("1..%u\n", test);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
