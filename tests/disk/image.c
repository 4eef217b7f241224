/* SPDX-License-Identifier: BSD-3-Clause */

/* The volatile and the durable image of one export.
 *
 * The durable image is a sparse file, changed with pwrite only, so that it
 * outlives this process however it ends.  Over it lies, in memory, an overlay
 * of the blocks that differ from it: those written and not yet made durable.
 * The volatile image is the overlay where it has a block, else the file.
 *
 *     overlay    [ chunk 3 ]            [ chunk 90 ]      sorted by number
 *                 b . . b b .             (zeroes)        b: not durable
 *     file    ---------------------------------------     durable
 *
 * A flush makes durable those blocks of which some write had ended when the
 * flush began, in their newest content, and no other: the disk gives as
 * little as it may.  For that each block of the overlay holds the time of
 * the first write that ended over it since it was last durable; time is a
 * counter of the image which goes on at every end and every flush.
 *
 * Requests are carried out a chunk at a time under the lock: a block is never
 * torn, a longer request may be.  A chunk of zeroes has no data, and zeroing
 * a hole of the file changes nothing, so a huge size costs no memory.
 *
 * This file knows neither nbdkit nor requests, faults or latencies.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "durable.h"
#include "image.h"
#include "overlay.h"

struct image *
image_open (const char *path, int64_t size, bool readonly)
{
  struct image *image = calloc (1, sizeof *image);

  if (image == NULL)
    return NULL;
  image->fd = durable_open (path, &size, readonly);
  if (image->fd == -1) {
    free (image);
    return NULL;
  }
  image->size = size;
  pthread_mutex_init (&image->lock, NULL);
  return image;
}

static void
forget (struct image *image)
{
  for (size_t i = 0; i < image->nr_chunks; i++)
    overlay_free_chunk (image->chunks[i]);
  image->nr_chunks = 0;
}

void
image_close (struct image *image)
{
  forget (image);
  free (image->chunks);
  pthread_mutex_destroy (&image->lock);
  close (image->fd);
  free (image);
}

uint64_t
image_size (struct image *image)
{
  uint64_t size;

  pthread_mutex_lock (&image->lock);
  size = image->size;
  pthread_mutex_unlock (&image->lock);
  return size;
}

/* Takes what lies past SIZE out of the overlay. */
static void
cut_overlay (struct image *image, uint64_t size)
{
  size_t i = image->nr_chunks;

  while (i-- > 0) {
    struct chunk *chunk = image->chunks[i];
    uint64_t start = chunk->number * CHUNK_SIZE;
    uint64_t keep;

    if (start + CHUNK_SIZE <= size)
      break;
    keep = size > start ? size - start : 0;
    if (chunk->data)
      memset (chunk->data + keep, 0, CHUNK_SIZE - keep);
    for (unsigned b = (keep + BLOCK_SIZE - 1) / BLOCK_SIZE; b < CHUNK_BLOCKS;
         b++)
      overlay_mark_durable (chunk, b);
    overlay_drop_if_empty (image, chunk);
  }
}

int
image_resize (struct image *image, uint64_t size)
{
  struct stat st;
  int err = 0;

  pthread_mutex_lock (&image->lock);
  if (fstat (image->fd, &st) == -1)
    err = errno;
  else if ((uint64_t) st.st_size != size && ftruncate (image->fd, size) == -1 &&
           errno != EFBIG)
    err = errno;
  if (!err) {
    if (size < image->size)
      cut_overlay (image, size);
    image->size = size;
  }
  pthread_mutex_unlock (&image->lock);
  return err;
}

int
image_read (struct image *image, void *buf, uint64_t length, uint64_t offset)
{
  uint8_t *p = buf;
  int err = 0;

  while (length > 0 && !err) {
    uint64_t n = overlay_piece_of (length, offset);

    pthread_mutex_lock (&image->lock);
    err = overlay_read_piece (image, p, n, offset);
    pthread_mutex_unlock (&image->lock);
    p += n;
    offset += n;
    length -= n;
  }
  return err;
}

/* A piece becomes visible and durable under one hold of the lock: were there
 * a gap, image_forget could take the piece away and the request would still
 * succeed.
 */
