/* SPDX-License-Identifier: BSD-3-Clause */
/* misses [--lru|--curve] TRACE PAGES
 *
 * How many misses a cache of PAGES equal pages has on a trace, with the
 * filter's own eviction policy, guided by curve.c as in the filter, or with LRU
 * to compare it with.  PAGES may be N%, a share of the pages that the trace
 * touches; N may have decimals.
 *
 * TRACE, compressed by gzip or not, holds one page number a line, in the
 * order of access.  If its name ends in .req.csv or .req.csv.gz, a line is
 * TIME,R|W,FIRST_PAGE,PAGES: writes are then admitted as writes, and the
 * misses of reads are printed as well.  Misses of writes count as misses
 * everywhere else.  If it is @NAME, it is no file but 4,000,000 accesses of a
 * made load (synthetic.c); how many times that changes is printed as well.
 *
 * --curve prints a line for each of the sizes that the filter estimates the
 * miss ratio for while it has PAGES: what it estimates, by its own curve.c,
 * and what a full simulation says.  Both are of reads alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "pagecache/curve.h"
#include "pagecache/evict.h"
#include "synthetic.h"

#define NO_FRAME UINT32_MAX

/* ---- the trace ---- */

struct access {
  uint64_t page;
  bool write;
};

struct trace {
  struct access *accesses;
  size_t count, room;
  int changes; /* of a made load; -1: it is of a file */
};

static void
fail (const char *what, const char *why)
{
  fprintf (stderr, "misses: %s: %s\n", what, why);
  exit (EXIT_FAILURE);
}

static void *
allocate (size_t count, size_t size)
{
  void *p = calloc (count > 0 ? count : 1, size);

  if (p == NULL)
    fail ("memory", strerror (errno));
  return p;
}

static bool
ends_in (const char *name, const char *end)
{
  const size_t n = strlen (name), m = strlen (end);

  return n >= m && strcmp (name + n - m, end) == 0;
}

static void
add (struct trace *trace, uint64_t page, bool write)
{
  if (trace->count == trace->room) {
    trace->room = trace->room > 0 ? trace->room * 2 : 1 << 16;
    trace->accesses =
        realloc (trace->accesses, trace->room * sizeof *trace->accesses);
    if (trace->accesses == NULL)
      fail ("memory", strerror (errno));
  }
  trace->accesses[trace->count++] = (struct access){ page, write };
}

static void
read_trace (struct trace *trace, const char *name, bool requests)
{
  gzFile file = gzopen (name, "rb");
  char line[256];
  uint64_t first, pages;
  char how;
  int error;

  if (file == NULL)
    fail (name, strerror (errno));
  gzbuffer (file, 1 << 18);
  while (gzgets (file, line, sizeof line) != NULL) {
    how = 'R';
    pages = 1;
    if (requests ? sscanf (line, "%*[^,],%c,%" SCNu64 ",%" SCNu64, &how, &first,
                           &pages) != 3
                 : sscanf (line, "%" SCNu64, &first) != 1)
      fail (name, "a line is not as expected");
    for (uint64_t i = 0; i < pages; ++i)
      add (trace, first + i, how == 'W');
  }
  gzerror (file, &error);
  if (error != Z_OK && error != Z_STREAM_END)
    fail (name, "cannot be decompressed");
  gzclose (file);
}

#define MADE_ACCESSES 4000000

static void
add_read (void *trace, uint64_t page)
{
  add (trace, page, false);
}

static void
make_trace (struct trace *trace, const char *name)
{
  trace->changes = synthetic_load (name, MADE_ACCESSES, add_read, trace);
  if (trace->changes < 0)
    fail (name, "no such load");
}

/* ---- the cache: frames and an index of them ---- */

struct frame {
  struct evict_entry entry; /* its key is the page */
  uint32_t next;            /* in the chain of the index */
  uint32_t older, newer;    /* LRU's */
};

struct cache {
  struct frame *frames;
  size_t used, capacity;
  uint32_t *heads;
  unsigned shift;
};

static void
cache_new (struct cache *cache, size_t capacity)
{
  unsigned bits = 4;

  while ((size_t) 1 << bits < capacity)
    bits++;
  cache->capacity = capacity;
  cache->used = 0;
  cache->shift = 64 - bits;
  cache->frames = allocate (capacity, sizeof *cache->frames);
  cache->heads = allocate ((size_t) 1 << bits, sizeof *cache->heads);
  for (size_t i = 0; i < (size_t) 1 << bits; ++i)
    cache->heads[i] = NO_FRAME;
}

