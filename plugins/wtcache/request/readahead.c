/* SPDX-License-Identifier: BSD-3-Clause */

/* Readahead: detects the sequential streams of a connection, and reads ahead of
 * them.
 *
 * A request that begins where another ended (or ends where it began, for a
 * stream that goes backwards) belongs to its stream.  From its second request
 * on, a window is read ahead of the stream (the kernel's mm/readahead.c works
 * so).  With 4 KiB requests the first window is 16 KiB:
 *
 *      used          read ahead, 16 KiB
 *   |0---|4---|8---+----+----+----|24        after the second request
 *   |----|----|----|----|16--+----+- ...  -+----|48   after the fourth
 *                           window of 32 KiB
 *
 * When half of a window has been used it doubles, and is filled again.  So a
 * stream that goes on finds its bytes there, and one that ends has had at most
 * three times as much read as it asked for.  A stream that passes over most of
 * its window has the window halved.  First windows become smaller, down to one
 * request, while streams end within them, and larger again while they do not.
 *
 * With several requests in flight they come out of order, so some slack is
 * allowed.
 *
 * Streams are found by the MiB in which they are.  When there are as many as
 * memory allows, a new one takes the place of a stream that never went on, or
 * that ended: each request of a stream adds to its worth, and each look for a
 * place takes some away.  Where all are in use the new one is dropped.  All
 * streams together read ahead at most an eighth of the cache.
 *
 * A read joins a readahead in progress that it needs.  If the readahead still
 * waits for a thread, the read performs it, so that a busy machine does not
 * turn a stream into single misses.  The pages are admitted as readahead, to be
 * thrown away first.
 *
 * All of this is advice: without a free thread and a free buffer nothing is
 * read ahead.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "request/fetch.h"
#include "request/readahead.h"

#define MIN_STREAMS  8
#define MAX_STREAMS  256
#define CHAINS       256
#define TASKS        16
#define MAX_FIRST    4 /* requests in the first window, at most */
#define CHUNK        (256 * KiB)
#define SLACK        16 /* requests that may overtake each other */
#define REGIONS      512
#define REGION_SHIFT 20
#define MAX_WORTH    4
#define PLACES       16 /* looked at for a new stream */
#define MAX_LOOKS    1024
#define EPOCH        256 /* requests of streams */

/* 48 bytes.  An unused one is all zeroes: the end of a request is never 0. */
struct stream {
  uint64_t low, high; /* bytes: the next request begins or ends here */
  uint64_t ahead;     /* read ahead up to (or, backwards, down to) here */
  uint32_t window;    /* bytes; 0: not yet known to be a stream */
  uint32_t passed;    /* bytes it has gone on since the window changed, */
  uint32_t used;      /* and how much of them was asked for */
  uint16_t looks;     /* hits near it that were not its own, since its last */
  uint16_t epoch;     /* of its last request */
  uint16_t next;      /* in its chain, a number from 1 on; 0: none */
  uint8_t worth;      /* 0: may be replaced */
  bool backward;
  bool filled; /* the window was read ahead as a whole */
  bool grown;  /* half of the first window was used */
};

struct ahead_task {
  struct task task;
  struct readahead *ra;
  uint64_t offset, len;
  uint8_t *spare; /* a buffer for it, of ROOM bytes */
  size_t room;

  /* Guarded by readahead.lock. */
  bool busy;  /* a worker has it or will have it */
  bool begun; /* by that worker or by a read that wanted it */
};

struct readahead {
  struct export *e;
  uint64_t fill; /* what a miss reads: a stream misses once in so much */

  /* How many streams with a window are in a region, or next to it; regions
   * share counters.  Relaxed, advice: written under the lock; a hit that is
   * near no stream takes no lock, and a stale answer begins a window a request
   * later.
   */
  _Atomic uint16_t near[REGIONS];
  _Atomic unsigned windows; /* streams with a window; relaxed, the same */

  /* Tasks that no thread has begun.  Relaxed, advice: written under the lock; a
   * miss that finds none takes no lock.
   */
  _Atomic unsigned waiting;

  struct lock lock; /* RANK_AHEAD */
  /* Guarded by lock. */
  struct ahead_task tasks[TASKS];
  unsigned first; /* requests in a first window, 1 to MAX_FIRST */
  unsigned busy;
  struct condition idle;

