/* SPDX-License-Identifier: BSD-3-Clause */

/* Numbers as people read them.  See wtcache-top-units.c. */

#ifndef WTCACHE_TOP_UNITS_H
#define WTCACHE_TOP_UNITS_H

#include <stdbool.h>

/* A number as text; large enough for each of them. */
struct text {
  char s[32];
};

/* Whether characters outside of ASCII may be used; set once, at start. */
extern bool use_unicode;

/* "12 MiB", "-" for what is not known. */
extern struct text bytes_text (double bytes);
/* "950", "12.3k". */
extern struct text count_text (double count);
/* "97.2 %"; of a part of one.  Never 0 % or 100 % for what is not quite. */
extern struct text percent_text (double part);
/* "1.2 ms"; of a measured duration. */
extern struct text duration_text (double seconds);
/* "3 s", "2 min", "1 h 5 min", "3 days"; of an age. */
extern struct text age_text (double seconds);
/* "14:03:05", with its date if that is not today's; of a Unix time. */
extern struct text time_text (double unix_time);

#endif /* WTCACHE_TOP_UNITS_H */
