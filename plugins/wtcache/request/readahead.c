/* SPDX-License-Identifier: BSD-3-Clause */

/* Streams of a connection, and what is read ahead of them.
 *
 * A request that begins where another ended (or ends where it began, for a
 * stream that goes backwards) belongs to its stream.  From the second on, a
 * window is read ahead; it doubles each time that half of it has been used, up
 * to a bound, so that a stream is met by what was asked for long before, and a
 * chance neighbour costs little (the kernel's mm/readahead.c works so).  With
 * several requests in flight they come out of order, so some slack is allowed.
 *
 * What is on its way is joined by the read that wants it; what still waits for
 * a thread is begun by that read itself, so that a busy machine does not turn
 * a stream into single misses.  The pages are admitted as readahead, to be
 * thrown away first.
 *
 * All of this is advice: without memory or a free thread nothing is read.
 */

#include <config.h>

#include <stdlib.h>

#include "request.h"
#include "request/readahead.h"

#define STREAMS      8
#define TASKS        16
#define FIRST_WINDOW (64 * KiB)
#define CHUNK        (256 * KiB)
#define SLACK        16 /* requests that may overtake each other */
#define REGIONS      1024
#define REGION_SHIFT 20

struct stream {
  uint64_t low, high; /* bytes: the next request begins or ends here */
  uint64_t ahead;     /* read ahead up to (or, backwards, down to) here */
  uint64_t window;    /* bytes; 0: not yet known to be a stream */
  uint64_t last_used;
  uint64_t region; /* where it is counted, if it is */
  bool counted;
  bool backward;
};

struct ahead_task {
  struct task task;
  struct readahead *ra;
  uint64_t offset, len;

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
  _Atomic uint8_t near[REGIONS];

  /* Tasks that nobody has begun.  Relaxed, advice: written under the lock; a
   * miss that finds none takes no lock.
   */
  _Atomic unsigned waiting;

  struct lock lock; /* RANK_AHEAD */
  /* Guarded by lock. */
  struct stream streams[STREAMS];
  struct ahead_task tasks[TASKS];
  uint64_t clock;
  unsigned busy;
  struct condition idle;
};

/* How far ahead of a stream, at most: no more than a share of a small cache.
 * It can change while streams go on.
 */
static uint64_t
most_ahead (const struct readahead *ra)
{
  return min_u64 (
      atomic_load_explicit (&ra->e->settings->readahead, memory_order_relaxed),
      round_down (memory_limit (ra->e->memory) / 16, page_size (&ra->e->pc)));
}

struct readahead *
readahead_new (struct export *e)
{
  struct readahead *ra;

  if (!pools_make_room (&registry.pools, sizeof *ra))
    return NULL;
  ra = calloc (1, sizeof *ra);
  if (ra == NULL) {
    memory_give (e->memory, sizeof *ra);
    return NULL;
  }
  ra->e = e;
  ra->fill = request_fill (e);
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
  memory_give (ra->e->memory, sizeof *ra);
  free (ra);
}

/* Whether nobody has begun it yet: it is the caller's then. */
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

static void
run_task (struct task *task)
{
  struct ahead_task *t = container_of (task, struct ahead_task, task);
  struct readahead *ra = t->ra;
  struct backend *b;
  bool mine;

  lock_take (&ra->lock);
  mine = begin_task (ra, t);
  lock_drop (&ra->lock);
  b = mine ? export_borrow (ra->e, NEED_READ) : NULL;
  if (b) {
    /* An error is found again by who reads for himself. */
    request_prefetch (ra->e, b, t->offset, t->len, ADMIT_AHEAD);
    export_return (ra->e, b);
  }
  LOCK_FOR_SCOPE (&ra->lock);
  t->busy = false;
  if (--ra->busy == 0)
    condition_wake_all (&ra->idle);
}

/* A stream comes to a request: how much further than before, of what was asked
 * for ahead of it.
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

/* Begins to read a chunk; false: there is no task or thread for it. */
static bool
begin_chunk (struct readahead *ra, uint64_t offset, uint64_t len)
{
  unsigned i;

  assert_held (&ra->lock);
  for (i = 0; i < TASKS && ra->tasks[i].busy; ++i)
    ;
  if (i == TASKS)
    return false;
  ra->tasks[i] = (struct ahead_task){
    .task.run = run_task,
    .ra = ra,
    .offset = offset,
    .len = len,
    .busy = true,
  };
  ra->busy++;
  atomic_fetch_add_explicit (&ra->waiting, 1, memory_order_relaxed);
  if (workers_try (&ra->tasks[i].task)) {
    stats_add (&ra->e->stats, COUNT_AHEAD_BYTES, len);
    return true;
  }
  begin_task (ra, &ra->tasks[i]);
  ra->tasks[i].busy = false;
  ra->busy--;
  return false;
}

bool
readahead_help (struct readahead *ra, struct backend *own, uint64_t offset)
{
  uint64_t at = 0, len = 0;
  struct ahead_task *t;

  if (atomic_load_explicit (&ra->waiting, memory_order_relaxed) == 0)
    return false;

  lock_take (&ra->lock);
  for (t = ra->tasks; t < ra->tasks + TASKS; ++t)
    if (t->busy && offset >= t->offset && offset - t->offset < t->len &&
        begin_task (ra, t)) {
      at = t->offset; /* the worker may give the task up from now on */
      len = t->len;
      break;
    }
  lock_drop (&ra->lock);
  return len > 0 && request_prefetch (ra->e, own, at, len, ADMIT_AHEAD) == 0;
}

