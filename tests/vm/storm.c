/* SPDX-License-Identifier: BSD-3-Clause */

/* A storm of small durable writes to files, and the judge of what is left of
 * them when the disk was lost in the middle of it.  It runs in the guest and
 * knows files only.
 *
 *   storm run STATE DIR SEED   write in DIR until writing fails, or stop
 *   storm wait STATE NUMBER    until that many writes were made durable
 *   storm join STATE           until it has ended
 *   storm stop STATE           let it end, and join
 *   storm check STATE DIR      compare DIR with what was promised
 *
 * STATE is a file in memory that all of them map: what each block of each
 * file was last told to be, and what of that a call such as fsync has promised
 * to be durable.  It outlives the disk, since the guest does.
 *
 * A file consists of blocks, and a block of bytes that follow from the file's
 * number, the block's place and a version.  A worker has files of its own and
 * writes one version after the other, so a block must be found in a version
 * from the last promised one up to the last one begun.  Version 0 is a block
 * never written: zeroes.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKERS 4
#define FILES   40  /* of each worker */
#define BLOCKS  256 /* of a file, at most */
#define BLOCK   512 /* bytes; what a disk writes whole or not at all */
#define DIRECT  8   /* blocks that a write with O_DIRECT is aligned to */
#define NAME    64

/* Only its worker writes to it; the judge reads after the storm has ended. */
struct file {
  uint32_t version;                   /* the last one used */
  uint32_t size_begun, size_promised; /* in blocks */
  bool begun, promised;               /* that it exists */
  bool removal_begun;
  uint32_t blocks_begun[BLOCKS], blocks_promised[BLOCKS];
};

struct state {
  /* Counters and flags that say nothing about other memory: relaxed. */
  atomic_uint promises, running;
  atomic_bool stop;
  struct file files[WORKERS][FILES];
};

struct worker {
  struct state *state;
  unsigned number;
  const char *top;
  int dir;
  uint64_t random;
  uint8_t *buffer; /* BLOCKS, aligned for O_DIRECT */
  pthread_t thread;
};

static void __attribute__ ((noreturn, format (printf, 1, 2)))
die (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  printf (": %s\n", strerror (errno));
  exit (1);
}

/* A step of splitmix64: the next of a good sequence of numbers. */
static uint64_t
next_random (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
  return z ^ z >> 31;
}

static unsigned
below (struct worker *w, unsigned limit)
{
  return next_random (&w->random) % limit;
}

/* The bytes of a block.  The first ones tell the version. */
static void
fill_block (uint8_t *bytes, unsigned worker, unsigned file, unsigned block,
            uint32_t version)
{
  uint64_t words[BLOCK / 8] = { version };
  uint64_t random = ((uint64_t) version << 32) ^ (uint64_t) worker << 24 ^
                    (uint64_t) file << 12 ^ block;

  if (version != 0)
    for (unsigned i = 1; i < BLOCK / 8; i++)
      words[i] = next_random (&random);
  memcpy (bytes, words, BLOCK);
}