static void
cache_free (struct cache *cache)
{
  free (cache->frames);
  free (cache->heads);
}

static uint32_t *
cache_head (const struct cache *cache, uint64_t page)
{
  return &cache->heads[page * UINT64_C (0x9e3779b97f4a7c15) >> cache->shift];
}

static struct frame *
cache_find (const struct cache *cache, uint64_t page)
{
  uint32_t i = *cache_head (cache, page);

  while (i != NO_FRAME && cache->frames[i].entry.key != page)
    i = cache->frames[i].next;
  return i == NO_FRAME ? NULL : &cache->frames[i];
}

static void
cache_insert (struct cache *cache, struct frame *frame, uint64_t page)
{
  uint32_t *head = cache_head (cache, page);

  frame->entry.key = page;
  frame->next = *head;
  *head = (uint32_t) (frame - cache->frames);
}

static void
cache_remove (struct cache *cache, const struct frame *frame)
{
  uint32_t *link = cache_head (cache, frame->entry.key);

  while (&cache->frames[*link] != frame)
    link = &cache->frames[*link].next;
  *link = frame->next;
}

/* ---- the replays ---- */

struct count {
  uint64_t misses, reads, read_misses;
};

static void
count_access (struct count *count, const struct access *access, bool miss)
{
  count->misses += miss;
  count->reads += !access->write;
  count->read_misses += !access->write && miss;
}

static bool
may_always_go (struct evict_entry *entry, void *opaque)
{
  (void) entry;
  (void) opaque;
  return true;
}

/* The estimator of curve.c, which guides the policy as in the filter. */
static struct curve *
new_curve (struct evict *ev, size_t pages)
{
  struct curve *curve = curve_new (pages);

  if (curve == NULL)
    fail ("memory", strerror (errno));
  curve_resize (curve, pages);
  curve_guide (curve, ev);
  return curve;
}

/* Tells what curve.c estimates if E is not NULL. */
static struct count
replay (const struct trace *trace, size_t capacity, struct curve_estimate *e)
{
  struct count count = { 0 };
  struct cache cache;
  struct curve *curve;
  struct frame *frame;
  struct evict *ev;

  cache_new (&cache, capacity);
  ev = evict_new (capacity, capacity, cache.frames, sizeof *cache.frames);
  if (ev == NULL)
    fail ("memory", strerror (errno));
  curve = new_curve (ev, capacity);

  for (size_t i = 0; i < trace->count; ++i) {
    const struct access *access = &trace->accesses[i];

    frame = cache_find (&cache, access->page);
    count_access (&count, access, frame == NULL);
    if (curve_samples (curve, access->page))
      curve_note (curve, access->page,
                  access->write   ? CURVE_WRITE
                  : frame != NULL ? CURVE_HIT
                                  : CURVE_MISS);
    if (frame != NULL) {
      evict_hit (ev, &frame->entry);
      continue;
    }
    if (cache.used < capacity)
      frame = &cache.frames[cache.used++];
    else {
      /* The entry is a frame's first field. */
      frame = (struct frame *) evict_victim (ev, may_always_go, NULL);
      cache_remove (&cache, frame);
    }
    cache_insert (&cache, frame, access->page);
    evict_admit (ev, &frame->entry, access->write ? ADMIT_WRITE : ADMIT_READ);
  }

  if (e != NULL)
    curve_estimate (curve, count.reads, 1, e);
  curve_free (curve);
  evict_free (ev);
  cache_free (&cache);
  return count;
}

struct lru {
  struct frame *frames;
  uint32_t oldest, newest;
};

static void
lru_push (struct lru *lru, struct frame *frame)
{
  const uint32_t i = (uint32_t) (frame - lru->frames);

  frame->older = lru->newest;
  frame->newer = NO_FRAME;
  if (lru->newest == NO_FRAME)
    lru->oldest = i;
  else
    lru->frames[lru->newest].newer = i;
  lru->newest = i;
}

static void
lru_take (struct lru *lru, struct frame *frame)
{
  if (frame->older == NO_FRAME)
    lru->oldest = frame->newer;
  else
    lru->frames[frame->older].newer = frame->newer;
  if (frame->newer == NO_FRAME)
    lru->newest = frame->older;
  else
    lru->frames[frame->newer].older = frame->older;
}

