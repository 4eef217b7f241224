/* SPDX-License-Identifier: BSD-3-Clause */

/* Writes: ordinary ones, writethroughs, and those past the cache.
 *
 * A write pins the pages of a piece, reads the blocks that it covers in part,
 * and copies.  If it may leave its blocks dirty, that is all.  Otherwise it is
 * a writethrough: it first claims all its blocks, so that no other write sends
 * them to the backend, and after the copy hands the range to the submit
 * division.  A write that gets no memory bypasses the cache, and has its range
 * exclusively meanwhile.
 *
 * The pieces of a large write go side by side (spread.c), and are made durable
 * as one operation (series.c).
 *
 * For example, with blocks of 512 bytes a write of 1000 bytes at 512 covers
 * block 1 whole and block 2 in part: block 2 is read first, unless it is
 * cached.
 */

#include <config.h>

#include "request/fetch.h"
#include "request/piece.h"
#include "request/write.h"

/* A write of a client. */
struct writing {
  struct client *c;
  const uint8_t *buf; /* NULL: zeroes */
  uint64_t offset;
  enum mode mode;
  bool durable;
  struct spread *spread;         /* of one with several pieces; or NULL */
  struct series *series;         /* its pieces are one operation; or NULL */
  uint8_t (*edges)[SMALL_BLOCK]; /* of a series: its first and last block */
  /* Time that an ordinary write took because it might not stay dirty, ns.
   * Relaxed: read after all pieces have ended.
   */
  _Atomic uint64_t waited;
};

/* One piece of a write: its pages are pinned. */
struct piece {
  const struct writing *of;
  struct export *e;
  struct backend *b;
  const uint8_t *buf; /* NULL: zeroes */
  uint64_t offset, len;
  unsigned nr;
  struct page *pages[PIECE_PAGES];

  /* Taken before the pages, because it may have to be waited for. */
  struct scratch edge;   /* a block that is covered in part */
  struct scratch gather; /* all blocks, if some are */
};

static void
unpin_pages (struct piece *p)
{
  while (p->nr > 0)
    page_unpin (&p->e->pc, p->pages[--p->nr]);
}

/* All pages of the piece, or none. */
static bool
pin_pages (struct piece *p)
{
  uint64_t offset = p->offset, len = p->len;
  struct part part;

  p->nr = 0;
  while (next_part (&p->e->pc, &offset, &len, &part)) {
    p->pages[p->nr] = page_pin (&p->e->pc, part.index, ADMIT_WRITE);
    if (p->pages[p->nr] == NULL) {
      unpin_pages (p);
      return false;
    }
    p->nr++;
  }
  return true;
}

/* Makes one block of a pinned page uptodate, or waits for the fill that does.
 */
static int
fill_block (struct piece *p, struct page *page, uint64_t at)
{
  struct pagecache *pc = &p->e->pc;
  uint64_t offset = round_down (at, block_size (pc));
  uint64_t len = piece_block_end (p->e, at + 1) - offset;
  struct part part;
  struct span ours;
  int err;

  next_part (pc, &offset, &len, &part);
  switch (fill_begin (pc, page, &part, &ours)) {
  case FILL_NOTHING:
    return 0;
  case FILL_JOIN:
  case FILL_ALONE: /* one that was overtaken ends, then ours can begin */
    fill_wait (pc, page);
    return 0;
  case FILL_OURS:
    break;
  }
  err = submit_read (&p->e->submit, p->b, p->edge.bytes,
                     piece_part_offset (pc, &part), part.len);
  fill_end (pc, page, ours, p->edge.bytes, err);
  return err;
}

/* Makes the edges of a part uptodate, as far as they are blocks in part. */
static int
fill_edges (struct piece *p, struct page *page, const struct part *part)
{
  const uint64_t block = block_size (&p->e->pc);
  const uint64_t at = piece_part_offset (&p->e->pc, part);
  const uint64_t end = at + part->len;
  int err = 0;

  if (at % block != 0)
    err = fill_block (p, page, at);
  if (err == 0 && end % block != 0 && end != p->e->pc.size)
    err = fill_block (p, page, end - 1);
  return err;
}

/* Another piece of the request keeps no blocks while this one waits.  0 or an
 * errno.
 */
static int
part_series (const struct piece *p)
{
  return p->of->series ? series_part (p->of->series) : 0;
}

