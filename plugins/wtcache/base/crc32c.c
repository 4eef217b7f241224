/* SPDX-License-Identifier: BSD-3-Clause */

/* CRC-32C: the polynomial 0x1edc6f41, its bits reversed.
 *
 * For example, the checksum of the nine bytes "123456789" is 0xe3069283.
 *
 * A CPU of x86-64 with SSE 4.2 computes it eight bytes at a time; elsewhere it
 * goes four bits at a time by a table.  A 4 KiB page takes about 0.6 us or 20
 * us.
 */

#include <config.h>

#include <string.h>

#include "base/crc32c.h"

/* Of each number of four bits. */
static const uint32_t table[16] = {
  0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
  0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
  0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t
crc32c_by_table (uint32_t crc, const void *bytes, size_t len)
{
  const uint8_t *p = bytes;

  crc = ~crc;
  for (; len > 0; --len, ++p) {
    crc = table[(crc ^ *p) & 15] ^ crc >> 4;
    crc = table[(crc ^ *p >> 4) & 15] ^ crc >> 4;
  }
  return ~crc;
}

#ifdef __x86_64__

static uint32_t __attribute__ ((target ("sse4.2")))
by_instruction (uint32_t crc, const void *bytes, size_t len)
{
  const uint8_t *p = bytes;
  uint64_t c = ~crc, word;

  for (; len >= sizeof word; len -= sizeof word, p += sizeof word) {
    memcpy (&word, p, sizeof word);
    c = __builtin_ia32_crc32di (c, word);
  }
  for (; len > 0; --len, ++p)
    c = __builtin_ia32_crc32qi (c, *p);
  return ~(uint32_t) c;
}

uint32_t
crc32c (uint32_t crc, const void *bytes, size_t len)
{
  return __builtin_cpu_supports ("sse4.2") ? by_instruction (crc, bytes, len)
                                           : crc32c_by_table (crc, bytes, len);
}

#else

uint32_t
crc32c (uint32_t crc, const void *bytes, size_t len)
{
  return crc32c_by_table (crc, bytes, len);
}

#endif