int
image_write (struct image *image, const void *buf, uint64_t length,
             uint64_t offset, unsigned writer, bool durable)
{
  const uint8_t *p = buf;
  int err = 0;

  while (length > 0 && !err) {
    uint64_t n = overlay_piece_of (length, offset);

    pthread_mutex_lock (&image->lock);
    err = offset + n > image->size
              ? EIO
              : overlay_write_piece (image, p, n, offset, writer);
    if (!err && durable)
      err = overlay_persist_piece (image, n, offset);
    pthread_mutex_unlock (&image->lock);
    p += n;
    offset += n;
    length -= n;
  }
  return err;
}

/* How much from OFFSET on is a hole of the file with no overlay on it. */
static uint64_t
untouched (const struct image *image, uint64_t length, uint64_t offset)
{
  size_t i = overlay_find (image, offset / CHUNK_SIZE);
  uint64_t end = offset + length;

  if (i < image->nr_chunks)
    end = min_u64 (end, image->chunks[i]->number * CHUNK_SIZE);
  return end <= offset ? 0
                       : durable_next_data (image->fd, offset, end) - offset;
}

/* Zeroes a beginning of the range and tells how long it is. */
static int
zero_some (struct image *image, uint64_t length, uint64_t offset,
           unsigned writer, bool durable, uint64_t *done)
{
  static const uint8_t zeroes[BLOCK_SIZE];
  uint64_t n;
  int err;

  if (offset + length > image->size)
    return EIO;
  *done = untouched (image, length, offset);
  if (*done > 0)
    return 0;

  n = overlay_piece_of (length, offset);
  if (offset % BLOCK_SIZE)
    n = min_u64 (n, BLOCK_SIZE - offset % BLOCK_SIZE);
  else if (n >= BLOCK_SIZE && offset + n != image->size)
    n -= n % BLOCK_SIZE;
  if (offset % BLOCK_SIZE || (n < BLOCK_SIZE && offset + n != image->size))
    err = overlay_write_piece (image, zeroes, n, offset, writer);
  else
    err = overlay_zero_piece (image, n, offset, writer);
  if (!err && durable)
    err = overlay_persist_piece (image, n, offset);
  *done = n;
  return err;
}

int
image_zero (struct image *image, uint64_t length, uint64_t offset,
            unsigned writer, bool durable)
{
  int err = 0;

  while (length > 0 && !err) {
    uint64_t n = 0;

    pthread_mutex_lock (&image->lock);
    err = zero_some (image, length, offset, writer, durable, &n);
    pthread_mutex_unlock (&image->lock);
    offset += n;
    length -= n;
  }
  return err;
}

/* The block may hold a later write by now, which then counts as ended too:
 * its content is a newer one, so a flush may well make it durable.
 */
void
image_ended (struct image *image, uint64_t length, uint64_t offset)
{
  const uint64_t end = offset + length;
  uint64_t now;

  if (length == 0)
    return;
  pthread_mutex_lock (&image->lock);
  now = ++image->clock;
  for (size_t i = overlay_find (image, offset / CHUNK_SIZE);
       i < image->nr_chunks; i++) {
    struct chunk *chunk = image->chunks[i];
    uint64_t start = chunk->number * CHUNK_SIZE;
    uint64_t first, last;

    if (start >= end)
      break;
    first = offset > start ? (offset - start) / BLOCK_SIZE : 0;
    last = (min_u64 (end - start, CHUNK_SIZE) - 1) / BLOCK_SIZE;
    for (uint64_t b = first; b <= last; b++)
      if (chunk->ended[b] == NOT_ENDED)
        chunk->ended[b] = now;
  }
  pthread_mutex_unlock (&image->lock);
}

uint64_t
image_flush_begin (struct image *image)
{
  uint64_t began;

  pthread_mutex_lock (&image->lock);
  began = ++image->clock;
  pthread_mutex_unlock (&image->lock);
  return began;
}