/* Removes the obstacle that page_write or page_claim returned: fills an edge,
 * or waits.
 */
static int
resolve (struct piece *p, struct page *page, const struct part *part, int why)
{
  struct pagecache *pc = &p->e->pc;
  const uint64_t at =
      round_down (piece_part_offset (pc, part), block_size (pc));
  const uint64_t end =
      piece_block_end (p->e, piece_part_offset (pc, part) + part->len);
  int err;

  if (why == WRITE_EDGE)
    return fill_edges (p, page, part);
  err = part_series (p);
  if (why == WRITE_BUSY)
    pagecache_wait_writeback (pc, at, end - at);
  else
    exclusive_wait (&pc->zeroes, at, end - at);
  return err;
}

static const uint8_t *
part_bytes (const struct piece *p, const struct part *part)
{
  return p->buf ? p->buf + (piece_part_offset (&p->e->pc, part) - p->offset)
                : NULL;
}

/* The edges of the piece are uptodate before its first byte changes. */
static int
prepare_edges (struct piece *p)
{
  uint64_t offset = p->offset, len = p->len;
  struct part part;
  unsigned i = 0;
  int err = 0;

  while (err == 0 && next_part (&p->e->pc, &offset, &len, &part))
    err = fill_edges (p, p->pages[i++], &part);
  return err;
}

/* Copies the piece in and leaves it dirty. */
static int
write_dirty (struct piece *p)
{
  uint64_t offset = p->offset, len = p->len;
  struct part part;
  unsigned i;
  int err, why;

  err = prepare_edges (p);
  for (i = 0; err == 0 && next_part (&p->e->pc, &offset, &len, &part); ++i)
    while (err == 0 && (why = page_write (&p->e->pc, p->pages[i], &part,
                                          part_bytes (p, &part))) != 0)
      err = resolve (p, p->pages[i], &part, why);
  return err;
}

/* Claims all blocks of the piece: none while it waits for one. */
static int
claim (struct piece *p)
{
  uint64_t offset, len;
  struct part part, taken;
  unsigned i;
  int why, err;

  for (;;) {
    offset = p->offset;
    len = p->len;
    why = 0;
    for (i = 0; why == 0 && next_part (&p->e->pc, &offset, &len, &part); ++i)
      why = page_claim (&p->e->pc, p->pages[i], &part);
    if (why == 0)
      return 0;

    len = piece_part_offset (&p->e->pc, &part) - p->offset;
    offset = p->offset;
    for (i = 0; next_part (&p->e->pc, &offset, &len, &taken); ++i)
      page_unclaim (&p->e->pc, p->pages[i], &taken);
    err = resolve (p, p->pages[i], &part, why);
    if (err != 0)
      return err;
  }
}

/* Copies the piece into its claimed blocks, and where it does not cover whole
 * blocks, those out again as they are to be written.
 */
static void
copy_claimed (struct piece *p, struct open_write *open)
{
  struct pagecache *pc = &p->e->pc;
  uint64_t offset = p->offset, len = p->len;
  uint8_t *to = p->gather.bytes;
  struct part part;
  struct span s;
  unsigned i;

  for (i = 0; next_part (pc, &offset, &len, &part); ++i) {
    page_write_claimed (pc, p->pages[i], &part, part_bytes (p, &part), open);
    if (to) {
      s = part_span (pc, &part);
      page_copy_claimed (pc, p->pages[i], s, to);
      to += span_part (pc, part.index, s).len;
    }
  }
}

/* A write of a series, if the piece is one of it: the bytes of blocks that it
 * covers in part then have a place that stays.
 */
static struct series_write *
take_series (struct piece *p, uint64_t len)
{
  if (p->of->series == NULL || (p->gather.bytes && len > SMALL_BLOCK))
    return NULL;
  return series_take (p->of->series);
}

static const uint8_t *
bytes_in_series (const struct piece *p, uint64_t len)
{
  uint8_t *edge = p->of->edges[p->offset == p->of->offset ? 0 : 1];

  return p->gather.bytes ? memcpy (edge, p->gather.bytes, len) : p->buf;
}

