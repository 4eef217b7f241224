/* SPDX-License-Identifier: BSD-3-Clause */

/* Requests of clients: a byte range is cut into pieces, pages and blocks.  For
 * example, with pages of 4 KiB a read of 3 MiB at 512 KiB has four pieces, the
 * first with 128 pages.
 *
 *     request ── pieces ── parts (one page each) ── blocks
 *
 * A piece is what has its pages pinned at once.  The walk over its parts is
 * next_part; reads, writes, zeroes and trims all go by it.  Here are the ways
 * in and the hits; misses are in fetch.c, writes in write.c.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "request.h"
#include "request/piece.h"
#include "request/write.h"

/* Copies a part that was about to be read ahead. */
static bool
read_ahead_now (struct client *c, const struct part *part, uint8_t *buf)
{
  struct pagecache *pc = &c->export->pc;

  return c->ahead &&
         readahead_help (c->ahead, c->own, piece_part_offset (pc, part)) &&
         page_read (pc, part, buf);
}

/* One read of several pages. */
struct reading {
  struct spread spread; /* of one with several pieces */
  struct client *c;
  uint8_t *buf;
  uint64_t offset;
  /* When it was found that not all is there, ns; 0: all was.  Relaxed: read
   * after all pieces have ended.
   */
  _Atomic uint64_t missed;
};

static int
read_piece (struct reading *r, struct spread *spread, uint64_t offset,
            uint64_t len)
{
  struct pagecache *pc = &r->c->export->pc;
  uint64_t walk = offset, rest = len, none = 0;
  uint8_t *buf = r->buf + (offset - r->offset), *to;
  struct part part;

  while (next_part (pc, &walk, &rest, &part)) {
    to = buf + (walk - part.len - offset);
    if (!page_read (pc, &part, to) && !read_ahead_now (r->c, &part, to)) {
      atomic_compare_exchange_strong_explicit (&r->missed, &none, now_ns (),
                                               memory_order_relaxed,
                                               memory_order_relaxed);
      walk -= part.len;
      return fetch_piece (r->c, spread, buf + (walk - offset), walk,
                          len - (walk - offset));
    }
  }
  return 0;
}

static int
run_read (struct spread *s, uint64_t offset, uint64_t len)
{
  return read_piece (container_of (s, struct reading, spread), s, offset, len);
}

/* How many pages a range has, after its first. */
static uint64_t
more_pages (const struct export *e, uint64_t offset, uint64_t len)
{
  const unsigned shift = e->pc.page_shift;

  return len > 0 ? ((offset + len - 1) >> shift) - (offset >> shift) : 0;
}

/* A read has ended; MISSED: when it was found that not all is there, or 0. */
static void
note_read (struct client *c, uint64_t offset, uint64_t len, uint64_t missed,
           int err)
{
  struct stats *s = &c->export->stats;

  if (missed) {
    stats_request (s, COUNT_MISSES, COUNT_MISS_BYTES, len);
    stats_note_latency (s, LATENCY_MISS, missed, 1);
  }
  else if (stats_request (s, COUNT_HITS, COUNT_HIT_BYTES, len))
    request_time_next (c);
  if (c->ahead && err == 0)
    readahead_note (c->ahead, offset, len, missed != 0);
}

/* A read of several pages, or of none. */
static __attribute__ ((noinline)) int
read_pieces (struct client *c, uint8_t *buf, uint32_t len, uint64_t offset)
{
  struct export *e = c->export;
  struct reading r; /* large: only what is used is set */
  int err;

  r.c = c;
  r.buf = buf;
  r.offset = offset;
  atomic_init (&r.missed, 0);
  if (piece_count (e, offset, len) == 1)
    err = read_piece (&r, NULL, offset, len);
  else {
    r.spread.run = run_read;
    r.spread.cut[0] = r.spread.cut[1] = 0;
    r.spread.rest = NULL;
    err = piece_spread (e, &r.spread, offset, len);
  }
  stats_add (&e->stats, COUNT_MORE_PAGES, more_pages (e, offset, len));
  note_read (c, offset, len,
             atomic_load_explicit (&r.missed, memory_order_relaxed), err);
  return err;
}

