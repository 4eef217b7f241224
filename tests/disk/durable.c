/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of the durable image.  It is changed with pwrite and hole punching
 * only, and so outlives the process however that ends.  This file knows
 * nothing of blocks; the caller's lock orders the calls.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "durable.h"

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* Opens and sizes the durable file.  Returns -1 with errno set. */
int
durable_open (const char *path, int64_t *size, bool readonly)
{
  struct stat st;
  int fd;

  if (path == NULL)
    fd = memfd_create ("wtdisk", MFD_CLOEXEC);
  else {
    fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd == -1 && readonly)
      fd = open (path, O_RDONLY | O_CLOEXEC);
  }
  if (fd == -1)
    return -1;
  if (fstat (fd, &st) == -1)
    goto error;
  if (*size == -1)
    *size = st.st_size;
  /* Where the file system has no files of that size the file stays shorter
   * and reads as zeroes past its end.
   */
  if (st.st_size < *size && ftruncate (fd, *size) == -1 && errno != EFBIG &&
      !readonly)
    goto error;
  return fd;

error:
  close (fd);
  return -1;
}

int
durable_read (int fd, uint8_t *buf, uint64_t length, uint64_t offset)
{
  while (length > 0) {
    ssize_t r = pread (fd, buf, length, offset);

    if (r == -1) {
      if (errno == EINTR)
        continue;
      return errno;
    }
    if (r == 0) { /* past the end of a file shorter than the image */
      memset (buf, 0, length);
      return 0;
    }
    buf += r;
    offset += r;
    length -= r;
  }
  return 0;
}

int
durable_write (int fd, const uint8_t *buf, uint64_t length, uint64_t offset)
{
  while (length > 0) {
    ssize_t r = pwrite (fd, buf, length, offset);

    if (r == -1) {
      if (errno == EINTR)
        continue;
      return errno;
    }
    buf += r;
    offset += r;
    length -= r;
  }
  return 0;
}

int
durable_zero (int fd, uint64_t length, uint64_t offset)
{
  static const uint8_t zeroes[DURABLE_ZERO_MAX];

  if (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                 length) == 0)
    return 0;
  return durable_write (fd, zeroes, length, offset);
}

/* The last page of the largest file that there can be.  tmpfs finds neither
 * data nor a hole in it, so it counts as data.
 */
#define LAST_PAGE (INT64_MAX & ~UINT64_C (4095))

/* Where the data of the file begins from OFFSET on, at most LIMIT. */
uint64_t
durable_next_data (int fd, uint64_t offset, uint64_t limit)
{
  off_t r;

  if (offset >= LAST_PAGE)
    return offset;
  limit = min_u64 (limit, LAST_PAGE);
  r = lseek (fd, offset, SEEK_DATA);
  if (r == -1)
    return errno == ENXIO ? limit : offset;
  return min_u64 (r, limit);
}

/* Where a hole of the file begins from OFFSET on, at most LIMIT. */
uint64_t
durable_next_hole (int fd, uint64_t offset, uint64_t limit)
{
  off_t r;

  if (offset >= LAST_PAGE)
    return limit;
  r = lseek (fd, offset, SEEK_HOLE);
  return r == -1 ? limit : min_u64 (r, limit);
}
