/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that are replaced whole, and only if they are ours.
 *
 * The user names a file, and may name a wrong one: a disk image, a device, a
 * link.  So a file is replaced only if it is a regular one that begins with a
 * line of ours, the mark, or is empty: a power cut can leave an empty file, and
 * nothing is lost with it.  Anything else is refused, links too.
 *
 * The text is first written to FILE.new, which has to be new, and is then
 * renamed, so readers see the old file or the new one.  The mode is kept, and
 * the group if the system permits that.
 *
 * FILE.lock is for those that write the file: an flock on a file of mode 0600,
 * so other users cannot hold it.  A lock on the file itself would not do, since
 * monitors may read that.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ownfile.h"
#include "base/why.h"

#define MARK_MAX   200 /* bytes of a mark */
#define LOCK_TRIES 10

/* Whether an open file begins with the mark or is empty. */
static bool
is_ours (int fd, const char *mark)
{
  char text[MARK_MAX];
  const size_t len = strlen (mark);
  const ssize_t n = pread (fd, text, sizeof text, 0);

  return n == 0 || (n >= (ssize_t) len && memcmp (text, mark, len) == 0);
}

/* Looks at a file by its name: 1 if it is ours, with its status in *ST; 0 if
 * there is none; -1 if it must not be replaced.
 */
static int
look (const char *path, const char *mark, struct stat *st, char *why,
      size_t size)
{
  bool ours;
  int fd;

  /* First without opening it: to open a device can be an act. */
  if (lstat (path, st) != 0)
    return errno == ENOENT ? 0 : why_refuse (why, size, "%s: %m", path);
  if (S_ISLNK (st->st_mode))
    return why_refuse (why, size, "%s is a symbolic link", path);
  if (!S_ISREG (st->st_mode))
    return why_refuse (why, size, "%s is not a regular file", path);
  fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd == -1)
    return why_refuse (why, size, "%s cannot be read: %m", path);
  ours = fstat (fd, st) == 0 && S_ISREG (st->st_mode) && is_ours (fd, mark);
  close (fd);
  if (!ours)
    return why_refuse (why, size,
                       "%s was not written by wtcache, so it is not replaced: "
                       "name another file, or remove that one",
                       path);
  return 1;
}

int
ownfile_look (const struct ownfile *f, char *why, size_t size)
{
  struct stat st;

  return look (f->path, f->mark, &st, why, size);
}

static char *
beside (const char *path, const char *suffix, char *why, size_t size)
{
  char *other;

  if (asprintf (&other, "%s%s", path, suffix) != -1)
    return other;
  why_refuse (why, size, "%s", strerror (ENOMEM));
  return NULL;
}

/* ---- the lock ---- */

/* Opens the lock's file, which is empty; CREATE: makes it if it is not there.
 * -1: with WHY, or without if it is not there.
 */
static int
open_lock (const char *path, bool create, char *why, size_t size)
{
  struct stat st;
  int fd = -1, i;

  *why = '\0';
  for (i = 0; fd == -1 && i < LOCK_TRIES; ++i) {
    fd = open (path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd == -1 && errno == ENOENT && !create)
      return -1;
    if (fd == -1 && errno == ENOENT)
      fd =
          open (path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd == -1 && errno != EEXIST)
      return why_refuse (why, size, "%s cannot be opened: %m", path);
  }
  if (fd == -1)
    return why_refuse (why, size, "%s cannot be opened: %m", path);
  if (fstat (fd, &st) == 0 && S_ISREG (st.st_mode) && st.st_size == 0)
    return fd;
  close (fd);
  return why_refuse (why, size, "%s is in the way, and no lock of wtcache",
                     path);
}

