/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of states: all that can happen to a block, and what it becomes.
 *
 * A block's state is a set of six bits (enum block_state).  Each event is one
 * row: the bits that the block must have, those that it must not have, those
 * that it gets and those that it loses.  For example, a block that is
 * uptodate and dirty is gathered by write-back: it loses dirty and is in
 * writeback.  If the backend takes it, it is unstable; if not, it is dirty
 * again.
 *
 *                written                gathered
 *     uptodate ──────────> dirty ─────────────────> writeback
 *         ^                  ^                       │     │
 *         │                  ├───────────────────────┘     │
 *         │                  │  failed, ended undone       │ ended unstable
 *         │                  │                             v
 *         │                  └───────────────────────── unstable
 *         │                        flush failed            │
 *         └────────────────────────────────────────────────┘
 *                               settled
 *
 * docs/design.md has the whole picture, made from this table by
 * docs/states.py.
 */

#ifndef WTCACHE_STATES_H
#define WTCACHE_STATES_H

#include "pagecache/types.h"

enum block_event {
  EVENT_FILL_BEGINS, /* a read of the missing block is about to begin */
  EVENT_FILL_ENDS,   /* it ended, and nothing touched the block meanwhile */
  EVENT_OVERTAKEN, /* the bytes of a fill are useless: it failed, or is older */
  EVENT_FOUND_ZERO, /* missing, but known to be zero without the backend */
  EVENT_WRITTEN,    /* by an ordinary write */
  EVENT_GATHERED,   /* by write-back: its bytes are in a batch */
  EVENT_CLAIMED,    /* by a writethrough, which will copy its bytes in */
  EVENT_UNCLAIMED,  /* … and did not */
  EVENT_COPIED_OVER_ACKNOWLEDGED, /* … and did; a client had been promised */
  EVENT_COPIED_OVER_OTHERS,       /* … the bytes before; or had not been */
  EVENT_ENDED_STABLE,             /* its write ended well, and is durable */
  EVENT_ENDED_UNSTABLE,           /* …, and a flush has to make it durable */
  EVENT_ENDED_UNDONE,             /* …, but a flush failed since it began */
  EVENT_FAILED,                   /* its write failed */
  EVENT_FAILED_PENDING,   /* … and held nothing that was acknowledged */
  EVENT_FAILED_REWRITTEN, /* …, but an ordinary write came meanwhile */
  EVENT_SETTLED,          /* a flush that began after its write succeeded */
  EVENT_FLUSH_FAILED,     /* the backend may have dropped it */
  EVENT_ZEROED,           /* by a zero that succeeded */
  EVENT_FORGOTTEN, /* the backend has other bytes: trimmed, written past */
  EVENT_DROPPED,   /* it is clean, and leaves the cache */
  BLOCK_EVENTS
};

#define STATE_BIT(state) (1u << (state))

/* Sets of states, bits by STATE_BIT. */
struct transition {
  uint8_t needs, forbids, sets, clears;
};

/* A column a state: U uptodate, D dirty, W writeback, S unstable, P pending,
 * F filling.
 */
#define U STATE_BIT (UPTODATE)
#define D STATE_BIT (DIRTY)
#define W STATE_BIT (WRITEBACK)
#define S STATE_BIT (UNSTABLE)
#define P STATE_BIT (PENDING)
#define F STATE_BIT (FILLING)

/* clang-format off */
static const struct transition transitions[BLOCK_EVENTS] = {
  /*                                  needs        forbids    sets   clears */
  [EVENT_FILL_BEGINS]              = { 0,           U | F,     F,     0 },
  [EVENT_FILL_ENDS]                = { F,           U | D | S, U,     F },
  [EVENT_OVERTAKEN]                = { 0,           0,         0,     F },
  [EVENT_FOUND_ZERO]               = { 0,           U,         U,     F },
  [EVENT_WRITTEN]                  = { 0,           0,         U | D, F },
  [EVENT_GATHERED]                 = { U | D,       W | P | F, W,     D | S },
  [EVENT_CLAIMED]                  = { 0,           W | P,     W,     0 },
  [EVENT_UNCLAIMED]                = { W,           P,         0,     W },
  [EVENT_COPIED_OVER_ACKNOWLEDGED] = { W,           P,         U,     D | S | F },
  [EVENT_COPIED_OVER_OTHERS]       = { W,           D | S | P, U | P, F },
  [EVENT_ENDED_STABLE]             = { U | W,       S,         0,     W | P },
  [EVENT_ENDED_UNSTABLE]           = { U | W,       S,         S,     W | P },
  [EVENT_ENDED_UNDONE]             = { U | W,       S,         D,     W | P },
  [EVENT_FAILED]                   = { U | W,       P | S,     D,     W },
  [EVENT_FAILED_PENDING]           = { U | W | P,   D | S,     0,     U | W | P },
  [EVENT_FAILED_REWRITTEN]         = { U | W | P | D, S,         0,     W | P },
  [EVENT_SETTLED]                  = { S,           0,         0,     S },
  [EVENT_FLUSH_FAILED]             = { S,           0,         D,     S },
  [EVENT_ZEROED]                   = { 0,           W | P,     0,     D | S | F },
  [EVENT_FORGOTTEN]                = { 0,           W | P,     0,     U | D | S | F },
  [EVENT_DROPPED]                  = { 0,           D | W | S, 0,     U | F },
};
/* clang-format on */

