/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that says that a server has lost data: nbdkit ends with status 0
 * then, and a filter cannot change that, so a service manager looks for this
 * file.  It has a line for each line of the log with LOST in it.
 *
 * The next server with that name logs these lines, renames the file to
 * NAME.lost.old and starts.  A file that does not begin with our mark is not
 * touched.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch/lost.h"

static const char mark[] = "# Data that nbdkit-wtcache-filter has lost\n";

static char *path; /* NULL: there is none */

int
lost_init (const char *beside, const char *name)
{
  const char *slash = beside ? strrchr (beside, '/') : NULL;

  if (slash == NULL)
    return 0;
  if (asprintf (&path, "%.*s/%s.lost", (int) (slash - beside), beside, name) ==
      -1) {
    path = NULL;
    return ENOMEM;
  }
  return 0;
}

void
lost_free (void)
{
  free (path);
  path = NULL;
}

/* Opens the file if it is a regular one; NULL: with errno. */
static FILE *
open_regular (int flags, const char *mode)
{
  const int fd =
      open (path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
  struct stat st;
  FILE *f = NULL;

  if (fd == -1)
    return NULL;
  errno = EINVAL;
  if (fstat (fd, &st) == 0 && S_ISREG (st.st_mode))
    f = fdopen (fd, mode);
  if (f == NULL)
    close (fd);
  return f;
}

static bool
begins_with_mark (FILE *f)
{
  char line[sizeof mark];

  return fgets (line, sizeof line, f) && strcmp (line, mark) == 0;
}

void
lost_tell_old (void (*log) (const char *text))
{
  FILE *f = path ? open_regular (O_RDONLY, "r") : NULL;
  char *line = NULL, *text, *old;
  size_t size = 0;

  if (f == NULL)
    return;
  if (begins_with_mark (f)) {
    while (getline (&line, &size, f) > 0) {
      line[strcspn (line, "\n")] = '\0';
      if (asprintf (&text, "%s: an earlier server has left: %s", path, line) ==
          -1)
        continue;
      log (text);
      free (text);
    }
    if (asprintf (&old, "%s.old", path) != -1) {
      rename (path, old);
      free (old);
    }
  }
  free (line);
  fclose (f);
}

int
lost_add (const char *line)
{
  FILE *f;
  bool ours;
  int err = 0;

  if (path == NULL)
    return 0;
  f = open_regular (O_RDWR | O_CREAT | O_APPEND, "a+");
  if (f == NULL)
    return errno;
  rewind (f);
  ours = begins_with_mark (f);
  if (!ours && ftell (f) == 0)
    ours = fputs (mark, f) >= 0;
  if (!ours)
    err = EEXIST;
  else {
    fseek (f, 0, SEEK_END);
    if (fprintf (f, "%s\n", line) < 0 || fflush (f) != 0 ||
        fsync (fileno (f)) != 0)
      err = errno;
  }
  if (fclose (f) != 0 && err == 0)
    err = errno;
  return err;
}
