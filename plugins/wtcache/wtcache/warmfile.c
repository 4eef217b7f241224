/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of the warm list (wtcache-warm): read at the start, written every
 * few minutes and at the end.
 *
 * It is made and written by a thread of its own (base/filewriter.c): no other
 * waits for the file.  A file that time has spoiled (damage, another version,
 * a list too large for the memory) is a line in the log, and the server starts
 * with an empty cache.  A file that is no list is not used and not replaced
 * either.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/filewriter.h"
#include "base/ownfile.h"
#include "base/util.h"
#include "export.h"
#include "request.h"
#include "wtcache/optionfile.h"
#include "wtcache/warmfile.h"

/* The first line of a list: no other file has it. */
#define WARM_MARK                                                              \
  "# Warm list of nbdkit-wtcache-filter, which replaces this file\n"
#define WHY_BYTES  512
#define SAVE_TICKS 1200 /* it is written every two minutes */
#define PART       16   /* of the memory that a list may take */

static struct ownfile warm_file = { .mark = WARM_MARK, .lock = -1 };
static struct optionfile warm_log = { .option = "warm", .often = "minutes" };
static bool warm_runs; /* from warmfile_begin on */
static unsigned ticks; /* only for the clock's thread */

/* TEXT is NULL: it is to be made here. */
static void
run_save (char *text)
{
  char why[WHY_BYTES];
  int r = -1;

  if (text == NULL)
    text = warm_text ();
  if (text)
    r = ownfile_replace (&warm_file, text, strlen (text), why, sizeof why);
  else
    snprintf (why, sizeof why, "cannot make it: %s", strerror (ENOMEM));
  optionfile_note (&warm_log, settings.warm, r == -1, why);
  free (text);
}

static struct filewriter warm_writer = FILEWRITER_INIT;
static struct writing warm_saving = { .run = run_save };

/* Whether the file is ours, or can be: if not, the server does without. */
static bool
is_usable (void)
{
  char why[WHY_BYTES];

  if (ownfile_look (&warm_file, why, sizeof why) != -1)
    return true;
  nbdkit_error ("wtcache-warm=%s: %s; the server starts without a warm list",
                settings.warm, why);
  return false;
}

int
warmfile_check (void)
{
  char why[WHY_BYTES];

  /* Over a serial stack no list is fetched: options_without_threads says so. */
  warm_file.path = registry.parallel ? settings.warm : NULL;
  if (warm_file.path && !is_usable ())
    warm_file.path = NULL;
  if (warm_file.path && ownfile_check (&warm_file, why, sizeof why) != 0)
    return optionfile_refuse (&warm_log, settings.warm, why);
  return 0;
}

/* Hands the list to the loader, if there is one. */
static void
read_list (void)
{
  char why[WHY_BYTES], *text;
  size_t len;

  if (ownfile_read (&warm_file, memory_limit (&registry.memory) / PART, &text,
                    &len, why, sizeof why) == -1 ||
      (text && warm_start (text, len, why, sizeof why) == -1))
    nbdkit_error ("wtcache-warm=%s: the list is not used: %s", settings.warm,
                  why);
}

int
warmfile_begin (void)
{
  char why[WHY_BYTES];
  int err;

  if (warm_file.path == NULL)
    return 0;
  if (ownfile_check (&warm_file, why, sizeof why) != 0 ||
      ownfile_lock (&warm_file, why, sizeof why) != 0)
    return optionfile_refuse (&warm_log, settings.warm, why);
  err = filewriter_start (&warm_writer);
  if (err != 0) {
    ownfile_unlock (&warm_file);
    return optionfile_refuse (&warm_log, settings.warm, strerror (err));
  }
  read_list ();
  warm_runs = true;
  return 0;
}

void
warmfile_tick (void)
{
  if (!warm_runs)
    return;
  warm_tick ();
  if (++ticks % SAVE_TICKS == 0 &&
      !filewriter_is_busy (&warm_writer, &warm_saving))
    filewriter_give (&warm_writer, &warm_saving, NULL);
}

void
warmfile_save_last (void)
{
  if (warm_runs)
    filewriter_give (&warm_writer, &warm_saving, warm_text ());
}

bool
warmfile_end (uint64_t ns)
{
  if (!warm_runs)
    return true;
  if (!filewriter_stop (&warm_writer, ns)) {
    nbdkit_error ("wtcache-warm=%s: a write to it hangs: the server ends "
                  "without it",
                  settings.warm);
    return false;
  }
  ownfile_unlock (&warm_file);
  warm_stop ();
  warm_runs = false;
  return true;
}