static struct state *
map_state (const char *path, bool create)
{
  int fd = open (path, O_RDWR | (create ? O_CREAT : 0), 0600);
  struct state *state;

  if (fd == -1 || (create && ftruncate (fd, sizeof *state) == -1))
    die ("%s", path);
  state = mmap (NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (state == MAP_FAILED)
    die ("%s", path);
  close (fd);
  return state;
}

/* The storm.  Each step returns -1 where a call fails, and its worker ends:
 * a disk that is lost does not come back under a mounted file system.
 */

static void
promise (struct worker *w, struct file *f, unsigned first, unsigned count)
{
  memcpy (f->blocks_promised + first, f->blocks_begun + first,
          count * sizeof f->blocks_begun[0]);
  if (f->size_promised < first + count)
    f->size_promised = first + count;
  f->promised = true;
  atomic_fetch_add_explicit (&w->state->promises, 1, memory_order_relaxed);
}

/* Writes a new version of a range, telling first that it may be there. */
static int
write_blocks (struct worker *w, struct file *f, unsigned number, int fd,
              unsigned first, unsigned count)
{
  const size_t length = (size_t) count * BLOCK;

  f->version++;
  for (unsigned i = 0; i < count; i++) {
    fill_block (w->buffer + i * BLOCK, w->number, number, first + i,
                f->version);
    f->blocks_begun[first + i] = f->version;
  }
  if (f->size_begun < first + count)
    f->size_begun = first + count;
  f->begun = true;
  return pwrite (fd, w->buffer, length, (off_t) first * BLOCK) ==
                 (ssize_t) length
             ? 0
             : -1;
}

enum how { BUFFERED, BUFFERED_FSYNC, BUFFERED_FDATASYNC, DIRECT_DSYNC };

static int
change (struct worker *w, struct file *f, unsigned number, const char *name,
        enum how how)
{
  const unsigned unit = how == DIRECT_DSYNC ? DIRECT : 1;
  const unsigned first = below (w, BLOCKS / unit) * unit;
  const unsigned max = (BLOCKS - first) / unit;
  const unsigned count = (1 + below (w, max < 64 ? max : 64)) * unit;
  const bool is_new = !f->begun;
  const int flags = how == DIRECT_DSYNC ? O_DIRECT | O_DSYNC : 0;
  int fd, r;

  f->begun = true;
  fd = openat (w->dir, name, O_RDWR | O_CREAT | flags, 0600);
  if (fd == -1)
    return -1;
  r = write_blocks (w, f, number, fd, first, count);
  if (r == 0 && how == BUFFERED_FSYNC)
    r = fsync (fd);
  else if (r == 0 && how == BUFFERED_FDATASYNC)
    r = fdatasync (fd);
  close (fd);
  if (r == -1 || how == BUFFERED)
    return r;
  /* The name is promised with it only once the folder is durable. */
  if ((is_new || !f->promised) && fsync (w->dir) == -1)
    return -1;
  if (how == DIRECT_DSYNC)
    promise (w, f, first, count);
  else
    promise (w, f, 0, f->size_begun);
  return 0;
}

/* A new file takes the place of the old one, as editors do. */
static int
replace (struct worker *w, struct file *f, unsigned number, const char *name)
{
  const unsigned min = f->size_begun > 0 ? f->size_begun : 1;
  const unsigned count = min + below (w, BLOCKS - min + 1);
  int r, fd = openat (w->dir, "new", O_RDWR | O_CREAT | O_TRUNC, 0600);

  if (fd == -1)
    return -1;
  r = write_blocks (w, f, number, fd, 0, count);
  if (r == 0)
    r = fsync (fd);
  close (fd);
  if (r == -1 || renameat (w->dir, "new", w->dir, name) == -1 ||
      fsync (w->dir) == -1)
    return -1;
  promise (w, f, 0, count);
  return 0;
}

static int
removal (struct worker *w, struct file *f, const char *name)
{
  f->removal_begun = true;
  if (unlinkat (w->dir, name, 0) == -1 || fsync (w->dir) == -1)
    return -1;
  *f = (struct file){ .version = f->version };
  atomic_fetch_add_explicit (&w->state->promises, 1, memory_order_relaxed);
  return 0;
}

static int
step (struct worker *w)
{
  const unsigned number = below (w, FILES), kind = below (w, 100);
  struct file *f = &w->state->files[w->number][number];
  char name[NAME];

  snprintf (name, sizeof name, "%u", number);
  if (kind < 35)
    return change (w, f, number, name, BUFFERED_FSYNC);
  if (kind < 50)
    return change (w, f, number, name, BUFFERED_FDATASYNC);
  if (kind < 65)
    return change (w, f, number, name, DIRECT_DSYNC);
  if (kind < 80)
    return change (w, f, number, name, BUFFERED);
  if (kind < 90 || !f->begun)
    return replace (w, f, number, name);
  return removal (w, f, name);
}

static int
open_dir (const char *top, unsigned number)
{
  char path[NAME];

  snprintf (path, sizeof path, "%s/%u", top, number);
  if (mkdir (path, 0700) == -1 && errno != EEXIST)
    die ("%s", path);
  return open (path, O_RDONLY | O_DIRECTORY);
}

static void *
work (void *arg)
{
  struct worker *w = arg;

  while (!atomic_load_explicit (&w->state->stop, memory_order_relaxed))
    if (step (w) == -1) {
      printf ("worker %u ends: %s\n", w->number, strerror (errno));
      break;
    }
  atomic_fetch_sub_explicit (&w->state->running, 1, memory_order_relaxed);
  return NULL;
}

static int
run (const char *path, const char *top, uint64_t seed)
{
  struct state *state = map_state (path, true);
  struct worker workers[WORKERS];
  int top_fd = open (top, O_RDONLY | O_DIRECTORY);

  atomic_store (&state->promises, 0);
  atomic_store (&state->stop, false);
  atomic_store (&state->running, WORKERS);
  for (unsigned i = 0; i < WORKERS; i++) {
    struct worker *w = &workers[i];

    *w = (struct worker){ .state = state, .number = i, .top = top };
    w->random = seed * WORKERS + i;
    w->dir = open_dir (top, i);
    w->buffer = aligned_alloc (4096, BLOCKS * BLOCK);
    if (w->dir == -1 || w->buffer == NULL)
      die ("%s: worker %u", top, i);
  }
  if (top_fd == -1 || fsync (top_fd) == -1)
    die ("%s", top);
  for (unsigned i = 0; i < WORKERS; i++)
    if (pthread_create (&workers[i].thread, NULL, work, &workers[i]) != 0)
      die ("pthread_create");
  for (unsigned i = 0; i < WORKERS; i++) {
    pthread_join (workers[i].thread, NULL);
    close (workers[i].dir);
    free (workers[i].buffer);
  }
  close (top_fd);
  printf ("%u promises\n", atomic_load (&state->promises));
  return 0;
}

/* Its state is there once it has begun. */
static int
wait_for (const char *path, unsigned number)
{
  const struct state *state;

  while (access (path, F_OK) == -1)
    usleep (10000);
  state = map_state (path, false);
  while (atomic_load (&state->promises) < number) {
    if (atomic_load (&state->running) == 0 && atomic_load (&state->promises)) {
      printf ("it ended after %u promises\n", atomic_load (&state->promises));
      return 1;
    }
    usleep (10000);
  }
  printf ("%u promises\n", atomic_load (&state->promises));
  return 0;
}

static int
join (const char *path, bool stop)
{
  struct state *state = map_state (path, false);

  if (stop)
    atomic_store (&state->stop, true);
  while (atomic_load (&state->running) > 0)
    usleep (10000);
  return 0;
}

/* The judge.  It prints what is wrong, and takes what is there for promised:
 * all of it has been read from the disk.
 */

static unsigned wrong;

static void __attribute__ ((format (printf, 3, 4)))
accuse (unsigned worker, unsigned file, const char *format, ...)
{
  va_list args;

  if (++wrong > 50)
    return;
  printf ("%u/%u: ", worker, file);
  va_start (args, format);
  vprintf (format, args);
  va_end (args);
  printf ("\n");
}

static void
check_block (unsigned worker, unsigned number, struct file *f, unsigned block,
             const uint8_t *bytes)
{
  const uint32_t min = f->blocks_promised[block];
  const uint32_t max = f->blocks_begun[block];
  uint8_t expected[BLOCK];
  uint32_t version;

  memcpy (&version, bytes, sizeof version);
  fill_block (expected, worker, number, block, version);
  if (memcmp (bytes, expected, BLOCK) != 0)
    accuse (worker, number, "block %u is no version of it (%u..%u)", block, min,
            max);
  else if (version < min || version > max)
    accuse (worker, number, "block %u has version %u, not %u..%u", block,
            version, min, max);
  f->blocks_promised[block] = f->blocks_begun[block] = version;
}

static void
check_file (unsigned worker, unsigned number, struct file *f, const char *path)
{
  uint8_t bytes[BLOCK];
  struct stat st;
  int fd = open (path, O_RDONLY);

  if (fd == -1 || fstat (fd, &st) == -1) {
    if (errno != ENOENT || (f->promised && !f->removal_begun))
      accuse (worker, number, "%s", strerror (errno));
    *f = (struct file){ .version = f->version };
    return;
  }
  if (!f->begun)
    accuse (worker, number, "it was removed and is there again");
  if (st.st_size < (off_t) f->size_promised * BLOCK ||
      st.st_size > (off_t) f->size_begun * BLOCK || st.st_size % BLOCK != 0)
    accuse (worker, number, "it has %jd bytes, not %u..%u",
            (intmax_t) st.st_size, f->size_promised * BLOCK,
            f->size_begun * BLOCK);
  else {
    f->size_promised = f->size_begun = st.st_size / BLOCK;
    for (unsigned i = 0; i < BLOCKS; i++)
      if (i >= f->size_begun)
        f->blocks_promised[i] = f->blocks_begun[i] = 0;
      else if (pread (fd, bytes, BLOCK, (off_t) i * BLOCK) != BLOCK)
        accuse (worker, number, "block %u: %s", i, strerror (errno));
      else
        check_block (worker, number, f, i, bytes);
  }
  f->begun = f->promised = true;
  f->removal_begun = false;
  close (fd);
}

static int
check (const char *state_path, const char *top)
{
  struct state *state = map_state (state_path, false);
  unsigned files = 0;
  char path[NAME];

  for (unsigned i = 0; i < WORKERS; i++)
    for (unsigned j = 0; j < FILES; j++) {
      files += state->files[i][j].promised;
      snprintf (path, sizeof path, "%s/%u/%u", top, i, j);
      check_file (i, j, &state->files[i][j], path);
    }
  /* A waiter for the next storm does not see this one's. */
  atomic_store (&state->promises, 0);
  printf ("%u files were promised, %u faults\n", files, wrong);
  return wrong > 0;
}

int
main (int argc, char **argv)
{
  setvbuf (stdout, NULL, _IOLBF, 0);
  if (argc == 5 && strcmp (argv[1], "run") == 0)
    return run (argv[2], argv[3], strtoull (argv[4], NULL, 10));
  if (argc == 4 && strcmp (argv[1], "wait") == 0)
    return wait_for (argv[2], strtoul (argv[3], NULL, 10));
  if (argc == 3 && strcmp (argv[1], "join") == 0)
    return join (argv[2], false);
  if (argc == 3 && strcmp (argv[1], "stop") == 0)
    return join (argv[2], true);
  if (argc == 4 && strcmp (argv[1], "check") == 0)
    return check (argv[2], argv[3]);
  fprintf (stderr, "usage: storm run|wait|join|stop|check STATE ...\n");
  return 2;
}
