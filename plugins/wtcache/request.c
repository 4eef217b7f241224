/* SPDX-License-Identifier: BSD-3-Clause */

/* What clients ask for: a byte range becomes pieces, pages, blocks.
 *
 *     request ── pieces ── parts (one page each) ── blocks
 *
 * A piece is what has its pages pinned at once.  The walk over its parts is
 * next_part in pagecache.h; read, write, zero and trim all go by it.
 *
 * A read copies what is uptodate.  For the rest it begins fills, one read of
 * the backend for a run of missing pages, into the client's own buffer where
 * the run lies in the request; fills of others it joins.
 *
 * A write pins its pages, reads blocks that it covers in part, and copies.  If
 * it may leave them dirty that is all.  Else it is a writethrough: it first
 * claims all its blocks, so that nobody else writes them to the backend, and
 * after the copy hands the range to submit.c.
 *
 * Who finds no memory goes past the cache: a read asks the backend for the
 * blocks that are not cached; a write has its range exclusively meanwhile.
 *
 * Knows nothing of nbdkit.
 */

#include <config.h>

#include <errno.h>

#include "base/probes.h"
#include "export/writeback.h"
#include "request.h"
#include "request/readahead.h"

/* The most pages and bytes of a piece. */
#define PIECE_PAGES 256
#define PIECE_BYTES (1 * MiB)

/* Blocks up to this size need no buffer from the budget. */
#define SMALL_BLOCK 4096

/* A buffer for whole blocks: a small one of the caller's, or from the budget.
 */
struct scratch {
  struct export *e;
  uint8_t *bytes;
  uint64_t len;
  uint8_t small[SMALL_BLOCK];
};

/* Waits for memory: the caller has nothing pinned. */
static uint8_t *
take_scratch (struct scratch *s, struct export *e, uint64_t len)
{
  s->e = e;
  s->len = len;
  s->bytes = len <= sizeof s->small
                 ? s->small
                 : scratch_get (e->memory, &e->pc.borrower, len);
  return s->bytes;
}

static uint8_t *
try_scratch (struct scratch *s, struct export *e, uint64_t len)
{
  s->e = e;
  s->len = len;
  s->bytes = len <= sizeof s->small ? s->small
             : len > memory_scratch_max (e->memory)
                 ? NULL
                 : scratch_try (e->memory, &e->pc.borrower, len);
  return s->bytes;
}

static void
drop_scratch (struct scratch *s)
{
  if (s->bytes && s->bytes != s->small && s->len > 0)
    scratch_put (s->e->memory, &s->e->pc.borrower, s->bytes, s->len);
}

/* The most bytes of a piece: a power of two, and at most a sixteenth of the
 * memory.
 */
static uint64_t
piece_most (const struct export *e)
{
  const uint64_t page = page_size (&e->pc);
  uint64_t most = min_u64 (PIECE_BYTES, PIECE_PAGES * page);

  most = min_u64 (most, round_down (memory_limit (e->memory) / 16, page));
  return UINT64_C (1) << log2_u64 (max_u64 (most, page));
}

/* How long a piece that begins at OFFSET may be: it ends at a multiple of the
 * most.
 */
static uint64_t
piece_len (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t most = piece_most (e);

  return min_u64 (len, most - (offset & (most - 1)));
}

/* The end of the block that OFFSET lies in or that ends there. */
static uint64_t
block_end (const struct export *e, uint64_t offset)
{
  return min_u64 (round_up (offset, block_size (&e->pc)), e->pc.size);
}

/* Whether a range consists of whole blocks. */
static bool
is_aligned (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t block = block_size (&e->pc);

  return offset % block == 0 &&
         ((offset + len) % block == 0 || offset + len == e->pc.size);
}

/* ---- reads ---- */

/* Reads blocks that are not cached, from one point on: without a page, so that
 * nothing becomes uptodate.  At most LEN bytes of OFFSET's block and those that
 * follow it; returns how many in *DONE.
 */
