/* SPDX-License-Identifier: BSD-3-Clause */

/* The metrics, as text for Prometheus.  See metrics.c. */

#ifndef WTCACHE_METRICS_H
#define WTCACHE_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* The value of the label "server"; NAME stays where it is.  From now on what
 * exports have counted that are freed is kept.
 */
extern void metrics_name (const char *name);

/* From now on the metrics say that the server has ended; so many bytes that
 * were acknowledged are lost.
 */
extern void metrics_end (uint64_t lost);

/* All metrics of all exports as text, which the caller frees.  0 or ENOMEM. */
extern int metrics_text (char **text, size_t *len);

#endif /* WTCACHE_METRICS_H */
