/* SPDX-License-Identifier: BSD-3-Clause */

/* A small cache that is simulated in place of a larger one.
 *
 * It sees only the pages whose key hashes below a threshold, and has as much
 * smaller a size, but the policy of the real cache (evict.c).  For example, one
 * that stands for 100,000 pages and sees one in 64 has 1,563 frames.  There are
 * no bytes: a frame is a policy entry, in a chain of those with the same hash.
 *
 * May not know the other caches that are simulated, threads or locks.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "pagecache/evict.h"
#include "pagecache/miniature.h"

#define NO_FRAME UINT32_MAX

/* A page that a simulated cache holds. */
struct frame {
  struct evict_entry entry;
  uint32_t next; /* in its chain, or among the free ones */
};

/* Chains are one page long on average, or shorter. */
static size_t
chain_count (size_t pages)
{
  return power_of_2_from (pages);
}

static uint32_t *
chain_of (struct miniature *m, uint64_t h)
{
  return &m->chains[h & m->chain_mask];
}

static struct frame *
find_frame (struct miniature *m, uint64_t key, uint64_t h)
{
  uint32_t i = *chain_of (m, h);

  while (i != NO_FRAME && m->frames[i].entry.key != key)
    i = m->frames[i].next;
  return i == NO_FRAME ? NULL : &m->frames[i];
}

static bool
frame_may_leave (struct evict_entry *entry, void *opaque)
{
  (void) entry;
  (void) opaque;
  return true;
}

/* Frees the frame that a link of its chain leads to. */
static void
free_frame (struct miniature *m, uint32_t *link)
{
  const uint32_t i = *link;

  *link = m->frames[i].next;
  m->frames[i].next = m->free;
  m->free = i;
  m->held--;
}

static void
evict_frame (struct miniature *m)
{
  struct evict_entry *entry = evict_victim (m->evict, frame_may_leave, NULL);
  uint32_t *link = chain_of (m, miniature_hash (entry->key));

  while (&m->frames[*link].entry != entry)
    link = &m->frames[*link].next;
  free_frame (m, link);
}

static struct frame *
next_frame (struct miniature *m)
{
  struct frame *f;

  while (m->held >= m->capacity)
    evict_frame (m);
  m->held++;
  if (m->free == NO_FRAME)
    return &m->frames[m->used++];
  f = &m->frames[m->free];
  m->free = f->next;
  return f;
}

bool
miniature_use (struct miniature *m, uint64_t key, uint64_t h, bool write)
{
  struct frame *f = find_frame (m, key, h);

  if (f) {
    evict_hit (m->evict, &f->entry);
    return false;
  }
  f = next_frame (m);
  f->entry.key = key;
  f->next = *chain_of (m, h);
  *chain_of (m, h) = (uint32_t) (f - m->frames);
  evict_admit (m->evict, &f->entry, write ? ADMIT_WRITE : ADMIT_READ);
  return true;
}

double
miniature_misses (const struct miniature *m)
{
  return m->misses_before + m->missed_reads / miniature_share (m->threshold);
}

void
miniature_resize (struct miniature *m, double pages)
{
  m->capacity =
      clamp_u64 (pages * miniature_share (m->threshold) + 0.5, 1, m->max);
  evict_resize (m->evict, m->capacity);
  while (m->held > m->capacity)
    evict_frame (m);
}

static void
set_threshold (struct miniature *m, uint32_t threshold)
{
  m->threshold = threshold;
  evict_stand_for (m->evict, (size_t) (1 / miniature_share (threshold) + 0.5));
}

void
miniature_halve (struct miniature *m, double pages)
{
  const uint32_t threshold = m->threshold >> 1;
  uint32_t *chain, *link;
  struct frame *f;

  m->misses_before = miniature_misses (m);
  m->missed_reads = 0;
  for (chain = m->chains; chain <= m->chains + m->chain_mask; ++chain)
    for (link = chain; *link != NO_FRAME;) {
      f = &m->frames[*link];
      if (miniature_samples (miniature_hash (f->entry.key), threshold)) {
        link = &f->next;
        continue;
      }
      evict_forget (m->evict, &f->entry);
      free_frame (m, link);
    }
  set_threshold (m, threshold);
  miniature_resize (m, pages);
}

int
miniature_init (struct miniature *m, size_t max, uint32_t threshold)
{
  const size_t chains = chain_count (max);

  m->max = m->capacity = max;
  m->free = NO_FRAME;
  m->chain_mask = chains - 1;
  m->frames = calloc (max, sizeof m->frames[0]);
  m->chains = malloc (chains * sizeof m->chains[0]);
  if (m->frames && m->chains)
    m->evict = evict_new (max, max, &m->frames[0].entry, sizeof m->frames[0]);
  if (!m->evict)
    return -1;
  memset (m->chains, 0xff, chains * sizeof m->chains[0]); /* NO_FRAME */
  set_threshold (m, threshold);
  return 0;
}

void
miniature_destroy (struct miniature *m)
{
  evict_free (m->evict);
  free (m->frames);
  free (m->chains);
}

size_t
miniature_memory (const struct miniature *m)
{
  return m->max * sizeof m->frames[0] +
         ((size_t) m->chain_mask + 1) * sizeof m->chains[0] +
         evict_memory (m->evict);
}