/* Called with the lock held. */
static int
persist (struct image *image, uint64_t began, unsigned writer)
{
  size_t i, kept = 0;
  int err = 0;

  for (i = 0; i < image->nr_chunks; i++) {
    struct chunk *chunk = image->chunks[i];

    if (!err)
      err =
          overlay_persist_chunk (image, chunk, 0, CHUNK_BLOCKS, began, writer);
    if (chunk->count > 0)
      image->chunks[kept++] = chunk;
    else
      overlay_free_chunk (chunk);
  }
  image->nr_chunks = kept;
  return err;
}

int
image_flush (struct image *image, uint64_t began, unsigned writer)
{
  int err;

  pthread_mutex_lock (&image->lock);
  err = persist (image, began, writer);
  pthread_mutex_unlock (&image->lock);
  return err;
}

int
image_freeze (struct image *image)
{
  pthread_mutex_lock (&image->lock); /* for good */
  return persist (image, NOT_ENDED, 0);
}

/* Called with the lock held. */
static int
copy_to (struct image *image, int fd, bool volatiles)
{
  uint8_t *buf = malloc (CHUNK_SIZE);
  uint64_t offset, n;
  int err = buf ? 0 : ENOMEM;

  for (offset = 0; offset < image->size && !err; offset += n) {
    n = overlay_piece_of (image->size - offset, offset);
    err = volatiles ? overlay_read_piece (image, buf, n, offset)
                    : durable_read (image->fd, buf, n, offset);
    if (!err)
      err = durable_write (fd, buf, n, offset);
  }
  free (buf);
  return err;
}

int
image_copy (struct image *image, const char *path, bool volatiles)
{
  const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  int err;

  if (fd == -1)
    return errno;
  pthread_mutex_lock (&image->lock);
  err = copy_to (image, fd, volatiles);
  pthread_mutex_unlock (&image->lock);
  close (fd);
  return err;
}

void
image_forget (struct image *image)
{
  pthread_mutex_lock (&image->lock);
  forget (image);
  pthread_mutex_unlock (&image->lock);
}

/* One extent of the volatile image: its end, and whether it is a hole. */
static uint64_t
extent_at (const struct image *image, uint64_t offset, uint64_t end, bool *hole)
{
  size_t i = overlay_find (image, offset / CHUNK_SIZE);
  uint64_t start, data;

  if (i < image->nr_chunks) {
    const struct chunk *chunk = image->chunks[i];

    start = chunk->number * CHUNK_SIZE;
    if (start <= offset) {
      unsigned block = offset % CHUNK_SIZE / BLOCK_SIZE;
      unsigned next = overlay_end_of_run (chunk, block, CHUNK_BLOCKS);

      end = min_u64 (end, start + (uint64_t) next * BLOCK_SIZE);
      if (chunk->ended[block] != DURABLE) {
        *hole = chunk->data == NULL;
        return end;
      }
    }
    else
      end = min_u64 (end, start);
  }

  data = durable_next_data (image->fd, offset, end);
  *hole = data > offset;
  return *hole ? data : durable_next_hole (image->fd, offset, end);
}

/* Hands on an extent; a hole keeps its aligned middle and its edges become
 * data.  The end of the image is aligned.
 */
static int
add_aligned (uint64_t start, uint64_t end, uint64_t size, uint64_t align,
             bool hole, image_extent_fn add, void *opaque)
{
  uint64_t first = start + (align - start % align) % align;
  uint64_t last = end == size ? end : end - end % align;
  int r = 0;

  if (!hole || first >= last)
    return add (opaque, start, end - start, false);
  if (first > start)
    r = add (opaque, start, first - start, false);
  if (r == 0)
    r = add (opaque, first, last - first, true);
  if (r == 0 && last < end)
    r = add (opaque, last, end - last, false);
  return r;
}

int
image_extents (struct image *image, uint64_t length, uint64_t offset,
               uint64_t align, image_extent_fn add, void *opaque)
{
  const uint64_t end = offset + length;
  int r = 0;

  pthread_mutex_lock (&image->lock);
  while (offset < end && r == 0) {
    bool hole;
    uint64_t next = extent_at (image, offset, end, &hole);

    r = add_aligned (offset, next, image->size, align, hole, add, opaque);
    offset = next;
  }
  pthread_mutex_unlock (&image->lock);
  return r == 0 ? 0 : errno;
}
