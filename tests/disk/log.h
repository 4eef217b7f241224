/* SPDX-License-Identifier: BSD-3-Clause */

/* The log and the counters of the tests' disk. */

#ifndef WTDISK_LOG_H
#define WTDISK_LOG_H

#include <stddef.h>

#include "request.h"

/* Begins to log to PATH, and, if WITH_DATA, the bytes written to PATH.data.
 * Without this call requests are counted only.  Returns -1 with errno set.
 */
extern int log_open (const char *path, bool with_data);
extern void log_close (void);
extern int log_sync (void);

/* DATA is what a write carries, else null. */
extern void log_start (struct request *request, const void *data);
extern void log_end (struct request *request, int error);

/* A request which broke the block size, or which wrote a part and failed. */
extern void log_violation (const struct request *request);
extern void log_partial (const struct request *request, uint64_t bytes);

/* The image of an export (or of all: null) lost what was not durable. */
extern void log_forget (const struct export *export);
extern void log_crash (void);
extern void log_connection (bool opened);

/* Prints the counters as one line without its newline. */
extern void log_stats (char *buf, size_t length);
extern void log_stats_reset (void);

#endif /* WTDISK_LOG_H */
