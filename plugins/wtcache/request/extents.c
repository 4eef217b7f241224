/* SPDX-License-Identifier: BSD-3-Clause */

/* Block status: the answer of the backend, except that held blocks are data.
 *
 * A block that the backend has not got yet, or may yet forget, is data
 * whatever the backend says of it.  Held blocks are found before the backend
 * is asked: one that ceases to be held meanwhile was data then, and one that
 * becomes held was written by a request that this one races with.
 *
 * A zero, a trim or a write past the cache that is under way may be done at the
 * backend, while reads still see what is cached: its range is data too.  That
 * is looked at after the backend was asked: one that has ended by then is seen
 * by all later reads, and one that begins later did not change the answer.
 *
 * For example, a client writes 4 KiB into a hole of 1 MiB.  Until the backend
 * has them, and a flush has covered them, these 4 KiB are reported as data, and
 * the rest as the backend says.
 */

#include <config.h>

#include <errno.h>

#include <nbdkit-filter.h>

#include "request/extents.h"
#include "submit.h"

/* The most runs of held blocks in one answer; it ends before the next. */
#define MAX_RUNS 256

struct run {
  uint64_t offset, end;
};

/* Finds held runs of a range; its end moves back if there are too many. */
static unsigned
find_held (struct pagecache *pc, uint64_t offset, uint64_t *end,
           struct run *runs)
{
  uint64_t index = offset >> pc->page_shift, at;
  struct part part;
  struct span s;
  unsigned n = 0;
  uint32_t b;

  for (; pagecache_next_held (pc, &index); ++index) {
    if (index << pc->page_shift >= *end)
      break;
    for (b = 0; (s = page_held_run (pc, index, b)).count > 0;
         b = s.first + s.count) {
      part = span_part (pc, index, s);
      at = (index << pc->page_shift) + part.offset;
      if (at >= *end || at + part.len <= offset)
        continue;
      if (n > 0 && runs[n - 1].end == at) {
        runs[n - 1].end += part.len;
        continue;
      }
      if (n == MAX_RUNS) {
        *end = at;
        return n;
      }
      runs[n++] = (struct run){ at, at + part.len };
    }
  }
  return n;
}

/* Ranges that operations have exclusively now; how many.  MAX_RUNS: there may
 * be more.
 */
static unsigned
find_exclusive (struct zeroes *z, uint64_t offset, uint64_t end,
                struct run *runs)
{
  uint64_t len;
  unsigned n;

  for (n = 0; n < MAX_RUNS && (len = exclusive_next (z, &offset, end)) > 0;
       ++n) {
    runs[n] = (struct run){ offset, offset + len };
    offset += len;
  }
  return n;
}

/* Whether a byte is in one of the runs, which are in order; *UPTO moves back to
 * where that changes.
 */
static bool
is_in_runs (const struct run *runs, unsigned n, uint64_t at, uint64_t *upto)
{
  unsigned i = 0;

  while (i < n && runs[i].end <= at)
    i++;
  if (i == n)
    return false;
  if (runs[i].offset > at) {
    *upto = min_u64 (*upto, runs[i].offset);
    return false;
  }
  *upto = min_u64 (*upto, runs[i].end);
  return true;
}

/* Runs that are data whatever the backend says. */
struct data {
  struct run held[MAX_RUNS], exclusive[MAX_RUNS];
  unsigned nr_held, nr_exclusive;
};

/* Adds one extent of the backend's answer, with the runs that are data. */
static int
add (struct nbdkit_extents *to, struct nbdkit_extent said, uint64_t offset,
     uint64_t end, const struct data *data)
{
  uint64_t from = max_u64 (said.offset, offset), upto;
  const uint64_t stop = min_u64 (said.offset + said.length, end);
  bool held, exclusive;

  for (; from < stop; from = upto) {
    upto = stop;
    held = is_in_runs (data->held, data->nr_held, from, &upto);
    exclusive = is_in_runs (data->exclusive, data->nr_exclusive, from, &upto);
    if (nbdkit_add_extent (to, from, upto - from,
                           held || exclusive ? 0 : said.type) == -1)
      return errno ? errno : ENOMEM;
  }
  return 0;
}

static void
free_extents (struct nbdkit_extents **e)
{
  if (*e)
    nbdkit_extents_free (*e);
}

/* Asks the layer below; the answer replaces *BELOW. */
static int
ask_below (struct backend *b, uint64_t from, uint64_t to, uint32_t flags,
           struct nbdkit_extents **below)
{
  free_extents (below);
  *below = nbdkit_extents_new (from, to);
  if (*below == NULL)
    return ENOMEM;
  return backend_extents (b, to - from, from, flags, *below);
}

/* Whether an answer from below says anything of the byte at OFFSET. */
static bool
reaches (const struct nbdkit_extents *below, uint64_t offset)
{
  const size_t n = nbdkit_extents_count (below);
  struct nbdkit_extent last;

  if (n == 0)
    return false;
  last = nbdkit_get_extent (below, n - 1);
  return last.offset + last.length > offset;
}

/* Asks below, from a multiple of BLOCK at or before OFFSET. */
static int
ask_from (struct backend *b, uint32_t block, uint64_t size, uint64_t offset,
          uint64_t end, uint32_t flags, struct nbdkit_extents **below)
{
  const uint64_t from = round_down (offset, block);
  uint64_t to = min_u64 (round_up (end, block), size);

  /* No more than one request can ask for. */
  to = min_u64 (to, from + round_down (UINT32_MAX, block));
  return ask_below (b, from, to, flags, below);
}

/* The layer below is asked in blocks of the cache, even where it takes any
 * request: many report no smaller unit, and report as data the part of a hole
 * that begins or ends inside one.  Its answer may end after any byte, also
 * before OFFSET, and one extent is all that NBDKIT_FLAG_REQ_ONE asks for: then
 * it is asked once more, in its own blocks and for more extents.  If that does
 * not reach OFFSET either, that block is reported as data, which is true of
 * everything.  For example, over blocks of 4096 bytes and a plugin of which
 * each answer has 1000, [1024, 4096) is data.
 */
int
extents_get (struct client *c, uint32_t len, uint64_t offset, uint32_t flags,
             struct nbdkit_extents *extents)
{
  struct pagecache *pc = &c->export->pc;
  const uint32_t block = backend_minimum (c->own);
  const uint32_t whole = max_u64 (block_size (pc), block);
  CLEANUP (free_extents) struct nbdkit_extents *below = NULL;
  uint64_t end = offset + len;
  struct data data;
  size_t i;
  int err;

  data.nr_held = find_held (pc, offset, &end, data.held);

  err = ask_from (c->own, whole, pc->size, offset, end, flags, &below);
  if (err == 0 && !reaches (below, offset))
    err = ask_from (c->own, block, pc->size, offset, end,
                    flags & ~NBDKIT_FLAG_REQ_ONE, &below);
  data.nr_exclusive = find_exclusive (&pc->zeroes, offset, end, data.exclusive);
  if (data.nr_exclusive == MAX_RUNS)
    end = data.exclusive[MAX_RUNS - 1].end;
  if (err == 0 && !reaches (below, offset))
    return add (extents,
                (struct nbdkit_extent){ round_down (offset, block), block, 0 },
                offset, end, &data);
  for (i = 0; err == 0 && i < nbdkit_extents_count (below); ++i)
    err = add (extents, nbdkit_get_extent (below, i), offset, end, &data);
  return err;
}
