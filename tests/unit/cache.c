/* SPDX-License-Identifier: BSD-3-Clause */

/* Steps from one state of blocks to another.  See cache.h. */

#include <config.h>

#include "cache.h"

const struct geometry geometries[GEOMETRIES] = {
  { 4096, 512 },          { 4096, 4096 },       { 65536, 512 },
  { 65536, 65536 },       { 1024 * 1024, 512 }, { 1024 * 1024, 4096 },
  { 1024 * 1024, 65536 },
};

struct cache *
cache_small (void)
{
  return cache_new (4 * MiB, 4096, 512, 1 * MiB);
}

uint64_t
cache_block (const struct cache *c)
{
  return block_size (&c->pc);
}

struct page *
cache_pin (struct cache *c, uint64_t offset)
{
  struct page *p = page_pin (&c->pc, offset >> c->pc.page_shift, ADMIT_READ);

  must (p != NULL);
  return p;
}

uint8_t *
same_bytes (uint64_t len, int value)
{
  uint8_t *bytes = malloc (len);

  must (bytes != NULL);
  memset (bytes, value, len);
  return bytes;
}

void
cache_fill (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = cache_pin (c, offset);
  uint8_t *bytes = same_bytes (page_size (&c->pc), value);
  struct span ours;

  if (fill_begin (&c->pc, p, &part, &ours) == FILL_OURS)
    fill_end (&c->pc, p, ours, bytes, 0);
  page_unpin (&c->pc, p);
  free (bytes);
}

int
cache_try_write (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = cache_pin (c, offset);
  uint8_t *bytes = same_bytes (len, value);
  const int why = page_write (&c->pc, p, &part, bytes);

  page_unpin (&c->pc, p);
  free (bytes);
  return why;
}

void
cache_write (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  must (cache_try_write (c, offset, len, value) == 0);
}

int
cache_try_claim (struct cache *c, uint64_t offset, uint64_t len)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = cache_pin (c, offset);
  const int why = page_claim (&c->pc, p, &part);

  page_unpin (&c->pc, p);
  return why;
}

bool
cache_write_claimed (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  const struct part part = part_of (c, offset, len);
  struct page *p = cache_pin (c, offset);
  uint8_t *bytes = same_bytes (len, value);
  struct open_write open = { 0 };

  must (page_claim (&c->pc, p, &part) == 0);
  page_write_claimed (&c->pc, p, &part, bytes, &open);
  page_unpin (&c->pc, p);
  free (bytes);
  open_end (&c->pc, &open);
  return open.is_open;
}

void
cache_end_write (struct cache *c, uint64_t offset, uint64_t len,
                 enum outcome outcome)
{
  pagecache_end_write (&c->pc, offset, len, outcome, held_epoch (&c->pc.held));
}

void
cache_make_unstable (struct cache *c, uint64_t offset, uint64_t len, int value)
{
  cache_write_claimed (c, offset, len, value);
  cache_end_write (c, offset, len, OUTCOME_UNSTABLE);
}

struct span
cache_gather (struct cache *c, uint64_t offset, void *to, bool *busy)
{
  const struct part part = part_of (c, offset, 1);
  const uint32_t blocks = page_size (&c->pc) / block_size (&c->pc);

  *busy = false;
  return page_gather (&c->pc, part.index, part.offset >> c->pc.block_shift,
                      blocks, blocks, held_begin_pass (&c->pc.held), false, to,
                      busy);
}

int
cache_value (struct cache *c, uint64_t offset, uint64_t len)
{
  const struct part part = part_of (c, offset, len);
  uint8_t *bytes = same_bytes (len, 0);
  int value = -1;
  uint64_t i;

  if (page_read (&c->pc, &part, bytes)) {
    value = bytes[0];
    for (i = 1; i < len; ++i)
      must (bytes[i] == value);
  }
  free (bytes);
  return value;
}

void
cache_assert_amounts (struct cache *c, int64_t dirty, int64_t writeback,
                      int64_t unstable, int64_t held)
{
  const struct amounts a = pagecache_amounts (&c->pc);

  assert_int_equal (a.dirty, dirty);
  assert_int_equal (a.writeback, writeback);
  assert_int_equal (a.unstable, unstable);
  assert_int_equal (a.held, held);
}
