/* SPDX-License-Identifier: BSD-3-Clause */

/* A thread for what touches files.  See filewriter.c. */

#ifndef WTCACHE_FILEWRITER_H
#define WTCACHE_FILEWRITER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

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

/* A thread, and what waits for it.  Begins as FILEWRITER_INIT. */
struct filewriter {
  struct lock lock; /* RANK_FILES */
  struct condition changed;
  pthread_t thread;

  /* Guarded by lock. */
  bool there; /* the thread takes what is given */
  bool stopping;
  bool ended; /* the thread has left its loop */
  struct writing *first, **last;
};

#define FILEWRITER_INIT                                                        \
  {                                                                            \
    .lock = {.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_FILES }          \
  }

/* For the statistics and what else lies in one folder with them. */
extern struct filewriter folder_writer;

/* 0 or an errno.  Until then, and after filewriter_stop, filewriter_give runs
 * it. */
extern int filewriter_start (struct filewriter *fw);

/* Has W run, after those that were given before.  TEXT, which may be NULL,
 * replaces one that still waits.
 */
extern void filewriter_give (struct filewriter *fw, struct writing *w,
                             char *text);
/* Whether W waits or runs. */
extern bool filewriter_is_busy (struct filewriter *fw, struct writing *w);
/* Waits until it does not.  False: DEADLINE has come first. */
extern bool filewriter_wait (struct filewriter *fw, struct writing *w,
                             uint64_t deadline);

/* Waits until all that was given has run, for at most NS, and ends the thread.
 * False: one of them hangs, and may touch its file until the process ends, or
 * until another call of this succeeds.
 */
extern bool filewriter_stop (struct filewriter *fw, uint64_t ns);

#endif /* WTCACHE_FILEWRITER_H */