/* Whether a descriptor is of the file that the path names now. */
static bool
is_named (int fd, const char *path)
{
  struct stat a, b;

  return fstat (fd, &a) == 0 && lstat (path, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

/* Takes the lock on a descriptor; 1: another process has it. */
static int
take_lock (int fd, const char *path, char *why, size_t size)
{
  if (flock (fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno != EWOULDBLOCK)
    return why_refuse (why, size, "%s cannot be locked: %m", path);
  why_refuse (why, size, "another server uses this file");
  return 1;
}

/* Whether files can be made in the folder. */
static int
check_folder (const char *path, char *why, size_t size)
{
  const char *slash = strrchr (path, '/');
  char *folder = slash ? strndup (path, slash - path + 1) : strdup (".");
  int r = 0;

  if (folder == NULL || access (folder, W_OK | X_OK) != 0)
    r = why_refuse (why, size, "cannot write in its folder: %m");
  free (folder);
  return r;
}

int
ownfile_check (const struct ownfile *f, char *why, size_t size)
{
  struct stat st;
  char *path;
  int fd, r = 0;

  if (look (f->path, f->mark, &st, why, size) == -1 ||
      check_folder (f->path, why, size) == -1)
    return -1;
  path = beside (f->path, ".lock", why, size);
  if (path == NULL)
    return -1;
  fd = open_lock (path, false, why, size);
  if (fd != -1) {
    r = take_lock (fd, path, why, size);
    close (fd);
  }
  else if (*why)
    r = -1;
  free (path);
  return r;
}

/* The process that held the lock may remove its file between our open and our
 * lock: then the lock is of no file that others see.
 */
int
ownfile_lock (struct ownfile *f, char *why, size_t size)
{
  char *path = beside (f->path, ".lock", why, size);
  int r = -1, fd, i;

  if (path == NULL)
    return -1;
  for (i = 0; f->lock == -1 && i < LOCK_TRIES; ++i) {
    fd = open_lock (path, true, why, size);
    r = fd == -1 ? -1 : take_lock (fd, path, why, size);
    if (r == 0 && is_named (fd, path))
      f->lock = fd;
    else if (fd != -1)
      close (fd);
    if (r != 0)
      break;
  }
  free (path);
  return f->lock == -1 && r == 0 ? -1 : r;
}

void
ownfile_unlock (struct ownfile *f)
{
  char why[MARK_MAX], *path;

  if (f->lock == -1)
    return;
  path = beside (f->path, ".lock", why, sizeof why);
  if (path && is_named (f->lock, path))
    unlink (path);
  free (path);
  close (f->lock);
  f->lock = -1;
}

/* ---- the file ---- */

/* LEN bytes, or as many as there are, which *GOT then says. */
static int
read_text (int fd, char *text, size_t len, off_t offset, size_t *got)
{
  ssize_t n;

  for (*got = 0; *got < len; *got += n) {
    n = pread (fd, text + *got, len - *got, offset + *got);
    if (n == -1 && errno == EINTR)
      n = 0;
    else if (n <= 0)
      return n;
  }
  return 0;
}

static int
read_open (int fd, const struct ownfile *f, size_t max, char **text,
           size_t *len, char *why, size_t size)
{
  const size_t mark = strlen (f->mark);
  struct stat st;

  if (fstat (fd, &st) != 0)
    return why_refuse (why, size, "%s: %m", f->path);
  if ((uint64_t) st.st_size <= mark)
    return 0;
  if (st.st_size - mark > max)
    return why_refuse (why, size, "%s has %zu bytes, and there is room for %zu",
                       f->path, (size_t) st.st_size, max);
  *text = malloc (st.st_size - mark);
  if (*text && read_text (fd, *text, st.st_size - mark, mark, len) == 0)
    return 0;
  why_refuse (why, size, "%s cannot be read: %m", f->path);
  free (*text);
  *text = NULL;
  return -1;
}

int
ownfile_read (const struct ownfile *f, size_t max, char **text, size_t *len,
              char *why, size_t size)
{
  int fd, r = ownfile_look (f, why, size);

  *text = NULL;
  *len = 0;
  if (r != 1)
    return r;
  fd = open (f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1)
    return why_refuse (why, size, "%s cannot be read: %m", f->path);
  r = read_open (fd, f, max, text, len, why, size);
  close (fd);
  return r;
}

static int
write_text (int fd, const char *text, size_t len)
{
  ssize_t n;

  while (len > 0) {
    n = write (fd, text, len);
    if (n == -1 && errno != EINTR)
      return -1;
    if (n > 0) {
      text += n;
      len -= n;
    }
  }
  return 0;
}

/* Makes the new file; one that a dead process of ours left is removed. */
static int
make (const char *path, const char *mark, mode_t mode, char *why, size_t size)
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  struct stat st;
  int fd = open (path, flags, mode);

  if (fd == -1 && errno == EEXIST) {
    if (look (path, mark, &st, why, size) == -1)
      return -1;
    unlink (path);
    fd = open (path, flags, mode);
  }
  if (fd == -1)
    return why_refuse (why, size, "%s cannot be made: %m", path);
  return fd;
}

/* As the one that it replaces.  The group may be none of ours. */
static void
keep_mode (int fd, const struct stat *old)
{
  struct stat st;

  if (fstat (fd, &st) == 0 && st.st_gid != old->st_gid &&
      fchown (fd, -1, old->st_gid) != 0)
    errno = 0;
  fchmod (fd, old->st_mode & 0777);
}

static int
write_new (const struct ownfile *f, const char *new_path, const char *text,
           size_t len, char *why, size_t size)
{
  struct stat old;
  const int there = look (f->path, f->mark, &old, why, size);
  int fd;
  bool good;

  if (there == -1)
    return -1;
  fd = make (new_path, f->mark, there ? old.st_mode & 0777 : 0666, why, size);
  if (fd == -1)
    return -1;
  if (there)
    keep_mode (fd, &old);
  good = write_text (fd, f->mark, strlen (f->mark)) == 0 &&
         write_text (fd, text, len) == 0;
  if (!good)
    why_refuse (why, size, "cannot write: %m");
  if (close (fd) != 0 && good) {
    good = false;
    why_refuse (why, size, "cannot write: %m");
  }
  if (good && rename (new_path, f->path) != 0) {
    good = false;
    why_refuse (why, size, "cannot replace: %m");
  }
  if (!good)
    unlink (new_path);
  return good ? 0 : -1;
}

int
ownfile_replace (const struct ownfile *f, const char *text, size_t len,
                 char *why, size_t size)
{
  char *path = beside (f->path, ".new", why, size);
  int r;

  if (path == NULL)
    return -1;
  r = write_new (f, path, text, len, why, size);
  free (path);
  return r;
}
