/* SPDX-License-Identifier: BSD-3-Clause */

/* Limits the log lines of an operation that is retried: one line when it begins
 * to fail, one an hour while it goes on failing, and one when it works again.
 * For example, statistics are written every 2 s; on a full disk that is 1800
 * failures an hour, and one line.
 *
 * Takes no lock and reads no clock: the caller passes the time.
 */

#ifndef WTCACHE_REPEAT_H
#define WTCACHE_REPEAT_H

#include <stdbool.h>
#include <stdint.h>

#define REPEAT_NS (UINT64_C (3600) * 1000000000)

enum repeat_event { REPEAT_SILENT, REPEAT_BEGAN, REPEAT_GOES_ON, REPEAT_ENDED };

struct repeat {
  bool failing;
  uint64_t count; /* failures since it began; stays after the end */
  uint64_t since, logged;
};

/* Notes that an attempt ended at NOW, and returns what to log. */
static inline enum repeat_event
repeat_note (struct repeat *r, bool failed, uint64_t now)
{
  const bool was = r->failing;

  r->failing = failed;
  if (!failed)
    return was ? REPEAT_ENDED : REPEAT_SILENT;
  if (!was) {
    *r = (struct repeat){ true, 1, now, now };
    return REPEAT_BEGAN;
  }
  r->count++;
  if (now - r->logged < REPEAT_NS)
    return REPEAT_SILENT;
  r->logged = now;
  return REPEAT_GOES_ON;
}

#endif /* WTCACHE_REPEAT_H */
