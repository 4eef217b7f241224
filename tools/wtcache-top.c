/* SPDX-License-Identifier: BSD-3-Clause */

/* wtcache-top shows what servers with the wtcache filter do, from the files
 * that they write.  This is its command line.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "nearest-option.h"
#include "wtcache-top-curve.h"
#include "wtcache-top-file.h"
#include "wtcache-top-interval.h"
#include "wtcache-top-json.h"
#include "wtcache-top-lines.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-units.h"
#include "wtcache-top-view.h"

/* Printed output is not wrapped: a line is then one thing to grep. */
#define PRINTED_COLUMNS 100000

struct command {
  bool once, json, rates;
  unsigned interval; /* seconds; 0: none */
  const char *picture;
};

enum { OPTION_VERSION = 256 };

#define MAX_SECONDS 86400

static const struct option options[] = {
  { "once", no_argument, NULL, '1' },
  { "json", no_argument, NULL, 'j' },
  { "rates", no_argument, NULL, 'r' },
  { "interval", required_argument, NULL, 'i' },
  { "curve", required_argument, NULL, 'c' },
  { "help", no_argument, NULL, 'h' },
  { "version", no_argument, NULL, OPTION_VERSION },
  { NULL, 0, NULL, 0 },
};

static const char help[] =
    "Usage: wtcache-top [OPTION] FILE...\n"
    "Show what nbdkit servers with the wtcache filter do, from the files that\n"
    "their wtcache-stats=FILE writes.  Without an option, in the terminal,\n"
    "until q is pressed.\n"
    "\n"
    "  -1, --once            print it once, as text\n"
    "  -j, --json            print it once, as JSON; with --interval, an\n"
    "                        object in one line each time\n"
    "  -r, --rates           with those: wait until the files are written\n"
    "                        again, and tell what happened in a second;\n"
    "                        otherwise totals are told\n"
    "  -i, --interval=SECONDS\n"
    "                        print a line every so many seconds: what was "
    "done\n"
    "                        since the line before\n"
    "  -c, --curve=FILE.svg  draw the miss ratio by the size of the cache\n"
    "  -h, --help            print this\n"
    "      --version         print the version\n";

static unsigned
seconds_of (const char *text)
{
  char *end;
  unsigned long n;

  errno = 0;
  n = strtoul (text, &end, 10);
  if (!isdigit ((unsigned char) *text) || *end || errno != 0 || n < 1 ||
      n > MAX_SECONDS)
    say_misuse ("--interval=%s: must be a number of seconds, 1 to %d", text,
                MAX_SECONDS);
  return n;
}

static void __attribute__ ((noreturn)) refuse_option (const char *word)
{
  const char *meant = nearest_option (word, options);
  size_t len;

  if (strncmp (word, "--", 2) != 0)
    say_misuse ("-%c is not an option; see --help", optopt);
  len = strcspn (word + 2, "=");
  if (meant && (strncmp (meant, word + 2, len) != 0 || meant[len]))
    say_misuse ("%s is not an option: is --%s meant?", word, meant);
  say_misuse ("%s is not an option; see --help", word);
}

static void
take_option (struct command *c, int option, const char *word)
{
  switch (option) {
  case '1':
    c->once = true;
    break;
  case 'j':
    c->json = true;
    break;
  case 'r':
    c->rates = true;
    break;
  case 'i':
    c->interval = seconds_of (optarg);
    break;
  case 'c':
    c->picture = optarg;
    break;
  case 'h':
    fputs (help, stdout);
    exit (0);
  case OPTION_VERSION:
    puts ("wtcache-top " PACKAGE_VERSION);
    exit (0);
  case ':':
    if (optopt == 'i')
      say_misuse ("--interval needs a number of seconds; see --help");
    say_misuse ("--curve needs the name of a file to draw to; see --help");
  default:
    refuse_option (word);
  }
}

