/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests, recorded to be replayed: a line for each,
 *
 *     microseconds,R or W,first page,pages
 *
 * in pages of 4 KiB, in the order in which they came.
 *
 * A request leaves a record in memory; the thread of the command that asked for
 * the trace writes the records to the file.  No request waits for the file: one
 * that finds no room is counted instead.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "pagecache.h"
#include "watch/trace.h"

#define TRACE_PAGE  4096
#define RECORDS_MAX 32768 /* in each of two buffers */
#define LINE_BYTES  64    /* the longest line, and more */
#define TEXT_BYTES  8192
#define STEP_NS     UINT64_C (100000000)

struct record {
  uint64_t time; /* ns */
  uint64_t page;
  uint32_t pages;
  bool write;
};

_Atomic unsigned trace_watchers;

static struct {
  struct lock lock; /* RANK_TRACE */
  /* Guarded by lock. */
  const char *export; /* whose requests; NULL: no trace */
  struct condition half_full;
  struct record *records;
  size_t count, room;
  uint64_t missed;
} trace = {
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_TRACE },
};

void
trace_note (const char *export, bool write, uint64_t offset, uint32_t len)
{
  const uint64_t page = offset / TRACE_PAGE;

  LOCK_FOR_SCOPE (&trace.lock);
  if (trace.export == NULL || strcmp (trace.export, export) != 0)
    return;
  if (trace.count == trace.room) {
    trace.missed++;
    return;
  }
  trace.records[trace.count++] = (struct record){
    .time = now_ns (),
    .page = page,
    .pages = (offset + len - 1) / TRACE_PAGE - page + 1,
    .write = write,
  };
  if (trace.count == trace.room / 2)
    condition_wake_all (&trace.half_full);
}

/* The file, and what of it is whole. */
struct file {
  int fd;
  uint64_t began; /* ns */
  uint64_t lines, bytes;
  int error;
};

static int
write_all (int fd, const char *text, size_t len)
{
  ssize_t n;

  while (len > 0) {
    n = write (fd, text, len);
    if (n == -1)
      return errno;
    text += n;
    len -= n;
  }
  return 0;
}

/* Writes lines whole or not at all: a write that fails is cut off again. */
static void
write_lines (struct file *file, const char *text, size_t len, size_t lines)
{
  file->error = write_all (file->fd, text, len);
  if (file->error == 0) {
    file->lines += lines;
    file->bytes += len;
  }
  else if (ftruncate (file->fd, file->bytes) != 0)
    file->lines = 0; /* how many are in the file is not known */
}

static void
write_records (struct file *file, const struct record *r, size_t n)
{
  char text[TEXT_BYTES];
  size_t i, lines = 0, len = 0;

  for (i = 0; i < n && file->error == 0; ++i) {
    len += snprintf (text + len, LINE_BYTES,
                     "%" PRIu64 ",%c,%" PRIu64 ",%" PRIu32 "\n",
                     (r[i].time - file->began) / 1000, r[i].write ? 'W' : 'R',
                     r[i].page, r[i].pages);
    lines++;
    if (i + 1 == n || len > sizeof text - LINE_BYTES) {
      write_lines (file, text, len, lines);
      len = lines = 0;
    }
  }
}

/* Waits a moment, or until there is much to write, and takes what there is: the
 * records go on into SPARE.
 */
static size_t
take_records (struct record **spare)
{
  LOCK_FOR_SCOPE (&trace.lock);
  const uint64_t deadline = now_ns () + STEP_NS;
  struct record *taken;
  size_t n;

  while (trace.count < trace.room / 2 &&
         condition_wait_until (&trace.half_full, &trace.lock, deadline))
    ;
  taken = trace.records;
  n = trace.count;
  trace.records = *spare;
  trace.count = 0;
  *spare = taken;
  return n;
}

/* False: there is a trace already. */
static bool
trace_begin_recording (const char *export, struct record *records, size_t room)
{
  LOCK_FOR_SCOPE (&trace.lock);

  if (trace.export)
    return false;
  condition_init (&trace.half_full);
  trace.export = export;
  trace.records = records;
  trace.room = room;
  trace.count = 0;
  trace.missed = 0;
  return true;
}

/* Ends the trace: no request is recorded any more.  Returns the records that
 * are left, and how many were missed.
 */
static size_t
trace_end_recording (struct record **left, uint64_t *missed)
{
  LOCK_FOR_SCOPE (&trace.lock);

  trace.export = NULL;
  *left = trace.records;
  *missed = trace.missed;
  condition_destroy (&trace.half_full);
  return trace.count;
}

/* Never over a file that is there; what clients do is their secret. */
static int
open_new (const char *name, struct file *file)
{
  file->fd =
      open (name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return file->fd == -1 ? errno : 0;
}

/* Writes down what is recorded until it is time to end. */
static void
follow (struct file *file, struct record *spare, uint64_t deadline,
        bool (*over) (void *opaque), void *opaque, uint64_t *missed)
{
  struct record *left;
  size_t n;

  while (file->error == 0 && now_ns () < deadline && !over (opaque)) {
    n = take_records (&spare);
    write_records (file, spare, n);
  }
  atomic_fetch_sub_explicit (&trace_watchers, 1, memory_order_relaxed);
  n = trace_end_recording (&left, missed);
  write_records (file, left, n);
}

int
trace_record (struct pools *ps, const char *export, const char *name,
              unsigned seconds, void (*begun) (void *opaque),
              bool (*over) (void *opaque), void *opaque,
              struct trace_result *result)
{
  const size_t room =
      clamp_u64 (memory_limit (ps->memory) / 256 / sizeof (struct record), 256,
                 RECORDS_MAX);
  const size_t bytes = 2 * room * sizeof (struct record);
  struct file file = { .fd = -1 };
  struct record *both, *left;
  int err;

  memset (result, 0, sizeof *result);
  if (!pools_make_room (ps, bytes))
    return ENOMEM;
  both = malloc (bytes);
  if (both == NULL)
    err = ENOMEM;
  else if (!trace_begin_recording (export, both, room))
    err = EBUSY;
  else {
    file.began = now_ns ();
    err = open_new (name, &file);
    if (err != 0)
      trace_end_recording (&left, &result->missed);
  }
  if (err == 0) {
    atomic_fetch_add_explicit (&trace_watchers, 1, memory_order_relaxed);
    begun (opaque);
    follow (&file, both + room, file.began + seconds * UINT64_C (1000000000),
            over, opaque, &result->missed);
    err = file.error;
    if (close (file.fd) != 0 && err == 0)
      err = errno;
    result->recorded = file.lines;
  }
  free (both);
  memory_give (ps->memory, bytes);
  return err;
}