static int
write_through (struct piece *p, bool durable)
{
  const uint64_t start = round_down (p->offset, block_size (&p->e->pc));
  const uint64_t len = piece_block_end (p->e, p->offset + p->len) - start;
  struct series_write alone, *in_series, *sw = &alone;
  int err;

  err = claim (p);
  if (err != 0)
    return err;

  in_series = take_series (p, len);
  if (in_series)
    sw = in_series;
  else {
    sw->w.durable = durable;
    sw->w.by_flush = p->of->series != NULL; /* other pieces overlap it */
    sw->w.keeps = false;
    sw->open.is_open = false;
  }
  copy_claimed (p, &sw->open);
  sw->w.offset = start;
  sw->w.len = len;
  if (in_series)
    sw->w.bytes = bytes_in_series (p, len);
  else
    sw->w.bytes = p->gather.bytes ? p->gather.bytes : p->buf;
  sw->w.turn = 0;
  if (p->of->spread)
    spread_invite (p->of->spread);
  err = submit_write (&p->e->submit, p->b, &sw->w);
  if (in_series)
    return series_put (p->of->series, in_series, err);
  open_end (&p->e->pc, &sw->open);
  return err;
}

/* Writes a piece that finds no memory: durable, with its range exclusively. */
static int
write_past (struct piece *p)
{
  const uint64_t start = round_down (p->offset, block_size (&p->e->pc));
  const uint64_t end = piece_block_end (p->e, p->offset + p->len);
  const uint64_t last = round_down (end - 1, block_size (&p->e->pc));
  const uint8_t *bytes = p->buf;
  uint8_t *gather = p->gather.bytes;
  struct exclusive x;
  int err;

  err = part_series (p);
  if (err == 0)
    err = clear_begin (&p->e->submit, p->b, &x, start, end - start, true);
  if (err != 0)
    return err;
  if (p->of->spread)
    spread_invite (p->of->spread);
  if (gather) {
    if (p->offset != start)
      err = fetch_past (p->e, p->b, gather, start,
                        piece_block_end (p->e, start + 1) - start);
    if (err == 0 && p->offset + p->len != end)
      err = fetch_past (p->e, p->b, gather + (last - start), last, end - last);
    if (p->buf)
      memcpy (gather + (p->offset - start), p->buf, p->len);
    else
      memset (gather + (p->offset - start), 0, p->len);
    bytes = gather;
  }
  if (err == 0)
    err = clear_write_past (&p->e->submit, p->b, bytes, start, end - start);
  clear_end (&p->e->submit, &x);
  return err;
}

/* How a piece is written. */
enum path { PATH_DIRTY, PATH_THROUGH, PATH_DURABLE };

/* A write that may stay neither dirty nor unstable is as durable as FUA: at the
 * bound, and if the backend refuses.  Where two caches may be over one disk it
 * is enough that nothing stays dirty.  The other paths have LEN bytes reserved.
 */
static enum path
choose_path (struct export *e, uint64_t len, enum mode mode, bool durable)
{
  const bool writeback = mode == MODE_WRITEBACK;
  bool may_be_unstable;

  if (durable)
    return PATH_DURABLE;
  if (writeback && dirty_reserve (e, len))
    return PATH_DIRTY;
  may_be_unstable =
      !writeback || !atomic_load_explicit (&e->holds, memory_order_relaxed);
  if (may_be_unstable && dirty_reserve_unstable (e, len)) {
    stats_add (&e->stats, COUNT_DEGRADED, writeback);
    return PATH_THROUGH;
  }
  stats_add (&e->stats, COUNT_DEGRADED, 1);
  return PATH_DURABLE;
}

/* Most ordinary writes that may stay dirty find their one page, or get a new
 * one for whole blocks: that is all they need.  One that makes nothing more
 * dirty leaves the amounts to the write that did, and the age to the clock.
 */
static bool
rewrite (struct client *c, const void *buf, uint64_t offset, uint64_t len)
{
  struct export *e = c->export;
  struct part part;
  enum rewrite done;

  if (!only_part (&e->pc, offset, len, &part) || !dirty_reserve (e, len))
    return false;
  done = page_rewrite (&e->pc, &part, buf);
  if (done == REWRITE_NOT && piece_is_aligned (e, offset, len) &&
      page_write_new (&e->pc, &part, buf))
    done = REWRITE_MORE;
  dirty_release (e, len);
  if (done == REWRITE_MORE ||
      (done == REWRITE_SAME && !shares_allow_helpers (e)))
    writeback_poke (e, c->own);
  return done != REWRITE_NOT;
}

