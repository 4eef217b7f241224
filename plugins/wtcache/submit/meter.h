/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls to a backend, counted and timed.  See meter.c. */

#ifndef WTCACHE_METER_H
#define WTCACHE_METER_H

#include "base/histogram.h"
#include "submit/backend.h"

enum backend_call {
  CALL_READ,
  CALL_WRITE,
  CALL_ZERO,
  CALL_TRIM,
  CALL_FLUSH,
  BACKEND_CALLS
};

/* Zeroed memory is one that measured nothing.  Relaxed, as histograms are. */
struct meter {
  struct {
    struct histogram latency; /* ns */
    _Atomic uint64_t bytes;   /* of those that succeeded */
    _Atomic uint64_t errors;
  } calls[BACKEND_CALLS];
};

/* As the backend's own, see backend.h. */
extern int meter_read (struct meter *m, struct backend *b, void *buf,
                       uint32_t len, uint64_t offset);
extern int meter_write (struct meter *m, struct backend *b, const void *buf,
                        uint32_t len, uint64_t offset, bool fua);
extern int meter_zero (struct meter *m, struct backend *b, uint32_t len,
                       uint64_t offset, unsigned flags);
extern int meter_trim (struct meter *m, struct backend *b, uint32_t len,
                       uint64_t offset, bool fua);
extern int meter_flush (struct meter *m, struct backend *b);

#endif /* WTCACHE_METER_H */
