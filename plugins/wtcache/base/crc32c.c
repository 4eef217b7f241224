/* SPDX-License-Identifier: BSD-3-Clause */

/* CRC-32C: the polynomial 0x1edc6f41, its bits reversed, four bits at a time.
 *
 * For example, the checksum of the nine bytes "123456789" is 0xe3069283.
 */

#include <config.h>

#include "base/crc32c.h"

/* Of each number of four bits. */
static const uint32_t table[16] = {
  0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
  0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
  0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t
crc32c (uint32_t crc, const void *bytes, size_t len)
{
  const uint8_t *p = bytes;

  crc = ~crc;
  for (; len > 0; --len, ++p) {
    crc = table[(crc ^ *p) & 15] ^ crc >> 4;
    crc = table[(crc ^ *p >> 4) & 15] ^ crc >> 4;
  }
  return ~crc;
}
