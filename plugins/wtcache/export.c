/* SPDX-License-Identifier: BSD-3-Clause */

/* The registry of exports: which cache a connection uses, and how long it is
 * kept.
 *
 * A cache belongs to a name, and to TLS or not.  It outlives its connections:
 * clean pages because the next client may read them, dirty ones because they
 * are not yet on the backend.  If the backend does not promise that its
 * connections see each other's writes, each connection has a cache to itself,
 * unless wtcache-share says otherwise, or one holds what the backend refused of
 * connections that have left (heirs.c).
 *
 * The connections of one cache agree on the disk's size and its blocks, and on
 * nothing else: one may be read-only, another be unable to flush.  Each call to
 * the backend is made as the calling connection allows.
 *
 * For example, over a backend that does promise it, two clients open the export
 * "disk" without TLS and share one cache; a third opens it with TLS and gets
 * another.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "export.h"

/* Exports whose names are labels in the metrics, and exports that are kept
 * though nothing uses them: clients choose the names.
 */
#define MAX_LABELS 100
#define MAX_IDLE   1000

struct registry registry;

int
export_registry_init (bool parallel)
{
  int err;

  memset (&registry, 0, sizeof registry);
  err = memory_init (&registry.memory, SETTING (size));
  if (err == 0) {
    err = pools_init (&registry.pools, &registry.memory);
    if (err != 0)
      memory_destroy (&registry.memory);
  }
  if (err != 0) {
    memset (&registry, 0, sizeof registry);
    return err;
  }
  registry.there = true;
  registry.parallel = parallel;
  lock_init (&registry.lock, RANK_REGISTRY);
  change_init ();
  registry.numbers[0] = 1; /* number 0 is no export */
  return 0;
}

void
export_registry_after_fork (void)
{
  memory_after_fork (&registry.memory);
  pools_after_fork (&registry.pools);
}

static void
unlink_export (struct export *e)
{
  struct export **link = &registry.first;

  assert_held (&registry.lock);
  while (*link != e)
    link = &(*link)->next;
  *link = e->next;
  registry.numbers[e->number / 64] &= ~(UINT64_C (1) << e->number % 64);
}

/* Pages that clients read, in all. */
static uint64_t
pages_read (struct export *e)
{
  return stats_sum (&e->stats, COUNT_HITS) +
         stats_sum (&e->stats, COUNT_MISSES) +
         stats_sum (&e->stats, COUNT_MORE_PAGES);
}

static void
free_export (struct export *e)
{
  assert_held (&registry.lock);
  if (registry.note_freed)
    registry.note_freed (e);
  registry.labelled -= e->labelled;
  curve_add_reads (e->pc.pool->curve, pages_read (e));
  pagecache_drop (&e->pc);
  stats_destroy (&e->stats);
  submit_destroy (&e->submit);
  pagecache_destroy (&e->pc);
  connections_destroy (e);
  memory_give (e->memory, sizeof *e + strlen (e->name) + 1);
  free (e->name);
  free (e);
}

void
export_registry_destroy (void)
{
  struct export *e, *next;

  for (e = registry.first; e; e = next) {
    next = e->next;
    stats_destroy (&e->stats); /* its pages are freed with the pools */
    free (e->name);
    free (e);
  }
  pools_destroy (&registry.pools);
  memory_destroy (&registry.memory);
  lock_destroy (&registry.lock);
  registry.there = false;
}

/* How many exports divide the bound of dirty data among them. */
static void
count_holding (void)
{
  struct export *e;
  unsigned n = 0;

  assert_held (&registry.lock);
  for (e = registry.first; e; e = e->next)
    if (e->writers > 0 || dirty_is_held (e))
      n++;
  atomic_store_explicit (&registry.holding, n, memory_order_relaxed);
}

/* A number that no export has; 0: none is left. */
static unsigned
free_number (void)
{
  unsigned n;

  for (n = 1; n <= MAX_CACHES; ++n)
    if (!(registry.numbers[n / 64] >> n % 64 & 1))
      return n;
  return 0;
}

static bool
is_unused (struct export *e)
{
  return e->users == 0 && e->keepers == 0 && !dirty_is_held (e) &&
         !atomic_load_explicit (&e->writeback.running, memory_order_acquire) &&
         atomic_load_explicit (&e->writeback.drains, memory_order_acquire) == 0;
}

static bool
has_pages (struct export *e)
{
  return atomic_load_explicit (&e->pc.counts->cached, memory_order_relaxed) > 0;
}

static unsigned
count_unused (void)
{
  struct export *e;
  unsigned n = 0;

  assert_held (&registry.lock);
  for (e = registry.first; e; e = e->next)
    n += is_unused (e);
  return n;
}

