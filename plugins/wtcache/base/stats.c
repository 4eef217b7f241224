/* SPDX-License-Identifier: BSD-3-Clause */

/* Counters of clients' requests.
 *
 * Each thread counts on lines of its own, so that a hit writes no line that
 * another thread writes.  A thread serves one connection, hence one export, and
 * finds its line without a lock while that stays so.  Lines belong to the
 * export; a thread that comes later takes over a line that was left.
 *
 * Other parts count their own events (amounts, batches, calls), which rows.c
 * reads there.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "base/stats.h"

static _Atomic uint64_t ids;

THREAD_OWN struct stats_mine stats_mine;

/* A line may have as many users one after another as there are threads; two
 * at once could lose a count, never more.  So they are handed out in turn.
 */
#define MAX_LINES 64

void
stats_init (struct stats *s)
{
  memset (s, 0, sizeof *s);
  lock_init (&s->lock, RANK_STATS);
  s->id = atomic_fetch_add_explicit (&ids, 1, memory_order_relaxed) + 1;
}

void
stats_destroy (struct stats *s)
{
  struct stats_line *line;

  while ((line = s->lines) != NULL) {
    s->lines = line->next;
    free (line);
  }
  lock_destroy (&s->lock);
}

/* A new one, or the one that was used longest ago. */
static struct stats_line *
new_line (struct stats *s)
{
  LOCK_FOR_SCOPE (&s->lock);
  struct stats_line *line, **link = &s->lines;
  unsigned n = 0;

  for (line = s->lines; line && line->next; line = line->next) {
    link = &line->next;
    n++;
  }
  if (n + 1 < MAX_LINES) {
    line = aligned_alloc (64, sizeof *line);
    if (line == NULL)
      return &s->overflow;
    memset (line, 0, sizeof *line);
  }
  else {
    line = *link;
    *link = NULL;
  }
  line->next = s->lines;
  s->lines = line;
  return line;
}

struct stats_line *
stats_take_line (struct stats *s)
{
  stats_mine.line = new_line (s);
  stats_mine.id = s->id;
  return stats_mine.line;
}

bool
stats_is_empty (struct stats *s)
{
  unsigned i;

  for (i = 0; i < COUNTERS; ++i)
    if (stats_sum (s, i) > 0)
      return false;
  return true;
}

uint64_t
stats_sum (struct stats *s, enum counter which)
{
  LOCK_FOR_SCOPE (&s->lock);
  struct stats_line *line;
  uint64_t sum =
      atomic_load_explicit (&s->overflow.counts[which], memory_order_relaxed);

  for (line = s->lines; line; line = line->next)
    sum += atomic_load_explicit (&line->counts[which], memory_order_relaxed);
  return sum;
}

struct histogram_view
stats_latency (struct stats *s, enum latency which)
{
  LOCK_FOR_SCOPE (&s->lock);
  struct histogram_view v = { 0 };
  struct stats_line *line;

  histogram_add (&v, &s->overflow.latencies[which], &request_scale);
  for (line = s->lines; line; line = line->next)
    histogram_add (&v, &line->latencies[which], &request_scale);
  return v;
}