  /* How many streams are in use: those of the last EPOCH requests of streams.
   */
  unsigned active, touched, epoch_requests;
  uint16_t epoch;

  uint16_t chains[CHAINS]; /* the first streams, by region, as next */
  unsigned hand;           /* where a place is looked for next */
  unsigned nr_streams;     /* constant */
  struct stream streams[];
};

/* Bytes ahead of one stream, at most.  It can change while streams go on. */
static uint64_t
max_ahead (const struct readahead *ra)
{
  const uint64_t limit = memory_limit (ra->e->memory);
  const uint64_t each = limit / 8 / max_u64 (ra->active, 2);

  return min_u64 (SETTING (readahead),
                  max_u64 (round_down (each, page_size (&ra->e->pc)),
                           page_size (&ra->e->pc)));
}

/* The streams of a connection take at most 1/2048 of the cache: from 24 MiB on
 * there are 256.
 */
static unsigned
stream_count (const struct export *e)
{
  return clamp_u64 (memory_limit (e->memory) / 2048 / sizeof (struct stream),
                    MIN_STREAMS, MAX_STREAMS);
}

static size_t
readahead_bytes (unsigned streams)
{
  return sizeof (struct readahead) + streams * sizeof (struct stream);
}

struct readahead *
readahead_new (struct export *e)
{
  const unsigned streams = stream_count (e);
  struct readahead *ra;

  if (!pools_make_room (&registry.pools, readahead_bytes (streams)))
    return NULL;
  ra = calloc (1, readahead_bytes (streams));
  if (ra == NULL) {
    memory_give (e->memory, readahead_bytes (streams));
    return NULL;
  }
  ra->e = e;
  ra->nr_streams = streams;
  ra->first = MAX_FIRST;
  ra->fill = fetch_fill_size (e);
  lock_init (&ra->lock, RANK_AHEAD);
  condition_init (&ra->idle);
  return ra;
}

void
readahead_free (struct readahead *ra)
{
  if (ra == NULL)
    return;
  lock_take (&ra->lock);
  while (ra->busy > 0)
    condition_wait (&ra->idle, &ra->lock);
  lock_drop (&ra->lock);
  condition_destroy (&ra->idle);
  lock_destroy (&ra->lock);
  memory_give (ra->e->memory, readahead_bytes (ra->nr_streams));
  free (ra);
}

/* Takes a task that no thread has begun: on true it is the caller's. */
static bool
begin_task (struct readahead *ra, struct ahead_task *t)
{
  assert_held (&ra->lock);
  if (t->begun)
    return false;
  t->begun = true;
  atomic_fetch_sub_explicit (&ra->waiting, 1, memory_order_relaxed);
  return true;
}

/* Reads the chunk of a task that the caller has begun, and returns its buffer.
 */
static int
read_chunk (struct readahead *ra, struct backend *b, uint64_t offset,
            uint64_t len, uint8_t *spare, size_t room)
{
  int err = ENOTCONN;

  if (b)
    err = fetch_into (ra->e, b, spare, room, offset, len, ADMIT_AHEAD);
  scratch_put (ra->e->memory, &ra->e->pc.borrower, spare, room);
  return err;
}

static void
readahead_run_task (struct task *task)
{
  struct ahead_task *t = container_of (task, struct ahead_task, task);
  struct readahead *ra = t->ra;
  struct backend *b;
  struct loan loan;
  bool mine;

  lock_take (&ra->lock);
  mine = begin_task (ra, t);
  lock_drop (&ra->lock);
  if (mine) {
    b = loans_borrow (&loan, ra->e, NEED_READ);
    /* An error is ignored: a client that needs the bytes reads them again. */
    read_chunk (ra, b, t->offset, t->len, t->spare, t->room);
    loans_return (&loan);
  }
  LOCK_FOR_SCOPE (&ra->lock);
  t->busy = false;
  if (--ra->busy == 0)
    condition_wake_all (&ra->idle);
}

/* Counts the bytes that were read ahead and that this request of the stream
 * uses.
 */
static void
count_use (struct readahead *ra, const struct stream *s, uint64_t offset,
           uint64_t len)
{
  const uint64_t low = max_u64 (offset, s->ahead);
  const uint64_t high = min_u64 (offset + len, s->ahead);
  uint64_t used = 0;

  assert_held (&ra->lock);
  if (s->backward && low < s->low)
    used = s->low - low;
  else if (!s->backward && high > s->high)
    used = high - s->high;
  if (used > 0)
    stats_add (&ra->e->stats, COUNT_AHEAD_USED_BYTES, used);
}