#undef U
#undef D
#undef W
#undef S
#undef P
#undef F

/* The states of which blocks are counted, and keep their page. */
#define STATES_HELD                                                            \
  (STATE_BIT (DIRTY) | STATE_BIT (WRITEBACK) | STATE_BIT (UNSTABLE))

/* The sum of the changes of one page: by how many blocks each state grew or
 * shrank.
 */
struct change {
  int32_t dirty, writeback, unstable, held;
  bool unmade; /* a block ceased to be on its way to durable */
};

/* One map's byte; the maps of a page lie STRIDE bytes apart.  So that a change
 * of a map does not make the compiler read again where they are.
 */
struct map_byte {
  uint8_t *first;
  uint32_t stride;
};

static inline struct map_byte
map_byte (const struct pagecache *pc, struct page *p, uint32_t i)
{
  return (struct map_byte){ p->states + i, pc->pool->map_bytes };
}

static inline uint8_t *
map_of (struct map_byte m, enum block_state state)
{
  return m.first + state * m.stride;
}

/* The blocks of a byte of the maps in each counted state, and in any: four
 * bitmaps in four bytes.
 */
static inline uint32_t
states_held (struct map_byte m, uint8_t blocks)
{
  const uint32_t dirty = *map_of (m, DIRTY) & blocks;
  const uint32_t writeback = *map_of (m, WRITEBACK) & blocks;
  const uint32_t unstable = *map_of (m, UNSTABLE) & blocks;

  return dirty | writeback << 8 | unstable << 16 |
         (dirty | writeback | unstable) << 24;
}

/* How many bits are set in each byte (Warren, "Hacker's Delight", 5-1). */
static inline uint32_t
count_bits (uint32_t n)
{
  n -= n >> 1 & 0x55555555;
  n = (n & 0x33333333) + (n >> 2 & 0x33333333);
  return (n + (n >> 4)) & 0x0f0f0f0f;
}

/* Blocks of a byte are about to become dirty: notes in which pass those do that
 * are not dirty yet.
 */
static inline void
states_note_dirtied (struct pagecache *pc, struct page *p, struct map_byte m,
                     uint8_t blocks)
{
  const uint8_t newly = blocks & ~*map_of (m, DIRTY);
  const uint32_t pass = held_pass (&pc->held);

  if (newly == 0)
    return;
  if (p->dirtied != pass)
    memset (page_map (pc, p, BLOCK_FRESH), 0, m.stride);
  p->dirtied = pass;
  *map_of (m, BLOCK_FRESH) |= newly;
}

/* Whether an event takes acknowledged bytes off their way to durable: the write
 * of them, or the flush after it, has come to nothing.
 */
static inline bool
states_unmakes (struct transition t)
{
  return (t.sets & STATE_BIT (DIRTY)) &&
         (t.clears & (STATE_BIT (WRITEBACK) | STATE_BIT (UNSTABLE)));
}

/* Applies a transition to one map. */
static inline __attribute__ ((always_inline)) void
states_apply_bit (struct map_byte m, uint8_t blocks, struct transition t,
                  enum block_state state)
{
  uint8_t *map = map_of (m, state);

  assert (!(t.needs & STATE_BIT (state)) || (~*map & blocks) == 0);
  assert (!(t.forbids & STATE_BIT (state)) || (*map & blocks) == 0);
  if (t.sets & STATE_BIT (state))
    *map |= blocks;
  if (t.clears & STATE_BIT (state))
    *map &= ~blocks;
}

