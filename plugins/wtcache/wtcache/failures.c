/* SPDX-License-Identifier: BSD-3-Clause */

/* The log lines of requests and write-back that fail.
 *
 * The first request of a kind that fails in an export is logged at once, with
 * its place and error.  Those that follow are counted (base/repeat.h): the
 * clock logs their number every hour, and when there has been none for a
 * minute.  So a backend that stays dead takes a few lines, however often
 * clients try.  "nbdkit -v" shows each.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/name.h"
#include "export.h"
#include "wtcache/failures.h"

/* One, and more. */
static const char *const kind_names[REQUEST_KINDS][2] = {
  [KIND_READ] = { "read", "reads" },
  [KIND_WRITE] = { "write", "writes" },
  [KIND_FUA_WRITE] = { "FUA write", "FUA writes" },
  [KIND_FLUSH] = { "flush", "flushes" },
  [KIND_ZERO] = { "zero", "zeroes" },
  [KIND_TRIM] = { "trim", "trims" },
  [KIND_BLOCK_STATUS] = { "block status", "requests for block status" },
  [KIND_CACHE] = { "cache", "cache requests" },
};

const char *
failures_kind (enum request_kind kind)
{
  return kind_names[kind][0];
}

void
failures_note (struct handle *h, enum request_kind kind, uint32_t count,
               uint64_t offset, int error)
{
  struct export *e = h->client.export;
  char text[256];

  snprintf (text, sizeof text,
            "wtcache: export %s: %s of %" PRIu32 " bytes at %" PRIu64 " failed",
            name_quoted (h->name).text, failures_kind (kind), count, offset);
  errno = error;
  if (burst_note (&e->failures[kind], now_ns ()))
    nbdkit_error ("%s: %m", text);
  else
    nbdkit_debug ("%s: %m", text);
}

/* A look at all exports.  No lock is held while a line is logged: the log may
 * be a pipe.  So the lines are put together first.
 */
struct look {
  uint64_t now;
  bool last;
  char *text;
  size_t len;
  FILE *lines; /* NULL: none yet */
};

static void
put_line (struct look *l, const char *line)
{
  if (l->lines == NULL)
    l->lines = open_memstream (&l->text, &l->len);
  if (l->lines)
    fprintf (l->lines, "%s\n", line);
}

static void
tell_requests (struct look *l, struct export *e, enum request_kind kind)
{
  uint64_t count, lasted;
  char line[256];
  const enum repeat_event event =
      burst_look (&e->failures[kind], l->now, l->last, &count, &lasted);

  if (event == REPEAT_SILENT)
    return;
  snprintf (
      line, sizeof line,
      "wtcache: export %s: %" PRIu64 " more %s failed within %" PRIu64 " s%s",
      name_quoted (e->name).text, count - 1, kind_names[kind][1],
      lasted / 1000000000,
      event == REPEAT_ENDED && !l->last ? ", none in the last minute" : "");
  put_line (l, line);
}

static void
tell_export (struct export *e, void *opaque)
{
  struct look *l = opaque;
  char line[REFUSAL_BYTES];
  unsigned kind;

  if (!l->last && refusal_look (e, l->now, line))
    put_line (l, line);
  for (kind = 0; kind < REQUEST_KINDS; ++kind)
    if (burst_count (&e->failures[kind]) > 0)
      tell_requests (l, e, kind);
}

static void
tell_all (bool last)
{
  struct look l = { .now = now_ns (), .last = last };
  char *line, *rest;

  export_for_each (tell_export, &l);
  if (l.lines == NULL)
    return;
  fclose (l.lines);
  for (line = strtok_r (l.text, "\n", &rest); line;
       line = strtok_r (NULL, "\n", &rest))
    nbdkit_error ("%s", line);
  free (l.text);
}

void
failures_tick (void)
{
  tell_all (false);
}

void
failures_finish (void)
{
  tell_all (true);
}