/* A read in one page, which was not found to be there. */
static __attribute__ ((noinline)) int
read_missing_part (struct client *c, uint8_t *buf, const struct part *part)
{
  const uint64_t offset = piece_part_offset (&c->export->pc, part);
  uint64_t missed = 0;
  int err = 0;

  if (!read_ahead_now (c, part, buf)) {
    missed = now_ns ();
    err = fetch_piece (c, NULL, buf, offset, part->len);
  }
  note_read (c, offset, part->len, missed, err);
  return err;
}

int
request_read (struct client *c, void *buf, uint32_t len, uint64_t offset)
{
  struct part part;

  if (!only_part (&c->export->pc, offset, len, &part))
    return read_pieces (c, buf, len, offset);
  if (!page_read (&c->export->pc, &part, buf))
    return read_missing_part (c, buf, &part);
  /* Most requests are this. */
  if (stats_request (&c->export->stats, COUNT_HITS, COUNT_HIT_BYTES, len))
    request_time_next (c);
  if (c->ahead)
    readahead_note (c->ahead, offset, len, false);
  return 0;
}

int
request_write (struct client *c, const void *buf, uint32_t len, uint64_t offset,
               bool durable)
{
  /* A request keeps it to its end.  Blocks that a new mode finds dirty, its
   * command writes back.
   */
  const enum mode mode = shares_mode (c->export);

  return write_in_mode (c, buf, len, offset, mode,
                        durable || write_all_are_durable (mode));
}

int
request_flush (struct client *c)
{
  return writeback_flush (c->export, c->own);
}

/* ---- zero and trim ---- */

/* The whole blocks of a range, FIRST … LAST - 1; false: it has none. */
static bool
whole_blocks (const struct export *e, uint64_t offset, uint64_t end,
              uint64_t *first, uint64_t *last)
{
  *first = piece_block_end (e, offset);
  *last = end == e->pc.size ? end : round_down (end, block_size (&e->pc));
  return *first < *last;
}

/* Zeroes or trims whole blocks, with the range exclusively. */
static int
clear_exclusively (struct client *c, uint64_t offset, uint64_t end,
                   enum clear how, unsigned flags)
{
  struct submit *s = &c->export->submit;
  struct exclusive x;
  int err;

  err = clear_begin (s, c->own, &x, offset, end - offset, how == CLEAR_UNKNOWN);
  if (err != 0)
    return err;
  err = clear_range (s, c->own, offset, end - offset, how, flags);
  clear_end (s, &x);
  return err;
}

/* Zeroes blocks that are covered in part.  ENOTSUP of a fast zero says that
 * nothing has changed, which a write cannot say.
 */
static int
zero_edge (struct client *c, uint64_t offset, uint64_t end, enum mode mode,
           bool durable)
{
  const int err = write_in_mode (c, NULL, end - offset, offset, mode, durable);

  return err == ENOTSUP ? EIO : err;
}

/* The aligned middle first: if it is refused nothing has changed. */
int
request_zero (struct client *c, uint32_t len, uint64_t offset, unsigned flags)
{
  struct export *e = c->export;
  const uint64_t end = offset + len;
  const enum mode mode = shares_mode (e);
  const bool durable = flags & ZERO_FUA || write_all_are_durable (mode);
  uint64_t first, last;
  int err;

  if (durable)
    flags |= ZERO_FUA;
  if (!whole_blocks (e, offset, end, &first, &last))
    return zero_edge (c, offset, end, mode, durable);

  err = clear_exclusively (c, first, last, CLEAR_ZEROED, flags);
  if (err == 0 && offset < first)
    err = zero_edge (c, offset, first, mode, durable);
  if (err == 0 && last < end)
    err = zero_edge (c, last, end, mode, durable);
  return err;
}

/* Blocks that are covered in part keep what they hold. */
int
request_trim (struct client *c, uint32_t len, uint64_t offset, bool durable)
{
  uint64_t first, last;

  if (!whole_blocks (c->export, offset, offset + len, &first, &last))
    return 0;
  return clear_exclusively (c, first, last, CLEAR_UNKNOWN,
                            durable ? ZERO_FUA : 0);
}
