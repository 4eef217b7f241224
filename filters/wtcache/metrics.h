/* SPDX-License-Identifier: BSD-3-Clause */

/* What there is to tell, as text for Prometheus.  See metrics.c. */

#ifndef WTCACHE_METRICS_H
#define WTCACHE_METRICS_H

/* Writes all metrics of all exports to FILE, replacing it at once.  0 or an
 * errno.
 */
extern int metrics_write (const char *file);

#endif /* WTCACHE_METRICS_H */
