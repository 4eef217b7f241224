/* SPDX-License-Identifier: BSD-3-Clause */

/* What there is to tell, as text for Prometheus.  See metrics.c. */

#ifndef WTCACHE_METRICS_H
#define WTCACHE_METRICS_H

#include <stddef.h>

/* All metrics of all exports as text, which the caller frees.  0 or ENOMEM. */
extern int metrics_text (char **text, size_t *len);

#endif /* WTCACHE_METRICS_H */
