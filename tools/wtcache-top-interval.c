/* SPDX-License-Identifier: BSD-3-Clause */

/* One line an interval, as iostat has it: what a server did since the line
 * before, all its exports together.
 *
 * A file is looked at once an interval, so that the numbers before it are those
 * of the last line.  Servers write every two seconds: an interval that is
 * shorter finds some files unchanged, and says so by "-".
 */

#include <config.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "wtcache-top-interval.h"
#include "wtcache-top-json.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-units.h"

/* How many lines there are between two heads. */
#define HEAD_LINES 20

static const struct {
  const char *head;
  int width;
} columns[] = {
  { "time", -8 },      { "read/s", 8 },   { "hits", 7 },
  { "read B/s", 10 },  { "write/s", 8 },  { "FUA/s", 7 },
  { "write B/s", 10 }, { "b.read/s", 9 }, { "b.write/s", 9 },
  { "b.flush/s", 9 },  { "held", 9 },
};

static void
print_cell (size_t column, const char *text)
{
  printf ("%s%*s", column == 0 ? "" : " ", columns[column].width, text);
}

static void
print_head (bool names)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (columns); ++i)
    print_cell (i, columns[i].head);
  puts (names ? "  file" : "");
}

/* Of all exports, in a second. */
static double
sum_of (const struct source *s, enum value v)
{
  double sum = 0;
  size_t i;

  for (i = 0; i < s->nr_exports; ++i)
    sum += model_rate (s, &s->exports[i], v);
  return sum;
}

static double
held_by (const struct source *s)
{
  double sum = 0;
  size_t i;

  for (i = 0; i < s->nr_exports; ++i)
    sum += model_held (&s->exports[i]);
  return sum;
}

/* NEW: the file is another than at the line before. */
static void
print_line (const struct followed *f, bool new, bool name)
{
  static const enum value counters[] = {
    READ_REQUESTS, NR_VALUES,     READ_BYTES,     WRITE_REQUESTS,  FUA_REQUESTS,
    WRITE_BYTES,   BACKEND_READS, BACKEND_WRITES, BACKEND_FLUSHES,
  };
  const struct source *s = &f->source;
  const double reads = sum_of (s, READ_REQUESTS),
               hits = sum_of (s, READ_HIT_REQUESTS);
  const time_t now = time (NULL);
  struct text text;
  struct tm tm;
  char clock[16];
  size_t i;

  strftime (clock, sizeof clock, "%H:%M:%S", localtime_r (&now, &tm));
  print_cell (0, clock);
  for (i = 0; i < ARRAY_LEN (counters); ++i) {
    if (!new || isnan (model_seconds (s)))
      text = count_text (NAN);
    else if (counters[i] == NR_VALUES)
      text = percent_text (reads > 0 ? fmin (hits / reads, 1) : NAN);
    else if (counters[i] == READ_BYTES || counters[i] == WRITE_BYTES)
      text = bytes_text (sum_of (s, counters[i]));
    else
      text = count_text (sum_of (s, counters[i]));
    print_cell (1 + i, text.s);
  }
  print_cell (1 + i, bytes_text (s->past ? NAN : held_by (s)).s);
  if (name) {
    char *path = text_printable (s->path);

    printf ("  %s", path);
    free (path);
  }
  puts (follow_has_ended (f) ? "  the server has ended"
        : s->past            ? "  the file is not written"
                             : "");
}

static void
wait_until (const struct timespec *when)
{
  while (clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, when, NULL) != 0)
    ;
}

void
interval_run (struct followed *files, size_t nr_files, unsigned seconds,
              bool json)
{
  struct timespec when;
  size_t i, lines = 0;
  bool new;
  int err;

  clock_gettime (CLOCK_MONOTONIC, &when);
  for (;;) {
    when.tv_sec += seconds;
    if (!json && lines++ % HEAD_LINES == 0)
      print_head (nr_files > 1);
    fflush (stdout);
    wait_until (&when);
    for (i = 0; i < nr_files; ++i) {
      new = follow_again (&files[i]);
      if (!json)
        print_line (&files[i], new, nr_files > 1);
    }
    err = json ? json_print (files, nr_files, true) : 0;
    if (err != 0 || fflush (stdout) != 0)
      say_failure ("cannot print: %m");
  }
}
