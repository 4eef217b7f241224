/* SPDX-License-Identifier: BSD-3-Clause */

/* The text format of Prometheus.  See wtcache-top-parse.c. */

#ifndef WTCACHE_TOP_PARSE_H
#define WTCACHE_TOP_PARSE_H

#include <stddef.h>

#define MAX_LABELS 16

struct label {
  const char *name, *value;
};

/* One line: a metric, its labels, its value. */
struct sample {
  const char *name;
  struct label labels[MAX_LABELS];
  size_t nr_labels;
  double value;
};

/* The value of a label, or NULL. */
extern const char *sample_label (const struct sample *s, const char *name);

/* Where a text is wrong, and how. */
struct parse_error {
  unsigned line;
  const char *what;
};

/* Calls fn for each sample of the text, which ends in a zero byte and is
 * changed; what a sample points to stands in it.  0, what fn returned if that
 * is not 0, or -1 and *ERROR if the text is not in the format.
 */
extern int parse_exposition (char *text, struct parse_error *error,
                             int (*fn) (const struct sample *s, void *opaque),
                             void *opaque);

#endif /* WTCACHE_TOP_PARSE_H */