/* Begins to read a chunk; false: there is no task, buffer or thread for it. */
static bool
begin_chunk (struct readahead *ra, uint64_t offset, uint64_t len)
{
  struct borrower *borrower = &ra->e->pc.borrower;
  const size_t room = fetch_spare (ra->e, offset, len);
  uint8_t *spare;
  unsigned i;

  assert_held (&ra->lock);
  for (i = 0; i < TASKS && ra->tasks[i].busy; ++i)
    ;
  if (i == TASKS || !shares_allow_helpers (ra->e))
    return false;
  spare = scratch_try (ra->e->memory, borrower, room, URGENCY_AHEAD);
  if (spare == NULL)
    return false;
  ra->tasks[i] = (struct ahead_task){
    .task.run = readahead_run_task,
    .ra = ra,
    .offset = offset,
    .len = len,
    .spare = spare,
    .room = room,
    .busy = true,
  };
  ra->busy++;
  atomic_fetch_add_explicit (&ra->waiting, 1, memory_order_relaxed);
  if (workers_try (ra->e->number, &ra->tasks[i].task, URGENCY_AHEAD)) {
    stats_add (&ra->e->stats, COUNT_AHEAD_BYTES, len);
    return true;
  }
  begin_task (ra, &ra->tasks[i]);
  ra->tasks[i].busy = false;
  ra->busy--;
  scratch_put (ra->e->memory, borrower, spare, room);
  return false;
}

bool
readahead_help (struct readahead *ra, struct backend *own, uint64_t offset)
{
  uint64_t at = 0, len = 0;
  uint8_t *spare = NULL;
  size_t room = 0;
  struct ahead_task *t;

  if (atomic_load_explicit (&ra->waiting, memory_order_relaxed) == 0)
    return false;

  lock_take (&ra->lock);
  for (t = ra->tasks; t < ra->tasks + TASKS; ++t)
    if (t->busy && offset >= t->offset && offset - t->offset < t->len &&
        begin_task (ra, t)) {
      at = t->offset; /* the worker may give the task up from now on */
      len = t->len;
      spare = t->spare;
      room = t->room;
      break;
    }
  lock_drop (&ra->lock);
  return len > 0 && read_chunk (ra, own, at, len, spare, room) == 0;
}

/* How far ahead of a stream has been read, bytes. */
static uint64_t
stream_distance (const struct stream *s)
{
  if (s->backward)
    return s->low > s->ahead ? s->low - s->ahead : 0;
  return s->ahead > s->high ? s->ahead - s->high : 0;
}

/* Half of a window that was filled has been passed: the next one is double, or
 * half if what was passed was mostly not asked for.
 */
static void
adapt_window (struct readahead *ra, struct stream *s, uint64_t len)
{
  const uint64_t min = min_u64 (s->window, page_size (&ra->e->pc));

  assert_held (&ra->lock);
  if (!s->filled)
    return;
  if (2 * (uint64_t) s->used + SLACK * len < s->passed)
    s->window = max_u64 (s->window / 2, min);
  else {
    s->window = min_u64 (2 * (uint64_t) s->window, max_ahead (ra));
    if (!s->grown)
      ra->first = min_u64 (2 * ra->first, MAX_FIRST);
    s->grown = true;
  }
  s->filled = false;
  s->passed = s->used = 0;
}

/* The next bytes that are to be read ahead of a stream, at once; 0: none.  In a
 * large window to a multiple of a chunk, so that each is one read.
 */
static uint64_t
next_chunk (const struct readahead *ra, const struct stream *s)
{
  uint64_t n = s->ahead % CHUNK;

  n = s->backward ? (n ? n : CHUNK) : CHUNK - n;
  if (s->window < 4 * CHUNK)
    n = min_u64 (n, s->window - stream_distance (s));
  return min_u64 (n, s->backward ? s->ahead : ra->e->pc.size - s->ahead);
}

static void
read_ahead (struct readahead *ra, struct stream *s, uint64_t len)
{
  uint64_t n;

  if (stream_distance (s) == 0)
    s->ahead = s->backward ? s->low : s->high;
  if (stream_distance (s) > s->window / 2)
    return;
  adapt_window (ra, s, len);
  while (stream_distance (s) < s->window) {
    n = next_chunk (ra, s);
    if (n == 0 || !begin_chunk (ra, s->backward ? s->ahead - n : s->ahead, n))
      return;
    s->ahead += s->backward ? -n : n;
  }
  s->filled = true;
}