static struct count
replay_lru (const struct trace *trace, size_t capacity)
{
  struct count count = { 0 };
  struct cache cache;
  struct frame *frame;
  struct lru lru;

  cache_new (&cache, capacity);
  lru = (struct lru){ cache.frames, NO_FRAME, NO_FRAME };

  for (size_t i = 0; i < trace->count; ++i) {
    const struct access *access = &trace->accesses[i];

    frame = cache_find (&cache, access->page);
    count_access (&count, access, frame == NULL);
    if (frame != NULL)
      lru_take (&lru, frame);
    else {
      if (cache.used < capacity)
        frame = &cache.frames[cache.used++];
      else {
        frame = &cache.frames[lru.oldest];
        lru_take (&lru, frame);
        cache_remove (&cache, frame);
      }
      cache_insert (&cache, frame, access->page);
    }
    lru_push (&lru, frame);
  }

  cache_free (&cache);
  return count;
}

/* ---- the estimates for other sizes ---- */

static void
print_curve (const struct trace *trace, size_t pages)
{
  struct curve_estimate e;
  struct count count;
  double real, error = 0;
  size_t size;

  replay (trace, pages, &e);

  for (unsigned i = 0; i < CURVE_SIZES; ++i) {
    size = pages * (1u << i) / 4;
    count = replay (trace, size > 0 ? size : 1, NULL);
    real =
        count.reads > 0 ? (double) count.read_misses / (double) count.reads : 0;
    error += e.miss_ratio[i] > real ? e.miss_ratio[i] - real
                                    : real - e.miss_ratio[i];
    printf ("size_ratio=%g pages=%zu simulated=%.4f estimated=%.4f\n",
            (1u << i) / 4.0, size, real, e.miss_ratio[i]);
  }
  printf ("mean_absolute_error=%.4f\n", error / CURVE_SIZES);
}

/* ---- the command ---- */

static size_t
pages_touched (const struct trace *trace)
{
  struct cache cache;

  cache_new (&cache, trace->count);
  for (size_t i = 0; i < trace->count; ++i)
    if (cache_find (&cache, trace->accesses[i].page) == NULL)
      cache_insert (&cache, &cache.frames[cache.used++],
                    trace->accesses[i].page);
  cache_free (&cache);
  return cache.used;
}

/* N or N%, which may have decimals; a share of the pages is rounded down. */
static size_t
parse_pages (const struct trace *trace, const char *text)
{
  char *end;
  double n;

  errno = 0;
  n = strtod (text, &end);
  if (strcmp (end, "%") == 0)
    n = n > 100 ? 0 : (double) pages_touched (trace) * n / 100;
  else if (*end != '\0')
    n = 0;
  if (errno != 0 || !(n >= 1 && n < NO_FRAME))
    fail (text, "not a number of pages, nor a percentage");
  return (size_t) n;
}

static void
print_count (const struct trace *trace, struct count count, bool requests,
             size_t pages)
{
  printf ("accesses=%zu misses=%" PRIu64 " miss_ratio=%.6f", trace->count,
          count.misses,
          trace->count > 0 ? (double) count.misses / (double) trace->count : 0);
  if (requests)
    printf (" reads=%" PRIu64 " read_misses=%" PRIu64, count.reads,
            count.read_misses);
  if (trace->changes >= 0)
    printf (" changes=%d", trace->changes);
  printf (" pages=%zu\n", pages);
}

int
main (int argc, char *argv[])
{
  const bool lru = argc == 4 && strcmp (argv[1], "--lru") == 0;
  const bool curve = argc == 4 && strcmp (argv[1], "--curve") == 0;
  struct trace trace = { .changes = -1 };
  const char *name;
  size_t pages;
  bool requests;

  if (argc != (lru || curve ? 4 : 3)) {
    fprintf (stderr, "usage: misses [--lru|--curve] TRACE PAGES|N%%\n");
    return EXIT_FAILURE;
  }
  name = argv[argc - 2];
  requests = ends_in (name, ".req.csv.gz") || ends_in (name, ".req.csv");
  if (name[0] == '@')
    make_trace (&trace, name + 1);
  else
    read_trace (&trace, name, requests);
  pages = parse_pages (&trace, argv[argc - 1]);
  if (curve)
    print_curve (&trace, pages);
  else
    print_count (
        &trace, lru ? replay_lru (&trace, pages) : replay (&trace, pages, NULL),
        requests, pages);
  free (trace.accesses);
  return EXIT_SUCCESS;
}
