/* SPDX-License-Identifier: BSD-3-Clause */

/* Log lines about a backend that refuses write-back.
 *
 * Refused data waits in memory, and is tried again every second.  The clock
 * looks at each export, and logs one line when a refusal begins, one an hour,
 * and one when the backend has taken write-back again.  One that began and
 * ended between two looks is logged too.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/name.h"
#include "export/refusal.h"

/* ERRORS grows last: a thread that sees it finds the error of that pass or of a
 * later one.  Release pairs with acquire in refusal_look.
 */
void
refusal_note (struct export *e, int err)
{
  struct writeback *wb = &e->writeback;

  if (err == 0) {
    atomic_store_explicit (&wb->refusing, false, memory_order_relaxed);
    return;
  }
  atomic_store_explicit (&wb->error, err, memory_order_relaxed);
  if (!atomic_load_explicit (&wb->refusing, memory_order_relaxed))
    atomic_store_explicit (&wb->failing_since, time (NULL),
                           memory_order_relaxed);
  atomic_store_explicit (&wb->refusing, true, memory_order_relaxed);
  atomic_fetch_add_explicit (&wb->errors, 1, memory_order_release);
}

/* As 2026-02-28T23:59:59Z. */
static void
print_time (int64_t seconds, char *text, size_t size)
{
  const time_t t = seconds;
  struct tm tm;

  strftime (text, size, "%Y-%m-%dT%H:%M:%SZ", gmtime_r (&t, &tm));
}

static void
print_line (struct export *e, enum repeat_event event, char *text)
{
  const struct writeback *wb = &e->writeback;
  const uint64_t failed = wb->looked - wb->looked_before;
  const int64_t waits = pagecache_amounts (&e->pc).dirty;
  const int error = atomic_load_explicit (&wb->error, memory_order_relaxed);
  char since[32];
  int n;

  print_time (atomic_load_explicit (&wb->failing_since, memory_order_relaxed),
              since, sizeof since);
  n = snprintf (text, REFUSAL_BYTES, "wtcache: export %s%s: the backend ",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "");
  if (event == REPEAT_ENDED)
    snprintf (text + n, REFUSAL_BYTES - n,
              "takes write-back again (failed attempts: %" PRIu64 "); %" PRId64
              " bytes are still dirty",
              failed, waits);
  else
    snprintf (text + n, REFUSAL_BYTES - n,
              "refuses write-back since %s: %s (failed attempts: %" PRIu64
              "); %" PRId64 " bytes wait in memory, and are tried again",
              since, strerror (error), failed, waits);
}

bool
refusal_look (struct export *e, uint64_t now, char *text)
{
  struct writeback *wb = &e->writeback;
  const uint64_t errors =
      atomic_load_explicit (&wb->errors, memory_order_acquire);
  const bool failed =
      errors != wb->looked ||
      atomic_load_explicit (&wb->refusing, memory_order_relaxed);
  const enum repeat_event event = repeat_note (&wb->refusal, failed, now);

  if (event == REPEAT_BEGAN)
    wb->looked_before = wb->looked;
  wb->looked = errors;
  if (event == REPEAT_SILENT)
    return false;
  print_line (e, event, text);
  return true;
}
