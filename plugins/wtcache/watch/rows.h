/* SPDX-License-Identifier: BSD-3-Clause */

/* The metrics of an export that are a number each.  See rows.c. */

#ifndef WTCACHE_ROWS_H
#define WTCACHE_ROWS_H

#include "export.h"

/* How a value is printed: as it is, or in seconds.  SUM: as it is, and it is a
 * gauge that can be summed over exports.
 */
enum unit { PLAIN, NANOSECONDS, SUM };

/* One line for each export.  Rows of one name follow each other and differ in
 * their label; a row without help goes on with the metric before.
 */
struct row {
  const char *name, *type, *help;
  const char *label; /* beside those of the export, or NULL */
  uint64_t (*value) (struct export *e, int which);
  int which;
  enum unit unit;
};

#define MAX_ROWS 64

/* As they are printed; after the last one comes one without a name. */
extern const struct row rows[];

/* Whether a row's values are only ever added to. */
extern bool row_is_counter (const struct row *r);

#endif /* WTCACHE_ROWS_H */