/* Frees the export that has been idle longest, of those without cached pages
 * or of all; false: there is none.
 */
static bool
forget_one (bool without_pages)
{
  struct export *e, *oldest = NULL;

  assert_held (&registry.lock);
  for (e = registry.first; e; e = e->next)
    if (is_unused (e) && !(without_pages && has_pages (e)) &&
        (!oldest || e->last_used < oldest->last_used))
      oldest = e;
  if (oldest == NULL)
    return false;
  unlink_export (oldest);
  free_export (oldest);
  return true;
}

/* Takes BYTES from the budget.  An idle export whose pages have left is only
 * memory, so it goes before clean pages do; one with pages goes after.
 */
static bool
take_room (uint64_t bytes)
{
  while (!memory_take (&registry.memory, bytes))
    if (!forget_one (true)) {
      while (!pools_make_room (&registry.pools, bytes))
        if (!forget_one (false))
          return false;
      return true;
    }
  return true;
}

/* For submit.may_help. */
static bool
allows_helpers (void *opaque)
{
  return shares_allow_helpers (opaque);
}

static int
new_export (const char *name, bool tls, bool share,
            const struct backend_traits *traits, struct export **ret)
{
  const size_t bytes = sizeof (struct export) + strlen (name) + 1;
  const uint32_t page = max_u64 (SETTING (page_size), traits->block);
  struct pool *pool;
  struct export *e;

  while (free_number () == 0 || count_unused () >= MAX_IDLE)
    if (!forget_one (false))
      return ENOMEM;
  while ((pool = pools_get (&registry.pools, page)) == NULL)
    if (!forget_one (false))
      return ENOMEM;
  if (!take_room (bytes))
    return ENOMEM;
  e = calloc (1, sizeof *e);
  if (e)
    e->name = strdup (name);
  if (e == NULL || e->name == NULL) {
    free (e);
    memory_give (&registry.memory, bytes);
    return ENOMEM;
  }
  e->memory = &registry.memory;
  e->tls = tls;
  e->shared = share;
  e->number = free_number ();
  e->preferred = traits->preferred;
  pagecache_init (&e->pc, &registry.pools, pool, e->number, traits->size,
                  traits->block, SETTING (mode) == MODE_WRITEAROUND);
  submit_init (&e->submit, &e->pc, &registry.memory, registry.parallel,
               SETTING (depth));
  stats_init (&e->stats);
  e->submit.flush = connections_flush;
  e->submit.may_help = allows_helpers;
  e->submit.opaque = e;
  connections_init (e, traits->can_multi_conn);
  e->labelled = registry.labelled < MAX_LABELS;
  registry.labelled += e->labelled;
  registry.numbers[e->number / 64] |= UINT64_C (1) << e->number % 64;
  e->next = registry.first;
  registry.first = e;
  *ret = e;
  return 0;
}

/* A shared cache is found by its key; an unshared one only while it has no
 * connection.
 */
static struct export *
find_export (const char *name, bool tls, bool share)
{
  struct export *e;

  assert_held (&registry.lock);
  for (e = registry.first; e; e = e->next)
    if (strcmp (e->name, name) == 0 && e->tls == tls && e->shared == share &&
        (share || e->users == 0))
      return e;
  return NULL;
}

static bool
same_disk (struct export *e, const struct backend_traits *t)
{
  return e->pc.size == t->size && block_size (&e->pc) == t->block;
}

/* Whether its cache must not differ from the disk. */
static bool
is_in_use (struct export *e)
{
  return e->users > 0 || dirty_is_held (e);
}

/* Adapts an export without connections to the backend as it is now. */
static int
renew_export (struct export **e, const struct backend_traits *traits,
              int64_t *unsavable)
{
  struct export *old = *e;
  const bool tls = old->tls, share = old->shared;
  char *name;
  int err;

  if (is_unused (old)) {
    name = strdup (old->name);
    if (name == NULL)
      return ENOMEM;
    unlink_export (old);
    free_export (old);
    err = new_export (name, tls, share, traits, e);
    free (name);
    return err;
  }
  /* Held bytes have to fit: a last block that was not full would have to be
   * read again in part.
   */
  if (traits->block != block_size (&old->pc) ||
      (old->pc.size % traits->block != 0 && traits->size > old->pc.size))
    return ESTALE;
  *unsavable = pagecache_resize (&old->pc, traits->size);
  old->preferred = traits->preferred;
  return 0;
}

/* Whether two caches may be over one disk and one of them is kept when its
 * connections have ended, or may hold data back.  Those that belong to one
 * connection each do neither, unless one inherits.
 */
static bool
are_siblings (struct export *e, struct export *o)
{
  return o != e && strcmp (o->name, e->name) == 0 &&
         (e->shared || o->shared || heirs_inherits (e) || heirs_inherits (o));
}

