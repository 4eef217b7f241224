/* SPDX-License-Identifier: BSD-3-Clause */

/* Limits the log lines of what fails again and again: one line when it begins
 * to fail, one an hour while it goes on failing, and one when it has ended.
 *
 *   struct repeat  an operation that is retried until it succeeds, such as
 *                  write-back.  For example, statistics are written every 2 s:
 *                  on a full disk that is 1800 failures an hour, and one line.
 *   struct burst   failures that each have another cause, such as requests of
 *                  clients.  It ends when there has been none for a minute.
 *                  For example, a backend that is dead fails 5000 reads within
 *                  a second: that is one line, and a minute later another one
 *                  with their number.
 *
 * Takes no lock and reads no clock: the caller passes the time.
 */

#ifndef WTCACHE_REPEAT_H
#define WTCACHE_REPEAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define REPEAT_NS       UINT64_C (3600000000000)
#define REPEAT_QUIET_NS UINT64_C (60000000000)

enum repeat_event { REPEAT_SILENT, REPEAT_BEGAN, REPEAT_GOES_ON, REPEAT_ENDED };

struct repeat {
  bool failing;
  uint64_t count; /* failures since it began; stays after the end */
  uint64_t since, last, logged, ended; /* ns; ENDED 0: never */
  bool again;                          /* it began soon after its last end */
};

/* Notes that an attempt ended at NOW, and returns what to log.  An attempt that
 * fails and succeeds in turn would log two lines each time.  So if it fails
 * again within an hour after an end, it ends only when it has not failed for a
 * minute.
 */
static inline enum repeat_event
repeat_note (struct repeat *r, bool failed, uint64_t now)
{
  if (failed && !r->failing) {
    r->again = r->ended != 0 && now - r->ended < REPEAT_NS;
    r->failing = true;
    r->count = 1;
    r->since = r->last = r->logged = now;
    return REPEAT_BEGAN;
  }
  if (failed) {
    r->count++;
    r->last = now;
    if (now - r->logged < REPEAT_NS)
      return REPEAT_SILENT;
    r->logged = now;
    return REPEAT_GOES_ON;
  }
  if (!r->failing || (r->again && now - r->last < REPEAT_QUIET_NS))
    return REPEAT_SILENT;
  r->failing = false;
  r->ended = now;
  return REPEAT_ENDED;
}

/* Threads that fail share COUNT and LAST, relaxed: exact enough.  The others
 * belong to the one thread that looks.
 */
struct burst {
  _Atomic uint64_t count, last;
  uint64_t since, logged; /* ns; SINCE 0: none when it looked last */
};

/* Notes a failure from any thread.  True: it is the first of a burst, and to be
 * logged.
 */
static inline bool
burst_note (struct burst *b, uint64_t now)
{
  atomic_store_explicit (&b->last, now, memory_order_relaxed);
  return atomic_fetch_add_explicit (&b->count, 1, memory_order_relaxed) == 0;
}

static inline uint64_t
burst_count (const struct burst *b)
{
  return atomic_load_explicit (&b->count, memory_order_relaxed);
}

/* Looks at NOW, from one thread; LAST: for the last time.  Returns what to log,
 * with *COUNT failures and the time since the first one was seen, ns.  One
 * failure alone has been logged.
 */
static inline enum repeat_event
burst_look (struct burst *b, uint64_t now, bool last, uint64_t *count,
            uint64_t *lasted)
{
  const uint64_t newest = atomic_load_explicit (&b->last, memory_order_relaxed);

  *count = burst_count (b);
  if (*count == 0)
    return REPEAT_SILENT;
  if (b->since == 0)
    b->since = b->logged = now;
  *lasted = now - b->since;
  if (last || now >= newest + REPEAT_QUIET_NS) {
    *count = atomic_exchange_explicit (&b->count, 0, memory_order_relaxed);
    b->since = 0;
    return *count > 1 ? REPEAT_ENDED : REPEAT_SILENT;
  }
  if (now - b->logged < REPEAT_NS)
    return REPEAT_SILENT;
  b->logged = now;
  return *count > 1 ? REPEAT_GOES_ON : REPEAT_SILENT;
}

#endif /* WTCACHE_REPEAT_H */
