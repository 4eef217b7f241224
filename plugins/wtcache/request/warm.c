/* SPDX-License-Identifier: BSD-3-Clause */

/* The warm list: after a restart, what clients used most is fetched again
 * before they ask for it.
 *
 *    file ── warm_start ──> waiting ── first request of the export ──> loading
 *                              ^                                          │
 *                              └──────── its last connection left ────────┤
 *                                                                         v
 *                            done, or no more room, or the backend fails: ended
 *
 * A list holds no data, so it cannot be stale: it names pages, and the backend
 * is asked for them as for any other read.  The hottest come first, in runs of
 * up to 256 KiB, each by a helper.
 *
 * This stands behind what clients ask.  While none of their requests needs the
 * backend, up to 16 runs are in flight.  While some do, there is one, and half
 * of the time there is none: with a backend that has just read 200 MB/s for one
 * run, each second 100 MB are asked for.  No page is evicted for it: when the
 * cache has no more room, it ends.
 *
 * Another list is made every few minutes and at the end, from the queues of the
 * eviction policy.  A list has two or three bytes for each page.
 *
 * May not know files.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request/fetch.h"
#include "request/warm.h"
#include "request/warmscan.h"

_Static_assert(WARMLIST_HEATS == EVICT_HEATS, "a list has each heat");

#define MAX_RUNS   16          /* of one export in flight */
#define RUN        (256 * KiB) /* bytes of one, at most */
#define TICKS      10          /* in a second */
#define SHARE      2           /* beside clients, one part in so many */
#define SPEED_GAIN 4           /* a run changes the mean speed by 1/4 */
#define MAX_ERRORS 16          /* in turn */
#define SPARE      64          /* one page in so many is left free */

struct warm_run {
  struct task task;
  struct warm *warm;
  uint64_t offset, len; /* bytes */
  uint64_t pages;       /* the same, in pages of the list */
  unsigned heat;
  uint8_t *spare; /* a buffer for it, of ROOM bytes */
  size_t room;
  bool busy;
};

/* An export of the list. */
struct warm {
  unsigned listed; /* its number in the list */

  /* Guarded by loader.lock. */
  enum warm_state state;
  struct export *export; /* while it is loading, and kept until then */
  struct warmlist_walk walk;
  struct warmlist_run rest; /* of the walk's last run, not yet asked for */
  struct warm_run runs[MAX_RUNS];
  unsigned busy;    /* runs in flight */
  unsigned errors;  /* in turn */
  uint64_t fetched; /* bytes */
  uint64_t speed;   /* bytes a second, of one run */
  uint64_t asked;   /* what clients had asked at the last tick */
  bool beside;      /* clients need the backend */
  int64_t budget;   /* bytes until the next tick, beside clients */
};

static struct {
  struct lock lock; /* RANK_WARM */

  /* Constant from warm_start to warm_stop; before it there is no list. */
  struct warmlist list;
  struct warm *exports; /* as many as the list has */
} loader = {
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_WARM },
};

static struct warmlist_export *
listed (const struct warm *w)
{
  return &loader.list.exports[w->listed];
}

/* ---- loading ---- */

int
warm_start (char *text, size_t len, char *why, size_t size)
{
  const size_t each = sizeof (struct warm) + sizeof (struct warmlist_export);
  unsigned i;

  if (warmlist_parse (&loader.list, text, len, why, size) == -1)
    return -1;
  loader.exports = calloc (loader.list.nr_exports + 1, sizeof (struct warm));
  if (loader.exports == NULL ||
      !memory_take (&registry.memory, len + loader.list.nr_exports * each)) {
    warm_stop ();
    snprintf (why, size, "there is no memory for it");
    return -1;
  }
  for (i = 0; i < loader.list.nr_exports; ++i) {
    loader.exports[i].listed = i;
    loader.exports[i].state = WARM_WAITING;
  }
  return 0;
}

void
warm_stop (void)
{
  free (loader.exports);
  loader.exports = NULL;
  warmlist_free (&loader.list);
}

static struct warm *
find_warm (const char *name, bool tls)
{
  unsigned i;

  for (i = 0; i < loader.list.nr_exports; ++i)
    if (strcmp (loader.list.exports[i].name, name) == 0 &&
        loader.list.exports[i].tls == tls)
      return &loader.exports[i];
  return NULL;
}

