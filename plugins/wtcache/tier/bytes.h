/* SPDX-License-Identifier: BSD-3-Clause */

/* Little-endian numbers in a unit of the tier, on hosts of either order: the
 * number 0x01020304 at 8 is the bytes 04 03 02 01 at 8 … 11.
 */

#ifndef WTCACHE_TIER_BYTES_H
#define WTCACHE_TIER_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void
bytes_put32 (uint8_t *unit, size_t at, uint32_t v)
{
  v = htole32 (v);
  memcpy (unit + at, &v, sizeof v);
}

static inline void
bytes_put64 (uint8_t *unit, size_t at, uint64_t v)
{
  v = htole64 (v);
  memcpy (unit + at, &v, sizeof v);
}

static inline uint32_t
bytes_get32 (const uint8_t *unit, size_t at)
{
  uint32_t v;

  memcpy (&v, unit + at, sizeof v);
  return le32toh (v);
}

static inline uint64_t
bytes_get64 (const uint8_t *unit, size_t at)
{
  uint64_t v;

  memcpy (&v, unit + at, sizeof v);
  return le64toh (v);
}

#endif /* WTCACHE_TIER_BYTES_H */
