/* SPDX-License-Identifier: BSD-3-Clause */

/* The keys of pages that left the cache, and when they left: of each page the
 * policy learns, when it comes back, how soon that is.
 *
 * The ghost is a table of buckets of one cache line.  A slot of 32 bits is 0 if
 * it is empty, else
 *
 *      19 bits          1 bit               12 bits
 *   print of the key | from main | when it left, modulo 2^12
 *
 * where time is in units of about 1/512 of the capacity: with 100,000 pages,
 * 195 evictions.  Expired slots are swept away long before the time wraps.  Two
 * keys of a bucket have the same print once in 2^19 times.
 *
 * May not know pages, queues or locks: the caller has its eviction lock.
 */

#include "pagecache/ghost.h"

#include <stdlib.h>

#define SLOTS        16
#define STAMP_BITS   12
#define STAMP_MASK   ((1u << STAMP_BITS) - 1)
#define FROM_MAIN    (1u << STAMP_BITS)
#define PRINT_SHIFT  (STAMP_BITS + 1)
#define UNITS        512
#define BUCKET_PAGES 11 /* pages of capacity a bucket: 5.8 bytes a page */

struct bucket {
  uint32_t slot[SLOTS];
};

static uint64_t
ghost_hash (uint64_t key)
{
  key ^= key >> 32;
  key *= UINT64_C (0xd6e8feb86659fd93);
  key ^= key >> 32;
  key *= UINT64_C (0xd6e8feb86659fd93);
  key ^= key >> 32;
  return key;
}

static struct bucket *
ghost_bucket (const struct ghost *g, uint64_t h)
{
  return &g->buckets[(h >> 32) * g->bucket_count >> 32];
}

/* Never 0, so that no slot in use is 0. */
static uint32_t
print_of (uint64_t h)
{
  const uint32_t print = (uint32_t) h >> PRINT_SHIFT;

  return print > 0 ? print : 1;
}

size_t
ghost_age (const struct ghost *g, uint32_t slot)
{
  return ((g->stamp - slot) & STAMP_MASK) * g->stamp_unit;
}

static bool
has_expired (const struct ghost *g, uint32_t slot)
{
  return ((g->stamp - slot) & STAMP_MASK) >
         (slot & FROM_MAIN ? g->main_expires : g->small_expires);
}

static void
ghost_sweep (struct ghost *g)
{
  size_t n = g->sweeps;

  while (n-- > 0) {
    struct bucket *b = &g->buckets[g->sweep];

    /* Without a branch, so that compilers take several at once. */
    for (unsigned i = 0; i < SLOTS; ++i)
      b->slot[i] = has_expired (g, b->slot[i]) ? 0 : b->slot[i];
    g->sweep = g->sweep + 1 < g->bucket_count ? g->sweep + 1 : 0;
  }
}

static unsigned
oldest_slot (const struct ghost *g, const struct bucket *b)
{
  unsigned where = 0;
  size_t age, max = 0;

  for (unsigned i = 0; i < SLOTS; ++i) {
    age = ghost_age (g, b->slot[i]);
    if (age >= max) {
      max = age;
      where = i;
    }
  }
  return where;
}

/* In place of the oldest of its bucket if that is full. */
void
ghost_remember (struct ghost *g, uint64_t key, bool from_main)
{
  const uint64_t h = ghost_hash (key);
  struct bucket *b = ghost_bucket (g, h);
  unsigned where = 0;

  while (where < SLOTS && b->slot[where] != 0)
    where++;
  if (where == SLOTS)
    where = oldest_slot (g, b);
  b->slot[where] = print_of (h) << PRINT_SHIFT | (from_main ? FROM_MAIN : 0) |
                   (g->stamp & STAMP_MASK);

  if (++g->stamp_part >= g->stamp_unit) {
    g->stamp_part = 0;
    g->stamp++;
  }
  ghost_sweep (g);
}

/* Without a branch, so that compilers take several at once. */
static bool
has_print (const struct bucket *b, uint32_t print)
{
  uint32_t any = 0;

  for (unsigned i = 0; i < SLOTS; ++i)
    any |= b->slot[i] >> PRINT_SHIFT == print;
  return any;
}

/* There may be several slots: readahead does not ask the ghost. */
uint32_t
ghost_recall (struct ghost *g, uint64_t key)
{
  const uint64_t h = ghost_hash (key);
  const uint32_t print = print_of (h);
  struct bucket *b = ghost_bucket (g, h);
  uint32_t found = 0;

  if (!has_print (b, print))
    return 0;
  for (unsigned i = 0; i < SLOTS; ++i) {
    const uint32_t slot = b->slot[i];

    if (slot >> PRINT_SHIFT != print)
      continue;
    b->slot[i] = 0;
    if (!has_expired (g, slot) &&
        (found == 0 || ghost_age (g, slot) < ghost_age (g, found)))
      found = slot;
  }
  return found;
}

bool
ghost_from_main (uint32_t slot)
{
  return slot & FROM_MAIN;
}

void
ghost_resize (struct ghost *g, size_t capacity, size_t small, size_t main)
{
  g->stamp_unit = capacity / UNITS > 0 ? capacity / UNITS : 1;
  g->stamp_part = 0;
  g->small_expires = (uint32_t) (small / g->stamp_unit);
  g->main_expires = (uint32_t) (main / g->stamp_unit);
  g->sweeps = 1 + g->bucket_count / capacity;
}

int
ghost_init (struct ghost *g, size_t max)
{
  g->bucket_count = max / BUCKET_PAGES + 1;
  g->allocated = calloc (g->bucket_count + 1, sizeof *g->buckets);
  if (g->allocated == NULL)
    return -1;
  g->buckets =
      (struct bucket *) (((uintptr_t) g->allocated + sizeof *g->buckets - 1) /
                         sizeof *g->buckets * sizeof *g->buckets);
  return 0;
}

void
ghost_destroy (struct ghost *g)
{
  free (g->allocated);
}

size_t
ghost_memory (const struct ghost *g)
{
  return (g->bucket_count + 1) * sizeof *g->buckets;
}
