/* SPDX-License-Identifier: BSD-3-Clause */

/* The values that a disk has to have, after a flush or a crash: of each cell
 * the last durable write, or one that may have come later.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history-inside.h"

/* For each connection, and at the end for all, when the last flush began that
 * has succeeded.
 */
struct flushes {
  uint64_t *began;
  unsigned nr_connections;
};

static struct flushes
find_flushes (const struct history *h)
{
  struct flushes f = { NULL, 0 };

  for (size_t i = 0; i < h->nr_ops; ++i)
    if (h->ops[i]->connection >= f.nr_connections)
      f.nr_connections = h->ops[i]->connection + 1;
  f.began = history_zeroed (f.nr_connections + 1, sizeof *f.began);
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    const unsigned at = h->flushes_own ? op->connection : f.nr_connections;

    if (op->kind == FLUSH && op->outcome == DONE && op->start > f.began[at])
      f.began[at] = op->start;
  }
  return f;
}

/* By cell, the latest of the writes and zeroes that the disk has to have; null
 * where there is none.  Those that ended before TIME, or, if that is 0, those
 * that are durable.
 */
static const struct op **
find_required (const struct history *h, uint64_t time)
{
  const struct op **last = history_zeroed (h->nr_cells + 1, sizeof *last);
  struct flushes f = find_flushes (h);

  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    const unsigned at = h->flushes_own ? op->connection : f.nr_connections;

    if ((op->kind != WRITE && op->kind != ZERO) || op->outcome != DONE)
      continue;
    if (time ? op->end >= time : !op->fua && op->end >= f.began[at])
      continue;
    for (size_t c = history_first_cell (h, op); c < history_end_cell (h, op);
         ++c)
      if (last[c] == NULL || op->start > last[c]->start)
        last[c] = op;
  }
  free (f.began);
  return last;
}

static bool
leaves (const struct op *op, uint32_t value)
{
  return op->kind == TRIM || (op->kind == WRITE && op->version == value) ||
         (op->kind == ZERO && value == VALUE_ZERO);
}

/* Whether a read after a failure saw what LAST had put there before it: then
 * what failed has not happened, and the flush had to see to it.
 */
static bool
is_disproved (const struct history *h, size_t cell, const struct op *failed,
              const struct op *last)
{
  if (last->kind != WRITE || failed->start < last->end)
    return false;
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];

    if (op->kind == READ && op->outcome == DONE && op->values &&
        op->start > failed->end && history_covers (h, op, cell) &&
        op->values[cell - history_first_cell (h, op)] == last->version)
      return true;
  }
  return false;
}

/* Whether VALUE may be there though LAST has to be: some request that put
 * it there did not end before LAST began.  After a flush that succeeded, one
 * that failed before its end and is seen not to have happened does not count;
 * *SUSPECT: there was such a one, and it is not seen yet.
 */
static bool
may_follow (const struct history *h, size_t cell, uint32_t value,
            const struct op *last, const struct op *flush, bool *suspect)
{
  *suspect = false;
  if (value == (last->kind == ZERO ? VALUE_ZERO : last->version))
    return true;
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];

    if (op->outcome == REFUSED || op->end < last->start ||
        !history_covers (h, op, cell) || !leaves (op, value))
      continue;
    if (flush == NULL || op->outcome != FAILED || last->end >= flush->start ||
        op->end >= flush->end) {
      *suspect = false;
      return true;
    }
    *suspect |= !is_disproved (h, cell, op, last);
  }
  return *suspect;
}

static void
suspect (struct history *h, size_t cell, uint32_t value, const struct op *last,
         const struct op *flush)
{
  if ((h->nr_suspects & (h->nr_suspects - 1)) == 0)
    h->suspects =
        history_grow (h->suspects, 2 * h->nr_suspects + 1, sizeof *h->suspects);
  h->suspects[h->nr_suspects++] = (struct suspect){ cell, value, last, flush };
}

static bool
complain_of_disk (struct history *h, size_t cell, uint32_t value,
                  const struct op *last)
{
  snprintf (h->complaint, sizeof h->complaint,
            "at %" PRIu64 " is version %" PRIu32
            ", not the %s of version %" PRIu32 ", %" PRIu64 "+%" PRIu64
            " [%" PRIu64 "..%" PRIu64 "] of connection %u, fua=%d, nor a "
            "later one",
            h->cells[cell], value, kind_names[last->kind], last->version,
            last->offset, last->length, last->start, last->end,
            last->connection, last->fua);
  return false;
}

bool
history_check_suspects (struct history *h)
{
  bool again;

  for (size_t i = 0; i < h->nr_suspects; ++i) {
    const struct suspect *s = &h->suspects[i];

    if (!may_follow (h, s->cell, s->value, s->last, s->flush, &again))
      return complain_of_disk (h, s->cell, s->value, s->last);
  }
  return true;
}

static bool
check_required (struct history *h, const uint8_t *image, uint64_t time,
                const struct op *flush)
{
  uint32_t *values = history_grow (NULL, h->nr_cells, sizeof *values);
  const struct op **required = find_required (h, time);
  bool good = history_values_of (h, 0, h->nr_cells, image, values);

  for (size_t cell = 0; cell < h->nr_cells && good; ++cell) {
    const struct op *last = required[cell];
    bool again = false;

    if (last == NULL)
      continue;
    good = may_follow (h, cell, values[cell], last, flush, &again) ||
           complain_of_disk (h, cell, values[cell], last);
    if (good && again)
      suspect (h, cell, values[cell], last, flush);
  }
  free (required);
  free (values);
  return good;
}

bool
history_check_durable (struct history *h, const uint8_t *image,
                       const struct op *flush)
{
  return check_required (h, image, 0, flush);
}

bool
history_check_since (struct history *h, const uint8_t *image, uint64_t time)
{
  return time == 0 || check_required (h, image, time, NULL);
}
