/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit: makes a file one that can lose what was not synced.
 *
 * Beside the file, whose name WT_FILE has, stands FILE.durable: what a power
 * cut would leave.  A sync of the file brings there what was written before it
 * began.  A sync that is to fail does as kernels do: the pages that it could
 * not write are marked clean, it reports the error once, and the next one
 * succeeds and knows nothing of them.  Their bytes are gone when they leave the
 * kernel's cache: at once, or, with `keep`, when the test asks.
 *
 * The test and the server share a page, the file of WT_PAGE.  Syncs do not
 * overlap: the second waits for the pages of the first, and is told nothing
 * of what happened to them.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* With it, libc defines in its headers what is defined here. */
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "next.h"

#define UNIT 512

/* As the test has it: fault/test-files.py. */
struct page {
  _Atomic int64_t skip, count; /* syncs that are to succeed, then to fail */
  _Atomic int64_t error;       /* the errno of those that fail */
  _Atomic int64_t keep;        /* what was lost is still read until: */
  _Atomic int64_t evict;       /* the test asks to forget it now */
  _Atomic int64_t syncs, failed;
  _Atomic int64_t lost;    /* units, all in all */
  _Atomic int64_t partly;  /* a sync that fails has written every second page */
  _Atomic int64_t latency; /* of a sync, us */
};

/* Of 512 bytes of the file. */
enum state {
  DURABLE,
  WRITTEN, /* since the last sync began */
  SYNCING,
  LOST, /* a sync of it failed: only the kernel's cache still has it */
};

static struct page *page;
static struct stat which;           /* the file */
static int file = -1, durable = -1; /* ours, of the file and FILE.durable */

/* One sync at a time; taken before lock. */
static pthread_mutex_t sync_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by lock, which is held over each change of the file. */
static uint8_t *states;
static uint64_t units;

static void
stop (const char *why)
{
  perror (why);
  abort ();
}

static bool
is_the_file (int fd)
{
  struct stat st;

  return page && fstat (fd, &st) == 0 && st.st_dev == which.st_dev &&
         st.st_ino == which.st_ino;
}

static void
get (int fd, uint8_t *bytes, uint64_t unit)
{
  memset (bytes, 0, UNIT);
  if (NEXT (pread64) (fd, bytes, UNIT, unit * UNIT) == -1)
    stop ("WT_FILE: read");
}

static void
put (int fd, const uint8_t *bytes, uint64_t unit)
{
  if (NEXT (pwrite64) (fd, bytes, UNIT, unit * UNIT) != UNIT)
    stop ("WT_FILE: write");
}

/* The kernel forgets what is lost: the file is again what the disk has. */
static void
evict (void)
{
  uint8_t bytes[UNIT];

  for (uint64_t u = 0; u < units; ++u)
    if (states[u] == LOST) {
      get (durable, bytes, u);
      put (file, bytes, u);
      states[u] = DURABLE;
    }
}

static void
evict_if_asked (void)
{
  if (atomic_exchange (&page->evict, 0))
    evict ();
}

static void
mark_written (uint64_t offset, uint64_t len)
{
  for (uint64_t u = offset / UNIT; u * UNIT < offset + len && u < units; ++u)
    states[u] = WRITTEN;
}

static bool
take_one (_Atomic int64_t *n)
{
  int64_t now = atomic_load (n);

  while (now > 0)
    if (atomic_compare_exchange_weak (n, &now, now - 1))
      return true;
  return false;
}

/* The arguments of a sync. */
struct taken {
  uint64_t n;
  uint64_t *units;
  uint8_t *bytes; /* of each, as they were when it began */
};

static void
begin_sync (struct taken *t)
{
  uint64_t u;

  pthread_mutex_lock (&lock);
  evict_if_asked ();
  t->n = 0;
  for (u = 0; u < units; ++u)
    t->n += states[u] == WRITTEN;
  t->units = calloc (t->n + 1, sizeof *t->units);
  t->bytes = calloc (t->n + 1, UNIT);
  if (t->units == NULL || t->bytes == NULL)
    stop ("WT_FILE");
  t->n = 0;
  for (u = 0; u < units; ++u)
    if (states[u] == WRITTEN) {
      states[u] = SYNCING;
      get (file, t->bytes + t->n * UNIT, u);
      t->units[t->n++] = u;
    }
  pthread_mutex_unlock (&lock);
}

