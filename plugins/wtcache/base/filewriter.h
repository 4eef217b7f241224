/* SPDX-License-Identifier: BSD-3-Clause */

/* A thread for what touches files.  See filewriter.c. */

#ifndef WTCACHE_FILEWRITER_H
#define WTCACHE_FILEWRITER_H

#include <stdbool.h>
#include <stdint.h>

/* One thing that the thread does, again and again.  RUN gets the newest text
 * that was given, or NULL, and frees it.
 */
struct writing {
  void (*run) (char *text);

  /* Guarded by the file writer's lock. */
  struct writing *next; /* in the list of those that wait */
  char *text;
  bool waits, runs;
};

/* 0 or an errno.  Until then, and after filewriter_stop, filewriter_give runs
 * it. */
extern int filewriter_start (void);

/* Has W run, after those that were given before.  TEXT, which may be NULL,
 * replaces one that still waits.
 */
extern void filewriter_give (struct writing *w, char *text);
/* Whether W waits or runs. */
extern bool filewriter_is_busy (struct writing *w);

/* Waits until all that was given has run, for at most NS, and ends the thread.
 * False: one of them hangs, and may touch its file until the process ends.
 */
extern bool filewriter_stop (uint64_t ns);

#endif /* WTCACHE_FILEWRITER_H */
