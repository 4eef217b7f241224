/* SPDX-License-Identifier: BSD-3-Clause */

/* The head that units of a tier have in common:
 *
 *   0      4          8            16      20      24       32
 *   │ kind │ checksum │ generation │ index │ count │ number │ contents … │
 *
 * The checksum covers the uuid of the tier, which is not in the unit.  So what
 * an older tier left in the same place never counts.
 */

#include <config.h>

#include "base/crc32c.h"
#include "tier/bytes.h"
#include "tier/unit.h"

enum {
  AT_KIND = 0,
  AT_CHECKSUM = 4,
  AT_GENERATION = 8,
  AT_INDEX = 16,
  AT_COUNT = 20,
  AT_NUMBER = 24,
};

static uint32_t
unit_checksum (const uint8_t *unit, const uint8_t *uuid)
{
  static const uint8_t zero[4];
  uint32_t crc = crc32c (0, uuid, TIER_UUID_BYTES);

  crc = crc32c (crc, unit, AT_CHECKSUM);
  crc = crc32c (crc, zero, sizeof zero);
  return crc32c (crc, unit + AT_GENERATION, TIER_UNIT - AT_GENERATION);
}

void
unit_seal (uint8_t *unit, const uint8_t *uuid, const struct unit_head *head)
{
  bytes_put32 (unit, AT_KIND, head->kind);
  bytes_put64 (unit, AT_GENERATION, head->generation);
  bytes_put32 (unit, AT_INDEX, head->index);
  bytes_put32 (unit, AT_COUNT, head->count);
  bytes_put64 (unit, AT_NUMBER, head->number);
  bytes_put32 (unit, AT_CHECKSUM, unit_checksum (unit, uuid));
}

bool
unit_open (const uint8_t *unit, const uint8_t *uuid, enum unit_kind kind,
           struct unit_head *head)
{
  *head = (struct unit_head){
    .kind = bytes_get32 (unit, AT_KIND),
    .generation = bytes_get64 (unit, AT_GENERATION),
    .index = bytes_get32 (unit, AT_INDEX),
    .count = bytes_get32 (unit, AT_COUNT),
    .number = bytes_get64 (unit, AT_NUMBER),
  };
  return head->kind == kind &&
         bytes_get32 (unit, AT_CHECKSUM) == unit_checksum (unit, uuid);
}
