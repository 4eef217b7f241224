/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of statistics (wtcache-stats), which monitors read.
 *
 * It is replaced whole, every few seconds, by the file writer's thread
 * (base/filewriter.c): no other waits for the file.  While one text is still
 * being written, for example because an NFS server does not answer, none is
 * made.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/ownfile.h"
#include "base/util.h"
#include "base/filewriter.h"
#include "export.h"
#include "watch.h"
#include "wtcache/optionfile.h"
#include "wtcache/statsfile.h"

/* The first line of the statistics: no other file has it. */
#define STATS_MARK                                                             \
  "# Statistics of nbdkit-wtcache-filter, which replaces this file\n"
#define WHY_BYTES 512

#define HANGS_NS UINT64_C (10000000000) /* a write this old is logged */

static struct ownfile stats_file = { .mark = STATS_MARK, .lock = -1 };
static struct optionfile stats_log = { .option = "stats", .often = "seconds" };

/* Only for the clock's thread. */
static uint64_t busy_since; /* ns; 0: the last text was written in time */
static bool told_busy;

/* TEXT is NULL: there was no memory for it. */
static int
write_file (const char *text, char *why, size_t size)
{
  if (text)
    return ownfile_replace (&stats_file, text, strlen (text), why, size);
  snprintf (why, size, "cannot write: %s", strerror (ENOMEM));
  return -1;
}

static void
run_write (char *text)
{
  char why[WHY_BYTES];

  if (stats_file.lock != -1)
    optionfile_note (&stats_log, settings.stats,
                     write_file (text, why, sizeof why) == -1, why);
  free (text);
}

/* The last that is given. */
static void
run_unlock (char *text)
{
  ownfile_unlock (&stats_file);
  free (text);
}

static struct writing stats_writing = { .run = run_write };
static struct writing stats_unlocking = { .run = run_unlock };

static char *
make_text (void)
{
  char *text;
  size_t len;

  return watch_text (&text, &len) == 0 ? text : NULL;
}

/* Logs once that a write hangs, and once that it has ended. */
static void
note_busy (bool busy, uint64_t now)
{
  if (busy && busy_since == 0)
    busy_since = now;
  else if (busy && !told_busy && now - busy_since >= HANGS_NS) {
    told_busy = true;
    nbdkit_error ("wtcache-stats=%s: a write of it has hung for %" PRIu64
                  " s; all else goes on without it",
                  settings.stats, (now - busy_since) / 1000000000);
  }
  else if (!busy) {
    if (told_busy)
      nbdkit_error ("wtcache-stats=%s: written again, after %" PRIu64 " s",
                    settings.stats, (now - busy_since) / 1000000000);
    busy_since = 0;
    told_busy = false;
  }
}

void
statsfile_renew (void)
{
  bool busy;

  if (settings.stats == NULL)
    return;
  busy = filewriter_is_busy (&folder_writer, &stats_writing);
  note_busy (busy, now_ns ());
  if (!busy)
    filewriter_give (&folder_writer, &stats_writing, make_text ());
}

void
statsfile_renew_last (void)
{
  if (settings.stats)
    filewriter_give (&folder_writer, &stats_writing, make_text ());
}

int
statsfile_check (void)
{
  char why[WHY_BYTES];

  watch_name (settings.name ? settings.name : "");
  stats_file.path = settings.stats;
  if (settings.stats && ownfile_check (&stats_file, why, sizeof why) != 0)
    return optionfile_refuse (&stats_log, settings.stats, why);
  return 0;
}

int
statsfile_begin (void)
{
  char why[WHY_BYTES], *text;
  int r;

  if (settings.stats == NULL)
    return 0;
  text = make_text ();
  r = ownfile_lock (&stats_file, why, sizeof why);
  if (r == 0)
    r = write_file (text, why, sizeof why);
  free (text);
  if (r == 0)
    return 0;
  ownfile_unlock (&stats_file);
  return optionfile_refuse (&stats_log, settings.stats, why);
}

void
statsfile_end (void)
{
  filewriter_give (&folder_writer, &stats_unlocking, NULL);
}
