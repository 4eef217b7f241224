/* SPDX-License-Identifier: BSD-3-Clause */

/* What the server could not save. */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <nbdkit-filter.h>

#include "base/name.h"
#include "export.h"
#include "watch.h"
#include "wtcache/ending.h"

/* Room for the ranges that one line of the log names. */
#define RANGES_BYTES 512

struct telling {
  uint64_t bytes;
  FILE *lines; /* of the file; NULL: no memory */
};

static void
tell_lost (struct telling *t, const struct export *e, uint64_t bytes,
           const char *which, const char *ranges)
{
  char *text;

  t->bytes += bytes;
  if (asprintf (&text,
                "wtcache: export %s%s: LOST: %" PRIu64 " %sbytes were "
                "acknowledged and could not be made durable before the "
                "server's end (offset+length):%s",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "", bytes,
                which, ranges) == -1) {
    nbdkit_error ("wtcache: LOST: %" PRIu64 " bytes", bytes);
    return;
  }
  nbdkit_error ("%s", text);
  if (t->lines)
    fprintf (t->lines, "%s\n", text);
  free (text);
}

static void
tell_of_export (struct export *e, void *opaque)
{
  const struct amounts a = pagecache_amounts (&e->pc);
  const uint64_t zeroed = zeroes_bytes (&e->pc.zeroes);
  char ranges[RANGES_BYTES];

  if (a.dirty + a.unstable > 0) {
    export_format_held (e, 0, ranges, sizeof ranges);
    tell_lost (opaque, e, a.dirty + a.unstable, "", ranges);
  }
  if (zeroed > 0) {
    export_format_zeroed (e, ranges, sizeof ranges);
    tell_lost (opaque, e, zeroed, "zeroed ", ranges);
  }
}

uint64_t
ending_tell_lost (void)
{
  struct telling t = { 0 };
  char *lines = NULL;
  size_t len;

  t.lines = open_memstream (&lines, &len);
  export_for_each (tell_of_export, &t);
  if (t.lines)
    fclose (t.lines);
  if (t.bytes > 0)
    lost_set (lines);
  else
    free (lines);
  return t.bytes;
}
