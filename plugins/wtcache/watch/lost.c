/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that says that a server has lost data: nbdkit ends with status 0
 * then, and a filter cannot change that, so a service manager looks for this
 * file.  It has a line for each line of the log with LOST in it.
 *
 * The next server with that name logs these lines, renames the file to
 * NAME.lost.old and starts.  A file that does not begin with our mark is not
 * touched.  All of this is done by the file writer's thread
 * (base/filewriter.c): no other waits for the file.
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

#include "base/filewriter.h"
#include "watch/lost.h"

static const char mark[] = "# Data that nbdkit-wtcache-filter has lost\n";

static char *path; /* NULL: there is none */
static void (*log_line) (const char *text);

int
lost_init (const char *beside, const char *name, void (*log) (const char *text))
{
  const char *slash = beside ? strrchr (beside, '/') : NULL;

  log_line = log;
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

static void
log_about_file (const char *what, const char *more)
{
  char *text;

  if (asprintf (&text, "%s%s: %s", path, what, more) == -1)
    return;
  log_line (text);
  free (text);
}

static void
tell_lines (FILE *f)
{
  char *line = NULL;
  size_t size = 0;

  while (getline (&line, &size, f) > 0) {
    line[strcspn (line, "\n")] = '\0';
    log_about_file (": an earlier server has left", line);
  }
  free (line);
}

static void
run_tell_old (char *text)
{
  FILE *f = path ? open_regular (O_RDONLY, "r") : NULL;
  char *old;

  free (text);
  if (f == NULL)
    return;
  if (begins_with_mark (f)) {
    tell_lines (f);
    if (asprintf (&old, "%s.old", path) != -1) {
      rename (path, old);
      free (old);
    }
  }
  fclose (f);
}

static struct writing lost_telling = { .run = run_tell_old };

void
lost_tell_old (void)
{
  filewriter_give (&folder_writer, &lost_telling, NULL);
}

/* Without lines the file goes.  0 or an errno. */
static int
write_lost (FILE *f, const char *lines)
{
  const bool ours = begins_with_mark (f) || ftell (f) == 0;

  if (!ours)
    return EEXIST;
  if (*lines == '\0')
    return unlink (path) == 0 ? 0 : errno;
  rewind (f);
  if (ftruncate (fileno (f), 0) != 0 || fputs (mark, f) < 0 ||
      fputs (lines, f) < 0 || fflush (f) != 0 || fsync (fileno (f)) != 0)
    return errno;
  return 0;
}

static void
run_lost_set (char *lines)
{
  FILE *f = path && lines ? open_regular (O_RDWR | O_CREAT, "r+") : NULL;
  int err;

  if (path && lines) {
    err = f ? write_lost (f, lines) : errno;
    if (f && fclose (f) != 0 && err == 0)
      err = errno;
    if (err != 0)
      log_about_file (", the file that says so, cannot be written",
                      strerror (err));
  }
  free (lines);
}

static struct writing lost_setting = { .run = run_lost_set };

void
lost_set (char *lines)
{
  filewriter_give (&folder_writer, &lost_setting, lines);
}
