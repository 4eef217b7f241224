/* SPDX-License-Identifier: BSD-3-Clause */

/* The blocks of an image that differ from its file: those written and not yet
 * made durable, in memory, by chunks of 64 KiB.
 *
 * For each block it holds the time of the first write that ended over it since
 * it was last durable; a flush makes durable those whose time is before its
 * own.  A chunk of zeroes has no data.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "durable.h"
#include "overlay.h"

size_t
overlay_find (const struct image *image, uint64_t number)
{
  size_t lo = 0, hi = image->nr_chunks;

  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;

    if (image->chunks[mid]->number < number)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static struct chunk *
find_chunk (const struct image *image, uint64_t number)
{
  size_t i = overlay_find (image, number);

  if (i < image->nr_chunks && image->chunks[i]->number == number)
    return image->chunks[i];
  return NULL;
}

/* Finds the chunk or adds an empty one.  Null if there is no memory. */
static struct chunk *
get_chunk (struct image *image, uint64_t number)
{
  size_t i = overlay_find (image, number);
  struct chunk *chunk;

  if (i < image->nr_chunks && image->chunks[i]->number == number)
    return image->chunks[i];

  if (image->nr_chunks == image->allocated) {
    size_t n = image->allocated ? 2 * image->allocated : 64;
    struct chunk **p = reallocarray (image->chunks, n, sizeof *p);

    if (p == NULL)
      return NULL;
    image->chunks = p;
    image->allocated = n;
  }
  chunk = calloc (1, sizeof *chunk);
  if (chunk == NULL)
    return NULL;
  chunk->number = number;
  memmove (&image->chunks[i + 1], &image->chunks[i],
           (image->nr_chunks - i) * sizeof image->chunks[0]);
  image->chunks[i] = chunk;
  image->nr_chunks++;
  return chunk;
}

void
overlay_free_chunk (struct chunk *chunk)
{
  free (chunk->data);
  free (chunk);
}

void
overlay_drop_if_empty (struct image *image, struct chunk *chunk)
{
  size_t i;

  if (chunk->count > 0)
    return;
  i = overlay_find (image, chunk->number);
  image->nr_chunks--;
  memmove (&image->chunks[i], &image->chunks[i + 1],
           (image->nr_chunks - i) * sizeof image->chunks[0]);
  overlay_free_chunk (chunk);
}

static void
mark_written (struct chunk *chunk, unsigned block, unsigned writer)
{
  chunk->writer[block] = writer;
  if (chunk->ended[block] == DURABLE) {
    chunk->ended[block] = NOT_ENDED;
    chunk->count++;
  }
}

void
overlay_mark_durable (struct chunk *chunk, unsigned block)
{
  if (chunk->ended[block] != DURABLE) {
    chunk->ended[block] = DURABLE;
    chunk->count--;
  }
}

unsigned
overlay_end_of_run (const struct chunk *chunk, unsigned block, unsigned limit)
{
  bool durable = chunk->ended[block] == DURABLE;

  do
    block++;
  while (block < limit && (chunk->ended[block] == DURABLE) == durable);
  return block;
}

uint64_t
overlay_piece_of (uint64_t length, uint64_t offset)
{
  return min_u64 (length, CHUNK_SIZE - offset % CHUNK_SIZE);
}

int
overlay_read_piece (const struct image *image, uint8_t *buf, uint64_t length,
                    uint64_t offset)
{
  const struct chunk *chunk = find_chunk (image, offset / CHUNK_SIZE);
  const uint64_t end = offset + length;

  if (chunk == NULL)
    return durable_read (image->fd, buf, length, offset);

  while (offset < end) {
    unsigned block = offset % CHUNK_SIZE / BLOCK_SIZE;
    unsigned next = overlay_end_of_run (chunk, block, CHUNK_BLOCKS);
    uint64_t n = (uint64_t) next * BLOCK_SIZE - offset % CHUNK_SIZE;
    int err;

    n = min_u64 (n, end - offset);
    if (chunk->ended[block] == DURABLE) {
      err = durable_read (image->fd, buf, n, offset);
      if (err)
        return err;
    }
    else if (chunk->data)
      memcpy (buf, chunk->data + offset % CHUNK_SIZE, n);
    else
      memset (buf, 0, n);
    buf += n;
    offset += n;
  }
  return 0;
}

/* Before a part of a block is written, the rest of it must be in the overlay.
 * The chunk has data.
 */
static int
fill_block (const struct image *image, struct chunk *chunk, unsigned block)
{
  const uint64_t at = (uint64_t) block * BLOCK_SIZE;
  const uint64_t offset = chunk->number * CHUNK_SIZE + at;

  if (chunk->ended[block] != DURABLE)
    return 0;
  return durable_read (image->fd, chunk->data + at,
                       min_u64 (BLOCK_SIZE, image->size - offset), offset);
}