static int
read_missing (struct export *e, struct backend *b, uint8_t *buf,
              uint64_t offset, uint64_t len, uint64_t *done)
{
  const uint64_t start = round_down (offset, block_size (&e->pc));
  struct scratch scratch;
  uint8_t *bytes;
  bool zeroed;
  uint64_t n;
  int err;

  /* A block that is known to be zero may be so here only. */
  n = zeroes_prefix (&e->pc.zeroes, offset, len, &zeroed);
  if (zeroed) {
    memset (buf, 0, n);
    *done = n;
    return 0;
  }
  if (is_aligned (e, offset, n)) {
    *done = n;
    return submit_read (&e->submit, b, buf, offset, n);
  }

  /* A part of a block: all of it, by a buffer; then the rest. */
  n = min_u64 (n, block_end (e, offset + 1) - offset);
  bytes = take_scratch (&scratch, e, block_size (&e->pc));
  err = submit_read (&e->submit, b, bytes, start,
                     block_end (e, offset + 1) - start);
  memcpy (buf, bytes + (offset - start), n);
  drop_scratch (&scratch);
  *done = n;
  return err;
}

/* Bytes of blocks that were not cached have come from the backend, or were
 * known to be zero.  A later read must not find older ones: a zero that is in
 * flight may have reached the backend after a fill has read there.
 */
static void
overtake_fills (struct export *e, uint8_t *buf, uint64_t offset, uint64_t len)
{
  struct part part;

  while (next_part (&e->pc, &offset, &len, &part)) {
    page_read_past (&e->pc, &part, buf);
    buf += part.len;
  }
}

/* Reads a range block by block from the cache, and what is not there from the
 * backend.
 */
static int
read_past (struct export *e, struct backend *b, uint8_t *buf, uint64_t offset,
           uint64_t len)
{
  uint64_t at, rest, n, done, whole_blocks;
  struct part part;
  int err = 0;

  for (; len > 0 && err == 0; offset += done, buf += done, len -= done) {
    /* How much from here on is missing, in blocks. */
    for (n = 0; n < len; n += done) {
      at = offset + n;
      rest = done = min_u64 (len - n, block_end (e, at + 1) - at);
      next_part (&e->pc, &at, &rest, &part);
      if (n == 0 ? page_read (&e->pc, &part, buf)
                 : page_is_uptodate (&e->pc, &part))
        break;
    }
    if (n == 0)
      continue; /* the first block was there, and has been copied */
    whole_blocks = round_down (offset + n, block_size (&e->pc));
    if (offset + n != e->pc.size && whole_blocks > offset)
      n = whole_blocks - offset; /* a part of a block comes by itself */
    err = read_missing (e, b, buf, offset, n, &done);
    if (err == 0)
      overtake_fills (e, buf, offset, done);
  }
  return err;
}

/* A page of which something is missing. */
struct miss {
  struct page *page; /* pinned; NULL: no frame */
  struct part part;  /* what is wanted of it */
  bool asked;        /* by the client: else only to fill */
  bool copied;       /* what we read of it is in his buffer */
  enum fill fill;
  struct span ours; /* what we read of it */
};

/* What one piece of a read wants: the client's range, and round it what is
 * filled along.
 */
struct fetch {
  struct export *e;
  struct backend *b;
  enum admission why;
  uint8_t *buf;   /* the client's; NULL: he wants no copy */
  uint8_t *spare; /* instead of it, to read into */
  uint64_t offset, end;
  unsigned nr;
  struct miss misses[PIECE_PAGES];
  struct completion completion;
};

static uint64_t
part_offset (const struct pagecache *pc, const struct part *part)
{
  return (part->index << pc->page_shift) + part->offset;
}

/* The part of a range that the client asked for and that lies in one page. */
static bool
asked_part (const struct fetch *f, const struct part *part, struct part *asked)
{
  const uint64_t at = part_offset (&f->e->pc, part);
  uint64_t from = max_u64 (at, f->offset);
  uint64_t len = min_u64 (at + part->len, f->end) - from;

  if (from >= min_u64 (at + part->len, f->end))
    return false;
  return next_part (&f->e->pc, &from, &len, asked);
}

