/* SPDX-License-Identifier: BSD-3-Clause */

/* Segments of a tier: some MiB of slots, each with the bytes of a page, and at
 * the end a summary that says which pages they are.
 *
 *   │ slot 0 │ slot 1 │ …                 │ slot n-1 │ unused │ summary │
 *
 * Slots and summary are written in any order.  A crash may leave a summary
 * without its slots, or slots of the next use under the summary of the last.
 * Both are found when a slot is read: its checksum covers the sequence, the
 * place and the page that it was written as.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/util.h"
#include "tier/bytes.h"
#include "tier/segment.h"
#include "tier/unit.h"

enum {
  SLOT_PAGE = 0, /* in an entry */
  SLOT_EXPORT = 8,
  SLOT_CHECKSUM = 12,
  SLOT_BYTES = 16,

  COVER_EXPORT = 0, /* of what the checksum covers before the page */
  COVER_SLOT = 4,
  COVER_PAGE = 8,
  COVER_SEQUENCE = 16,
  COVER_BYTES = 24,
};

uint32_t
segment_checksum (const struct superblock *s,
                  const struct tier_summary *summary, uint32_t slot,
                  const void *page)
{
  const struct tier_slot *e = &summary->slots[slot];
  uint8_t cover[COVER_BYTES];
  uint32_t crc = crc32c (0, s->uuid, sizeof s->uuid);

  bytes_put32 (cover, COVER_EXPORT, e->export);
  bytes_put32 (cover, COVER_SLOT, summary->segment * s->geometry.slots + slot);
  bytes_put64 (cover, COVER_PAGE, e->page);
  bytes_put64 (cover, COVER_SEQUENCE, summary->sequence);
  crc = crc32c (crc, cover, sizeof cover);
  return crc32c (crc, page, s->geometry.page_size);
}

uint64_t
segment_slot_offset (const struct superblock *s, uint32_t segment,
                     uint32_t slot)
{
  return geometry_segment (&s->geometry, segment) +
         (uint64_t) slot * s->geometry.page_size;
}

static uint64_t
summary_offset (const struct superblock *s, uint32_t segment)
{
  const struct geometry *g = &s->geometry;

  return geometry_segment (g, segment) + g->segment_size -
         (uint64_t) g->summary_units * TIER_UNIT;
}

/* Entries in a unit of a summary. */
static uint32_t
entries_of (const struct geometry *g, uint32_t index)
{
  return min_u64 (TIER_SLOT_ENTRIES, g->slots - index * TIER_SLOT_ENTRIES);
}

static void
encode_summary (const struct superblock *s, const struct tier_summary *summary,
                uint32_t index, uint8_t *unit)
{
  const struct tier_slot *e = &summary->slots[index * TIER_SLOT_ENTRIES];
  const uint32_t count = entries_of (&s->geometry, index);
  uint8_t *entry = unit + UNIT_HEAD_BYTES;
  uint32_t i;

  for (i = 0; i < count; ++i, ++e, entry += SLOT_BYTES) {
    bytes_put64 (entry, SLOT_PAGE, e->page);
    bytes_put32 (entry, SLOT_EXPORT, e->export);
    bytes_put32 (entry, SLOT_CHECKSUM, e->checksum);
  }
  unit_seal (unit, s->uuid,
             &(struct unit_head){ .kind = UNIT_SUMMARY,
                                  .generation = summary->sequence,
                                  .index = index,
                                  .count = count,
                                  .number = summary->segment });
}

int
segment_write_summary (const struct superblock *s, struct medium *m,
                       const struct tier_summary *summary)
{
  const size_t len = (size_t) s->geometry.summary_units * TIER_UNIT;
  uint8_t *units = aligned_alloc (TIER_UNIT, len);
  uint32_t i;
  int r;

  if (units == NULL)
    return -1;
  memset (units, 0, len);
  for (i = 0; i < s->geometry.summary_units; ++i)
    encode_summary (s, summary, i, units + (size_t) i * TIER_UNIT);
  r = m->ops->write (m, units, len, summary_offset (s, summary->segment));
  free (units);
  return r;
}

/* All units of a summary have the sequence of the first. */
static bool
decode_summary (const struct superblock *s, struct tier_summary *summary,
                uint32_t index, const uint8_t *unit)
{
  struct tier_slot *e = &summary->slots[index * TIER_SLOT_ENTRIES];
  const uint32_t count = entries_of (&s->geometry, index);
  const uint8_t *entry = unit + UNIT_HEAD_BYTES;
  struct unit_head head;
  uint32_t i;

  if (!unit_open (unit, s->uuid, UNIT_SUMMARY, &head) || head.index != index ||
      head.count != count || head.number != summary->segment ||
      (index > 0 && head.generation != summary->sequence))
    return false;
  summary->sequence = head.generation;
  for (i = 0; i < count; ++i, ++e, entry += SLOT_BYTES)
    *e = (struct tier_slot){
      .page = bytes_get64 (entry, SLOT_PAGE),
      .export = bytes_get32 (entry, SLOT_EXPORT),
      .checksum = bytes_get32 (entry, SLOT_CHECKSUM),
    };
  return true;
}

int
segment_read_summary (const struct superblock *s, struct medium *m,
                      struct tier_summary *summary)
{
  const size_t len = (size_t) s->geometry.summary_units * TIER_UNIT;
  uint8_t *units = aligned_alloc (TIER_UNIT, len);
  uint32_t i = 0;
  int r;

  if (units == NULL)
    return -1;
  r = m->ops->read (m, units, len, summary_offset (s, summary->segment));
  while (r == 0 && i < s->geometry.summary_units &&
         decode_summary (s, summary, i, units + (size_t) i * TIER_UNIT))
    i++;
  free (units);
  return r == -1 ? -1 : i == s->geometry.summary_units;
}