/* Whether a request begins at the end of a stream that is new, or where the
 * fill of that end does: it was not asked about the hits between.
 */
static bool
goes_forward (const struct readahead *ra, const struct stream *s,
              uint64_t offset)
{
  return offset == s->high || offset == round_up (s->high, ra->fill);
}

static bool
goes_backward (const struct readahead *ra, const struct stream *s, uint64_t end)
{
  return end == s->low || end == round_down (s->low, ra->fill);
}

/* Where a stream is: the region says in which set. */
static uint64_t
region_of (const struct stream *s)
{
  return (s->backward ? s->low : s->high) >> REGION_SHIFT;
}

static uint16_t *
region_chain (struct readahead *ra, uint64_t region)
{
  return &ra->chains[(hash_u64 (region) >> 32) % CHAINS];
}

static void
chain_stream (struct readahead *ra, struct stream *s)
{
  uint16_t *chain = region_chain (ra, region_of (s));

  assert_held (&ra->lock);
  s->next = *chain;
  *chain = s - ra->streams + 1;
}

/* Takes a stream from the chain of the region where it is, or was. */
static void
unchain_stream (struct readahead *ra, struct stream *s, uint64_t region)
{
  uint16_t *link = region_chain (ra, region);

  assert_held (&ra->lock);
  while (&ra->streams[*link - 1] != s)
    link = &ra->streams[*link - 1].next;
  *link = s->next;
}

static bool
belongs (const struct readahead *ra, const struct stream *s, uint64_t offset,
         uint64_t len)
{
  const uint64_t slack = SLACK * len;

  if (s->high == 0)
    return false;
  if (s->window == 0)
    return goes_forward (ra, s, offset) || goes_backward (ra, s, offset + len);
  if (s->backward)
    return offset + len <= s->low + slack && offset + len + slack >= s->low;
  return offset <= s->high + slack && offset + slack >= s->high;
}

static void
count (struct readahead *ra, uint64_t region, int by)
{
  unsigned i;

  assert_held (&ra->lock);
  for (i = 0; i < 3; ++i)
    atomic_fetch_add_explicit (&ra->near[(region + i - 1) % REGIONS], by,
                               memory_order_relaxed);
  atomic_fetch_add_explicit (&ra->windows, by, memory_order_relaxed);
}

/* A stream ends.  Where it is one that did not use half of its first window,
 * the next first windows are smaller.
 */
static void
forget_stream (struct readahead *ra, struct stream *s)
{
  assert_held (&ra->lock);
  unchain_stream (ra, s, region_of (s));
  if (s->window > 0) {
    count (ra, region_of (s), -1);
    if (!s->grown && stream_distance (s) > 0)
      ra->first = max_u64 (ra->first / 2, 1);
  }
  memset (s, 0, sizeof *s);
}

static struct stream *
find_in_region (struct readahead *ra, uint64_t region, uint64_t offset,
                uint64_t len)
{
  unsigned i;

  for (i = *region_chain (ra, region); i > 0; i = ra->streams[i - 1].next)
    if (belongs (ra, &ra->streams[i - 1], offset, len))
      return &ra->streams[i - 1];
  return NULL;
}

/* The stream that a request belongs to.  It is in one of the regions that the
 * slack reaches, or, for a request whose slack is large, anywhere.
 */
static struct stream *
find_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  const uint64_t reach = max_u64 (SLACK * len, ra->fill);
  const uint64_t last = (offset + len + reach) >> REGION_SHIFT;
  uint64_t region = (offset - min_u64 (offset, reach)) >> REGION_SHIFT;
  struct stream *s = NULL;

  assert_held (&ra->lock);
  if (last - region < 8) {
    for (; s == NULL && region <= last; ++region)
      s = find_in_region (ra, region, offset, len);
    return s;
  }
  for (s = ra->streams; s < ra->streams + ra->nr_streams; ++s)
    if (belongs (ra, s, offset, len))
      return s;
  return NULL;
}

/* A place for a new stream: the first from the hand on that is unused, or whose
 * stream is worth nothing.  Those that the hand passes lose one of their worth,
 * so what has ended leaves after a few rounds.  NULL: all that it passed are in
 * use.
 */