static uint8_t *
asked_bytes (const struct fetch *f, const struct part *asked)
{
  return f->buf + (part_offset (&f->e->pc, asked) - f->offset);
}

/* Copies what is there, pins the pages of which something is missing, and
 * begins their fills.
 */
static void
find_misses (struct fetch *f, uint64_t offset, uint64_t len)
{
  struct pagecache *pc = &f->e->pc;
  struct part part, asked;
  struct miss *m;

  f->nr = 0;
  while (next_part (pc, &offset, &len, &part)) {
    m = &f->misses[f->nr];
    m->part = part;
    m->copied = false;
    m->asked = asked_part (f, &part, &asked);
    if (m->asked && f->buf ? page_read (pc, &asked, asked_bytes (f, &asked))
                           : page_is_uptodate (pc, &part))
      continue;
    if (m->asked && f->buf)
      page_note_miss (pc, part.index);
    m->page = page_pin (pc, part.index, f->why);
    m->fill =
        m->page ? fill_begin (pc, m->page, &part, &m->ours) : FILL_ALONE;
    f->nr++;
  }
}

static struct part
ours_part (const struct fetch *f, const struct miss *m)
{
  return span_part (&f->e->pc, m->part.index, m->ours);
}

/* Ends the fills of a run of misses with what was read. */
static void
end_run (struct fetch *f, struct miss *m, unsigned n, uint8_t *bytes, int err)
{
  struct pagecache *pc = &f->e->pc;
  unsigned i;

  for (i = 0; i < n; ++i) {
    fill_end (pc, m[i].page, m[i].ours, bytes, err);
    m[i].copied = bytes && err == 0;
    if (bytes)
      bytes += ours_part (f, &m[i]).len;
  }
}

/* Reads a run of misses that follow each other without a gap, in one go. */
static int
read_run (struct fetch *f, struct miss *m, unsigned n)
{
  struct pagecache *pc = &f->e->pc;
  const struct part first = ours_part (f, &m[0]);
  const struct part last = ours_part (f, &m[n - 1]);
  const uint64_t offset = part_offset (pc, &first);
  const uint64_t end = part_offset (pc, &last) + last.len;
  uint8_t *base = f->buf ? f->buf : f->spare;
  const bool direct = base && offset >= f->offset && end <= f->end;
  struct scratch scratch;
  uint64_t from, to;
  uint8_t *bytes;
  int err;

  scratch.bytes = NULL;
  bytes = direct ? base + (offset - f->offset)
                 : try_scratch (&scratch, f->e, end - offset);
  if (bytes == NULL) { /* who asked reads it alone, with nothing pinned */
    end_run (f, m, n, NULL, EAGAIN);
    return 0;
  }
  err = submit_read (&f->e->submit, f->b, bytes, offset, end - offset);
  end_run (f, m, n, bytes, err);
  from = max_u64 (offset, f->offset);
  to = min_u64 (end, f->end);
  if (err == 0 && f->buf && !direct && from < to)
    memcpy (f->buf + (from - f->offset), bytes + (from - offset), to - from);
  drop_scratch (&scratch);
  /* An error of more than what the client asked for may be none of his: he
   * reads that alone.
   */
  return direct ? err : 0;
}

/* How many misses from this one on can be read in one go. */
static unsigned
run_length (const struct fetch *f, const struct miss *m, unsigned most)
{
  const struct pagecache *pc = &f->e->pc;
  struct part part, next;
  unsigned n;

  for (n = 1; n < most && m[n].fill == FILL_OURS; ++n) {
    part = ours_part (f, &m[n - 1]);
    next = ours_part (f, &m[n]);
    if (part_offset (pc, &part) + part.len != part_offset (pc, &next))
      break;
  }
  return n;
}

/* A run that a helper reads. */
struct run {
  struct task task;
  struct fetch *f;
  struct miss *first;
  unsigned nr;
};

static void
run_helper (struct task *t)
{
  struct run *r = container_of (t, struct run, task);

  completion_end (&r->f->completion, read_run (r->f, r->first, r->nr));
}

