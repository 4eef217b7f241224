/* SPDX-License-Identifier: BSD-3-Clause */

/* The checksum CRC-32C (Castagnoli), as in RFC 3720.  See crc32c.c. */

#ifndef WTCACHE_CRC32C_H
#define WTCACHE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of LEN more bytes after those that CRC is of; of none it is 0.
 */
extern uint32_t crc32c (uint32_t crc, const void *bytes, size_t len);
/* The same without the CPU's instruction, where that is missing. */
extern uint32_t crc32c_by_table (uint32_t crc, const void *bytes, size_t len);

#endif /* WTCACHE_CRC32C_H */
