/* SPDX-License-Identifier: BSD-3-Clause */

/* Writes.  See write.c. */

#ifndef WTCACHE_WRITE_H
#define WTCACHE_WRITE_H

#include "request/types.h"

/* Whether every write and zero is treated as one with FUA. */
static inline bool
write_all_are_durable (enum mode mode)
{
  return mode >= MODE_WRITETHROUGH;
}

/* Writes a range, zeroes if BUF is NULL.  0 or an errno. */
extern int write_in_mode (struct client *c, const void *buf, uint32_t len,
                          uint64_t offset, enum mode mode, bool durable);

#endif /* WTCACHE_WRITE_H */