/* How far ahead of a stream has been read, bytes. */
static uint64_t
distance (const struct stream *s)
{
  if (s->backward)
    return s->low > s->ahead ? s->low - s->ahead : 0;
  return s->ahead > s->high ? s->ahead - s->high : 0;
}

static void
read_ahead (struct readahead *ra, struct stream *s)
{
  const uint64_t size = ra->e->pc.size;
  uint64_t n;

  if (distance (s) == 0)
    s->ahead = s->backward ? s->low : s->high;
  if (distance (s) > s->window / 2)
    return;
  while (distance (s) < s->window) {
    /* To a multiple of a chunk, so that each is one read. */
    n = s->ahead % CHUNK;
    n = s->backward ? (n ? n : CHUNK) : CHUNK - n;
    if (s->window < CHUNK)
      n = min_u64 (n, s->window - distance (s));
    if (s->backward) {
      n = min_u64 (n, s->ahead);
      if (n == 0 || !begin_chunk (ra, s->ahead - n, n))
        return;
      s->ahead -= n;
    }
    else {
      n = min_u64 (n, size - s->ahead);
      if (n == 0 || !begin_chunk (ra, s->ahead, n))
        return;
      s->ahead += n;
    }
  }
  s->window = min_u64 (2 * s->window, most_ahead (ra));
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

/* The stream that a request belongs to. */
static struct stream *
find_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  const uint64_t slack = SLACK * len;
  struct stream *s;

  for (s = ra->streams; s < ra->streams + STREAMS; ++s) {
    if (s->last_used == 0)
      continue;
    if (s->window == 0) {
      if (goes_forward (ra, s, offset) || goes_backward (ra, s, offset + len))
        return s;
    }
    else if (s->backward
                 ? offset + len <= s->low + slack &&
                       offset + len + slack >= s->low
                 : offset <= s->high + slack && offset + slack >= s->high)
      return s;
  }
  return NULL;
}

static void
count (struct readahead *ra, uint64_t region, int by)
{
  unsigned i;

  assert_held (&ra->lock);
  for (i = 0; i < 3; ++i)
    atomic_fetch_add_explicit (&ra->near[(region + i - 1) % REGIONS], by,
                               memory_order_relaxed);
}

/* Counts a stream where it is, for is_near_a_stream, or no longer. */
static void
count_stream (struct readahead *ra, struct stream *s, bool counted)
{
  const uint64_t region = (s->backward ? s->low : s->high) >> REGION_SHIFT;

  if (s->counted == counted && (!counted || s->region == region))
    return;
  if (s->counted)
    count (ra, s->region, -1);
  if (counted)
    count (ra, region, 1);
  s->counted = counted;
  s->region = region;
}

static struct stream *
new_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  struct stream *s, *oldest = ra->streams;

  for (s = ra->streams; s < ra->streams + STREAMS; ++s)
    if (s->last_used < oldest->last_used)
      oldest = s;
  count_stream (ra, oldest, false);
  *oldest = (struct stream){ .low = offset, .high = offset + len };
  return oldest;
}

/* Whether a hit may belong to a stream; requests are within the slack of their
 * stream's region.
 */
static bool
is_near_a_stream (struct readahead *ra, uint64_t offset, uint64_t len)
{
  const uint64_t region = offset >> REGION_SHIFT;

  return atomic_load_explicit (&ra->near[region % REGIONS],
                               memory_order_relaxed) != 0 ||
         (SLACK + 1) * len > UINT64_C (1) << REGION_SHIFT;
}

/* Not inlined: it would make each hit save registers for it. */
static __attribute__ ((noinline)) void
note_request (struct readahead *ra, uint64_t offset, uint64_t len, bool missed)
{
  if (most_ahead (ra) == 0)
    return;

  LOCK_FOR_SCOPE (&ra->lock);
  struct stream *s = find_stream (ra, offset, len);

  if (s == NULL) {
    /* What is cached already is no beginning of a stream. */
    if (missed) {
      s = new_stream (ra, offset, len);
      s->last_used = ++ra->clock;
    }
    return;
  }
  s->last_used = ++ra->clock;
  if (s->window == 0) {
    s->backward = !goes_forward (ra, s, offset);
    s->ahead = s->backward ? offset : offset + len;
    s->window = min_u64 (max_u64 (FIRST_WINDOW, 4 * len), most_ahead (ra));
  }
  else
    count_use (ra, s, offset, len);
  s->low = s->backward ? min_u64 (s->low, offset) : offset;
  s->high = s->backward ? offset + len : max_u64 (s->high, offset + len);
  count_stream (ra, s, true);
  read_ahead (ra, s);
}

void
readahead_note (struct readahead *ra, uint64_t offset, uint64_t len,
                bool missed)
{
  if (missed || is_near_a_stream (ra, offset, len))
    note_request (ra, offset, len, missed);
}