/* How many requests of its clients have needed the backend. */
static uint64_t
count_asked (struct export *e)
{
  return stats_sum (&e->stats, COUNT_MISSES) +
         stats_sum (&e->stats, COUNT_FUA) +
         stats_sum (&e->stats, COUNT_ZEROES) +
         stats_sum (&e->stats, COUNT_TRIMS) +
         stats_sum (&e->stats, COUNT_FLUSHES);
}

void
warm_begin (struct export *e)
{
  struct warm *w = e->shared ? find_warm (e->name, e->tls) : NULL;
  bool begins;

  if (w == NULL)
    return;
  export_keep (e);
  lock_take (&loader.lock);
  begins = w->state == WARM_WAITING && w->busy == 0;
  if (begins) {
    w->state = WARM_LOADING;
    w->export = e;
    warmlist_walk_begin (&loader.list, &w->walk, w->listed);
    w->rest.count = 0;
    w->fetched = 0;
    w->asked = count_asked (e);
  }
  lock_drop (&loader.lock);
  if (!begins)
    export_let_go (e);
}

/* Sets R to the next pages of the list that lie in the export, of at most MAX
 * bytes, or one page; false: there are no more.
 */
static bool
next_pages (struct warm *w, struct warm_run *r, uint64_t max)
{
  const uint32_t page = listed (w)->page_size;
  const uint64_t size = w->export->pc.size;

  assert_held (&loader.lock);
  for (;;) {
    if (w->rest.count == 0 && !warmlist_walk_next (&w->walk, &w->rest))
      return false;
    r->offset = w->rest.first * page;
    r->pages = min_u64 (w->rest.count, max_u64 (max / page, 1));
    r->len = r->pages * page;
    r->heat = w->rest.heat;
    w->rest.first += r->pages;
    w->rest.count -= r->pages;
    if (r->offset < size) {
      r->len = min_u64 (r->len, size - r->offset);
      return true;
    }
    w->fetched += r->len;
  }
}

static bool
has_room (struct warm *w)
{
  const struct export *e = w->export;
  const uint64_t max = memory_limit (e->memory) / pool_page_cost (e->pc.pool);

  return pools_free_pages (&registry.pools, e->pc.pool) >
         (w->busy + 1) * RUN / page_size (&e->pc) + max / SPARE;
}

/* R, the last that next_pages set, is not to be read now. */
static void
put_pages_back (struct warm *w, const struct warm_run *r)
{
  assert_held (&loader.lock);
  w->rest.first -= r->pages;
  w->rest.count += r->pages;
}

/* Whether the list is to be fetched, as far as that is known now. */
static bool
goes_on (struct warm *w)
{
  assert_held (&loader.lock);
  if (w->state == WARM_LOADING &&
      atomic_load_explicit (&registry.stopping, memory_order_relaxed))
    w->state = WARM_WAITING;
  if (w->state == WARM_LOADING && !has_room (w))
    w->state = WARM_FULL;
  return w->state == WARM_LOADING && !(w->beside && w->budget <= 0);
}

/* The next run, in R, with a buffer; false: there is none now. */
static bool
warm_next_run (struct warm *w, struct warm_run *r)
{
  struct export *e = w->export;

  if (!goes_on (w))
    return false;
  if (!next_pages (w, r, fetch_spare (e, 0, RUN))) {
    w->state = WARM_DONE;
    return false;
  }
  r->room = fetch_spare (e, r->offset, r->len);
  r->spare = scratch_try (e->memory, &e->pc.borrower, r->room, URGENCY_AHEAD);
  if (r->spare == NULL) {
    put_pages_back (w, r);
    return false;
  }
  w->budget -= r->len;
  return true;
}

static unsigned
max_busy (const struct warm *w)
{
  return w->beside ? 1 : MAX_RUNS;
}

/* The export that is not needed any more, for the caller to let go; or NULL. */
static struct export *
take_ended (struct warm *w)
{
  struct export *e = w->export;

  assert_held (&loader.lock);
  if (e == NULL || w->state == WARM_LOADING || w->busy > 0)
    return NULL;
  w->export = NULL;
  return e;
}

/* A run has ended; true: R is another one.  Else the caller has R and W no
 * more, and lets go of the export *ENDED, if it is not NULL.
 */
static bool
warm_end_run (struct warm *w, struct warm_run *r, int err, uint64_t ns,
              struct export **ended)
{
  LOCK_FOR_SCOPE (&loader.lock);
  const uint64_t speed = r->len * UINT64_C (1000000000) / max_u64 (ns, 1);