/* By how many blocks one of these states grew, if the event sets one, or
 * shrank.
 */
static inline int32_t
states_growth (struct transition t, uint32_t states, uint32_t blocks)
{
  return t.sets & states ? (int32_t) blocks : -(int32_t) blocks;
}

/* Adds the blocks of a byte that came into a state, or left it, as states_held
 * has them.  One event does either of both for each state.  It does so for all
 * held states together, too: after one that sets such a state each block is
 * held, and after one that only clears them no block is that was not.
 */
static inline __attribute__ ((always_inline)) void
states_add (struct change *c, struct transition t, uint32_t changed)
{
  const uint32_t touched = t.sets | t.clears;
  const uint32_t n = count_bits (changed);

  if (touched & STATE_BIT (DIRTY))
    c->dirty += states_growth (t, STATE_BIT (DIRTY), n & 0xff);
  if (touched & STATE_BIT (WRITEBACK))
    c->writeback += states_growth (t, STATE_BIT (WRITEBACK), n >> 8 & 0xff);
  if (touched & STATE_BIT (UNSTABLE))
    c->unstable += states_growth (t, STATE_BIT (UNSTABLE), n >> 16 & 0xff);
  c->held += states_growth (t, STATES_HELD, n >> 24);
}

/* One event for some blocks of byte I of a locked page's maps, as a part of a
 * change that begins as { 0 } and that states_end ends.
 */
static inline __attribute__ ((always_inline)) void
states_apply (struct pagecache *pc, struct page *p, struct change *c,
              uint32_t i, uint8_t blocks, enum block_event event)
{
  const struct transition t = transitions[event];
  const bool counted = ((t.sets | t.clears) & STATES_HELD) != 0;
  const struct map_byte m = map_byte (pc, p, i);
  const uint32_t before = counted ? states_held (m, blocks) : 0;
  uint32_t changed;

  if (t.sets & STATE_BIT (DIRTY))
    states_note_dirtied (pc, p, m, blocks);
  if (states_unmakes (t) && blocks != 0)
    c->unmade = true;
  states_apply_bit (m, blocks, t, UPTODATE);
  states_apply_bit (m, blocks, t, DIRTY);
  states_apply_bit (m, blocks, t, WRITEBACK);
  states_apply_bit (m, blocks, t, UNSTABLE);
  states_apply_bit (m, blocks, t, PENDING);
  states_apply_bit (m, blocks, t, FILLING);
  if (counted && (changed = states_held (m, blocks) ^ before) != 0)
    states_add (c, t, changed);
}

/* The same for all blocks of a span. */
static inline __attribute__ ((always_inline)) void
states_apply_span (struct pagecache *pc, struct page *p, struct change *c,
                   struct span s, enum block_event event)
{
  FOR_EACH_BYTE (i, blocks, s)
    states_apply (pc, p, c, i, blocks, event);
}

/* A change of a locked page is complete: counts it, and lists the page where
 * its states want it.
 */
extern void states_end (struct pagecache *pc, struct page *p,
                        const struct change *c);

/* One event for all blocks of a span of a locked page. */
static inline __attribute__ ((always_inline)) void
states_change (struct pagecache *pc, struct page *p, struct span s,
               enum block_event event)
{
  struct change c = { 0 };

  states_apply_span (pc, p, &c, s, event);
  if ((transitions[event].sets | transitions[event].clears) & STATES_HELD)
    states_end (pc, p, &c);
}

/* Blocks of a span in byte I of the maps that are held in no way. */
static inline uint8_t
states_clean_blocks (const struct pagecache *pc, struct page *p, uint32_t i,
                     uint8_t mask)
{
  return mask & ~(page_map (pc, p, DIRTY)[i] | page_map (pc, p, WRITEBACK)[i] |
                  page_map (pc, p, UNSTABLE)[i]);
}

/* In mode writearound a block leaves once it is stable. */
static inline void
states_leave_if_around (struct pagecache *pc, struct page *p, struct span s,
                        struct change *c)
{
  if (!atomic_load_explicit (&pc->around, memory_order_relaxed))
    return;
  FOR_EACH_BYTE (i, mask, s)
    states_apply (pc, p, c, i, states_clean_blocks (pc, p, i, mask),
                  EVENT_DROPPED);
}

/* The blocks of a span of a locked page that are in each state, in bytes. */
extern struct amounts states_amounts (const struct pagecache *pc,
                                      struct page *p, struct span s);

#endif /* WTCACHE_STATES_H */
