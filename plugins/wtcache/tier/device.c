/* SPDX-License-Identifier: BSD-3-Clause */

/* A file or a block device as a tier's medium, by pread and pwrite.
 *
 * Pages are in the filter's memory already, so the system need not cache them:
 * O_DIRECT.  Where a file system refuses it, reads and writes are buffered and
 * the system is told to forget them.
 *
 * One owner: a lock on the open file, not on the process, so it survives the
 * fork with which nbdkit goes to the background; of a block device also O_EXCL,
 * which excludes mounts, device mapper and md.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "base/why.h"
#include "tier/device.h"

#define ALIGNMENT   4096
#define CHUNK_BYTES (1 * MiB)

static struct device *
device_of (struct medium *m)
{
  return container_of (m, struct device, medium);
}

/* ---- the medium ---- */

static void
forget_cached (struct device *d, size_t len, uint64_t offset)
{
  if (!d->direct)
    posix_fadvise (d->fd, offset, len, POSIX_FADV_DONTNEED);
}

static int
device_read (struct medium *m, void *buffer, size_t len, uint64_t offset)
{
  struct device *d = device_of (m);
  size_t done;
  ssize_t n;

  for (done = 0; done < len; done += n) {
    n = pread (d->fd, (char *) buffer + done, len - done, offset + done);
    if (n <= 0) {
      if (n == 0)
        errno = EIO; /* it was truncated */
      return -1;
    }
  }
  forget_cached (d, len, offset);
  return 0;
}

static int
device_write (struct medium *m, const void *buffer, size_t len, uint64_t offset)
{
  struct device *d = device_of (m);
  size_t done;
  ssize_t n;

  for (done = 0; done < len; done += n) {
    n = pwrite (d->fd, (const char *) buffer + done, len - done, offset + done);
    if (n <= 0) {
      if (n == 0)
        errno = EIO;
      return -1;
    }
  }
  return 0;
}

static int
device_sync (struct medium *m)
{
  struct device *d = device_of (m);

  if (fdatasync (d->fd) == -1)
    return -1;
  forget_cached (d, 0, 0); /* all: a dirty page is not forgotten before */
  return 0;
}

/* Of a file nothing is given back: a later write could meet ENOSPC. */
static int
device_discard (struct medium *m, uint64_t offset, uint64_t len)
{
  struct device *d = device_of (m);
  uint64_t range[2] = { offset, len };

  return d->block ? ioctl (d->fd, BLKDISCARD, range) : 0;
}

static void
device_close (struct medium *m)
{
  close (device_of (m)->fd);
}

static const struct medium_ops device_ops = {
  .read = device_read,
  .write = device_write,
  .sync = device_sync,
  .discard = device_discard,
  .close = device_close,
};

/* ---- opening ---- */

/* Keeps other owners out. */
static int
lock_device (const struct device *d, enum device_use use, char *why,
             size_t size)
{
  struct flock all = {
    .l_type = use == DEVICE_READ ? F_RDLCK : F_WRLCK,
    .l_whence = SEEK_SET,
  };

  if (fcntl (d->fd, F_OFD_SETLK, &all) == 0)
    return 0;
  if (errno != EAGAIN && errno != EACCES)
    return why_refuse (why, size, "cannot be locked: %m");
  errno = EBUSY;
  return why_refuse (why, size, "is in use by another process");
}

static int
measure (struct device *d, char *why, size_t size)
{
  struct stat st;

  if (fstat (d->fd, &st) == -1)
    return why_refuse (why, size, "cannot be examined: %m");
  d->block = S_ISBLK (st.st_mode);
  d->medium.size = st.st_size;
  if (!d->block && !S_ISREG (st.st_mode)) {
    errno = EINVAL;
    return why_refuse (why, size, "is neither a file nor a block device");
  }
  if (d->block && ioctl (d->fd, BLKGETSIZE64, &d->medium.size) == -1)
    return why_refuse (why, size, "has no size: %m");
  return 0;
}

