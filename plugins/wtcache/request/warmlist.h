/* SPDX-License-Identifier: BSD-3-Clause */

/* The text of a warm list.  See warmlist.c. */

#ifndef WTCACHE_WARMLIST_H
#define WTCACHE_WARMLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

/* Heats: 0 is the coldest. */
#define WARMLIST_HEATS 5

/* An export in a list. */
struct warmlist_export {
  char *name;
  bool tls;
  uint32_t page_size; /* bytes */
  uint64_t size;      /* bytes, when the list was made */
  uint64_t pages;     /* how many are listed */
};

/* A list that was read. */
struct warmlist {
  char *text; /* without the mark and the last line; the list's own */
  size_t len;
  size_t first_run; /* where the lines of runs begin */
  struct warmlist_export *exports;
  unsigned nr_exports;
};

/* Takes TEXT, which malloc gave, of LEN bytes: all of a file after its mark.
 * 0; or -1, with the reason in WHY, one line of at most SIZE bytes, and TEXT
 * freed.
 */
extern int warmlist_parse (struct warmlist *l, char *text, size_t len,
                           char *why, size_t size);
/* Also one that is all zeroes. */
extern void warmlist_free (struct warmlist *l);

/* Pages FIRST … FIRST + COUNT - 1 of an export. */
struct warmlist_run {
  unsigned heat;
  uint64_t first, count;
};

/* Where a walk over the runs of an export is. */
struct warmlist_walk {
  const struct warmlist *list;
  unsigned export;
  size_t at;
  bool in_line;
  uint64_t next; /* the page after the last run */
  unsigned heat;
};

extern void warmlist_walk_begin (const struct warmlist *l,
                                 struct warmlist_walk *w, unsigned export);
/* The next run, the hottest first; false: no more. */
extern bool warmlist_walk_next (struct warmlist_walk *w,
                                struct warmlist_run *run);

/* A list that is being made.  An allocation that fails is reported at the end.
 */
struct warmlist_text {
  char *bytes;
  size_t len, room;
  bool failed;
  unsigned nr_exports;
};

extern void warmlist_text_begin (struct warmlist_text *t);
/* All exports come before the first page.  Returns the number of the export in
 * this list.
 */
extern unsigned warmlist_text_export (struct warmlist_text *t, const char *name,
                                      bool tls, uint64_t size,
                                      uint32_t page_size);
/* N pages of an export, in ascending order; the hottest have to come first. */
extern void warmlist_text_pages (struct warmlist_text *t, unsigned heat,
                                 unsigned export, const uint64_t *pages,
                                 size_t n);
/* All pages that another list has of an export. */
extern void warmlist_text_copy (struct warmlist_text *t, unsigned export,
                                const struct warmlist *l, unsigned from);
/* The whole text, which the caller frees; NULL: ENOMEM. */
extern char *warmlist_text_end (struct warmlist_text *t);

#endif /* WTCACHE_WARMLIST_H */
