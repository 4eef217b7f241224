/* SPDX-License-Identifier: BSD-3-Clause */

/* Log lines about a backend that refuses write-back.  See refusal.c. */

#ifndef WTCACHE_REFUSAL_H
#define WTCACHE_REFUSAL_H

#include "export/types.h"

/* A write-back pass over E has ended, ERR of the backend.  From any thread. */
extern void refusal_note (struct export *e, int err);

#define REFUSAL_BYTES 512

/* Looks at E; for one thread.  True: TEXT, REFUSAL_BYTES long, is to be logged.
 */
extern bool refusal_look (struct export *e, uint64_t now, char *text);

#endif /* WTCACHE_REFUSAL_H */