static bool
has_sibling_in_use (struct export *e)
{
  struct export *o;

  assert_held (&registry.lock);
  for (o = registry.first; o; o = o->next)
    if (are_siblings (e, o) && is_in_use (o))
      return true;
  return false;
}

/* Whether an export, and each of its siblings, may hold data back: while no
 * other cache over the disk is in use.
 */
static void
set_holds (struct export *e)
{
  struct export *o;

  assert_held (&registry.lock);
  for (o = registry.first; o; o = o->next)
    if (o == e || are_siblings (e, o))
      atomic_store_explicit (&o->holds, o->shared && !has_sibling_in_use (o),
                             memory_order_relaxed);
}

/* A sibling that is not in use keeps nothing, because the other may overwrite
 * it.
 */
static void
find_siblings (struct export *e, struct open_result *result)
{
  struct export *o;

  assert_held (&registry.lock);
  for (o = registry.first; o; o = o->next) {
    if (!are_siblings (e, o))
      continue;
    if (!is_in_use (o)) {
      pagecache_drop (&o->pc);
      continue;
    }
    if (o->shared) {
      o->keepers++;
      result->siblings[result->nr_siblings++] = o;
    }
  }
}

/* A connection of E ends: what E may have written is stale in its siblings. */
static void
drop_overwritten (struct export *e)
{
  struct export *o;

  assert_held (&registry.lock);
  if (!e->wrote)
    return;
  for (o = registry.first; o; o = o->next)
    if (are_siblings (e, o))
      pagecache_drop (&o->pc);
  e->wrote = e->writers > 0;
}

/* The cache for a connection.  A connection that is not multi-conn joins a
 * shared cache that is in use: a cache of its own would be a second one over
 * the same disk.
 */
static struct export *
find_joinable (const char *name, bool tls, bool *share)
{
  struct export *e = heirs_find (name, tls);

  if (e)
    return e;
  if (!*share && registry.parallel) {
    e = find_export (name, tls, true);
    *share = e && is_in_use (e);
  }
  return find_export (name, tls, *share);
}

int
export_open (const char *name, bool tls, bool share,
             const struct backend_traits *traits, bool writes,
             struct open_result *result)
{
  LOCK_FOR_SCOPE (&registry.lock);
  struct export *e;
  int err = 0;

  memset (result, 0, sizeof *result);
  if (SETTING (one_cache))
    name = "";
  e = find_joinable (name, tls, &share);
  if (e == NULL)
    err = new_export (name, tls, share, traits, &e);
  else if (!same_disk (e, traits))
    err =
        e->users == 0 ? renew_export (&e, traits, &result->unsavable) : ESTALE;
  if (err != 0)
    return err;

  result->export = e;
  connections_agree (e, e->users == 0, traits->can_multi_conn);
  find_siblings (e, result);
  e->users++;
  e->writers += writes;
  e->wrote |= writes;
  set_holds (e);
  count_holding ();
  return 0;
}

bool
export_end_writer (struct export *e)
{
  LOCK_FOR_SCOPE (&registry.lock);

  assert (e->writers > 0);
  return --e->writers == 0;
}

/* Frees an export that is of no use any more: the cache of one connection, or
 * one that no data request has reached.
 */
static bool
free_useless (struct export *e)
{
  assert_held (&registry.lock);
  if (!is_unused (e) ||
      (e->shared && (has_pages (e) || !stats_is_empty (&e->stats))))
    return false;
  shares_release (e);
  unlink_export (e);
  free_export (e);
  return true;
}

void
export_close (struct export *e)
{
  LOCK_FOR_SCOPE (&registry.lock);

  e->users--;
  e->last_used = registry.closes++;
  drop_overwritten (e);
  heirs_bequeath (e);
  set_holds (e);
  if (!free_useless (e) && e->users == 0) {
    shares_release (e);
    if (!SETTING (keep) || !e->shared || has_sibling_in_use (e))
      pagecache_drop (&e->pc);
  }
  count_holding ();
}

struct export *
export_keep_next (unsigned number, const char *name)
{
  LOCK_FOR_SCOPE (&registry.lock);
  struct export *e, *next = NULL;

  for (e = registry.first; e; e = e->next)
    if (e->number > number && (next == NULL || e->number < next->number) &&
        (name == NULL || strcmp (e->name, name) == 0))
      next = e;
  if (next)
    next->keepers++;
  return next;
}

void
export_keep (struct export *e)
{
  LOCK_FOR_SCOPE (&registry.lock);

  e->keepers++;
}

