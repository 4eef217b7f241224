/* SPDX-License-Identifier: BSD-3-Clause */

/* Reads of bytes that are not cached: misses, prefetches, and reads that bypass
 * the cache.
 *
 *     window    the client's range, and round it what is filled along
 *     miss      a page of the window of which something is missing
 *     run       misses next to each other: one read of the backend
 *
 * A run is read into the client's own buffer where it lies in the request.
 * Helpers read several runs at once; fills of other requests are joined.  For
 * example, with pages 3 and 5 of 1 … 8 cached, the runs are 1–2, 4 and 6–8.
 *
 * Blocks that are filled along come in the same call as some that are asked
 * for: a request for page 4 alone reads no other run, so it waits for no other
 * call.
 *
 * A request that gets no memory for a page bypasses the cache: it copies what
 * is cached block by block, and asks the backend for the rest.
 */

#include <config.h>

#include <errno.h>

#include "base/probes.h"
#include "request/fetch.h"
#include "request/piece.h"

/* Reads blocks that are not cached, from one point on: without a page, so that
 * nothing becomes uptodate.  At most LEN bytes of OFFSET's block and those that
 * follow it; returns how many in *DONE.
 */
static int
fetch_missing (struct export *e, struct backend *b, uint8_t *buf,
               uint64_t offset, uint64_t len, uint64_t *done)
{
  const uint64_t start = round_down (offset, block_size (&e->pc));
  struct scratch scratch;
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
  if (piece_is_aligned (e, offset, n)) {
    *done = n;
    return submit_read (&e->submit, b, buf, offset, n);
  }

  /* A part of a block: all of it, by a buffer; then the rest. */
  n = min_u64 (n, piece_block_end (e, offset + 1) - offset);
  piece_take_scratch (&scratch, e, block_size (&e->pc), block_size (&e->pc));
  err = submit_read (&e->submit, b, scratch.bytes, start,
                     piece_block_end (e, offset + 1) - start);
  memcpy (buf, scratch.bytes + (offset - start), n);
  piece_drop_scratch (&scratch);
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
int
fetch_past (struct export *e, struct backend *b, uint8_t *buf, uint64_t offset,
            uint64_t len)
{
  uint64_t at, rest, n, done, whole_blocks;
  struct part part;
  int err = 0;

  for (; len > 0 && err == 0; offset += done, buf += done, len -= done) {
    /* How much from here on is missing, in blocks. */
    for (n = 0; n < len; n += done) {
      at = offset + n;
      rest = done = min_u64 (len - n, piece_block_end (e, at + 1) - at);
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
    err = fetch_missing (e, b, buf, offset, n, &done);
    if (err == 0)
      overtake_fills (e, buf, offset, done);
  }
  return err;
}

/* One piece of a read: the client's range, and the window around it that is
 * filled too.
 */
struct fetch {
  struct export *e;
  struct backend *b;
  struct spread *spread; /* the other pieces of a large read; or NULL */
  enum admission why;
  uint8_t *buf;   /* the client's; NULL: no copy is wanted */
  uint8_t *spare; /* instead of it, to read into */
  uint64_t offset, end;
  unsigned nr;
  struct wanted misses[PIECE_PAGES]; /* pages of which something is missing */
  struct completion completion;      /* where there are several runs */
};

/* Sets what the client asked for of a page, and where it wants that. */
static void
set_asked (const struct fetch *f, struct wanted *w)
{
  const uint64_t at = piece_part_offset (&f->e->pc, &w->part);
  const uint64_t from = max_u64 (at, f->offset);
  const uint64_t to = min_u64 (at + w->part.len, f->end);

  w->asked_offset = w->part.offset + (from - at);
  w->asked_len = from < to ? to - from : 0;
  w->to = f->buf && from < to ? f->buf + (from - f->offset) : NULL;
}

/* Copies what is there, pins the pages of which something is missing, and
 * begins their fills.
 */
static void
find_misses (struct fetch *f, uint64_t offset, uint64_t len)
{
  struct pagecache *pc = &f->e->pc;
  struct wanted *w;
  struct part part;

  f->nr = 0;
  while (next_part (pc, &offset, &len, &part)) {
    w = &f->misses[f->nr];
    w->part = part;
    set_asked (f, w);
    if (fill_want (pc, w, f->why) == FILL_NOTHING)
      continue;
    if (w->to)
      page_note_miss (pc, w->part.index);
    f->nr++;
  }
}

static struct part
ours_part (const struct fetch *f, const struct wanted *w)
{
  return span_part (&f->e->pc, w->part.index, w->ours);
}

static bool
asked_lies_in (const struct wanted *w, const struct part *part)
{
  return w->asked_offset >= part->offset &&
         w->asked_offset + w->asked_len <= part->offset + part->len;
}

/* Ends the fills of a run of misses with what was read. */
static void
end_run (struct fetch *f, struct wanted *m, unsigned n, uint8_t *bytes, int err)
{
  struct part ours;
  unsigned i;

  for (i = 0; i < n; ++i) {
    ours = ours_part (f, &m[i]);
    fill_end_unpin (&f->e->pc, m[i].page, m[i].ours, bytes, err);
    m[i].page = NULL;
    if (bytes && err == 0 && asked_lies_in (&m[i], &ours))
      m[i].to = NULL; /* it is in the client's buffer */
    if (bytes)
      bytes += ours.len;
  }
}

/* Reads a run of misses that follow each other without a gap, in one go. */
static int
read_run (struct fetch *f, struct wanted *m, unsigned n)
{
  struct pagecache *pc = &f->e->pc;
  const struct part first = ours_part (f, &m[0]);
  const struct part last = ours_part (f, &m[n - 1]);
  const uint64_t offset = piece_part_offset (pc, &first);
  const uint64_t end = piece_part_offset (pc, &last) + last.len;
  uint8_t *base = f->buf ? f->buf : f->spare;
  const bool direct = base && offset >= f->offset && end <= f->end;
  struct scratch scratch;
  uint64_t from, to;
  uint8_t *bytes;
  int err;

  scratch.bytes = NULL;
  if (!direct && !piece_try_scratch (&scratch, f->e, end - offset)) {
    /* The request reads it alone, with nothing pinned. */
    end_run (f, m, n, NULL, EAGAIN);
    return 0;
  }
  bytes = direct ? base + (offset - f->offset) : scratch.bytes;
  err = submit_read (&f->e->submit, f->b, bytes, offset, end - offset);
  end_run (f, m, n, bytes, err);
  from = max_u64 (offset, f->offset);
  to = min_u64 (end, f->end);
  if (err == 0 && f->buf && !direct && from < to)
    memcpy (f->buf + (from - f->offset), bytes + (from - offset), to - from);
  piece_drop_scratch (&scratch);
  /* The error may lie outside of the range that the client asked for, so the
   * request then reads that range alone.
   */
  return direct ? err : 0;
}

/* How many misses from this one on can be read in one go. */
static unsigned
run_length (const struct fetch *f, const struct wanted *m, unsigned max)
{
  const struct pagecache *pc = &f->e->pc;
  struct part part, next;
  unsigned n;

  for (n = 1; n < max && m[n].fill == FILL_OURS; ++n) {
    part = ours_part (f, &m[n - 1]);
    next = ours_part (f, &m[n]);
    if (piece_part_offset (pc, &part) + part.len !=
        piece_part_offset (pc, &next))
      break;
  }
  return n;
}

/* Whether the client asked for any of a run. */
static bool
run_is_asked (const struct wanted *m, unsigned n)
{
  unsigned i;

  for (i = 0; i < n; ++i)
    if (m[i].asked_len > 0)
      return true;
  return false;
}

/* A run that a helper reads. */
struct run {
  struct task task;
  struct fetch *f;
  struct wanted *first;
  unsigned nr;
};

static void
fetch_run_helper (struct task *t)
{
  struct run *r = container_of (t, struct run, task);

  completion_end (&r->f->completion, read_run (r->f, r->first, r->nr));
}

/* The runs of one piece that helpers may read at once. */
#define MAX_HELPERS 8

/* Has a helper read a run; false: no thread is free for it. */
static bool
hand_over (struct fetch *f, struct run *r, struct wanted *m, unsigned n)
{
  if (!shares_allow_helpers (f->e))
    return false;
  *r =
      (struct run){ .task.run = fetch_run_helper, .f = f, .first = m, .nr = n };
  completion_begin (&f->completion);
  if (workers_try (f->e->number, &r->task, URGENCY_BESIDE))
    return true;
  completion_end (&f->completion, 0);
  return false;
}

/* Reads all runs of misses that are ours, several at once.  Where there is one
 * alone nothing is to be waited for.
 */
static int
read_runs (struct fetch *f)
{
  struct run helped[MAX_HELPERS];
  unsigned i, n, nr_helped = 0;
  bool several = false;
  int err = 0;

  for (i = 0; i < f->nr; i += n) {
    n = 1;
    if (f->misses[i].fill != FILL_OURS)
      continue;
    n = run_length (f, &f->misses[i], f->nr - i);
    if (!run_is_asked (&f->misses[i], n)) {
      end_run (f, &f->misses[i], n, NULL, EAGAIN);
      continue;
    }
    if (f->spread)
      spread_invite (f->spread);
    f->spread = NULL;
    if (i + n < f->nr && !several) {
      several = true;
      completion_init (&f->completion);
    }
    if (i + n < f->nr && nr_helped < MAX_HELPERS &&
        hand_over (f, &helped[nr_helped], &f->misses[i], n)) {
      nr_helped++;
      continue;
    }
    err = read_run (f, &f->misses[i], n);
    if (several)
      completion_fail (&f->completion, err);
  }
  if (several) {
    err = completion_wait (&f->completion);
    completion_destroy (&f->completion);
  }
  return err;
}

/* Copies what the client asked for of one miss, after all fills of ours have
 * ended; waits for those of others.
 */
static int
finish_miss (struct fetch *f, struct wanted *w)
{
  struct pagecache *pc = &f->e->pc;
  const struct part asked = wanted_asked (w);

  if (w->fill == FILL_JOIN)
    fill_wait (pc, w->page);
  if (page_read (pc, &asked, w->to))
    return 0;
  if (w->page) {
    page_unpin (pc, w->page); /* fetch_past may wait for memory */
    w->page = NULL;
  }
  return fetch_past (f->e, f->b, w->to, piece_part_offset (pc, &asked),
                     asked.len);
}

/* Whether the page at an offset is cached, as far as it is in the export. */
static bool
page_at_is_cached (const struct fetch *f, uint64_t offset)
{
  struct pagecache *pc = &f->e->pc;
  struct part part;

  return only_part (pc, offset, min_u64 (page_size (pc), pc->size - offset),
                    &part) &&
         page_is_uptodate (pc, &part);
}

/* The window ends at the first cached page before and after the request: beyond
 * it nothing would come in the same call, and no frame is taken for that.
 */
static void
trim_window (const struct fetch *f, uint64_t *from, uint64_t *to)
{
  const uint64_t page = page_size (&f->e->pc);
  uint64_t at;

  for (at = round_down (f->offset, page); at > *from; at -= page)
    if (page_at_is_cached (f, at - page))
      *from = at;
  for (at = round_up (f->end, page); at < *to; at += page)
    if (page_at_is_cached (f, at))
      *to = at;
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
    if (err == 0 && f->misses[i].to)
      err = finish_miss (f, &f->misses[i]);
    if (f->misses[i].page)
      page_unpin (&f->e->pc, f->misses[i].page);
  }
  return err;
}

/* No more than a piece, so that one miss does not push out a small cache. */
uint64_t
fetch_fill_size (const struct export *e)
{
  uint64_t fill = SETTING (fill);

  if (fill == 0)
    fill = clamp_u64 (e->preferred, min_u64 (page_size (&e->pc), 64 * KiB),
                      64 * KiB);
  fill = min_u64 (fill, piece_max (e));
  return max_u64 (UINT64_C (1) << log2_u64 (fill), block_size (&e->pc));
}

uint64_t
fetch_spare (const struct export *e, uint64_t offset, uint64_t len)
{
  const uint64_t block = block_size (&e->pc);

  const uint64_t max = memory_scratch_max (e->memory) / 2;

  return min_u64 (round_up (offset + len, block) - round_down (offset, block),
                  max_u64 (min_u64 (piece_max (e), max), block));
}

/* Reads a piece of which something is missing. */
int
fetch_piece (struct client *c, struct spread *spread, uint8_t *buf,
             uint64_t offset, uint64_t len)
{
  struct export *e = c->export;
  const uint64_t fill = fetch_fill_size (e);
  const uint64_t max = (uint64_t) PIECE_PAGES << e->pc.page_shift;
  uint64_t from = round_down (offset, fill);
  uint64_t to = min_u64 (round_up (offset + len, fill), e->pc.size);
  struct fetch f;

  PROBE3 (miss, export_number (&e->pc), offset, len);
  if (to - from > max) { /* as much as a piece may have */
    from = round_down (offset, block_size (&e->pc));
    to = piece_block_end (e, offset + len);
  }
  f.e = e;
  f.b = c->own;
  f.spread = spread;
  f.why = ADMIT_READ;
  f.buf = buf;
  f.spare = NULL;
  f.offset = offset;
  f.end = offset + len;
  trim_window (&f, &from, &to);
  return fetch_window (&f, from, to - from);
}

int
fetch_into (struct export *e, struct backend *b, uint8_t *spare, uint64_t room,
            uint64_t offset, uint64_t len, enum admission why)
{
  const uint64_t end = piece_block_end (e, offset + len);
  struct fetch f;
  uint64_t n;
  int err = 0;

  f.e = e;
  f.b = b;
  f.spread = NULL;
  f.why = why;
  f.buf = NULL;
  f.spare = spare;
  for (offset = round_down (offset, block_size (&e->pc));
       offset < end && err == 0; offset += n) {
    n = min_u64 (piece_len (e, offset, end - offset),
                 round_down (room, block_size (&e->pc)));
    f.offset = offset;
    f.end = offset + n;
    err = fetch_window (&f, offset, n);
  }
  return err;
}

int
fetch_range (struct export *e, struct backend *b, uint64_t offset, uint64_t len,
             enum admission why)
{
  const uint64_t block = block_size (&e->pc);
  struct scratch scratch;
  int err;

  /* Before a page is pinned. */
  piece_take_scratch (&scratch, e, fetch_spare (e, offset, len), block);
  err = fetch_into (e, b, scratch.bytes, scratch.len, offset, len, why);
  piece_drop_scratch (&scratch);
  return err;
}