/* Bytes that were written again meanwhile wait for the next sync.  Of those
 * that fail, some pages may have been written all the same.
 */
static void
end_sync (struct taken *t, bool good)
{
  pthread_mutex_lock (&lock);
  for (uint64_t i = 0; i < t->n; ++i) {
    const uint64_t u = t->units[i];
    const bool there = good || (page->partly && u / 8 % 2);

    if (there)
      put (durable, t->bytes + i * UNIT, u);
    if (states[u] == SYNCING) {
      states[u] = there ? DURABLE : LOST;
      atomic_fetch_add (&page->lost, !there);
    }
  }
  if (!good && !page->keep)
    evict ();
  pthread_mutex_unlock (&lock);
  free (t->units);
  free (t->bytes);
}

static int
sync_file (void)
{
  struct taken t;
  bool good;

  pthread_mutex_lock (&sync_lock);
  begin_sync (&t);
  usleep (page->latency);
  atomic_fetch_add (&page->syncs, 1);
  good = take_one (&page->skip) || !take_one (&page->count);
  end_sync (&t, good);
  atomic_fetch_add (&page->failed, !good);
  pthread_mutex_unlock (&sync_lock);
  errno = page->error;
  return good ? 0 : -1;
}

/* The functions that the plugin calls. */

int
fdatasync (int fd)
{
  return is_the_file (fd) ? sync_file () : NEXT (fdatasync) (fd);
}

ssize_t
pread64 (int fd, void *bytes, size_t n, off64_t offset)
{
  if (is_the_file (fd) && page->evict) {
    pthread_mutex_lock (&lock);
    evict_if_asked ();
    pthread_mutex_unlock (&lock);
  }
  return NEXT (pread64) (fd, bytes, n, offset);
}

ssize_t
pwrite64 (int fd, const void *bytes, size_t n, off64_t offset)
{
  ssize_t r;

  if (!is_the_file (fd))
    return NEXT (pwrite64) (fd, bytes, n, offset);
  pthread_mutex_lock (&lock);
  evict_if_asked ();
  r = NEXT (pwrite64) (fd, bytes, n, offset);
  if (r > 0)
    mark_written (offset, r);
  pthread_mutex_unlock (&lock);
  return r;
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t len)
{
  int r;

  if (!is_the_file (fd))
    return NEXT (fallocate64) (fd, mode, offset, len);
  pthread_mutex_lock (&lock);
  evict_if_asked ();
  r = NEXT (fallocate64) (fd, mode, offset, len);
  if (r == 0 && mode != 0) /* without a mode it changes no byte */
    mark_written (offset, len);
  pthread_mutex_unlock (&lock);
  return r;
}

#if __WORDSIZE == 64
/* There, these are other names of the same functions. */
#define SAME(name, plain)                                                      \
  extern __typeof__ (name##64) plain __asm__(#name)                            \
      __attribute__ ((alias (#name "64")))
SAME (pread, plain_pread);
SAME (pwrite, plain_pwrite);
SAME (fallocate, plain_fallocate);
#endif

static int
open_file (const char *path, const char *end)
{
  char name[4096];
  int fd;

  snprintf (name, sizeof name, "%s%s", path, end);
  fd = open (name, O_RDWR | O_CLOEXEC);
  if (fd == -1)
    stop (name);
  return fd;
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *path = getenv ("WT_FILE"), *shared = getenv ("WT_PAGE");
  void *p;
  int fd;

  if (path == NULL || shared == NULL)
    return;
  file = open_file (path, "");
  durable = open_file (path, ".durable");
  if (fstat (file, &which) == -1)
    stop (path);
  units = (which.st_size + UNIT - 1) / UNIT;
  states = calloc (units, 1);
  fd = open_file (shared, "");
  p = mmap (NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (states == NULL || p == MAP_FAILED)
    stop (shared);
  close (fd);
  page = p;
}