/* A buffer for all blocks of the piece.  Where it is to be had only for some of
 * them, the piece becomes shorter: as long as the buffer, or whole blocks that
 * need none.  0 or an errno.
 */
static int
take_gather (struct piece *p)
{
  const uint32_t block = block_size (&p->e->pc);
  const uint64_t within = p->offset % block;
  const uint64_t blocks =
      piece_block_end (p->e, p->offset + p->len) - (p->offset - within);
  int err;

  if (p->of->series && piece_try_scratch (&p->gather, p->e, blocks))
    return 0;
  err = part_series (p); /* it may have to wait for one */
  piece_take_scratch (&p->gather, p->e, blocks, block);
  if (p->gather.len >= blocks)
    return err;
  if (within > 0 || p->len < block || p->buf == NULL)
    p->len = min_u64 (p->len, round_down (p->gather.len, block) - within);
  else {
    p->len = round_down (p->len, block);
    piece_drop_scratch (&p->gather);
    p->gather.bytes = NULL;
  }
  return err;
}

/* Writes a piece of at most *LENGTH bytes, which then says how long it was. */
static int
write_piece (struct writing *w, uint64_t offset, uint64_t *length)
{
  struct export *e = w->c->export;
  const uint8_t *buf = w->buf ? w->buf + (offset - w->offset) : NULL;
  const uint64_t len = *length;
  const bool aligned = piece_is_aligned (e, offset, len);
  const bool gathers = !aligned || buf == NULL;
  const uint64_t start = round_down (offset, block_size (&e->pc));
  const uint64_t blocks = piece_block_end (e, offset + len) - start;
  const enum path path = choose_path (e, blocks, w->mode, w->durable);
  const bool throttled = path == PATH_DURABLE && !w->durable;
  const uint64_t began = throttled ? now_ns () : 0;
  struct piece p; /* large: only what is used is set */
  int err = 0;

  if (path != PATH_DIRTY && w->series == NULL)
    durable_enter (&e->submit);
  p.of = w;
  p.e = e;
  p.b = w->c->own;
  p.buf = buf;
  p.offset = offset;
  p.len = len;
  p.nr = 0;
  p.edge.bytes = p.gather.bytes = NULL;
  /* Never one buffer while waiting for another: the edges are read before
   * the blocks are gathered, so one serves both.
   */
  if (gathers && path != PATH_DIRTY) {
    err = take_gather (&p);
    p.edge.bytes = p.gather.bytes;
    p.edge.len = 0;
  }
  else if (!aligned)
    piece_take_scratch (&p.edge, e, block_size (&e->pc), block_size (&e->pc));
  if (err != 0)
    ; /* the flush of what was written before */
  else if (pin_pages (&p))
    err = path == PATH_DIRTY ? write_dirty (&p)
                             : write_through (&p, path == PATH_DURABLE);
  else {
    if (gathers && path == PATH_DIRTY) {
      piece_drop_scratch (&p.edge);
      p.edge.bytes = NULL;
      err = take_gather (&p);
    }
    if (err == 0)
      err = write_past (&p);
  }
  unpin_pages (&p);
  piece_drop_scratch (&p.gather);
  piece_drop_scratch (&p.edge);
  if (path != PATH_DURABLE)
    dirty_release (e, blocks);
  if (throttled)
    atomic_fetch_add_explicit (&w->waited, now_ns () - began,
                               memory_order_relaxed);
  *length = p.len;
  return err;
}

/* A piece of a write that needs a buffer for all its blocks fits in one. */
static uint64_t
write_piece_len (struct export *e, uint64_t offset, uint64_t len, bool zeroes)
{
  const uint64_t max = memory_scratch_max (e->memory) / 2;
  const uint64_t n = piece_len (e, offset, len);

  if (!zeroes && piece_is_aligned (e, offset, n))
    return n;
  return min_u64 (n, max_u64 (max, block_size (&e->pc)) -
                         offset % block_size (&e->pc));
}

static int
write_pieces (struct writing *w, uint64_t offset, uint64_t len)
{
  uint64_t n, done;
  int err = 0;

  for (done = 0; done < len && err == 0; done += n) {
    n = write_piece_len (w->c->export, offset + done, len - done,
                         w->buf == NULL);
    err = write_piece (w, offset + done, &n);
  }
  return err;
}