  w->fetched += r->len;
  if (err == 0) {
    w->errors = 0;
    w->speed += ((int64_t) speed - (int64_t) w->speed) / SPEED_GAIN;
  }
  else if (err == ENOTCONN &&
           (w->state == WARM_LOADING || w->state == WARM_DONE))
    w->state = WARM_WAITING; /* it begins again with the first page */
  else if (w->state == WARM_LOADING && ++w->errors == MAX_ERRORS)
    w->state = WARM_FAILED;
  if (w->busy <= max_busy (w) && warm_next_run (w, r))
    return true;
  r->busy = false;
  w->busy--;
  *ended = take_ended (w);
  return false;
}

/* An error is ignored but counted: a client that needs the bytes reads them
 * again.
 */
static void
warm_run_task (struct task *task)
{
  struct warm_run *r = container_of (task, struct warm_run, task);
  struct warm *w = r->warm;
  struct export *e = w->export, *ended;
  struct backend *b;
  struct loan loan;
  uint64_t began;
  int err;

  do {
    began = now_ns ();
    b = loans_borrow (&loan, e, NEED_READ);
    err = b ? fetch_into (e, b, r->spare, r->room, r->offset, r->len,
                          ADMIT_WARM + r->heat)
            : ENOTCONN;
    loans_return (&loan);
    scratch_put (e->memory, &e->pc.borrower, r->spare, r->room);
  } while (warm_end_run (w, r, err, now_ns () - began, &ended));
  if (ended)
    export_let_go (ended);
}

/* A run for which there may be one more in flight; or NULL. */
static struct warm_run *
free_run (struct warm *w)
{
  unsigned i;

  if (w->busy >= max_busy (w))
    return NULL;
  for (i = 0; w->runs[i].busy; ++i)
    ;
  return &w->runs[i];
}

/* Hands runs to helpers, as many as are free. */
static void
begin_runs (struct warm *w)
{
  struct warm_run *r;

  assert_held (&loader.lock);
  while (shares_allow_helpers (w->export) && (r = free_run (w)) != NULL &&
         warm_next_run (w, r)) {
    r->task.run = warm_run_task;
    r->warm = w;
    r->busy = true;
    w->busy++;
    if (!workers_try (w->export->number, &r->task, URGENCY_AHEAD)) {
      r->busy = false;
      w->busy--;
      scratch_put (w->export->memory, &w->export->pc.borrower, r->spare,
                   r->room);
      put_pages_back (w, r);
      return;
    }
  }
}

/* The bytes that may be asked for until the next tick.  A run may take more,
 * which is made up for at later ticks.
 */
static void
set_budget (struct warm *w)
{
  const uint64_t asked = count_asked (w->export);
  const int64_t more = w->speed > 0 ? w->speed / TICKS / SHARE : RUN;

  assert_held (&loader.lock);
  w->beside = asked != w->asked;
  w->asked = asked;
  w->budget = more + (w->budget < 0 ? w->budget : 0);
}

void
warm_tick (void)
{
  struct export *ended;
  struct warm *w;
  unsigned i;

  for (i = 0; i < loader.list.nr_exports; ++i) {
    w = &loader.exports[i];
    lock_take (&loader.lock);
    if (w->state == WARM_LOADING) {
      set_budget (w);
      begin_runs (w);
    }
    ended = take_ended (w);
    lock_drop (&loader.lock);
    if (ended)
      export_let_go (ended);
  }
}

/* ---- for people ---- */

struct warm_progress
warm_progress (const char *name, bool tls)
{
  struct warm_progress p = { .state = WARM_NONE };
  const struct warm *w = find_warm (name, tls);

  if (w) {
    LOCK_FOR_SCOPE (&loader.lock);
    p.listed = listed (w)->pages * listed (w)->page_size;
    p.fetched = w->fetched;
    p.state = w->busy > 0 ? WARM_LOADING : w->state;
  }
  return p;
}

/* ---- the next list ---- */

/* Whether the old list knows more of an export than the cache does. */
static bool
is_unfetched (unsigned listed)
{
  LOCK_FOR_SCOPE (&loader.lock);
  const enum warm_state state = loader.exports[listed].state;

  return state == WARM_WAITING || state == WARM_LOADING;
}

char *
warm_text (void)
{
  return warmscan_text (&loader.list, is_unfetched);
}
