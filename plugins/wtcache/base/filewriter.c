/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads for what touches files, so that no other thread waits for one.
 *
 * A file may lie on a server that does not answer: over a hard NFS mount,
 * write, rename or fsync then do not return.  The clock and the end of the
 * server cannot wait for that.  They give such a thread a text, which is to be
 * the file, and go on.  If the file before it is still being written, the
 * newest text waits and replaces those that waited.
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
#include <stdlib.h>

#include "base/lock.h"
#include "base/thread.h"
#include "base/util.h"
#include "base/filewriter.h"

struct filewriter folder_writer = FILEWRITER_INIT;

/* Takes the first of those that wait, and its text; NULL: it is time to end. */
static struct writing *
take_writing (struct filewriter *fw, char **text)
{
  LOCK_FOR_SCOPE (&fw->lock);
  struct writing *w;

  while (fw->first == NULL && !fw->stopping)
    condition_wait (&fw->changed, &fw->lock);
  w = fw->first;
  if (w == NULL) {
    fw->ended = true;
    condition_wake_all (&fw->changed);
    return NULL;
  }
  fw->first = w->next;
  if (fw->first == NULL)
    fw->last = &fw->first;
  w->waits = false;
  w->runs = true;
  *text = w->text;
  w->text = NULL;
  return w;
}

static void *
run_writer (void *arg)
{
  struct filewriter *fw = arg;
  struct writing *w;
  char *text;

  while ((w = take_writing (fw, &text)) != NULL) {
    w->run (text);
    lock_take (&fw->lock);
    w->runs = false;
    condition_wake_all (&fw->changed);
    lock_drop (&fw->lock);
  }
  return arg;
}

int
filewriter_start (struct filewriter *fw)
{
  int err;

  condition_init (&fw->changed);
  fw->last = &fw->first;
  fw->stopping = fw->ended = false;
  err = thread_begin_own (&fw->thread, run_writer, fw);
  fw->there = err == 0;
  return err;
}

/* False: there is no thread. */
static bool
add_writing (struct filewriter *fw, struct writing *w, char *text)
{
  LOCK_FOR_SCOPE (&fw->lock);

  if (!fw->there)
    return false;
  free (w->text);
  w->text = text;
  if (w->waits)
    return true;
  w->waits = true;
  w->next = NULL;
  *fw->last = w;
  fw->last = &w->next;
  condition_wake_all (&fw->changed);
  return true;
}

void
filewriter_give (struct filewriter *fw, struct writing *w, char *text)
{
  if (!add_writing (fw, w, text))
    w->run (text);
}

bool
filewriter_is_busy (struct filewriter *fw, struct writing *w)
{
  LOCK_FOR_SCOPE (&fw->lock);

  return w->waits || w->runs;
}

bool
filewriter_wait (struct filewriter *fw, struct writing *w, uint64_t deadline)
{
  LOCK_FOR_SCOPE (&fw->lock);

  while ((w->waits || w->runs) &&
         condition_wait_until (&fw->changed, &fw->lock, deadline))
    ;
  return !w->waits && !w->runs;
}

bool
filewriter_stop (struct filewriter *fw, uint64_t ns)
{
  const uint64_t deadline = now_ns () + ns;
  bool ended;

  lock_take (&fw->lock);
  if (!fw->there && !fw->stopping) {
    lock_drop (&fw->lock);
    return true;
  }
  fw->there = false;
  fw->stopping = true;
  condition_wake_all (&fw->changed);
  while (!fw->ended && condition_wait_until (&fw->changed, &fw->lock, deadline))
    ;
  ended = fw->ended;
  if (ended)
    fw->stopping = false;
  lock_drop (&fw->lock);
  if (!ended)
    return false;
  pthread_join (fw->thread, NULL);
  condition_destroy (&fw->changed);
  return true;
}
