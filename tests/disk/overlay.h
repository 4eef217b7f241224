/* SPDX-License-Identifier: BSD-3-Clause */

/* The blocks of an image that differ from its file.  See overlay.c.
 *
 * All functions are called with the image's lock held; those that return int
 * return 0 or an errno.
 */

#ifndef WTDISK_OVERLAY_H
#define WTDISK_OVERLAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_SIZE   512
#define CHUNK_BLOCKS 128
#define CHUNK_SIZE   ((uint64_t) BLOCK_SIZE * CHUNK_BLOCKS)

/* Values of chunk.ended[] that are not a time. */
#define DURABLE   UINT64_C (0)
#define NOT_ENDED UINT64_MAX

struct chunk {
  uint64_t number;
  unsigned count;                /* blocks that are not DURABLE */
  uint64_t ended[CHUNK_BLOCKS];  /* DURABLE, NOT_ENDED or a time */
  unsigned writer[CHUNK_BLOCKS]; /* the last one; 0: all flushes cover it */
  uint8_t *data;                 /* null: the blocks here are zeroes */
};

struct image {
  int fd;
  pthread_mutex_t lock; /* innermost; held across I/O on fd */

  /* Guarded by lock, as is the content of the file. */
  uint64_t size;
  uint64_t clock;
  struct chunk **chunks; /* sorted by number; none is empty */
  size_t nr_chunks, allocated;
};

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* The index of the first chunk with this or a higher number. */
extern size_t overlay_find (const struct image *image, uint64_t number);

extern void overlay_free_chunk (struct chunk *chunk);
/* Takes the chunk out of the overlay if nothing is left in it. */
extern void overlay_drop_if_empty (struct image *image, struct chunk *chunk);
extern void overlay_mark_durable (struct chunk *chunk, unsigned block);
/* The first block after BLOCK, at most LIMIT, of which "is durable" is not
 * what it is of BLOCK.
 */
extern unsigned overlay_end_of_run (const struct chunk *chunk, unsigned block,
                                    unsigned limit);

/* How much of a range lies in the chunk where it begins. */
extern uint64_t overlay_piece_of (uint64_t length, uint64_t offset);

/* These take a range within one chunk; one that is zeroed has whole blocks, or
 * ends with the image.
 */
extern int overlay_read_piece (const struct image *image, uint8_t *buf,
                               uint64_t length, uint64_t offset);
extern int overlay_write_piece (struct image *image, const uint8_t *buf,
                                uint64_t length, uint64_t offset,
                                unsigned writer);
extern int overlay_zero_piece (struct image *image, uint64_t length,
                               uint64_t offset, unsigned writer);
/* Makes the blocks of a range durable. */
extern int overlay_persist_piece (struct image *image, uint64_t length,
                                  uint64_t offset);

/* Makes durable the blocks from FIRST to LAST - 1 of which a write had ended
 * before the time BEGAN, and, unless that is 0, that WRITER wrote last.  The
 * chunk may be empty afterwards.
 */
extern int overlay_persist_chunk (const struct image *image,
                                  struct chunk *chunk, unsigned first,
                                  unsigned last, uint64_t began,
                                  unsigned writer);

#endif /* WTDISK_OVERLAY_H */
