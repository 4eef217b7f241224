/* SPDX-License-Identifier: BSD-3-Clause */

/* Makes a warm list of what is cached.
 *
 * The queues of each pool are looked at once for each heat, some descriptors at
 * a time, so that no miss waits for more than that.  Pages come and go
 * meanwhile: the list is advice.  For a cache of 1 GiB with 4 KiB pages some
 * 260,000 keys are sorted; the 2 MiB for them are taken from the budget, at
 * the cost of clean pages, and given back.
 *
 * Pages that no client has used again (heat 0) are listed only while their pool
 * has room for more pages: then all that clients read is listed.  Where pages
 * are evicted, those are about to leave anyway.
 *
 * Caches of single connections are not listed: no later connection finds them.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "request/warmscan.h"

#define NOT_LISTED UINT16_MAX

struct scan {
  struct warmlist_text text;
  const struct warmlist *old;
  uint16_t *taken; /* the numbers in the new list of exports of the old one */
  uint16_t listed[MAX_CACHES + 1]; /* the same, by an export's number */
};

static bool
is_taken_over (const struct scan *s, const char *name, bool tls)
{
  unsigned i;

  for (i = 0; i < s->old->nr_exports; ++i)
    if (s->old->exports[i].tls == tls &&
        strcmp (s->old->exports[i].name, name) == 0)
      return s->taken[i] != NOT_LISTED;
  return false;
}

static void
list_export (struct export *e, void *opaque)
{
  struct scan *s = opaque;

  if (e->shared && !is_taken_over (s, e->name, e->tls))
    s->listed[e->number] = warmlist_text_export (
        &s->text, e->name, e->tls, e->pc.size, page_size (&e->pc));
}

static int
compare_keys (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* Lists the pages of sorted keys; these become indexes. */
static void
list_pages (struct scan *s, unsigned heat, uint64_t *keys, size_t n)
{
  unsigned number;
  size_t i, j;

  for (i = 0; i < n; i = j) {
    number = keys[i] >> KEY_INDEX_BITS;
    for (j = i; j < n && keys[j] >> KEY_INDEX_BITS == number; ++j)
      keys[j] &= (UINT64_C (1) << KEY_INDEX_BITS) - 1;
    if (s->listed[number] != NOT_LISTED)
      warmlist_text_pages (&s->text, heat, s->listed[number], keys + i, j - i);
  }
}

static void
list_heat (struct scan *s, struct pool *pool, unsigned heat)
{
  const size_t n = pool_collect (pool, heat, NULL, SIZE_MAX);
  const size_t bytes = n * sizeof (uint64_t);
  uint64_t *keys;
  size_t found;

  if (n == 0)
    return;
  if (!pools_make_room (&registry.pools, bytes)) {
    s->text.failed = true;
    return;
  }
  keys = malloc (bytes);
  if (keys) {
    found = pool_collect (pool, heat, keys, n);
    qsort (keys, found, sizeof keys[0], compare_keys);
    list_pages (s, heat, keys, found);
    free (keys);
  }
  else
    s->text.failed = true;
  memory_give (&registry.memory, bytes);
}

static void
list_pool (struct scan *s, struct pool *pool)
{
  unsigned heat;

  for (heat = EVICT_HEATS - 1; heat > 0; --heat)
    list_heat (s, pool, heat);
  if (pools_free_pages (&registry.pools, pool) > POOL_MIN_PAGES)
    list_heat (s, pool, 0);
}

/* Lists the exports of the old list whose pages are taken over. */
static void
take_exports_over (struct scan *s, bool (*is_unfetched) (unsigned export))
{
  const struct warmlist_export *x;
  unsigned i;

  for (i = 0; i < s->old->nr_exports; ++i) {
    x = &s->old->exports[i];
    s->taken[i] = x->pages > 0 && is_unfetched (i)
                      ? warmlist_text_export (&s->text, x->name, x->tls,
                                              x->size, x->page_size)
                      : NOT_LISTED;
  }
}

/* Exports that no client opens any more must not fill the list: beyond a part
 * of the memory they are forgotten.
 */
static void
take_pages_over (struct scan *s)
{
  unsigned i;

  for (i = 0; i < s->old->nr_exports; ++i)
    if (s->taken[i] != NOT_LISTED &&
        s->text.len < memory_limit (&registry.memory) / 32)
      warmlist_text_copy (&s->text, s->taken[i], s->old, i);
}

char *
warmscan_text (const struct warmlist *old,
               bool (*is_unfetched) (unsigned export))
{
  struct scan *s = calloc (1, sizeof *s);
  struct pool *pool;
  char *text = NULL;

  if (s)
    s->taken = calloc (old->nr_exports + 1, sizeof s->taken[0]);
  if (s && s->taken) {
    s->old = old;
    memset (s->listed, 0xff, sizeof s->listed);
    warmlist_text_begin (&s->text);
    take_exports_over (s, is_unfetched);
    export_for_each (list_export, s);
    for (pool = pools_first (&registry.pools); pool; pool = pool->next)
      list_pool (s, pool);
    take_pages_over (s);
    text = warmlist_text_end (&s->text);
    free (s->taken);
  }
  free (s);
  return text;
}
