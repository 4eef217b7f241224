/* SPDX-License-Identifier: BSD-3-Clause */

/* The head that units of a tier have in common.  See unit.c. */

#ifndef WTCACHE_TIER_UNIT_H
#define WTCACHE_TIER_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "tier/geometry.h"

/* Where the contents of a unit begin. */
#define UNIT_HEAD_BYTES 32

/* Four letters each, the first one in the lowest byte. */
#define UNIT_KIND(a, b, c, d)                                                  \
  ((uint32_t) (a) | (uint32_t) (b) << 8 | (uint32_t) (c) << 16 |               \
   (uint32_t) (d) << 24)

enum unit_kind {
  UNIT_STATE = UNIT_KIND ('W', 'T', 'H', 'E'),
  UNIT_EXPORT = UNIT_KIND ('W', 'T', 'E', 'X'),
  UNIT_INTENTS = UNIT_KIND ('W', 'T', 'I', 'N'),
  UNIT_LIVE = UNIT_KIND ('W', 'T', 'L', 'I'),
  UNIT_SUMMARY = UNIT_KIND ('W', 'T', 'S', 'U'),
};

struct unit_head {
  uint32_t kind;
  uint32_t index;      /* of its kind */
  uint64_t generation; /* of a summary, the sequence of its segment */
  uint32_t count;
  uint64_t number;
};

/* Writes the head and the checksum of a unit whose contents are there. */
extern void unit_seal (uint8_t *unit, const uint8_t *uuid,
                       const struct unit_head *head);
/* Whether a unit of this tier and kind is whole; its head in *HEAD. */
extern bool unit_open (const uint8_t *unit, const uint8_t *uuid,
                       enum unit_kind kind, struct unit_head *head);

#endif /* WTCACHE_TIER_UNIT_H */
