/* SPDX-License-Identifier: BSD-3-Clause */

/* Seeds: each is an episode, in a process of its own.  One that fails is told
 * with the command that repeats it exactly, and is made smaller: fewer items
 * (sessions, requests, troubles) and fewer interruptions that fail alike.
 *
 *   sched --seed N [--schedule N] [--interruptions N] [--items LIST] [--tell]
 *   sched --seconds 3600 [--seed N] [--shrink]
 *   sched --replay tests/sched/seeds
 *
 * Without --seed the seeds are new.  LIST is of items that take part, "0-3,7".
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../model/arguments.h"
#include "world.h"

#define EPISODE_SECONDS 60
#define LAW_SIGNAL      100 /* … and more: it ended by signal N - 100 */
#define TRIES           6   /* schedules for each smaller world */
#define SHRINK_SECONDS  60

/* The linker leads time to the world's: this is the real one. */
extern int __real_clock_gettime (clockid_t which, struct timespec *ts);

static struct result *result;

static double
now (void)
{
  struct timespec ts;

  __real_clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Runs it in a process of its own.  QUIET: it prints nothing. */
static int
run_episode (const struct episode *e, bool quiet)
{
  int status;
  pid_t pid;

  memset (result, 0, sizeof *result);
  fflush (stdout);
  pid = fork ();
  if (pid == -1)
    abort ();
  if (pid == 0) {
    if (quiet) {
      const int null = open ("/dev/null", O_WRONLY | O_CLOEXEC);

      dup2 (null, STDERR_FILENO);
    }
    alarm (EPISODE_SECONDS);
    course_run (e, result);
    fflush (stdout);
    _exit (0);
  }
  while (waitpid (pid, &status, 0) == -1 && errno == EINTR)
    ;
  if (WIFSIGNALED (status)) {
    result->law = LAW_SIGNAL + WTERMSIG (status);
    snprintf (result->complaint, sizeof result->complaint, "it ends by: %s",
              strsignal (WTERMSIG (status)));
  }
  else if (WEXITSTATUS (status) != 0) {
    result->law = LAW_OTHER;
    snprintf (result->complaint, sizeof result->complaint, "it ends with %d",
              WEXITSTATUS (status));
  }
  return result->law;
}

/* ---- items ---- */

static void
print_items (const uint8_t *without, unsigned n)
{
  const char *comma = "";
  unsigned i, j;

  for (i = 0; i < n; i = j) {
    j = i + 1;
    if (without[i])
      continue;
    while (j < n && !without[j])
      j++;
    printf (j - i > 1 ? "%s%u-%u" : "%s%u", comma, i, j - 1);
    comma = ",";
  }
}

static void
parse_items (const char *text, uint8_t *without)
{
  char *end;
  unsigned long first, last;

  memset (without, 1, ITEMS_MAX);
  while (*text) {
    first = last = strtoul (text, &end, 10);
    if (*end == '-')
      last = strtoul (end + 1, &end, 10);
    if (end == text || last >= ITEMS_MAX) {
      fprintf (stderr, "sched: these are no items: %s\n", text);
      exit (EXIT_FAILURE);
    }
    memset (without + first, 0, last - first + 1);
    text = *end ? end + 1 : end;
  }
}

static void
print_command (const struct episode *e, unsigned nr_items)
{
  printf ("# tests/sched/sched --seed %" PRIu64, e->seed);
  if (e->schedule != e->seed)
    printf (" --schedule %" PRIu64, e->schedule);
  if (e->interruptions != UINT64_MAX)
    printf (" --interruptions %" PRIu64, e->interruptions);
  if (e->without) {
    printf (" --items ");
    print_items (e->without, nr_items);
  }
  printf (" --tell\n");
}

/* ---- a smaller world ---- */

static uint64_t
schedule_number (const struct episode *e, unsigned try)
{
  return try == 0 ? e->schedule : e->seed * 1000 + e->schedule % 1000 + try;
}

/* Whether the world fails alike with some schedule, which *E has then. */
static bool
fails_alike (struct episode *e, int law, unsigned tries)
{
  struct episode other = *e;
  unsigned i;

  for (i = 0; i < tries; ++i) {
    other.schedule = schedule_number (e, i);
    if (run_episode (&other, true) == law) {
      *e = other;
      return true;
    }
  }
  return false;
}

static unsigned
list_items (const uint8_t *without, unsigned *items)
{
  unsigned i, n = 0;

  for (i = 0; i < ITEMS_MAX; ++i)
    if (!without[i])
      items[n++] = i;
  return n;
}

/* Leaves out runs of items, long ones first. */
static void
shrink_items (struct episode *e, int law, uint8_t *without, double until)
{
  static unsigned items[ITEMS_MAX];
  uint8_t saved[ITEMS_MAX];
  unsigned n = list_items (without, items), len, i, j;
  struct episode less;

  for (len = n / 2; len > 0; len = len > 1 ? (len + 1) / 2 : 0)
    for (i = 0; i < n && now () < until;) {
      memcpy (saved, without, sizeof saved);
      for (j = i; j < n && j < i + len; ++j)
        without[items[j]] = 1;
      less = *e;
      if (fails_alike (&less, law, TRIES)) {
        *e = less;
        n = list_items (without, items);
      }
      else {
        memcpy (without, saved, sizeof saved);
        i += len;
      }
    }
}

static void
shrink_interruptions (struct episode *e, int law, double until)
{
  uint64_t low = 0, high;
  struct episode less = *e;

  run_episode (e, true);
  high = result->interruptions;
  while (low < high && now () < until) {
    less.interruptions = low + (high - low) / 2;
    if (run_episode (&less, true) == law)
      high = less.interruptions;
    else
      low = less.interruptions + 1;
  }
  less.interruptions = high;
  if (run_episode (&less, true) == law)
    *e = less;
}

static void
shrink (struct episode e, int law)
{
  static uint8_t without[ITEMS_MAX];
  const double until = now () + SHRINK_SECONDS;
  unsigned i, n;

  if (e.without)
    memcpy (without, e.without, sizeof without);
  else
    memset (without, 0, sizeof without);
  /* Those that did not take part are none. */
  run_episode (&e, true);
  n = result->nr_items;
  for (i = 0; i < ITEMS_MAX; ++i)
    without[i] |= !result->used[i];
  e.without = without;
  for (i = 0; i < 2; ++i) {
    shrink_items (&e, law, without, until);
    shrink_interruptions (&e, law, until);
  }
  e.tell = true;
  run_episode (&e, true);
  printf ("# smaller: law %d: %s\n", result->law, result->complaint);
  print_command (&e, n);
}

/* ---- seeds ---- */

static bool shrinks;
static double program_began;

static int
run_seed (unsigned test, const struct episode *e)
{
  const double began = now ();
  const int law = run_episode (e, false);

  if (law == 0 && test == 0)
    return law;
  printf ("%sok %u - seed %" PRIu64 ": %s: %u requests, %.3f s in %.2f s, "
          "digest %016" PRIx64 "\n",
          law ? "not " : "", test, e->seed, result->description,
          result->requests, result->virtual_ns / 1e9, now () - began,
          result->digest);
  if (law != 0) {
    printf ("# after %.0f s: law %d: ", now () - program_began, law);
    tap_comment (result->complaint);
    print_command (e, result->nr_items);
    if (shrinks)
      shrink (*e, law);
  }
  fflush (stdout);
  return law;
}

/* Seeds that have failed.  A line of the file is
 *
 *   mended|open LAW OPTIONS... # WHAT
 *
 * with the options of the command that repeats it.  One that is mended has to
 * pass.
 */
static bool
parse_line (char *line, struct episode *e, uint8_t *without, bool *open,
            int *law)
{
  char *word, *rest = NULL;
  unsigned n = 0;

  *e = (struct episode){ .interruptions = UINT64_MAX };
  line[strcspn (line, "#\n")] = '\0';
  for (word = strtok_r (line, " ", &rest); word;
       word = strtok_r (NULL, " ", &rest)) {
    if (n == 0)
      *open = strcmp (word, "open") == 0;
    else if (n == 1)
      *law = atoi (word);
    else if (strcmp (word, "--seed") == 0)
      e->seed = e->schedule = strtoull (strtok_r (NULL, " ", &rest), NULL, 10);
    else if (strcmp (word, "--schedule") == 0)
      e->schedule = strtoull (strtok_r (NULL, " ", &rest), NULL, 10);
    else if (strcmp (word, "--interruptions") == 0)
      e->interruptions = strtoull (strtok_r (NULL, " ", &rest), NULL, 10);
    else if (strcmp (word, "--items") == 0) {
      parse_items (strtok_r (NULL, " ", &rest), without);
      e->without = without;
    }
    else
      return false;
    n++;
  }
  return n > 2;
}

static bool
replay (const char *path)
{
  FILE *f = fopen (path, "re");
  static uint8_t without[ITEMS_MAX];
  static char line[20000], what[200];
  struct episode e;
  unsigned test = 0;
  bool good = f != NULL, open;
  int law, found;

  while (f && fgets (line, sizeof line, f)) {
    if (line[0] == '#' || line[0] == '\n')
      continue;
    snprintf (what, sizeof what, "%s", strchr (line, '#') ?: "#\n");
    what[strcspn (what, "\n")] = '\0';
    ++test;
    if (!parse_line (line, &e, without, &open, &law)) {
      printf ("not ok %u - a line that is none\n", test);
      good = false;
      continue;
    }
    found = run_episode (&e, open);
    good &= found == 0 || open;
    printf ("%sok %u - seed %" PRIu64 ": %s%s\n", found ? "not " : "", test,
            e.seed, what + 1, found && open ? " # TODO" : "");
    if (found != 0 && !open) {
      printf ("# ");
      tap_comment (result->complaint);
    }
  }
  if (f)
    fclose (f);
  else
    perror (path);
  printf ("1..%u\n", test);
  return good;
}

/* Addresses decide where some hashes fall: without this, a seed is the same
 * only in one process.
 */
static void
fix_addresses (char **argv)
{
  const int was = personality (0xffffffff);

  if (was != -1 && !(was & ADDR_NO_RANDOMIZE) &&
      personality (was | ADDR_NO_RANDOMIZE) != -1)
    execv ("/proc/self/exe", argv);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    SEEDS_OPTIONS,
    { "schedule", required_argument, NULL, 'h' },
    { "interruptions", required_argument, NULL, 'i' },
    { "items", required_argument, NULL, 'm' },
    { "replay", required_argument, NULL, 'r' },
    { "shrink", no_argument, NULL, 'k' },
    { "tell", no_argument, NULL, 'v' },
    { 0 },
  };
  static uint8_t without[ITEMS_MAX];
  struct episode e = { .interruptions = UINT64_MAX };
  struct seeds seeds = { 0 };
  bool scheduled = false, good = true;
  const char *file = NULL;
  unsigned test = 0;
  int opt;

  fix_addresses (argv);
  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 'h':
      e.schedule = number (optarg);
      scheduled = true;
      break;
    case 'i':
      e.interruptions = number (optarg);
      break;
    case 'm':
      parse_items (optarg, without);
      e.without = without;
      break;
    case 'r':
      file = optarg;
      break;
    case 'k':
      shrinks = true;
      break;
    case 'v':
      e.tell = true;
      break;
    default:
      if (!seeds_option (&seeds, opt, optarg))
        return EXIT_FAILURE;
    }
  result = mmap (NULL, sizeof *result, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (result == MAP_FAILED)
    abort ();
  if (file)
    return replay (file) ? EXIT_SUCCESS : EXIT_FAILURE;
  if (!seeds.given) {
    seeds.seed = fresh_seed () * UINT64_C (1000000);
    seeds.given = true;
  }
  program_began = now ();
  seeds_begin (&seeds, program_began);
  while (seeds_go_on (&seeds, test, now ())) {
    e.seed = seeds_next (&seeds);
    if (!scheduled)
      e.schedule = e.seed;
    good &= run_seed (++test, &e) == 0;
  }
  printf ("1..%u\n", test);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
