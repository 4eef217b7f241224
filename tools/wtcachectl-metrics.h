/* SPDX-License-Identifier: BSD-3-Clause */

/* The statistics of a server.  See wtcachectl-metrics.c. */

#ifndef WTCACHECTL_METRICS_H
#define WTCACHECTL_METRICS_H

#include <stdbool.h>

#include "wtcachectl-talk.h"

/* Prints an answer that is ANSWER_OK; returns the exit status. */
extern int show_metrics (const struct answer *a, bool json);

#endif /* WTCACHECTL_METRICS_H */
