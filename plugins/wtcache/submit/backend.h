/* SPDX-License-Identifier: BSD-3-Clause */

/* One live connection's way down to the backend.  backend.c fills it from
 * nbdkit's `next`, tests from an array.
 */

#ifndef WTCACHE_BACKEND_H
#define WTCACHE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct nbdkit_extents;
struct nbdkit_next_ops;

enum fua_kind { FUA_NONE, FUA_EMULATED, FUA_NATIVE };

struct backend_traits {
  uint64_t size; /* bytes */
  /* Bytes; block is a power of two >= 512, the others are multiples of it.
   * MAXIMUM bounds every call.
   */
  uint32_t block, preferred, maximum;
  enum fua_kind fua;
  bool can_write, can_flush, can_zero, can_fast_zero, can_trim, can_extents;
  bool can_multi_conn, is_rotational;
};

/* The ability that a thread needs of a connection that it borrows. */
enum need { NEED_READ, NEED_WRITE, NEED_ZERO, NEED_FLUSH };

enum zero_flag { ZERO_MAY_TRIM = 1, ZERO_FUA = 2, ZERO_FAST = 4 };

/* Calls take 1 … maximum bytes inside the export, aligned to blocks but for
 * the end of the export.  They return 0 or an errno that NBD has, and do not
 * log.  A flag or a call the traits do not allow is never used.
 */
struct backend {
  struct backend_traits traits;
  void *next; /* whatever the calls need */

  int (*read) (struct backend *b, void *buf, uint32_t len, uint64_t offset);
  int (*write) (struct backend *b, const void *buf, uint32_t len,
                uint64_t offset, bool fua);
  int (*zero) (struct backend *b, uint32_t len, uint64_t offset,
               unsigned flags);
  int (*trim) (struct backend *b, uint32_t len, uint64_t offset, bool fua);
  int (*flush) (struct backend *b);

  struct connection *connection; /* for the export division alone */
};

/* The layer below in nbdkit; tests have none. */

/* Asks the layer below for its traits: in .prepare, because nbdkit demands
 * that each was asked for before it is relied on.  -1: it told why.
 */
extern int backend_init (struct backend *b, struct nbdkit_next_ops *next);

/* The minimum block of the layer below: 1 if it takes any request.  A power of
 * two, unlike traits.block also below 512.
 */
extern uint32_t backend_minimum (struct backend *b);

/* Block status from the layer below, into EXTENTS.  0 or an errno. */
extern int backend_extents (struct backend *b, uint32_t len, uint64_t offset,
                            uint32_t flags, struct nbdkit_extents *extents);

#endif /* WTCACHE_BACKEND_H */
