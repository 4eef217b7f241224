/* SPDX-License-Identifier: BSD-3-Clause */

/* The log lines of requests and write-back that fail.  See failures.c. */

#ifndef WTCACHE_FAILURES_H
#define WTCACHE_FAILURES_H

#include "base/probes.h"
#include "wtcache/connection.h"

/* The name of a kind of request. */
extern const char *failures_kind (enum request_kind kind);

/* A request of a client failed with ERROR. */
extern void failures_note (struct handle *h, enum request_kind kind,
                           uint32_t count, uint64_t offset, int error);

/* Logs what is due; for the clock. */
extern void failures_tick (void);
/* The server ends: logs how many requests failed beside those in the log. */
extern void failures_finish (void);

#endif /* WTCACHE_FAILURES_H */