/* The runs of one piece that helpers may read at once. */
#define MOST_HELPERS 8

/* Reads all runs of misses that are ours, several at once. */
static int
read_runs (struct fetch *f)
{
  struct run helped[MOST_HELPERS], *r;
  unsigned i, n, nr_helped = 0;

  completion_init (&f->completion);
  for (i = 0; i < f->nr; i += n) {
    n = 1;
    if (f->misses[i].fill != FILL_OURS)
      continue;
    n = run_length (f, &f->misses[i], f->nr - i);
    if (i + n < f->nr && nr_helped < MOST_HELPERS && registry.parallel) {
      r = &helped[nr_helped];
      *r = (struct run){
        .task.run = run_helper, .f = f, .first = &f->misses[i], .nr = n
      };
      completion_begin (&f->completion);
      if (workers_try (&r->task)) {
        nr_helped++;
        continue;
      }
      completion_end (&f->completion, 0);
    }
    completion_fail (&f->completion, read_run (f, &f->misses[i], n));
  }
  i = completion_wait (&f->completion);
  completion_destroy (&f->completion);
  return i;
}

/* Copies what the client asked for of one miss, after all fills of ours have
 * ended; waits for those of others.
 */
static int
finish_miss (struct fetch *f, struct miss *m)
{
  struct pagecache *pc = &f->e->pc;
  struct part asked, ours;

  asked_part (f, &m->part, &asked);
  if (m->copied) {
    ours = ours_part (f, m);
    if (ours.offset <= asked.offset &&
        ours.offset + ours.len >= asked.offset + asked.len)
      return 0;
  }
  if (m->fill == FILL_JOIN)
    fill_wait (pc, m->page);
  if (page_read (pc, &asked, asked_bytes (f, &asked)))
    return 0;
  if (m->page) {
    page_unpin (pc, m->page); /* read_past may wait for memory */
    m->page = NULL;
  }
  return read_past (f->e, f->b, asked_bytes (f, &asked),
                    part_offset (pc, &asked), asked.len);
}

/* Fills a window and copies the client's part of it. */
static int
fetch_window (struct fetch *f, uint64_t offset, uint64_t len)
{
  unsigned i;
  int err;

  find_misses (f, offset, len);
  err = read_runs (f);
  for (i = 0; i < f->nr; ++i) {
    if (err == 0 && f->buf && f->misses[i].asked)
      err = finish_miss (f, &f->misses[i]);
    if (f->misses[i].page)
      page_unpin (&f->e->pc, f->misses[i].page);
  }
  return err;
}

/* No more than a piece, so that one miss does not push out a small cache. */
uint64_t
request_fill (const struct export *e)
{
  uint64_t fill = e->settings->fill;

  if (fill == 0)
    fill = clamp_u64 (e->preferred, min_u64 (page_size (&e->pc), 64 * KiB),
                      64 * KiB);
  fill = min_u64 (fill, piece_most (e));
  return max_u64 (UINT64_C (1) << log2_u64 (fill), block_size (&e->pc));
}

/* Reads a piece of which something is missing. */
static int
read_piece_slowly (struct client *c, uint8_t *buf, uint64_t offset,
                   uint64_t len)
{
  struct export *e = c->export;
  const uint64_t fill = request_fill (e);
  const uint64_t most = (uint64_t) PIECE_PAGES << e->pc.page_shift;
  uint64_t from = round_down (offset, fill);
  uint64_t to = min_u64 (round_up (offset + len, fill), e->pc.size);
  struct fetch f;

  PROBE3 (miss, export_number (&e->pc), offset, len);
  if (to - from > most) { /* as much as a piece may have */
    from = round_down (offset, block_size (&e->pc));
    to = block_end (e, offset + len);
  }
  f.e = e;
  f.b = c->own;
  f.why = ADMIT_READ;
  f.buf = buf;
  f.spare = NULL;
  f.offset = offset;
  f.end = offset + len;
  return fetch_window (&f, from, to - from);
}