void
export_let_go (struct export *e)
{
  LOCK_FOR_SCOPE (&registry.lock);

  assert (e->keepers > 0);
  e->keepers--;
  set_holds (e); /* it may have written back what it held */
  free_useless (e);
  count_holding ();
}

/* Finds a run of blocks in a page: page_held_run, page_owed_run. */
typedef struct span find_run (struct pagecache *pc, uint64_t index,
                              uint32_t from);

/* The first run at or after *INDEX and *BLOCK, in bytes: these move behind it.
 * False: none.
 */
static bool
next_run (struct pagecache *pc, find_run *find, uint64_t *index,
          uint32_t *block, uint64_t *offset, uint64_t *len)
{
  uint64_t at = *index;
  struct span s;

  for (; pagecache_next_held (pc, &at); ++at) {
    s = find (pc, at, at == *index ? *block : 0);
    if (s.count > 0) {
      *index = at;
      *block = s.first + s.count;
      *offset =
          (at << pc->page_shift) + ((uint64_t) s.first << pc->block_shift);
      *len = (uint64_t) s.count << pc->block_shift;
      return true;
    }
  }
  return false;
}

/* Adds a range to the text, or ' ...' if it does not fit: then false. */
static bool
append_range (char *text, size_t size, uint64_t offset, uint64_t len)
{
  const size_t used = strlen (text);
  const int n =
      snprintf (text + used, size - used, " %" PRIu64 "+%" PRIu64, offset, len);

  if (n > 0 && used + n < size - sizeof " ...")
    return true;
  strcpy (text + used, " ...");
  return false;
}

/* The runs from byte FROM on as text, as far as there is room; returns the
 * bytes of all.
 */
static uint64_t
format_runs (struct export *e, find_run *find, uint64_t from, char *text,
             size_t size)
{
  struct pagecache *pc = &e->pc;
  uint64_t index = from >> pc->page_shift;
  uint32_t block = (from & (page_size (pc) - 1)) >> pc->block_shift;
  uint64_t offset, len, at = 0, more = 0, sum = 0;
  bool any = next_run (pc, find, &index, &block, &offset, &len), another;
  bool room = true;

  text[0] = '\0';
  while (any) {
    /* Adjoining runs of neighbouring pages are reported as one. */
    while ((another = next_run (pc, find, &index, &block, &at, &more)) &&
           at == offset + len)
      len += more;
    sum += len;
    room = room && append_range (text, size, offset, len);
    any = another;
    offset = at;
    len = more;
  }
  return sum;
}

void
export_format_held (struct export *e, uint64_t from, char *text, size_t size)
{
  format_runs (e, page_held_run, from, text, size);
}

uint64_t
export_format_owed (struct export *e, char *text, size_t size)
{
  return format_runs (e, page_owed_run, 0, text, size);
}

void
export_format_zeroed (struct export *e, char *text, size_t size)
{
  uint64_t offset, len;
  bool zeroed;

  text[0] = '\0';
  for (offset = 0; offset < e->pc.size; offset += len) {
    len = zeroes_prefix (&e->pc.zeroes, offset, e->pc.size - offset, &zeroed);
    if (zeroed && !append_range (text, size, offset, len))
      return;
  }
}

void
export_for_each (void (*f) (struct export *e, void *opaque), void *opaque)
{
  LOCK_FOR_SCOPE (&registry.lock);
  struct export *e;

  for (e = registry.first; e; e = e->next)
    f (e, opaque);
}

/* Pages read through the exports of one pool. */
struct pool_reads {
  const struct pool *pool;
  uint64_t pages;
};

static void
add_pages_read (struct export *e, void *opaque)
{
  struct pool_reads *r = opaque;

  if (e->pc.pool == r->pool)
    r->pages += pages_read (e);
}

void
export_curve (struct curve_estimate *all, struct curve_counts *counts)
{
  struct curve_estimate one;
  struct curve_counts counted;
  struct pool_reads r;
  struct pool *pool;
  unsigned i;

  memset (all, 0, sizeof *all);
  memset (counts, 0, sizeof *counts);
  for (pool = pools_first (&registry.pools); pool; pool = pool->next) {
    r = (struct pool_reads){ .pool = pool };
    export_for_each (add_pages_read, &r);
    curve_estimate (pool->curve, r.pages, now_ns (), &one);
    curve_get (pool->curve, &counted);
    counts->sampled_reads += counted.sampled_reads;
    counts->dropped += counted.dropped;
    all->reads += one.reads;
    for (i = 0; i < CURVE_SIZES; ++i) {
      counts->misses[i] += counted.misses[i];
      all->miss_ratio[i] += one.miss_ratio[i] * one.reads; /* misses */
    }
  }
  for (i = 0; i < CURVE_SIZES && all->reads > 0; ++i)
    all->miss_ratio[i] /= all->reads;
}
