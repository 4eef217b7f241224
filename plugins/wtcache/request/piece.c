/* SPDX-License-Identifier: BSD-3-Clause */

/* Common to pieces of reads and of writes: their lengths, how those of a large
 * request go side by side, and the buffers for blocks that a request covers
 * only in part.
 *
 * With pages of 4 KiB and 256 MiB of memory a piece has at most 1 MiB.  A
 * request of 3 MiB at offset 512 KiB is four pieces, which end at 1, 2, 3 and
 * 3.5 MiB.
 */

#include <config.h>

#include "request/piece.h"

/* The most bytes of a piece. */
#define PIECE_BYTES (1 * MiB)

static bool
take_small (struct scratch *s, uint64_t min)
{
  if (min > sizeof s->small)
    return false;
  s->bytes = s->small;
  s->len = min_u64 (s->len, sizeof s->small);
  return true;
}

void
piece_take_scratch (struct scratch *s, struct export *e, uint64_t len,
                    uint64_t min)
{
  const bool wait = min > sizeof s->small;
  size_t size = len;

  s->e = e;
  s->len = len;
  if (take_small (s, len))
    return;
  s->bytes = scratch_get (e->memory, &e->pc.borrower, min, &size, wait);
  if (s->bytes)
    s->len = size;
  else
    take_small (s, min);
}

bool
piece_try_scratch (struct scratch *s, struct export *e, uint64_t len)
{
  s->e = e;
  s->len = len;
  if (take_small (s, len))
    return true;
  s->bytes = len <= memory_scratch_max (e->memory)
                 ? scratch_try (e->memory, &e->pc.borrower, len, URGENCY_BESIDE)
                 : NULL;
  return s->bytes != NULL;
}

void
piece_drop_scratch (struct scratch *s)
{
  if (s->bytes && s->bytes != s->small && s->len > 0)
    scratch_put (s->e->memory, &s->e->pc.borrower, s->bytes, s->len);
}

/* The most bytes of a piece: a power of two, and at most a sixteenth of the
 * memory.
 */
uint64_t
piece_max (const struct export *e)
{
  const uint64_t page = page_size (&e->pc);
  uint64_t max = min_u64 (PIECE_BYTES, PIECE_PAGES * page);

  max = min_u64 (max, round_down (memory_limit (e->memory) / 16, page));
  return UINT64_C (1) << log2_u64 (max_u64 (max, page));
}

/* How long a piece that begins at OFFSET may be: it ends at a multiple of the
 * most.
 */
uint64_t
piece_len (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t max = piece_max (e);

  return min_u64 (len, max - (offset & (max - 1)));
}

uint64_t
piece_count (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t max = piece_max (e);

  return (offset + len - 1) / max - offset / max + 1;
}

int
piece_spread (struct export *e, struct spread *s, uint64_t offset, uint64_t len)
{
  const uint64_t max = piece_max (e);
  uint64_t parts = piece_count (e, offset, len);
  unsigned i, helpers = 0;
  int err;

  for (i = 0; i < ARRAY_LEN (s->cut); ++i)
    parts +=
        s->cut[i] > offset && s->cut[i] < offset + len && s->cut[i] % max != 0;
  if (shares_allow_helpers (e))
    helpers = memory_pin_beside (e->memory, &e->pc.borrower, max,
                                 min_u64 (parts - 1, SPREAD_HELPERS));
  s->part = max;
  s->origin = 0;
  s->crew = export_number (&e->pc);
  s->max_helpers = helpers;
  err = spread_run (s, offset, len);
  memory_unpin_beside (e->memory, &e->pc.borrower, max, helpers);
  return err;
}

/* The end of the block that OFFSET lies in or that ends there. */
uint64_t
piece_block_end (const struct export *e, uint64_t offset)
{
  return min_u64 (round_up (offset, block_size (&e->pc)), e->pc.size);
}

/* Whether a range consists of whole blocks. */
bool
piece_is_aligned (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t block = block_size (&e->pc);

  return offset % block == 0 &&
         ((offset + len) % block == 0 || offset + len == e->pc.size);
}
