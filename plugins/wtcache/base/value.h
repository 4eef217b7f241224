/* SPDX-License-Identifier: BSD-3-Clause */

/* Values as people write them: "256M", "500ms", "yes".  See value.c. */

#ifndef WTCACHE_VALUE_H
#define WTCACHE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

/* A value as a user writes it. */
struct value_text {
  char s[32];
};

/* Each returns false if TEXT is not of that form, and then sets nothing. */

/* Digits alone. */
extern bool value_parse_number (const char *text, uint64_t *n);
/* Bytes, less than 2^63, with one of nbdkit's suffixes or none: "64K". */
extern bool value_parse_size (const char *text, uint64_t *bytes);
/* "20%". */
extern bool value_parse_percent (const char *text, uint64_t *percent);
/* At most 100 years, in ns: "30" is 30 s, "500ms", "2m". */
extern bool value_parse_time (const char *text, uint64_t *ns);
/* Yes, true, 1, on; no, false, 0, off. */
extern bool value_parse_bool (const char *text, bool *yes);

/* A size exactly: 268435456 is "256M", 1000 is "1000". */
extern struct value_text value_size (uint64_t bytes);
/* A time exactly: "30s", "1500ms". */
extern struct value_text value_time (uint64_t ns);

/* The size that a text of another program's form means: "1G" for "1GiB", "512K"
 * for "512kb".
 */
extern bool value_meant_size (const char *text, struct value_text *size);

#endif /* WTCACHE_VALUE_H */