static struct command
take_options (int argc, char *argv[])
{
  struct command c = { .once = false };
  int option;

  opterr = 0;
  while ((option = getopt_long (argc, argv, ":1jri:c:h", options, NULL)) != -1)
    take_option (&c, option, argv[optind - 1]);
  if (optind == argc)
    say_misuse ("no file is named; see --help");
  if (c.picture && (c.once || c.json || c.interval > 0))
    say_misuse ("--curve goes with no other option");
  if (c.interval > 0 && c.once)
    say_misuse ("only one of --once and --interval can be done at a time");
  if (c.rates && ((!c.once && !c.json) || c.interval > 0))
    say_misuse ("--rates goes with --once or --json");
  return c;
}

/* Looks at each file a first time. */
static struct followed *
follow_all (char *const *paths, size_t nr_files)
{
  struct followed *files = must_resize (NULL, nr_files, sizeof *files);
  size_t i;

  for (i = 0; i < nr_files; ++i) {
    follow (&files[i], paths[i]);
    if (files[i].trouble)
      say_failure ("%s: %s", paths[i], files[i].trouble);
  }
  return files;
}

/* Waits until each file was written anew, but not for one that no server
 * writes.
 */
static void
wait_for_rates (struct followed *files, size_t nr_files)
{
  const struct timespec pause = { .tv_nsec = FOLLOW_LOOK_NS };
  size_t i = 0;

  while (i < nr_files) {
    follow_again (&files[i]);
    if (files[i].trouble)
      say_failure ("%s: %s", files[i].source.path, files[i].trouble);
    if (!isnan (model_seconds (&files[i].source)) ||
        follow_is_stale (&files[i]))
      ++i;
    else
      nanosleep (&pause, NULL);
  }
}

static void
print_once (const struct followed *files, size_t nr_files)
{
  struct lines l = { .width = PRINTED_COLUMNS };
  size_t i;

  for (i = 0; i < nr_files; ++i)
    lines_add (&l, &files[i], false);
  for (i = 0; i < l.nr_lines; ++i) {
    fputs (l.lines[i].text, stdout);
    puts (l.lines[i].tail ? l.lines[i].tail : "");
  }
  lines_free (&l);
  if (fflush (stdout) != 0)
    say_failure ("cannot print: %m");
}

static void
print_json (const struct followed *files, size_t nr_files)
{
  const int err = json_print (files, nr_files, false);

  if (err != 0)
    say_failure ("cannot print: %s", strerror (err));
}

/* One curve for each file that has one. */
static void
draw_curves (const struct followed *files, size_t nr_files, const char *picture)
{
  struct named_curve *curves = must_resize (NULL, nr_files, sizeof *curves);
  size_t i, n = 0;
  char why[512];

  for (i = 0; i < nr_files; ++i) {
    const struct source *s = &files[i].source;

    if (s->curve.nr_points > 0)
      curves[n++] =
          (struct named_curve){ text_printable (basename (s->path)), s->curve };
  }
  if (n == 0 && files[0].source.sampled_reads < CURVE_READS)
    say_failure ("%s: there is no estimate of miss ratios yet: not enough "
                 "reads (%.0f of %d in the sample)",
                 files[0].source.path, files[0].source.sampled_reads,
                 CURVE_READS);
  if (n == 0)
    say_failure ("%s: there is no estimate of miss ratios yet",
                 files[0].source.path);
  if (curve_draw (picture, curves, n, why, sizeof why) != 0)
    say_failure ("%s: cannot be drawn: %s", picture, why);
}

int
main (int argc, char *argv[])
{
  struct command command;
  struct followed *files;
  size_t nr_files;

  /* Numbers keep their point. */
  setlocale (LC_CTYPE, "");
  use_unicode = strcmp (nl_langinfo (CODESET), "UTF-8") == 0;
  command = take_options (argc, argv);
  nr_files = argc - optind;
  files = follow_all (argv + optind, nr_files);
  if (command.rates)
    wait_for_rates (files, nr_files);
  if (command.interval > 0)
    interval_run (files, nr_files, command.interval, command.json);
  if (command.picture)
    draw_curves (files, nr_files, command.picture);
  else if (command.json)
    print_json (files, nr_files);
  else if (command.once)
    print_once (files, nr_files);
  else
    view_run (files, nr_files);
  return 0;
}
