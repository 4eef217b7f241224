/* SPDX-License-Identifier: BSD-3-Clause */

/* A small cache that is simulated in place of a larger one.  See miniature.c.
 */

#ifndef WTCACHE_MINIATURE_H
#define WTCACHE_MINIATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evict;
struct frame;

/* The caller serialises all calls. */
struct miniature {
  uint32_t threshold;
  size_t max; /* constant: frames */
  size_t capacity;
  size_t held;
  struct evict *evict;
  struct frame *frames;
  uint32_t free; /* frames that held a page before */
  uint32_t used; /* frames that ever did */
  uint32_t *chains;
  uint32_t chain_mask;
  uint64_t missed_reads; /* since the sample has this size; the caller counts */
  double misses_before;  /* before, of all pages */
};

/* The finalizer of MurmurHash3 (Appleby): every bit of the key changes every
 * bit of the hash with probability 1/2, so that the sample does not follow
 * patterns of the disk.
 */
static inline uint64_t
miniature_hash (uint64_t key)
{
  key ^= key >> 33;
  key *= UINT64_C (0xff51afd7ed558ccd);
  key ^= key >> 33;
  key *= UINT64_C (0xc4ceb9fe1a85ec53);
  key ^= key >> 33;
  return key;
}

/* Whether a page with this hash is in the sample. */
static inline bool
miniature_samples (uint64_t h, uint32_t threshold)
{
  return h >> 32 <= threshold;
}

/* The part of all pages that a threshold lets through. */
static inline double
miniature_share (uint32_t threshold)
{
  return (threshold + 1.0) / (UINT32_MAX + 1.0);
}

/* For at most MAX pages of those that THRESHOLD lets through.  -1: there is no
 * memory; miniature_destroy is to be called all the same.
 */
extern int miniature_init (struct miniature *m, size_t max, uint32_t threshold);
extern void miniature_destroy (struct miniature *m);
/* Bytes that it has allocated. */
extern size_t miniature_memory (const struct miniature *m);

/* A page is used.  Returns whether it missed. */
extern bool miniature_use (struct miniature *m, uint64_t key, uint64_t h,
                           bool write);

/* It stands for a cache of so many pages from now on. */
extern void miniature_resize (struct miniature *m, double pages);
/* Only half of the pages stay in the sample. */
extern void miniature_halve (struct miniature *m, double pages);

/* Reads that missed, of all pages: the sample's scaled up. */
extern double miniature_misses (const struct miniature *m);

#endif /* WTCACHE_MINIATURE_H */