static struct stream *
find_place (struct readahead *ra)
{
  struct stream *s;
  unsigned i;

  assert_held (&ra->lock);
  for (i = 0; i < PLACES; ++i) {
    s = &ra->streams[ra->hand++ % ra->nr_streams];
    if (s->worth == 0)
      return s;
    s->worth--;
  }
  return NULL;
}

static void
new_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  struct stream *s = find_place (ra);

  if (s == NULL)
    return;
  if (s->high > 0)
    forget_stream (ra, s);
  s->low = offset;
  s->high = offset + len;
  chain_stream (ra, s);
}

/* A hit near streams takes the lock for them.  A stream that has not gone on
 * for many of these has ended.
 */
static void
note_look (struct readahead *ra, uint64_t region)
{
  unsigned i, next;

  for (i = *region_chain (ra, region); i > 0; i = next) {
    struct stream *s = &ra->streams[i - 1];

    next = s->next;
    if (s->window > 0 && ++s->looks >= MAX_LOOKS)
      forget_stream (ra, s);
  }
}

/* Whether a hit may belong to a stream; requests are within the slack of their
 * stream's region, but for those whose slack is larger.
 */
static bool
is_near_a_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  const uint64_t region = offset >> REGION_SHIFT;

  return atomic_load_explicit (&ra->near[region % REGIONS],
                               memory_order_relaxed) != 0 ||
         (len > (UINT64_C (1) << REGION_SHIFT) / (SLACK + 1) &&
          atomic_load_explicit (&ra->windows, memory_order_relaxed) != 0);
}

/* Counts the streams that are in use, each once in an epoch. */
static void
note_active (struct readahead *ra, struct stream *s)
{
  assert_held (&ra->lock);
  if (++ra->epoch_requests >= EPOCH) {
    ra->active = ra->touched;
    ra->touched = ra->epoch_requests = 0;
    ra->epoch++;
  }
  if (s->epoch != ra->epoch || s->window == 0) {
    s->epoch = ra->epoch;
    ra->active = max_u64 (ra->active, ++ra->touched);
  }
}

/* The second request of a stream: now it is one. */
static void
stream_begin_window (struct readahead *ra, struct stream *s, uint64_t offset,
                     uint64_t len)
{
  unchain_stream (ra, s, region_of (s));
  s->backward = !goes_forward (ra, s, offset);
  s->ahead = s->backward ? s->low : s->high;
  s->window = min_u64 (ra->first * max_u64 (len, ra->fill), max_ahead (ra));
  chain_stream (ra, s);
  count (ra, region_of (s), 1);
}

/* A request of a stream moves it. */
static void
advance (struct readahead *ra, struct stream *s, uint64_t offset, uint64_t len)
{
  const uint64_t was = s->backward ? s->low : s->high;
  const uint64_t from = region_of (s);

  count_use (ra, s, offset, len);
  s->low = s->backward ? min_u64 (s->low, offset) : offset;
  s->high = s->backward ? offset + len : max_u64 (s->high, offset + len);
  s->passed += s->backward ? was - s->low : s->high - was;
  s->used += len;
  s->looks = 0;
  s->worth = min_u64 (s->worth + 1, MAX_WORTH);
  if (region_of (s) == from)
    return;
  unchain_stream (ra, s, from);
  chain_stream (ra, s);
  count (ra, from, -1);
  count (ra, region_of (s), 1);
}

/* Not inlined: it would make each hit save registers for it. */
static __attribute__ ((noinline)) void
note_request (struct readahead *ra, uint64_t offset, uint64_t len, bool missed)
{
  if (SETTING (readahead) == 0)
    return;

  LOCK_FOR_SCOPE (&ra->lock);
  struct stream *s = find_stream (ra, offset, len);

  if (s == NULL) {
    /* Only a miss begins a stream. */
    if (missed)
      new_stream (ra, offset, len);
    else
      note_look (ra, offset >> REGION_SHIFT);
    return;
  }
  note_active (ra, s);
  if (s->window == 0)
    stream_begin_window (ra, s, offset, len);
  advance (ra, s, offset, len);
  read_ahead (ra, s, len);
}

void
readahead_note (struct readahead *ra, uint64_t offset, uint64_t len,
                bool missed)
{
  if (missed || is_near_a_stream (ra, offset, len))
    note_request (ra, offset, len, missed);
}