/* Writes blocks FIRST to LAST - 1, none of them durable, to the file. */
static int
persist_run (const struct image *image, struct chunk *chunk, unsigned first,
             unsigned last)
{
  const uint64_t at = (uint64_t) first * BLOCK_SIZE;
  const uint64_t offset = chunk->number * CHUNK_SIZE + at;
  const uint64_t length =
      min_u64 ((uint64_t) (last - first) * BLOCK_SIZE, image->size - offset);
  int err;

  if (chunk->data)
    err = durable_write (image->fd, chunk->data + at, length, offset);
  else
    err = durable_zero (image->fd, length, offset);
  if (err)
    return err;
  for (unsigned b = first; b < last; b++)
    overlay_mark_durable (chunk, b);
  return 0;
}

/* Blocks that another connection wrote are about to be overwritten.  Where the
 * disk flushes each connection on its own, that one's flush still has to make
 * durable what had ended before, or something newer: so it does now.  The
 * blocks are FIRST to LAST.
 */
static int
persist_of_others (const struct image *image, struct chunk *chunk,
                   unsigned first, unsigned last, unsigned writer)
{
  int err = 0;

  for (unsigned b = first; b <= last && !err; b++)
    if (chunk->ended[b] != DURABLE && chunk->ended[b] != NOT_ENDED &&
        chunk->writer[b] != 0 && chunk->writer[b] != writer)
      err = persist_run (image, chunk, b, b + 1);
  return err;
}

int
overlay_write_piece (struct image *image, const uint8_t *buf, uint64_t length,
                     uint64_t offset, unsigned writer)
{
  const uint64_t at = offset % CHUNK_SIZE;
  const unsigned first = at / BLOCK_SIZE;
  const unsigned last = (at + length - 1) / BLOCK_SIZE;
  struct chunk *chunk = get_chunk (image, offset / CHUNK_SIZE);
  int err;

  if (chunk == NULL)
    return ENOMEM;
  err = persist_of_others (image, chunk, first, last, writer);
  if (!err && chunk->data == NULL) {
    chunk->data = calloc (1, CHUNK_SIZE);
    if (chunk->data == NULL)
      err = ENOMEM;
  }
  if (!err && at % BLOCK_SIZE)
    err = fill_block (image, chunk, first);
  if (!err && (at + length) % BLOCK_SIZE)
    err = fill_block (image, chunk, last);
  if (!err) {
    memcpy (chunk->data + at, buf, length);
    for (unsigned b = first; b <= last; b++)
      mark_written (chunk, b, writer);
  }
  overlay_drop_if_empty (image, chunk);
  return err;
}

int
overlay_zero_piece (struct image *image, uint64_t length, uint64_t offset,
                    unsigned writer)
{
  const uint64_t at = offset % CHUNK_SIZE;
  const unsigned first = at / BLOCK_SIZE;
  const unsigned last = (at + length - 1) / BLOCK_SIZE;
  struct chunk *chunk = get_chunk (image, offset / CHUNK_SIZE);
  int err;

  if (chunk == NULL)
    return ENOMEM;
  err = persist_of_others (image, chunk, first, last, writer);
  if (err) {
    overlay_drop_if_empty (image, chunk);
    return err;
  }
  for (unsigned b = first; b <= last; b++)
    mark_written (chunk, b, writer);
  if (length == CHUNK_SIZE) {
    free (chunk->data);
    chunk->data = NULL;
  }
  else if (chunk->data)
    memset (chunk->data + at, 0, length);
  return 0;
}

int
overlay_persist_chunk (const struct image *image, struct chunk *chunk,
                       unsigned first, unsigned last, uint64_t began,
                       unsigned writer)
{
  for (unsigned b = first; b < last; b++) {
    unsigned end = b;
    int err;

    while (end < last && chunk->ended[end] != DURABLE &&
           chunk->ended[end] <= began &&
           (writer == 0 || chunk->writer[end] == writer))
      end++;
    if (end > b) {
      err = persist_run (image, chunk, b, end);
      if (err)
        return err;
      b = end - 1;
    }
  }
  return 0;
}

int
overlay_persist_piece (struct image *image, uint64_t length, uint64_t offset)
{
  const uint64_t at = offset % CHUNK_SIZE;
  struct chunk *chunk = find_chunk (image, offset / CHUNK_SIZE);
  int err;

  if (chunk == NULL)
    return 0;
  err =
      overlay_persist_chunk (image, chunk, at / BLOCK_SIZE,
                             (at + length - 1) / BLOCK_SIZE + 1, NOT_ENDED, 0);
  overlay_drop_if_empty (image, chunk);
  return err;
}
