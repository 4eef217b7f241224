/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of statistics (wtcache-stats), which monitors read.
 *
 * It is replaced whole, every few seconds.  An error that repeats is logged
 * once, then counted.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/ownfile.h"
#include "base/repeat.h"
#include "base/util.h"
#include "export.h"
#include "watch.h"
#include "wtcache/statsfile.h"

/* The first line of the statistics: no other file has it. */
#define STATS_MARK                                                             \
  "# Statistics of nbdkit-wtcache-filter, which replaces this file\n"
#define WHY_BYTES 512

static struct ownfile stats_file = { .mark = STATS_MARK, .lock = -1 };
static struct repeat stats_repeat; /* clock thread; main thread at the end */

static int
write_file (char *why, size_t size)
{
  char *text;
  size_t len;
  int r;

  if (watch_text (&text, &len) != 0) {
    snprintf (why, size, "cannot write: %s", strerror (ENOMEM));
    return -1;
  }
  r = ownfile_replace (&stats_file, text, len, why, size);
  free (text);
  return r;
}

void
statsfile_renew (void)
{
  char why[WHY_BYTES];
  bool failed;

  if (stats_file.lock == -1)
    return;
  failed = write_file (why, sizeof why) == -1;
  switch (repeat_note (&stats_repeat, failed, now_ns ())) {
  case REPEAT_BEGAN:
    nbdkit_error ("wtcache-stats=%s: %s; it is tried again every few seconds",
                  settings.stats, why);
    break;
  case REPEAT_GOES_ON:
    nbdkit_error ("wtcache-stats=%s: %s; failed %" PRIu64 " times so far",
                  settings.stats, why, stats_repeat.count);
    break;
  case REPEAT_ENDED:
    nbdkit_error ("wtcache-stats=%s: written again, after %" PRIu64 " failures",
                  settings.stats, stats_repeat.count);
    break;
  case REPEAT_SILENT:
    break;
  }
}

static int
refuse_file (const char *why)
{
  nbdkit_error ("wtcache-stats=%s: %s", settings.stats, why);
  return -1;
}

int
statsfile_check (void)
{
  char why[WHY_BYTES];

  watch_name (settings.name ? settings.name : "");
  stats_file.path = settings.stats;
  if (settings.stats && ownfile_check (&stats_file, why, sizeof why) != 0)
    return refuse_file (why);
  return 0;
}

int
statsfile_begin (void)
{
  char why[WHY_BYTES];

  if (settings.stats == NULL)
    return 0;
  if (ownfile_lock (&stats_file, why, sizeof why) == 0 &&
      write_file (why, sizeof why) == 0)
    return 0;
  ownfile_unlock (&stats_file);
  return refuse_file (why);
}

void
statsfile_end (void)
{
  ownfile_unlock (&stats_file);
}
