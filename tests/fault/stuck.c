/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit: files that hang, as they do when their server does not
 * answer.
 *
 * Those of which the path begins with WT_PREFIX.  The test and the server share
 * a page, the file of WT_PAGE: its first number has a bit for each function
 * that does not return while the bit is set, the second counts the calls that
 * wait.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* With it, libc defines in its headers what is defined here. */
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "next.h"

/* As the test has it: fault/test-stuck.py. */
struct page {
  _Atomic int64_t stuck, waiting;
};

enum { WRITE = 1, RENAME = 2, FSYNC = 4, UNLINK = 8 };

static struct page *page;
static const char *prefix;

static bool
is_one (const char *path)
{
  return strncmp (path, prefix, strlen (prefix)) == 0;
}

static bool
is_one_open (int fd)
{
  char link[64], path[4096];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  path[n > 0 ? n : 0] = '\0';
  return is_one (path);
}

static void
wait_while (int64_t bit)
{
  const int err = errno;

  atomic_fetch_add (&page->waiting, 1);
  while (atomic_load (&page->stuck) & bit)
    usleep (1000);
  atomic_fetch_sub (&page->waiting, 1);
  errno = err;
}

static bool
is_stuck (int64_t bit)
{
  return page && atomic_load (&page->stuck) & bit;
}

ssize_t
write (int fd, const void *bytes, size_t n)
{
  if (is_stuck (WRITE) && is_one_open (fd))
    wait_while (WRITE);
  return NEXT (write) (fd, bytes, n);
}

int
rename (const char *from, const char *to)
{
  if (is_stuck (RENAME) && is_one (to))
    wait_while (RENAME);
  return NEXT (rename) (from, to);
}

int
fsync (int fd)
{
  if (is_stuck (FSYNC) && is_one_open (fd))
    wait_while (FSYNC);
  return NEXT (fsync) (fd);
}

int
unlink (const char *path)
{
  if (is_stuck (UNLINK) && is_one (path))
    wait_while (UNLINK);
  return NEXT (unlink) (path);
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *shared = getenv ("WT_PAGE");
  void *p;
  int fd;

  prefix = getenv ("WT_PREFIX");
  if (prefix == NULL || shared == NULL)
    return;
  fd = open (shared, O_RDWR | O_CLOEXEC);
  p = mmap (NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd == -1 || p == MAP_FAILED) {
    perror (shared);
    abort ();
  }
  close (fd);
  page = p;
}