/* Copies a part that is there, or that was about to be read ahead. */
static bool
read_part (struct client *c, const struct part *part, uint8_t *buf)
{
  struct pagecache *pc = &c->export->pc;

  return page_read (pc, part, buf) ||
         (c->ahead &&
          readahead_help (c->ahead, c->own, part_offset (pc, part)) &&
          page_read (pc, part, buf));
}

/* Reads a piece.  *MISSED: not all of it was there. */
static int
read_piece (struct client *c, uint8_t *buf, uint64_t offset, uint64_t len,
            bool *missed)
{
  uint64_t walk = offset, rest = len;
  struct part part;

  while (next_part (&c->export->pc, &walk, &rest, &part))
    if (!read_part (c, &part, buf + (walk - part.len - offset))) {
      *missed = true;
      walk -= part.len;
      return read_piece_slowly (c, buf + (walk - offset), walk,
                                len - (walk - offset));
    }
  return 0;
}

/* How many pages a range has, after its first. */
static uint64_t
more_pages (const struct export *e, uint64_t offset, uint64_t len)
{
  const unsigned shift = e->pc.page_shift;

  return len > 0 ? ((offset + len - 1) >> shift) - (offset >> shift) : 0;
}

/* Any other read than a hit in one page. */
static __attribute__ ((noinline)) int
read_pieces (struct client *c, uint8_t *buf, uint32_t len, uint64_t offset)
{
  uint64_t n, done;
  bool missed = false;
  int err = 0;

  for (done = 0; done < len && err == 0; done += n) {
    n = piece_len (c->export, offset + done, len - done);
    err = read_piece (c, buf + done, offset + done, n, &missed);
  }
  stats_add (&c->export->stats, COUNT_MORE_PAGES,
             more_pages (c->export, offset, len));
  if (missed)
    stats_request (&c->export->stats, COUNT_MISSES, COUNT_MISS_BYTES, len);
  else
    stats_request (&c->export->stats, COUNT_HITS, COUNT_HIT_BYTES, len);
  if (c->ahead && err == 0)
    readahead_note (c->ahead, offset, len, missed);
  return err;
}

int
request_read (struct client *c, void *buf, uint32_t len, uint64_t offset)
{
  uint64_t at = offset, rest = len;
  struct part part;

  /* Most requests are this. */
  if (next_part (&c->export->pc, &at, &rest, &part) && rest == 0 &&
      page_read (&c->export->pc, &part, buf)) {
    stats_request (&c->export->stats, COUNT_HITS, COUNT_HIT_BYTES, len);
    if (c->ahead)
      readahead_note (c->ahead, offset, len, false);
    return 0;
  }
  return read_pieces (c, buf, len, offset);
}

int
request_prefetch (struct export *e, struct backend *b, uint64_t offset,
                  uint64_t len, enum admission why)
{
  const uint64_t most = memory_scratch_max (e->memory) / 2;
  const uint64_t end = block_end (e, offset + len);
  struct scratch scratch;
  struct fetch f;
  uint64_t n;
  int err = 0;

  f.e = e;
  f.b = b;
  f.why = why;
  f.buf = NULL;
  for (offset = round_down (offset, block_size (&e->pc));
       offset < end && err == 0; offset += n) {
    n = min_u64 (piece_len (e, offset, end - offset), most);
    f.spare = take_scratch (&scratch, e, n); /* before a page is pinned */
    f.offset = offset;
    f.end = offset + n;
    err = fetch_window (&f, offset, n);
    drop_scratch (&scratch);
  }
  return err;
}

/* ---- writes ---- */

/* One piece of a write: its pages are pinned. */
struct piece {
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

/* Makes one block of a pinned page uptodate, or waits for who does. */
static int
fill_block (struct piece *p, struct page *page, uint64_t at)
{
  struct pagecache *pc = &p->e->pc;
  uint64_t offset = round_down (at, block_size (pc));
  uint64_t len = block_end (p->e, at + 1) - offset;
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
                     part_offset (pc, &part), part.len);
  fill_end (pc, page, ours, p->edge.bytes, err);
  return err;
}

