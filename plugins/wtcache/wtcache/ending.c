/* SPDX-License-Identifier: BSD-3-Clause */

/* The end of the server: the drain, and what it could not save.
 *
 * The drain begins when the server is told to stop.  After wtcache-drain all
 * that was acknowledged and is not durable is logged as LOST with its ranges,
 * by the clock's thread: a call that hangs at the backend holds a worker, a
 * client's request, and so the end of nbdkit, but not the clock.  If the call
 * returns after all and all of an export is durable, one more line says so.
 * When everything has ended, .cleanup logs what has changed since.
 *
 * For example, of 8 dirty pages in an export 4 are in a write that hangs for
 * two minutes, and wtcache-drain is 60 s.  After 60 s 32768 bytes are LOST.
 * After two minutes the write returns, the drain's flush succeeds, and 32768
 * bytes were saved after all.
 *
 * NAME.lost (watch/lost.c) has a line for each of those lines that is still
 * true.
 */

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

/* Of the clock's thread, then of the main thread. */
static uint64_t drain_deadline; /* ns */

/* A look at all exports. */
struct look {
  bool last;    /* nothing can change any more */
  bool changed; /* what is logged as LOST */
  uint64_t bytes;
  FILE *lines; /* for the file; NULL: no memory */
};

static void
add_up_held (struct export *e, void *opaque)
{
  *(int64_t *) opaque += pagecache_amounts (&e->pc).held;
}

void
ending_begin (bool signal)
{
  int64_t held = 0;

  drain_deadline = now_ns () + SETTING (drain);
  /* From now on each write and zero is durable. */
  atomic_store_explicit (&registry.stopping, true, memory_order_relaxed);
  export_for_each (add_up_held, &held);
  if (signal)
    nbdkit_error ("wtcache: the server stops; the line above is no error, it "
                  "is how nbdkit wakes the filter; %" PRId64
                  " bytes are not yet durable",
                  held);
  /* Over a serial stack no thread of ours calls the backend. */
  if (registry.parallel)
    export_for_each (writeback_begin_drain, NULL);
}

static void
log_saved (const struct export *e, uint64_t bytes)
{
  nbdkit_error ("wtcache: export %s%s: saved after all: %" PRIu64
                " of the bytes logged as LOST are durable",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "", bytes);
}

/* A line for the file; IS_NEW: also for the log. */
static void
put_lost (struct look *l, bool is_new, const struct export *e, uint64_t bytes,
          const char *which, const char *ranges)
{
  char *text;

  if (asprintf (&text,
                "wtcache: export %s%s: LOST: %" PRIu64 " %sbytes were "
                "acknowledged and could not be made durable by the end of the "
                "drain (offset+length):%s",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "", bytes,
                which, ranges) == -1) {
    nbdkit_error ("wtcache: LOST: %" PRIu64 " bytes", bytes);
    return;
  }
  if (is_new)
    nbdkit_error ("%s", text);
  if (l->lines)
    fprintf (l->lines, "%s\n", text);
  free (text);
}

/* An export of which bytes are logged as LOST is kept until they are saved. */
static void
set_told (struct export *e, uint64_t bytes)
{
  const bool was = e->writeback.told > 0;

  e->writeback.told = bytes;
  if (!was && bytes > 0)
    export_keep_next (e->number - 1, NULL); /* that is E */
  else if (was && bytes == 0)
    export_let_go (e);
}

/* E is kept by the caller. */
static void
look_at (struct look *l, struct export *e)
{
  char ranges[RANGES_BYTES];
  const uint64_t owed = export_format_owed (e, ranges, sizeof ranges);
  const uint64_t zeroed = zeroes_bytes (&e->pc.zeroes), all = owed + zeroed;
  const uint64_t told = e->writeback.told;
  const bool is_new = all != told && (told == 0 || all == 0 || l->last);

  if (is_new && told > all)
    log_saved (e, told - all);
  if (owed > 0)
    put_lost (l, is_new, e, owed, "", ranges);
  if (zeroed > 0) {
    export_format_zeroed (e, ranges, sizeof ranges);
    put_lost (l, is_new, e, zeroed, "zeroed ", ranges);
  }
  l->bytes += all;
  if (is_new) {
    l->changed = true;
    set_told (e, all);
  }
}

/* No lock is held while a line is logged: the log may be a pipe. */
static uint64_t
look_at_all (bool last)
{
  struct look l = { .last = last };
  struct export *e, *next;
  char *lines = NULL;
  size_t len;

  l.lines = open_memstream (&lines, &len);
  for (e = export_keep_next (0, NULL); e; e = next) {
    look_at (&l, e);
    next = export_keep_next (e->number, NULL);
    export_let_go (e);
  }
  if (l.lines)
    fclose (l.lines);
  if (l.changed)
    lost_set (lines);
  else
    free (lines);
  return l.bytes;
}

static void
look_for_news (struct export *e, void *opaque)
{
  if ((e->writeback.told == 0) == dirty_is_held (e))
    *(bool *) opaque = true;
}

void
ending_tick (void)
{
  bool news = false;

  if (now_ns () < drain_deadline)
    return;
  export_for_each (look_for_news, &news);
  if (news)
    look_at_all (false);
}

uint64_t
ending_finish (void)
{
  return look_at_all (true);
}
