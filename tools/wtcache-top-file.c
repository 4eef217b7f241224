/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that are followed while they are replaced.
 *
 * A server replaces its file as a whole, so one that is open is complete and
 * does not change.  It is looked at by its name each time, and read only if it
 * is another one.  The time when it was written is the time of its numbers.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "wtcache-top-file.h"
#include "wtcache-top-say.h"

/* The file of a server with thousands of exports is smaller. */
#define MAX_BYTES (64 * MiB)

/* A server writes its file every 2 seconds. */
#define STALE_SECONDS 15

/* How long a first look waits for a file that is not there. */
#define APPEAR_SECONDS 5

static double
to_seconds (struct timespec t)
{
  return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

double
follow_age (const struct followed *f)
{
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  return fmax (to_seconds (now) - f->source.written, 0);
}

bool
follow_is_stale (const struct followed *f)
{
  return follow_age (f) > STALE_SECONDS;
}

bool
follow_has_ended (const struct followed *f)
{
  return f->source.ended > 0;
}

/* Reads it all, as text that ends in a zero byte; NULL and *TROUBLE if that
 * fails.
 */
static char *
read_all (int fd, size_t size, char **trouble)
{
  char *text = must_resize (NULL, size + 1, 1);
  size_t done = 0;
  ssize_t r = 1;

  while (done < size && r > 0) {
    r = read (fd, text + done, size - done);
    if (r > 0)
      done += r;
    else if (r == -1 && errno == EINTR)
      r = 1;
  }
  text[done] = '\0';
  if (r == -1)
    *trouble = must_format ("cannot be read: %s", strerror (errno));
  else if (strlen (text) < done)
    *trouble = must_copy ("this is not a file of wtcache-stats");
  else
    return text;
  free (text);
  return NULL;
}

static bool
is_same (const struct followed *f, const struct stat *st)
{
  return f->mark.device == st->st_dev && f->mark.inode == st->st_ino &&
         f->mark.size == st->st_size &&
         f->mark.changed.tv_sec == st->st_mtim.tv_sec &&
         f->mark.changed.tv_nsec == st->st_mtim.tv_nsec;
}

/* Reads the open file, if it is another than before.  Returns a complaint or
 * NULL.
 */
static char *
read_file (struct followed *f, int fd, bool *same)
{
  char *text, *trouble = NULL;
  struct stat st;

  if (fstat (fd, &st) != 0)
    return must_format ("cannot be read: %s", strerror (errno));
  if (!S_ISREG (st.st_mode))
    return must_copy ("this is not a file of wtcache-stats");
  *same = is_same (f, &st);
  if (*same)
    return NULL;
  if ((uint64_t) st.st_size > MAX_BYTES)
    return must_copy ("this is not a file of wtcache-stats: it is too large");
  text = read_all (fd, st.st_size, &trouble);
  if (text == NULL)
    return trouble;
  f->mark.device = st.st_dev;
  f->mark.inode = st.st_ino;
  f->mark.size = st.st_size;
  f->mark.changed = st.st_mtim;
  trouble = model_take (&f->source, text, to_seconds (st.st_mtim));
  free (text);
  return trouble;
}

/* Looks at the file, and reads it if it is another. */
static bool
look_again (struct followed *f)
{
  char *trouble;
  bool same = false, changed;
  /* Whatever else the name leads to must not make this wait. */
  const int fd =
      open (f->source.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

  if (fd == -1) {
    trouble = must_format ("cannot be opened: %s", strerror (errno));
    /* Should the same file come back, it is to be read. */
    f->mark.inode = 0;
  }
  else {
    trouble = read_file (f, fd, &same);
    close (fd);
  }
  /* One that was wrong at the last look still is. */
  if (same)
    return false;
  changed = trouble == NULL || f->trouble == NULL ||
            strcmp (trouble, f->trouble) != 0;
  free (f->trouble);
  f->trouble = trouble;
  return changed;
}

/* The command of a server in the background returns before the server writes
 * its first file.
 */
void
follow (struct followed *f, const char *path)
{
  const struct timespec pause = { .tv_nsec = FOLLOW_LOOK_NS };
  unsigned turns = APPEAR_SECONDS * (1000000000 / FOLLOW_LOOK_NS);

  memset (f, 0, sizeof *f);
  model_init (&f->source, path);
  while (access (path, F_OK) == -1 && errno == ENOENT && turns-- > 0)
    nanosleep (&pause, NULL);
  follow_again (f);
}

bool
follow_again (struct followed *f)
{
  const bool changed = look_again (f);

  f->source.past = follow_has_ended (f) || follow_is_stale (f) || f->trouble;
  return changed;
}
