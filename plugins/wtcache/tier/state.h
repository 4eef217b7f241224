/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of a tier: exports, intents, live slots.  See state.c. */

#ifndef WTCACHE_TIER_STATE_H
#define WTCACHE_TIER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tier/medium.h"
#include "tier/superblock.h"

/* Bytes of a name and an identity together. */
#define TIER_EXPORT_TEXT 4024

enum tier_identity {
  TIER_IDENTITY_NONE,
  TIER_IDENTITY_TEXT, /* the user's own */
  TIER_IDENTITY_STAT, /* of a local file or device */
  NR_TIER_IDENTITIES
};

struct tier_export {
  uint32_t id; /* at least 1; never used again */
  bool tls;
  uint64_t size;  /* bytes */
  uint64_t since; /* segments of a smaller sequence do not count */
  enum tier_identity kind;
  char *name, *identity; /* from malloc; the identity "" where there is none */
};

/* All of the export. */
#define TIER_REGION_ALL UINT64_MAX

struct tier_intent {
  uint32_t export; /* its id */
  uint64_t region;
};

struct tier_state {
  uint64_t settled; /* LIVE decides for segments of a smaller sequence */
  uint32_t starts;  /* how often a server has opened it */
  uint32_t next_export;
  uint64_t time; /* seconds since 1970 */

  struct tier_export *exports;
  uint32_t nr_exports;

  /* In the order in which they were written; those from TAIL on are in the last
   * group, which has been written NUMBER times.
   */
  struct tier_intent *intents;
  size_t nr_intents, tail;
  uint32_t group;
  uint64_t number;

  uint8_t *live; /* a bit for each slot of the tier */
  size_t live_bytes;
};

/* A state with nothing in it; 0, or -1: ENOMEM. */
extern int state_init (struct tier_state *state, const struct geometry *g);
/* Also one that is all zeroes. */
extern void state_free (struct tier_state *state);

/* All that return int: 0, or -1 with errno. */

/* Writes the state of the superblock's generation, and does not sync.  The
 * intents are put into groups anew.
 */
extern int state_write (struct tier_state *state, const struct superblock *s,
                        struct medium *m);
/* Adds intents to the generation on the medium, and does not sync.  ENOSPC: the
 * groups are full, and nothing was written.
 */
extern int state_add_intents (struct tier_state *state,
                              const struct superblock *s, struct medium *m,
                              const struct tier_intent *intents, size_t nr);

/* Reads the state of the superblock's generation.  If it is not good, WHY says
 * what is wrong, in at most SIZE bytes, and *STATE is all zeroes.
 */
extern enum tier_fault state_read (struct tier_state *state,
                                   const struct superblock *s, struct medium *m,
                                   char *why, size_t size);

/* The export of that id, or NULL. */
extern const struct tier_export *state_export (const struct tier_state *state,
                                               uint32_t id);
/* Whether an intent names a region, or all, of that export. */
extern bool state_has_intent (const struct tier_state *state, uint32_t id,
                              uint64_t region);

#endif /* WTCACHE_TIER_STATE_H */