/* A write with several pieces. */
struct large {
  struct spread spread;
  struct series series;
  struct writing *w;
};

static int
run_large_write (struct spread *s, uint64_t offset, uint64_t len)
{
  return write_pieces (container_of (s, struct large, spread)->w, offset, len);
}

static void
rest_large_write (struct spread *s)
{
  series_rest (&container_of (s, struct large, spread)->series, s);
}

/* Blocks that it covers in part are pieces of their own, so that all others go
 * from the client's buffer.
 */
static __attribute__ ((noinline)) int
write_spread (struct writing *w, uint64_t len)
{
  struct export *e = w->c->export;
  struct large l; /* large: only what is used is set */
  int err;

  l.w = w;
  w->spread = &l.spread;
  l.spread.run = run_large_write;
  l.spread.cut[0] = piece_block_end (e, w->offset);
  l.spread.cut[1] = round_down (w->offset + len, block_size (&e->pc));
  l.spread.rest = NULL;
  if (w->durable && series_is_due (w->c->own)) {
    /* The request is one operation: once, while it has no block. */
    durable_enter (&e->submit);
    series_init (&l.series, &e->submit, w->c->own, &l.spread.completion);
    l.spread.rest = rest_large_write;
    w->series = &l.series;
  }
  err = piece_spread (e, &l.spread, w->offset, len);
  if (w->series)
    series_destroy (w->series);
  return err;
}

static __attribute__ ((noinline)) int
write_large (struct writing *w, uint64_t len)
{
  uint8_t edges[2][SMALL_BLOCK];

  w->edges = edges;
  return write_spread (w, len);
}

/* Any other write. */
static __attribute__ ((noinline)) int
write_at_length (struct client *c, const void *buf, uint32_t len,
                 uint64_t offset, enum mode mode, bool durable)
{
  struct writing w;
  uint64_t waited;
  int err;

  w.c = c;
  w.buf = buf;
  w.offset = offset;
  w.mode = mode;
  w.durable = durable;
  w.spread = NULL;
  w.series = NULL;
  atomic_init (&w.waited, 0);
  err = piece_count (c->export, offset, len) == 1
            ? write_pieces (&w, offset, len)
            : write_large (&w, len);
  waited = atomic_load_explicit (&w.waited, memory_order_relaxed);
  if (waited > 0)
    stats_request (&c->export->stats, COUNT_THROTTLED, COUNT_THROTTLED_NS,
                   waited);
  writeback_poke (c->export, c->own);
  return err;
}

/* Most durable writes are of whole blocks of one page that is cached, and meet
 * no other: that is all they need.  False: nothing was done.
 */
static bool
write_through_one (struct client *c, const void *buf, uint64_t offset,
                   uint64_t len, int *err)
{
  struct export *e = c->export;
  struct open_write open;
  struct part part;
  struct write w;

  if (buf == NULL || !only_part (&e->pc, offset, len, &part) ||
      !piece_is_aligned (e, offset, len))
    return false;
  durable_enter (&e->submit);
  open.is_open = false;
  if (!page_write_through (&e->pc, &part, buf, &open))
    return false;
  w.offset = offset;
  w.len = len;
  w.bytes = buf;
  w.durable = true;
  w.by_flush = w.keeps = false;
  w.turn = 0;
  *err = submit_write (&e->submit, c->own, &w);
  open_end (&e->pc, &open);
  if (held_bytes (&e->pc) > 0) /* else there is nothing to begin */
    writeback_poke (e, c->own);
  return true;
}

static __attribute__ ((noinline)) int
write_durable (struct client *c, const void *buf, uint32_t len, uint64_t offset,
               enum mode mode)
{
  int err;

  if (write_through_one (c, buf, offset, len, &err))
    return err;
  return write_at_length (c, buf, len, offset, mode, true);
}

int
write_in_mode (struct client *c, const void *buf, uint32_t len, uint64_t offset,
               enum mode mode, bool durable)
{
  if (durable)
    return write_durable (c, buf, len, offset, mode);
  if (mode == MODE_WRITEBACK && rewrite (c, buf, offset, len))
    return 0;
  return write_at_length (c, buf, len, offset, mode, false);
}
