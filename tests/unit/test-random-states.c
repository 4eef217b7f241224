/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the states of blocks at random, against a model that knows
 * nothing of pages.
 */

#include <config.h>

#include "cache.h"

#define MODEL_BLOCKS 64

/* A block, without pages. */
struct model_block {
  bool uptodate, dirty, writeback, unstable, pending;
  uint8_t value;
  uint32_t generation, epoch;
  bool doubt;
  uint32_t doubt_generation, doubt_epoch;
};

struct model {
  struct random random;
  struct cache *c;
  uint32_t block;
  struct model_block blocks[MODEL_BLOCKS];
};

static uint64_t
at (const struct model *m, unsigned b)
{
  return (uint64_t) b * m->block;
}

static void
model_write (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  cache_write (m->c, at (m, b), m->block, value);
  block->uptodate = block->dirty = true;
  block->value = value;
}

static void
model_fill (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  cache_fill (m->c, at (m, b), m->block, value);
  if (!block->uptodate)
    block->value = value;
  block->uptodate = true;
}

static void
model_through (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const uint8_t value = random_below (&m->random, 256);

  if (block->writeback) {
    must (cache_try_claim (m->c, at (m, b), m->block) == WRITE_BUSY);
    return;
  }
  must (cache_write_claimed (m->c, at (m, b), m->block, value) ==
        (block->dirty || block->unstable));
  block->pending = !block->dirty && !block->unstable;
  block->dirty = block->unstable = false;
  block->writeback = block->uptodate = true;
  block->value = value;
  block->epoch = held_epoch (&m->c->pc.held);
}

static void
model_gather (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  uint8_t *bytes = same_bytes (page_size (&m->c->pc), 0);
  const struct part part = part_of (m->c, at (m, b), 1);
  const uint32_t first = part.offset / m->block;
  bool busy = false;
  struct span s;

  s = page_gather (&m->c->pc, part.index, first, first + 1, 1,
                   held_begin_pass (&m->c->pc.held), false, bytes, &busy);
  must (s.count == (block->dirty && !block->writeback));
  must (busy == (block->dirty && block->writeback));
  if (s.count) {
    must (bytes[0] == block->value && bytes[m->block - 1] == block->value);
    block->dirty = block->unstable = false;
    block->writeback = true;
    block->epoch = held_epoch (&m->c->pc.held);
  }
  free (bytes);
}

static void
model_doubt (struct model *m, unsigned b)
{
  m->blocks[b].doubt = true;
  m->blocks[b].doubt_generation = held_flushes (&m->c->pc.held);
  m->blocks[b].doubt_epoch = held_epoch (&m->c->pc.held);
}

static void
model_end (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const enum outcome outcome = random_below (&m->random, 3);
  struct held *held = &m->c->pc.held;

  if (!block->writeback)
    return;
  pagecache_end_write (&m->c->pc, at (m, b), m->block, outcome, block->epoch);
  if (outcome == OUTCOME_FAILED)
    model_doubt (m, b);
  if (outcome == OUTCOME_FAILED && !block->pending)
    block->dirty = true;
  else if (outcome == OUTCOME_FAILED && !block->dirty)
    block->uptodate = false;
  else if (outcome == OUTCOME_UNSTABLE && block->epoch != held_epoch (held))
    block->dirty = true;
  else if (outcome == OUTCOME_UNSTABLE) {
    block->unstable = true;
    block->generation = held_flushes (held);
  }
  block->writeback = block->pending = false;
}

/* All blocks of a page wait for its latest one. */
static void
model_settle (struct model *m)
{
  const unsigned per_page = page_size (&m->c->pc) / m->block;
  const uint32_t flush = held_begin_flush (&m->c->pc.held);
  unsigned i, j;
  bool settles;

  if (random_chance (&m->random, 50))
    return;
  ledger_settle (&m->c->pc, flush);
  for (i = 0; i < MODEL_BLOCKS; i += per_page) {
    settles = true;
    for (j = i; j < i + per_page; ++j)
      settles = settles &&
                (!m->blocks[j].unstable || m->blocks[j].generation < flush);
    for (j = i; settles && j < i + per_page; ++j)
      m->blocks[j].unstable = false;
  }
  for (i = 0; i < MODEL_BLOCKS; ++i)
    if (m->blocks[i].doubt_generation < flush)
      m->blocks[i].doubt = false;
}

