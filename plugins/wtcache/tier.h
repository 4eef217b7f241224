/* SPDX-License-Identifier: BSD-3-Clause */

/* The tier: pages on a local disk.  See tier.c. */

#ifndef WTCACHE_TIER_H
#define WTCACHE_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tier/device.h"
#include "tier/segment.h"
#include "tier/state.h"
#include "tier/superblock.h"

/* A copy of the superblock, as it was found. */
struct tier_copy {
  enum tier_fault fault;
  bool current; /* it is of the generation that counts */
};

/* A tier that is open.  One thread at a time calls what is below. */
struct tier {
  struct medium *m;
  struct superblock super;
  struct tier_copy copies[SUPERBLOCK_COPIES];
  struct tier_state state; /* to be changed, and then written */
  bool failed; /* a write or a sync failed: nothing more is written */
};

/* All that return int: 0, or -1 with errno. */

/* Makes an empty tier.  Neither the bytes of pages nor an older tier can be
 * read afterwards, whatever happens.
 */
extern int tier_format (struct medium *m, const struct geometry *g,
                        const uint8_t *uuid);

/* Reads the superblocks and the state, and writes nothing.  If there is no
 * usable tier, WHY says why not, in at most SIZE bytes, and T needs no
 * tier_close; of TIER_OTHER the version is in T->super.
 */
extern enum tier_fault tier_open (struct tier *t, struct medium *m, char *why,
                                  size_t size);
/* Writes nothing.  The medium stays open. */
extern void tier_close (struct tier *t);

/* Makes T->state the next generation.  CLEAN: this is the last one, the tier is
 * about to be closed.  If it fails or is interrupted, the tier has the last
 * generation or this one.
 */
extern int tier_checkpoint (struct tier *t, bool clean);
/* Makes intents durable in the current generation.  ENOSPC: there is no room
 * for them, and a checkpoint makes some.
 */
extern int tier_add_intents (struct tier *t, const struct tier_intent *intents,
                             size_t nr);

/* Whether a slot that a summary names may be read, and not yet whether its
 * checksum is right.
 */
extern bool tier_slot_counts (const struct tier *t,
                              const struct tier_summary *summary,
                              uint32_t slot);

#endif /* WTCACHE_TIER_H */
