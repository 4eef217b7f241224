/* SPDX-License-Identifier: BSD-3-Clause */

/* A request to the tests' disk, as its parts see it. */

#ifndef WTDISK_REQUEST_H
#define WTDISK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

struct image;

enum op { OP_READ, OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH, OP_EXTENTS, NR_OPS };

/* Also stands for "any" where a set of requests is described. */
#define OP_ANY NR_OPS

extern const char *const op_names[NR_OPS];

/* One export.  Without names every export is one disk, called "-". */
struct export
{
  const char *name;
  struct image *image;
  unsigned in_flight; /* guarded by the lock of the log */
};

struct request {
  enum op op;
  struct export *export;
  unsigned connection;
  uint64_t offset, length;
  bool fua, may_trim, fast;
  uint64_t id; /* set by the log */
};

#endif /* WTDISK_REQUEST_H */
