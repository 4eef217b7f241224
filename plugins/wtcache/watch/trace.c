/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests, recorded to be replayed: a line for each,
 *
 *     microseconds,R or W,first page,pages
 *
 * in pages of 4 KiB, in the order in which they came.
 *
 * A request leaves a record in memory; the thread of the command that asked for
 * the trace has the records written to the file, by a thread that may hang
 * there (base/filewriter.h).  No request waits for the file: one that finds no
 * room is counted instead.  Neither does the end of the server: a file that
 * hangs is left behind, and until it goes on there is no other trace.
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

#include "base/filewriter.h"
#include "base/util.h"
#include "pagecache.h"
#include "watch/trace.h"

#define TRACE_PAGE  4096
#define RECORDS_MAX 32768 /* in each of two buffers */
#define LINE_BYTES  64    /* the longest line, and more */
#define TEXT_BYTES  8192
#define STEP_NS     UINT64_C (100000000)
#define END_NS      UINT64_C (2000000000) /* the file may take at the end */

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
  bool claimed; /* by a thread that records, or: */
  bool left;    /* the file of an earlier trace hangs, or did */
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

/* The file, what of it is whole, and what is to be written.  Of the writer's
 * thread while it is busy, else of the thread that records.
 */
static struct {
  struct filewriter writer;
  char *name;
  int fd;         /* -1: not open */
  uint64_t began; /* ns */
  uint64_t lines, bytes;
  int error;
  const struct record *records;
  size_t count;

  /* To be freed with it. */
  struct pools *pools;
  struct record *both;
  size_t taken; /* bytes of the budget */
} file = { .writer = FILEWRITER_INIT };

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
write_lines (const char *text, size_t len, size_t lines)
{
  file.error = write_all (file.fd, text, len);
  if (file.error == 0) {
    file.lines += lines;
    file.bytes += len;
  }
  else if (ftruncate (file.fd, file.bytes) != 0)
    file.lines = 0; /* how many are in the file is not known */
}

/* ---- of the writer's thread ---- */

/* Never over a file that is there; what clients do is their secret. */
static void
run_open (char *text)
{
  file.fd = open (file.name,
                  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  file.error = file.fd == -1 ? errno : 0;
  free (text);
}

static void
run_append (char *unused)
{
  const struct record *r = file.records;
  char text[TEXT_BYTES];
  size_t i, lines = 0, len = 0;

  for (i = 0; i < file.count && file.error == 0; ++i) {
    len += snprintf (text + len, LINE_BYTES,
                     "%" PRIu64 ",%c,%" PRIu64 ",%" PRIu32 "\n",
                     (r[i].time - file.began) / 1000, r[i].write ? 'W' : 'R',
                     r[i].page, r[i].pages);
    lines++;
    if (i + 1 == file.count || len > sizeof text - LINE_BYTES) {
      write_lines (text, len, lines);
      len = lines = 0;
    }
  }
  free (unused);
}

static void
run_close (char *text)
{
  if (file.fd != -1 && close (file.fd) != 0 && file.error == 0)
    file.error = errno;
  file.fd = -1;
  free (text);
}

static struct writing opening = { .run = run_open };
static struct writing appending = { .run = run_append };
static struct writing closing = { .run = run_close };

/* ---- of the thread that records ---- */

/* When to end. */
struct end {
  uint64_t deadline; /* ns */
  bool (*over) (void *opaque);
  void *opaque;
};

static bool
should_end (const struct end *end)
{
  return now_ns () >= end->deadline || end->over (end->opaque);
}

/* Has W done.  False: the file hangs, and it is time to end. */
static bool
write_by (struct writing *w, const struct end *end)
{
  filewriter_give (&file.writer, w, NULL);
  while (!filewriter_wait (&file.writer, w, now_ns () + STEP_NS))
    if (should_end (end))
      return filewriter_wait (&file.writer, w, now_ns () + END_NS);
  return true;
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

static void
trace_begin_recording (const char *export, struct record *records, size_t room)
{
  LOCK_FOR_SCOPE (&trace.lock);

  condition_init (&trace.half_full);
  trace.export = export;
  trace.records = records;
  trace.room = room;
  trace.count = 0;
  trace.missed = 0;
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

/* Has what is recorded written until it is time to end. */
static void
follow (struct record *spare, const struct end *end, uint64_t *missed)
{
  struct record *left;
  bool hangs = false;
  size_t n;

  while (!hangs && file.error == 0 && !should_end (end)) {
    file.count = take_records (&spare);
    file.records = spare;
    hangs = !write_by (&appending, end);
  }
  atomic_fetch_sub_explicit (&trace_watchers, 1, memory_order_relaxed);
  n = trace_end_recording (&left, missed);
  if (hangs) {
    *missed += n;
    return;
  }
  file.records = left;
  file.count = n;
  write_by (&appending, end);
}

static void
free_file (void)
{
  free (file.name);
  free (file.both);
  memory_give (file.pools->memory, file.taken);
}

static void
set_claimed (bool claimed, bool left)
{
  LOCK_FOR_SCOPE (&trace.lock);

  trace.claimed = claimed;
  trace.left = left;
}

/* False: another thread records.  *LEFT: the file of an earlier trace hung. */
static bool
try_claim_trace (bool *left)
{
  LOCK_FOR_SCOPE (&trace.lock);

  *left = trace.left;
  if (trace.claimed && !trace.left)
    return false;
  trace.claimed = true;
  trace.left = false;
  return true;
}

/* False: another thread records, or that file still hangs. */
static bool
claim_trace (void)
{
  bool left;

  if (!try_claim_trace (&left))
    return false;
  if (left && !filewriter_stop (&file.writer, 0)) {
    set_claimed (true, true);
    return false;
  }
  if (left)
    free_file ();
  return true;
}

/* 0 or ENOMEM. */
static int
prepare (struct pools *ps, const char *name, size_t room)
{
  file.fd = -1;
  file.error = 0;
  file.lines = file.bytes = 0;
  file.pools = ps;
  file.taken = 2 * room * sizeof (struct record);
  if (!pools_make_room (ps, file.taken))
    file.taken = 0;
  file.both = file.taken > 0 ? malloc (file.taken) : NULL;
  file.name = strdup (name);
  return file.both && file.name ? 0 : ENOMEM;
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
  struct end end = { .over = over, .opaque = opaque };
  bool ended = true;
  int err;

  memset (result, 0, sizeof *result);
  if (!claim_trace ())
    return EBUSY;
  err = prepare (ps, name, room);
  if (err == 0)
    err = filewriter_start (&file.writer);
  if (err == 0) {
    file.began = now_ns ();
    end.deadline = file.began + seconds * UINT64_C (1000000000);
    if (write_by (&opening, &end) && file.error == 0) {
      trace_begin_recording (export, file.both, room);
      atomic_fetch_add_explicit (&trace_watchers, 1, memory_order_relaxed);
      begun (opaque);
      follow (file.both + room, &end, &result->missed);
    }
    filewriter_give (&file.writer, &closing, NULL);
    ended = filewriter_stop (&file.writer, END_NS);
    err = ended ? file.error : ETIMEDOUT;
    result->recorded = ended ? file.lines : 0;
  }
  if (ended)
    free_file ();
  set_claimed (!ended, !ended); /* a hung writer may look at it */
  return err;
}
