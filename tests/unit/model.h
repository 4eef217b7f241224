/* SPDX-License-Identifier: BSD-3-Clause */

/* A model of a disk under a tier: it loses, tears and reorders what was not
 * synced when the power fails.  See model.c.
 */

#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tier.h"
#include "unit.h"

#define MODEL_SECTOR     512 /* bytes that are written whole or not at all */
#define MODEL_MAX_WRITES 64

struct model {
  struct medium medium;
  uint8_t *now;     /* what is read */
  uint8_t *durable; /* what was synced */
  struct {
    uint8_t *bytes;
    size_t len;
    uint64_t offset;
  } writes[MODEL_MAX_WRITES]; /* since the last sync */
  unsigned nr_writes;
  unsigned long acts; /* writes and syncs so far */
  unsigned long stop; /* from this act on all fail; 0: none does */
};

extern void model_init (struct model *m, uint64_t size);
extern void model_free (struct model *m);
/* The power fails and comes back: of each sector that was written since the
 * last sync there is what was durable, or what any of these writes put there.
 * KEEP is how many percent of the sectors change.
 */
extern void model_crash (struct model *m, struct random *r, unsigned keep);

/* A tier of 4 segments of 1 MiB, with places for 4 exports, and 3 groups of
 * intents.
 */
extern void model_geometry (struct geometry *g);
/* Whether two states say the same; the order of intents does not matter. */
extern bool model_same_state (const struct tier_state *a,
                              const struct tier_state *b);
/* A copy, without what state_write sets. */
extern void model_copy_state (struct tier_state *to,
                              const struct tier_state *from);
/* Changes exports, live slots and numbers by chance, and drops all intents. */
extern void model_change_state (struct tier_state *state, struct random *r);
extern void model_add_export (struct tier_state *state, const char *name,
                              uint64_t size);

#endif /* MODEL_H */
