/* SPDX-License-Identifier: BSD-3-Clause */

/* Operations on ranges without pages.  See zeroes.c. */

#ifndef WTCACHE_ZEROES_H
#define WTCACHE_ZEROES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

/* How many zeroed ranges may wait for a flush at once; beyond that a zero is
 * made durable at once.
 */
#define ZEROES_MAX 128

/* One operation that has its range for itself; on its thread's stack. */
struct exclusive {
  uint64_t offset, end; /* bytes */
  uint64_t ticket;      /* smaller: it had its range earlier */
  bool has_slot;        /* counted in zeroes.reserved */
  struct exclusive *next;
};

struct zeroed {
  uint64_t offset, end;    /* bytes */
  uint64_t lost, lost_end; /* all that must be done again, as a flush failed
                              since, lies here; empty: nothing */
  uint16_t generation;     /* flushes begun when it ended */
};

struct zeroes {
  /* Operations in flight, ranges remembered.  Written under `lock`; a thread
   * that holds a page's lock reads them without it, see zeroes.c.
   */
  _Atomic unsigned nr_exclusive, nr_zeroed;

  struct lock lock; /* RANK_CLEARS */
  /* Guarded by lock. */
  struct exclusive *exclusive;
  uint64_t tickets;
  struct condition ended;
  uint32_t epoch;    /* the last failure that zeroes_lose noted */
  unsigned reserved; /* slots kept free for operations in flight */
  unsigned wanted;   /* operations that wait for a slot: no new range */
  struct zeroed zeroed[ZEROES_MAX]; /* disjoint, by offset */
};

/* For a thread that holds a page's lock: no operation has a range. */
static inline bool
exclusive_none (struct zeroes *z)
{
  return atomic_load_explicit (&z->nr_exclusive, memory_order_relaxed) == 0;
}

static inline bool
zeroes_none (struct zeroes *z)
{
  return atomic_load_explicit (&z->nr_zeroed, memory_order_relaxed) == 0;
}

extern void zeroes_init (struct zeroes *z);
extern void zeroes_destroy (struct zeroes *z);

/* Waits until no other operation has part of this range, then has it. */
extern void exclusive_begin (struct zeroes *z, struct exclusive *x,
                             uint64_t offset, uint64_t len);
/* The same without waiting; false: another operation has part of it. */
extern bool exclusive_try (struct zeroes *z, struct exclusive *x,
                           uint64_t offset, uint64_t len);
extern void exclusive_end (struct zeroes *z, struct exclusive *x);
/* Reserves the slot that zeroes_forget may need for the range of X, until X
 * ends.  Only a remembered range that crosses the beginning of X needs one.
 * False: all slots are in use or reserved.
 */
extern bool exclusive_reserve (struct zeroes *z, struct exclusive *x);
/* While an operation waits for a slot nothing more is remembered: so one flush
 * makes room, however many zeroes come.
 */
extern void zeroes_keep_room (struct zeroes *z, bool keep);
extern bool zeroes_is_room_wanted (struct zeroes *z);
/* Whether an operation has part of this range. */
extern bool exclusive_conflict (struct zeroes *z, uint64_t offset,
                                uint64_t len);
/* The first part of a range that operations have, from *OFFSET on: *OFFSET
 * moves to it.  Its length; 0: none.
 */
extern uint64_t exclusive_next (struct zeroes *z, uint64_t *offset,
                                uint64_t end);
/* Waits for the operations that have a part now.  The caller holds no lock. */
extern void exclusive_wait (struct zeroes *z, uint64_t offset, uint64_t len);

/* Remembers that the backend zeroed a range, after GENERATION flushes had
 * begun, in a call that began when the epoch was EPOCH: if a failure came
 * since, the range is lost at once.  False: too many are remembered already.
 */
extern bool zeroes_remember (struct zeroes *z, uint64_t offset, uint64_t len,
                             uint16_t generation, uint32_t epoch);
/* Remembers as lost a range that another cache has zeroed.  False: likewise. */
extern bool zeroes_adopt (struct zeroes *z, uint64_t offset, uint64_t len,
                          uint16_t generation);
/* How much of a range, from its beginning, is alike: all of it remembered
 * (*ZEROED true) or none of it.  At least 1 byte.
 */
extern uint64_t zeroes_prefix (struct zeroes *z, uint64_t offset, uint64_t len,
                               bool *zeroed);
/* Whether any of it is remembered. */
extern bool zeroes_any (struct zeroes *z, uint64_t offset, uint64_t len);
/* Flush number FLUSH succeeded: what ended before it began is forgotten. */
extern void zeroes_settle (struct zeroes *z, uint16_t flush);
/* A flush or FUA operation failed, which made the epoch EPOCH: all that is
 * remembered is lost.
 */
extern void zeroes_lose (struct zeroes *z, uint32_t epoch);
/* An operation over a range failed: what of it is remembered is lost.  True:
 * some of that was not lost before.
 */
extern bool zeroes_lose_range (struct zeroes *z, uint64_t offset, uint64_t len);
/* A range was trimmed, or written without staying cached: it is no longer
 * known to be zero.  The caller has it exclusively with exclusive_reserve, or
 * the range reaches past the end of all that is remembered.
 */
extern void zeroes_forget (struct zeroes *z, uint64_t offset, uint64_t len);
/* The first lost bytes from *OFFSET on, which moves to them, and perhaps others
 * of the same remembered range among them; false: none.
 */
extern bool zeroes_next_lost (struct zeroes *z, uint64_t *offset,
                              uint64_t *len);
/* Of what zeroes_next_lost has found, LEN bytes from its beginning on were
 * zeroed again, after GENERATION flushes had begun, in calls that began when
 * the epoch was EPOCH.  They stay lost if a failure came since.  The caller has
 * them exclusively.
 */
extern void zeroes_redone (struct zeroes *z, uint64_t offset, uint64_t len,
                           uint16_t generation, uint32_t epoch);
/* The bytes remembered. */
extern uint64_t zeroes_bytes (struct zeroes *z);

#endif /* WTCACHE_ZEROES_H */
