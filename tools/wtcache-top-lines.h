/* SPDX-License-Identifier: BSD-3-Clause */

/* The display, as lines of text.  See wtcache-top-lines.c. */

#ifndef WTCACHE_TOP_LINES_H
#define WTCACHE_TOP_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "wtcache-top-file.h"

enum style { PLAIN, TITLE, GOOD, BUSY, BAD, FAINT, DRAWING, NR_STYLES };

/* A line is a text and, where its style is another, the end of it. */
struct line {
  char *text, *tail;
  enum style style, tail_style;
};

struct lines {
  struct line *lines;
  size_t nr_lines;
  size_t width; /* columns that there are */
  bool drawn;   /* whether sparklines are */
};

/* Adds what is known of a server, either in a block or in a line for each of
 * its exports.
 */
extern void lines_add (struct lines *l, const struct followed *f, bool brief);
/* Adds a line that is of no server. */
extern void lines_add_text (struct lines *l, enum style style,
                            const char *text);
extern void lines_free (struct lines *l);

#endif /* WTCACHE_TOP_LINES_H */
