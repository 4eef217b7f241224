/* SPDX-License-Identifier: BSD-3-Clause */

/* Where a tier is kept, as a struct of functions: a file or a block device
 * (device.c), or, in tests, a model of a disk that loses power.
 *
 * Offsets and lengths are multiples of 4 KiB and lie within SIZE, buffers are
 * aligned to 4 KiB, so that all media can do without the system's cache.
 */

#ifndef WTCACHE_TIER_MEDIUM_H
#define WTCACHE_TIER_MEDIUM_H

#include <stddef.h>
#include <stdint.h>

struct medium;

/* Each returns 0, or -1 with errno. */
struct medium_ops {
  /* All of LEN bytes; EIO: there are fewer. */
  int (*read) (struct medium *m, void *buffer, size_t len, uint64_t offset);
  /* Durable after the next sync that succeeds, and only then.  Before that any
   * part of it may be on the medium, in any order with other writes.
   */
  int (*write) (struct medium *m, const void *buffer, size_t len,
                uint64_t offset);
  int (*sync) (struct medium *m);
  /* Tells the medium that these bytes are not wanted.  They may read as
   * anything afterwards.
   */
  int (*discard) (struct medium *m, uint64_t offset, uint64_t len);
  void (*close) (struct medium *m);
};

struct medium {
  const struct medium_ops *ops;
  uint64_t size; /* bytes */
};

#endif /* WTCACHE_TIER_MEDIUM_H */