/* Makes the edges of a part uptodate, as far as they are blocks in part. */
static int
fill_edges (struct piece *p, struct page *page, const struct part *part)
{
  const uint64_t block = block_size (&p->e->pc);
  const uint64_t at = part_offset (&p->e->pc, part);
  const uint64_t end = at + part->len;
  int err = 0;

  if (at % block != 0)
    err = fill_block (p, page, at);
  if (err == 0 && end % block != 0 && end != p->e->pc.size)
    err = fill_block (p, page, end - 1);
  return err;
}

/* Does what page_write or page_claim said was in the way. */
static int
resolve (struct piece *p, struct page *page, const struct part *part, int why)
{
  struct pagecache *pc = &p->e->pc;
  const uint64_t at = round_down (part_offset (pc, part), block_size (pc));
  const uint64_t end = block_end (p->e, part_offset (pc, part) + part->len);

  switch (why) {
  case WRITE_EDGE:
    return fill_edges (p, page, part);
  case WRITE_BUSY:
    pagecache_wait_writeback (pc, at, end - at);
    return 0;
  default:
    exclusive_wait (&pc->zeroes, at, end - at);
    return 0;
  }
}

static const uint8_t *
part_bytes (const struct piece *p, const struct part *part)
{
  return p->buf ? p->buf + (part_offset (&p->e->pc, part) - p->offset) : NULL;
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

    len = part_offset (&p->e->pc, &part) - p->offset;
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
copy_claimed (struct piece *p, struct open_op *open)
{
  struct pagecache *pc = &p->e->pc;
  uint64_t offset = p->offset, len = p->len;
  uint8_t *to = p->gather.bytes;
  struct part part;
  struct span s;
  unsigned i;

  for (i = 0; next_part (pc, &offset, &len, &part); ++i) {
    page_write_claimed (pc, p->pages[i], &part, part_bytes (p, &part),
                        &open->acknowledged);
    if (to) {
      s = part_span (pc, &part);
      page_copy_claimed (pc, p->pages[i], s, to);
      to += span_part (pc, part.index, s).len;
    }
  }
}

static int
write_through (struct piece *p, bool durable)
{
  const uint64_t start = round_down (p->offset, block_size (&p->e->pc));
  struct completion completion;
  struct open_op open;
  struct write w;
  int err;

  err = claim (p);
  if (err != 0)
    return err;

  completion_init (&completion);
  submit_open (&p->e->submit, &open);
  copy_claimed (p, &open);
  w.offset = start;
  w.len = block_end (p->e, p->offset + p->len) - start;
  w.bytes = p->gather.bytes ? p->gather.bytes : p->buf;
  w.durable = durable;
  w.turn = 0;
  w.completion = &completion;
  submit_write (&p->e->submit, p->b, &w);
  submit_close (&p->e->submit, &open);
  err = completion_error (&completion);
  completion_destroy (&completion);
  return err;
}

/* Writes a piece that finds no memory: durable, with its range exclusively. */
static int
write_past (struct piece *p)
{
  const uint64_t start = round_down (p->offset, block_size (&p->e->pc));
  const uint64_t end = block_end (p->e, p->offset + p->len);
  struct zeroes *z = &p->e->pc.zeroes;
  const uint64_t last = round_down (end - 1, block_size (&p->e->pc));
  const uint8_t *bytes = p->buf;
  uint8_t *gather = p->gather.bytes;
  struct exclusive x;
  int err;

  err = submit_begin_forgetting (&p->e->submit, p->b, &x, start, end - start);
  if (err != 0)
    return err;
  pagecache_wait_writeback (&p->e->pc, start, end - start);
  if (gather) {
    if (p->offset != start)
      err = read_past (p->e, p->b, gather, start,
                       block_end (p->e, start + 1) - start);
    if (err == 0 && p->offset + p->len != end)
      err = read_past (p->e, p->b, gather + (last - start), last, end - last);
    if (p->buf)
      memcpy (gather + (p->offset - start), p->buf, p->len);
    else
      memset (gather + (p->offset - start), 0, p->len);
    bytes = gather;
  }
  if (err == 0)
    err = submit_write_past (&p->e->submit, p->b, bytes, start, end - start);
  exclusive_end (z, &x);
  return err;
}

/* How a piece is written. */
enum path { PATH_DIRTY, PATH_THROUGH, PATH_DURABLE };

/* The mode as it is now; a request keeps it to its end.  Relaxed: what a mode
 * that is new finds dirty it writes back by itself.
 */
static enum mode
mode_now (const struct export *e)
{
  return atomic_load_explicit (&e->settings->mode, memory_order_relaxed);
}

/* Whether every write and zero is treated as one with FUA. */
static bool
all_are_durable (enum mode mode)
{
  return mode >= MODE_WRITETHROUGH;
}

static enum path
choose_path (struct export *e, uint64_t len, enum mode mode, bool durable)
{
  if (durable)
    return PATH_DURABLE;
  if (mode != MODE_WRITEBACK)
    return PATH_THROUGH;
  /* At the bound, or if the backend refuses, as durable as FUA: but where two
   * caches may be over one disk it is enough that nothing is held back.
   */
  if (writeback_admit (e, len))
    return PATH_DIRTY;
  stats_add (&e->stats, COUNT_DEGRADED, 1);
  return atomic_load_explicit (&e->holds, memory_order_relaxed) ? PATH_DURABLE
                                                                : PATH_THROUGH;
}

/* Most ordinary writes that may stay dirty find their one page: that is all
 * they need.
 */
static bool
rewrite (struct export *e, const void *buf, uint64_t offset, uint64_t len)
{
  uint64_t walk = offset, rest = len;
  struct part part;
  bool done;

  if (!next_part (&e->pc, &walk, &rest, &part) || rest != 0 ||
      !writeback_admit (e, len))
    return false;
  done = page_rewrite (&e->pc, &part, buf);
  writeback_admitted (e, len);
  return done;
}

/* *WAITED grows by the time, ns, that an ordinary write took because it might
 * not stay dirty.
 */
static int
write_piece (struct client *c, const uint8_t *buf, uint64_t offset,
             uint64_t len, enum mode mode, bool durable, uint64_t *waited)
{
  struct export *e = c->export;
  const bool aligned = is_aligned (e, offset, len);
  const bool gathers = !aligned || buf == NULL;
  const uint64_t start = round_down (offset, block_size (&e->pc));
  const uint64_t blocks = block_end (e, offset + len) - start;
  const enum path path = choose_path (e, blocks, mode, durable);
  const bool throttled = path == PATH_DURABLE && !durable;
  const uint64_t began = throttled ? now_ns () : 0;
  struct piece p; /* large: only what is used is set */
  int err;

  p.e = e;
  p.b = c->own;
  p.buf = buf;
  p.offset = offset;
  p.len = len;
  p.edge.bytes = p.gather.bytes = NULL;
  /* Never one buffer while waiting for another: the edges are read before
   * the blocks are gathered, so one serves both.
   */
  if (gathers && path != PATH_DIRTY) {
    p.edge.bytes = take_scratch (&p.gather, e, blocks);
    p.edge.len = 0;
  }
  else if (!aligned)
    take_scratch (&p.edge, e, block_size (&e->pc));
  if (pin_pages (&p))
    err = path == PATH_DIRTY ? write_dirty (&p)
                             : write_through (&p, path == PATH_DURABLE);
  else {
    if (gathers && path == PATH_DIRTY) {
      drop_scratch (&p.edge);
      p.edge.bytes = NULL;
      take_scratch (&p.gather, e, blocks);
    }
    err = write_past (&p);
  }
  unpin_pages (&p);
  drop_scratch (&p.gather);
  drop_scratch (&p.edge);
  if (path == PATH_DIRTY)
    writeback_admitted (e, blocks);
  if (throttled)
    *waited += now_ns () - began;
  return err;
}

/* A piece of a write that needs a buffer for all its blocks fits in one. */
static uint64_t
write_piece_len (struct export *e, uint64_t offset, uint64_t len, bool zeroes)
{
  const uint64_t most = memory_scratch_max (e->memory) / 2;
  const uint64_t n = piece_len (e, offset, len);

  if (!zeroes && is_aligned (e, offset, n))
    return n;
  return min_u64 (n, max_u64 (most, block_size (&e->pc)) -
                         offset % block_size (&e->pc));
}

static int
write_in_mode (struct client *c, const void *buf, uint32_t len, uint64_t offset,
               enum mode mode, bool durable)
{
  const uint8_t *bytes = buf;
  uint64_t n, done, waited = 0;
  int err = 0;

  if (!durable && mode == MODE_WRITEBACK &&
      rewrite (c->export, buf, offset, len)) {
    writeback_poke (c->export, c->own);
    return 0;
  }
  for (done = 0; done < len && err == 0; done += n) {
    n = write_piece_len (c->export, offset + done, len - done, buf == NULL);
    err = write_piece (c, bytes ? bytes + done : NULL, offset + done, n, mode,
                       durable, &waited);
  }
  if (waited > 0)
    stats_request (&c->export->stats, COUNT_THROTTLED, COUNT_THROTTLED_NS,
                   waited);
  writeback_poke (c->export, c->own);
  return err;
}

int
request_write (struct client *c, const void *buf, uint32_t len, uint64_t offset,
               bool durable)
{
  const enum mode mode = mode_now (c->export);

  return write_in_mode (c, buf, len, offset, mode,
                        durable || all_are_durable (mode));
}

int
request_flush (struct client *c)
{
  return writeback_flush (c->export, c->own);
}

/* ---- zero and trim ---- */

/* Whole blocks of a zero or trim, with the range exclusively. */
static int
clear_blocks (struct client *c, uint64_t offset, uint64_t end, unsigned flags,
              bool zero)
{
  struct export *e = c->export;
  struct exclusive x;
  int err;

  if (zero)
    exclusive_begin (&e->pc.zeroes, &x, offset, end - offset);
  else {
    err =
        submit_begin_forgetting (&e->submit, c->own, &x, offset, end - offset);
    if (err != 0)
      return err;
  }
  pagecache_wait_writeback (&e->pc, offset, end - offset);
  if (zero)
    err = submit_zero (&e->submit, c->own, offset, end - offset, flags);
  else
    err = submit_trim (&e->submit, c->own, offset, end - offset,
                       flags & ZERO_FUA);
  exclusive_end (&e->pc.zeroes, &x);
  return err;
}

/* The aligned middle first: if it is refused nothing has changed. */
int
request_zero (struct client *c, uint32_t len, uint64_t offset, unsigned flags)
{
  struct export *e = c->export;
  const uint64_t end = offset + len;
  const uint64_t first = block_end (e, offset);
  const uint64_t last =
      end == e->pc.size ? end : round_down (end, block_size (&e->pc));
  const enum mode mode = mode_now (e);
  const bool durable = flags & ZERO_FUA || all_are_durable (mode);
  int err = 0;

  if (durable)
    flags |= ZERO_FUA;
  if (first >= last) /* less than a block, or parts of two */
    return write_in_mode (c, NULL, len, offset, mode, durable);

  err = clear_blocks (c, first, last, flags, true);
  if (err == 0 && offset < first)
    err = write_in_mode (c, NULL, first - offset, offset, mode, durable);
  if (err == 0 && last < end)
    err = write_in_mode (c, NULL, end - last, last, mode, durable);
  return err;
}

/* Blocks that are covered in part keep what they hold. */
int
request_trim (struct client *c, uint32_t len, uint64_t offset, bool durable)
{
  struct export *e = c->export;
  const uint64_t end = offset + len;
  const uint64_t first = block_end (e, offset);
  const uint64_t last =
      end == e->pc.size ? end : round_down (end, block_size (&e->pc));

  if (first >= last)
    return 0;
  return clear_blocks (c, first, last, durable ? ZERO_FUA : 0, false);
}
