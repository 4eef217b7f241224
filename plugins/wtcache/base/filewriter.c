/* SPDX-License-Identifier: BSD-3-Clause */

/* A thread for what touches files, so that no other thread waits for one.
 *
 * A file may lie on a server that does not answer: over a hard NFS mount,
 * write, rename or fsync then do not return.  The clock and the end of the
 * server cannot wait for that.  They give the thread a text, which is to be the
 * file, and go on.  If the file before it is still being written, the newest
 * text waits and replaces those that waited.
 *
 * For example, statistics are made every 2 s.  If rename hangs for a minute,
 * the thread is in it for a minute, one text waits, and the other 28 are not
 * even made, because filewriter_is_busy says so.
 *
 * A thread that hangs when the server ends is left behind, so this module stays
 * in memory when nbdkit unloads it (Makefile.am: nodelete), and what such a
 * thread may still look at is not freed.
 *
 * May not know what is written.
 */

#include <config.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/lock.h"
#include "base/util.h"
#include "base/filewriter.h"

static struct {
  struct lock lock; /* RANK_FILES */
  struct condition changed;
  pthread_t thread;

  /* Guarded by lock. */
  bool there; /* the thread takes what is given */
  bool stopping;
  bool ended; /* the thread has left its loop */
  struct writing *first, **last;
} filewriter = {
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_FILES },
};

/* Takes the first of those that wait, and its text; NULL: it is time to end. */
static struct writing *
take_writing (char **text)
{
  LOCK_FOR_SCOPE (&filewriter.lock);
  struct writing *w;

  while (filewriter.first == NULL && !filewriter.stopping)
    condition_wait (&filewriter.changed, &filewriter.lock);
  w = filewriter.first;
  if (w == NULL) {
    filewriter.ended = true;
    condition_wake_all (&filewriter.changed);
    return NULL;
  }
  filewriter.first = w->next;
  if (filewriter.first == NULL)
    filewriter.last = &filewriter.first;
  w->waits = false;
  w->runs = true;
  *text = w->text;
  w->text = NULL;
  return w;
}

static void *
run_writer (void *arg)
{
  struct writing *w;
  char *text;

  while ((w = take_writing (&text)) != NULL) {
    w->run (text);
    lock_take (&filewriter.lock);
    w->runs = false;
    lock_drop (&filewriter.lock);
  }
  return arg;
}

int
filewriter_start (void)
{
  sigset_t all, old;
  int err;

  condition_init (&filewriter.changed);
  filewriter.last = &filewriter.first;
  filewriter.stopping = filewriter.ended = false;
  /* It calls no backend, so nothing relies on its signals. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&filewriter.thread, NULL, run_writer, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  filewriter.there = err == 0;
  return err;
}

/* False: there is no thread. */
static bool
add_writing (struct writing *w, char *text)
{
  LOCK_FOR_SCOPE (&filewriter.lock);

  if (!filewriter.there)
    return false;
  free (w->text);
  w->text = text;
  if (w->waits)
    return true;
  w->waits = true;
  w->next = NULL;
  *filewriter.last = w;
  filewriter.last = &w->next;
  condition_wake_all (&filewriter.changed);
  return true;
}

void
filewriter_give (struct writing *w, char *text)
{
  if (!add_writing (w, text))
    w->run (text);
}

bool
filewriter_is_busy (struct writing *w)
{
  LOCK_FOR_SCOPE (&filewriter.lock);

  return w->waits || w->runs;
}

bool
filewriter_stop (uint64_t ns)
{
  const uint64_t deadline = now_ns () + ns;
  bool ended;

  lock_take (&filewriter.lock);
  if (!filewriter.there) {
    lock_drop (&filewriter.lock);
    return true;
  }
  filewriter.there = false;
  filewriter.stopping = true;
  condition_wake_all (&filewriter.changed);
  while (!filewriter.ended &&
         condition_wait_until (&filewriter.changed, &filewriter.lock, deadline))
    ;
  ended = filewriter.ended;
  lock_drop (&filewriter.lock);
  if (!ended)
    return false;
  pthread_join (filewriter.thread, NULL);
  condition_destroy (&filewriter.changed);
  return true;
}
