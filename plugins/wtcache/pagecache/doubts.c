/* SPDX-License-Identifier: BSD-3-Clause */

/* Ranges in which the backend may have anything.
 *
 * A write or zero that failed may have been done in part, and a trim leaves
 * what it likes.  None of that was acknowledged, so it is not repeated after a
 * failed flush; but a backend that loses bytes that were not durable changes
 * there once more.  Bytes that were read into the cache meanwhile would then
 * differ from the backend: a client could read one thing, and after an eviction
 * another.  So these ranges are remembered until a flush that began after them
 * succeeds; if a flush or FUA operation fails first, what is clean there leaves
 * the cache, and what was in doubt before that one began is not any longer:
 * what the backend drops it has dropped.
 *
 * To remember too much costs a few reads after a failure: so there is room for
 * some ranges, and beyond that the two that are nearest become one.
 *
 * For example, a trim of 1 MiB leaves its range in doubt.  A read then caches 4
 * KiB of it, and a flush fails.  The backend may have lost the trim, so the 4
 * KiB are discarded, and the next read asks the backend.
 */

#include <config.h>

#include <string.h>

#include "base/util.h"
#include "pagecache/doubts.h"

void
doubts_init (struct doubts *d)
{
  memset (d, 0, sizeof *d);
  lock_init (&d->lock, RANK_DOUBTS);
}

void
doubts_destroy (struct doubts *d)
{
  lock_destroy (&d->lock);
}

/* How far apart they are; 0: they overlap. */
static uint64_t
doubts_gap (const struct doubt *a, const struct doubt *b)
{
  if (a->end <= b->offset)
    return b->offset - a->end + 1;
  return b->end <= a->offset ? a->offset - b->end + 1 : 0;
}

static struct doubt *
nearest (struct doubts *d, const struct doubt *to)
{
  struct doubt *best = &d->doubt[0];
  unsigned i;

  assert_held (&d->lock);
  for (i = 1; i < d->count; ++i)
    if (doubts_gap (&d->doubt[i], to) < doubts_gap (best, to))
      best = &d->doubt[i];
  return best;
}

void
doubts_add (struct doubts *d, uint64_t offset, uint64_t len,
            uint16_t generation, uint32_t epoch)
{
  const struct doubt new = { .offset = offset,
                             .end = offset + len,
                             .generation = generation,
                             .epoch = epoch };
  LOCK_FOR_SCOPE (&d->lock);
  struct doubt *old = nearest (d, &new);

  if (d->count == 0 || (doubts_gap (old, &new) > 0 && d->count < DOUBTS_MAX)) {
    d->doubt[d->count++] = new;
    return;
  }
  old->offset = min_u64 (old->offset, new.offset);
  old->end = max_u64 (old->end, new.end);
  /* Several may come here at once: the later counts. */
  if (before_u16 (old->generation, generation))
    old->generation = generation;
  if (before_u32 (old->epoch, epoch))
    old->epoch = epoch;
}

void
doubts_settle (struct doubts *d, uint16_t flush)
{
  LOCK_FOR_SCOPE (&d->lock);
  unsigned i, kept = 0;

  for (i = 0; i < d->count; ++i)
    if (!before_u16 (d->doubt[i].generation, flush))
      d->doubt[kept++] = d->doubt[i];
  d->count = kept;
}

unsigned
doubts_fail (struct doubts *d, uint32_t epoch, struct doubt to[DOUBTS_MAX])
{
  LOCK_FOR_SCOPE (&d->lock);
  const unsigned count = d->count;
  unsigned i;

  memcpy (to, d->doubt, count * sizeof to[0]);
  d->count = 0;
  for (i = 0; i < count; ++i)
    if (!before_u32 (to[i].epoch, epoch))
      d->doubt[d->count++] = to[i];
  return count;
}