static void
set_direct (struct device *d, bool direct)
{
  const int flags = fcntl (d->fd, F_GETFL);

  d->direct = fcntl (d->fd, F_SETFL,
                     direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 &&
              direct;
}

/* Some file systems refuse O_DIRECT only when it is used. */
static int
try_direct (struct device *d, char *why, size_t size)
{
  void *buffer = aligned_alloc (ALIGNMENT, ALIGNMENT);

  if (buffer == NULL)
    return why_refuse (why, size, "%s", strerror (ENOMEM));
  set_direct (d, true);
  if (d->direct && pread (d->fd, buffer, ALIGNMENT, 0) == -1 && errno == EINVAL)
    set_direct (d, false);
  free (buffer);
  return 0;
}

static int
open_path (const char *path, enum device_use use)
{
  int flags = use == DEVICE_READ ? O_RDONLY : O_RDWR;
  struct stat st;

  if (use == DEVICE_CREATE)
    flags |= O_CREAT | O_EXCL;
  else if (stat (path, &st) == 0 && S_ISBLK (st.st_mode))
    flags |= O_EXCL;
  /* A FIFO must not make this wait. */
  return open (path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
}

int
device_open (struct device *d, const char *path, enum device_use use, char *why,
             size_t size)
{
  int error;

  *d = (struct device){ .medium = { .ops = &device_ops } };
  d->fd = open_path (path, use);
  if (d->fd == -1 && errno == EBUSY)
    return why_refuse (why, size,
                       "is in use: it is mounted, or another process has it");
  if (d->fd == -1 && use == DEVICE_CREATE && errno == EEXIST)
    return why_refuse (why, size,
                       "cannot be made: there is such a file, or a link to "
                       "nothing");
  if (d->fd == -1)
    return why_refuse (why, size, "cannot be opened: %m");
  if (measure (d, why, size) == 0 && lock_device (d, use, why, size) == 0 &&
      try_direct (d, why, size) == 0)
    return 0;
  error = errno;
  close (d->fd);
  errno = error;
  return -1;
}

/* ---- for a format ---- */

/* Whether all bytes of a range, which may end after the medium, are zero: 1, 0,
 * or -1 with errno.
 */
static int
is_zero (struct device *d, char *buffer, uint64_t offset, uint64_t end)
{
  ssize_t n;

  for (offset = round_down (offset, ALIGNMENT); offset < end; offset += n) {
    n = pread (d->fd, buffer, CHUNK_BYTES, offset);
    if (n == -1)
      return -1;
    if (n == 0)
      break;
    if (buffer[0] != 0 || memcmp (buffer, buffer + 1, n - 1) != 0)
      return 0;
  }
  return 1;
}

/* Goes over the parts of a file that are no holes. */
static int
file_is_zero (struct device *d, char *buffer)
{
  off_t from = 0, to = 0;
  int r = 1;

  while (r == 1 && (from = lseek (d->fd, to, SEEK_DATA)) != -1) {
    to = lseek (d->fd, from, SEEK_HOLE);
    r = to == -1 ? -1 : is_zero (d, buffer, from, to);
  }
  /* ENXIO: there is no more. */
  return r == 1 && from == -1 && errno != ENXIO ? -1 : r;
}

static int
block_is_zero (struct device *d, char *buffer)
{
  const uint64_t size = d->medium.size;
  const int r = is_zero (d, buffer, 0, min_u64 (size, CHUNK_BYTES));

  return r != 1 || size <= CHUNK_BYTES
             ? r
             : is_zero (d, buffer, size - CHUNK_BYTES, size);
}

int
device_is_empty (struct device *d, bool *empty, char *why, size_t size)
{
  char *buffer = aligned_alloc (ALIGNMENT, CHUNK_BYTES);
  int r;

  if (buffer == NULL)
    return why_refuse (why, size, "%s", strerror (ENOMEM));
  r = d->block ? block_is_zero (d, buffer) : file_is_zero (d, buffer);
  free (buffer);
  if (r == -1)
    return why_refuse (why, size, "cannot be read: %m");
  *empty = r == 1;
  return 0;
}

/* Takes room by writing, where the file system cannot reserve it. */
static int
device_fill (struct device *d, uint64_t bytes)
{
  char *zeroes = aligned_alloc (ALIGNMENT, CHUNK_BYTES);
  uint64_t at, n;
  int r = 0;

  if (zeroes == NULL)
    return -1;
  memset (zeroes, 0, CHUNK_BYTES);
  for (at = 0; at < bytes && r == 0; at += n) {
    n = min_u64 (bytes - at, CHUNK_BYTES);
    r = device_write (&d->medium, zeroes, n, at);
  }
  free (zeroes);
  return r;
}

int
device_allocate (struct device *d, uint64_t bytes, char *why, size_t size)
{
  int r;

  if (!d->block) {
    r = fallocate (d->fd, 0, 0, bytes);
    if (r == -1 && errno == EOPNOTSUPP)
      r = device_fill (d, bytes);
    if (r == -1)
      return why_refuse (why, size, "cannot get %llu bytes on its disk: %m",
                         (unsigned long long) bytes);
    d->medium.size = max_u64 (d->medium.size, bytes);
  }
  if (d->medium.size >= bytes)
    return 0;
  errno = ENOSPC;
  return why_refuse (why, size, "has only %llu bytes",
                     (unsigned long long) d->medium.size);
}