static bool
model_is_held (const struct model_block *block)
{
  return block->dirty || block->writeback || block->unstable;
}

static void
model_fail (struct model *m)
{
  const uint32_t epoch = held_epoch (&m->c->pc.held);
  struct model_block *block;

  ledger_fail (&m->c->pc, epoch);
  for (block = m->blocks; block < m->blocks + MODEL_BLOCKS; ++block) {
    block->dirty |= block->unstable;
    block->unstable = false;
    if (block->doubt)
      block->uptodate &= model_is_held (block);
    if (block->doubt_epoch < epoch)
      block->doubt = false;
  }
}

static void
model_clear (struct model *m, unsigned b)
{
  struct model_block *block = &m->blocks[b];
  const enum clear how = random_below (&m->random, 3);

  if (block->writeback)
    return;
  pagecache_clear (&m->c->pc, at (m, b), m->block, how);
  if (how != CLEAR_ZEROED)
    model_doubt (m, b);
  switch (how) {
  case CLEAR_ZEROED:
    block->value = 0;
    break;
  case CLEAR_UNKNOWN:
    block->uptodate = false;
    break;
  case CLEAR_FAILED:
    block->dirty |= block->unstable;
    block->uptodate = block->dirty;
    block->unstable = false;
    return;
  }
  block->dirty = block->unstable = false;
}

static void
model_drop (struct model *m)
{
  struct model_block *block;

  pagecache_drop (&m->c->pc);
  for (block = m->blocks; block < m->blocks + MODEL_BLOCKS; ++block)
    block->uptodate &= model_is_held (block);
}

static void
model_check (struct model *m)
{
  struct amounts sum = { 0 }, is = pagecache_amounts (&m->c->pc);
  struct model_block *block;
  unsigned b;

  for (b = 0; b < MODEL_BLOCKS; ++b) {
    block = &m->blocks[b];
    must (cache_value (m->c, at (m, b), m->block) ==
          (block->uptodate ? block->value : -1));
    must (block_is (m->c, at (m, b), DIRTY) == block->dirty);
    must (block_is (m->c, at (m, b), WRITEBACK) == block->writeback);
    must (block_is (m->c, at (m, b), UNSTABLE) == block->unstable);
    must (block_is (m->c, at (m, b), PENDING) == block->pending);
    sum.dirty += block->dirty;
    sum.writeback += block->writeback;
    sum.unstable += block->unstable;
    sum.held += model_is_held (block);
  }
  must (is.dirty == sum.dirty * m->block);
  must (is.writeback == sum.writeback * m->block);
  must (is.unstable == sum.unstable * m->block);
  must (is.held == sum.held * m->block);
}

static void
run_model (uint32_t page, uint32_t block, uint64_t seed)
{
  struct model m = { .block = block };
  unsigned i, b;

  random_seed (&m.random, seed);
  m.c = cache_new (CACHE_MEMORY, page, block, (uint64_t) MODEL_BLOCKS * block);
  for (i = 0; i < 3000; ++i) {
    b = random_below (&m.random, MODEL_BLOCKS);
    switch (random_below (&m.random, 20)) {
    case 0 ... 3:
      model_write (&m, b);
      break;
    case 4 ... 5:
      model_fill (&m, b);
      break;
    case 6 ... 8:
      model_through (&m, b);
      break;
    case 9 ... 11:
      model_gather (&m, b);
      break;
    case 12 ... 15:
      model_end (&m, b);
      break;
    case 16:
      model_settle (&m);
      break;
    case 17:
      model_clear (&m, b);
      break;
    case 18:
      if (random_chance (&m.random, 20))
        model_fail (&m);
      break;
    default:
      if (random_chance (&m.random, 20))
        model_drop (&m);
    }
    if (i % 50 == 0)
      model_check (&m);
  }
  model_check (&m);
  for (b = 0; b < MODEL_BLOCKS; ++b)
    if (m.blocks[b].writeback)
      cache_end_write (m.c, at (&m, b), block, OUTCOME_STABLE);
  cache_free (m.c);
}

static void
test_random_states (void **state)
{
  uint64_t seed;

  for (seed = 1; seed <= 20; ++seed) {
    run_model (4096, 512, seed);
    run_model (4096, 4096, seed);
    run_model (8192, 512, seed);
    run_model (65536, 4096, seed);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random_states),
  };

  return cmocka_run_group_tests_name ("random-states", tests, NULL, NULL);
}
