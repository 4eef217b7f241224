/* SPDX-License-Identifier: BSD-3-Clause */

/* A file or a block device as a tier's medium.  See device.c. */

#ifndef WTCACHE_TIER_DEVICE_H
#define WTCACHE_TIER_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tier/medium.h"

struct device {
  struct medium medium;
  int fd;
  bool block;  /* a block device */
  bool direct; /* it bypasses the system's cache */
};

enum device_use {
  DEVICE_READ,   /* others may read it too */
  DEVICE_WRITE,  /* nothing else may use it */
  DEVICE_CREATE, /* the same; there must be no such file yet */
};

/* All return 0, or -1 and the reason in WHY, one line of at most SIZE bytes
 * that a path may precede: "is in use by another process".
 */

/* medium.ops->close ends it.  errno is that of the failure; EBUSY: it is in
 * use.
 */
extern int device_open (struct device *d, const char *path, enum device_use use,
                        char *why, size_t size);
/* Whether a byte of it may be wanted.  Of a block device only the first and the
 * last MiB are looked at.
 */
extern int device_is_empty (struct device *d, bool *empty, char *why,
                            size_t size);
/* Makes a file BYTES long at least, with room for all of it on its disk: later
 * writes do not meet ENOSPC.  Its bytes may be overwritten by zeroes.  A
 * block device is only asked whether it is that long.
 */
extern int device_allocate (struct device *d, uint64_t bytes, char *why,
                            size_t size);

#endif /* WTCACHE_TIER_DEVICE_H */
