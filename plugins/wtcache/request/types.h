/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of the division: a connection's client. */

#ifndef WTCACHE_REQUEST_TYPES_H
#define WTCACHE_REQUEST_TYPES_H

#include "export.h"

struct readahead;

/* One connection. */
struct client {
  struct export *export;
  struct backend *own;
  struct readahead *ahead; /* NULL: none */
};

#endif /* WTCACHE_REQUEST_TYPES_H */
