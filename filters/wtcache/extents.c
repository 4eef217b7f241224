/* SPDX-License-Identifier: BSD-3-Clause */

/* Block status: what the backend says, but held blocks are data.
 *
 * A block that the backend has not got yet, or may yet forget, is data
 * whatever the backend says of it.  Held blocks are found before the backend
 * is asked: one that ceases to be held meanwhile was data then, and one that
 * becomes held was written by a request that this one races with.
 */

#include <config.h>

#include <errno.h>

#include "backend-nbdkit.h"
#include "extents.h"

/* Runs of held blocks that one answer tells of; it ends before the next. */
#define MOST_RUNS 256

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
      if (n == MOST_RUNS) {
        *end = at;
        return n;
      }
      runs[n++] = (struct run){ at, at + part.len };
    }
  }
  return n;
}

/* Adds what the backend said of a range, with the held runs as data. */
static int
add (struct nbdkit_extents *to, struct nbdkit_extent said, uint64_t offset,
     uint64_t end, const struct run *runs, unsigned n)
{
  uint64_t from = max_u64 (said.offset, offset), upto, stop;
  unsigned i = 0;
  bool held;

  stop = min_u64 (said.offset + said.length, end);
  while (from < stop) {
    while (i < n && runs[i].end <= from)
      i++;
    held = i < n && runs[i].offset <= from;
    upto = i == n ? stop : min_u64 (stop, held ? runs[i].end : runs[i].offset);
    if (nbdkit_add_extent (to, from, upto - from, held ? 0 : said.type) == -1)
      return errno ? errno : ENOMEM;
    from = upto;
  }
  return 0;
}

static void
free_extents (struct nbdkit_extents **e)
{
  if (*e)
    nbdkit_extents_free (*e);
}

int
extents_get (struct client *c, uint32_t len, uint64_t offset, uint32_t flags,
             struct nbdkit_extents *extents)
{
  struct pagecache *pc = &c->export->pc;
  const uint64_t block = block_size (pc);
  CLEANUP (free_extents) struct nbdkit_extents *below = NULL;
  uint64_t end = offset + len, from, to;
  struct run runs[MOST_RUNS];
  unsigned n;
  size_t i;
  int err;

  n = find_held (pc, offset, &end, runs);

  /* Whole blocks, no more than one request can ask for. */
  from = round_down (offset, block);
  to = min_u64 (round_up (end, block), pc->size);
  to = min_u64 (to, from + round_down (UINT32_MAX, block));
  end = min_u64 (end, to);
  below = nbdkit_extents_new (from, to);
  if (below == NULL)
    return ENOMEM;
  err = backend_extents (c->own, to - from, from, flags, below);
  for (i = 0; err == 0 && i < nbdkit_extents_count (below); ++i)
    err = add (extents, nbdkit_get_extent (below, i), offset, end, runs, n);
  return err;
}
