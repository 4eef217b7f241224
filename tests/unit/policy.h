/* SPDX-License-Identifier: BSD-3-Clause */

/* The eviction policy over an array of entries, without bytes or locks. */

#ifndef POLICY_H
#define POLICY_H

#include "pagecache/evict.h"
#include "unit.h"

#define POLICY_KEYS 65536 /* keys are below this */

/* Has its entry in the middle, as a page has. */
struct frame {
  uint64_t before;
  struct evict_entry entry;
  bool stays; /* policy_may_go refuses it */
  bool asked; /* policy_may_go was asked for it */
};

struct policy {
  struct evict *ev;
  struct frame *frames;
  size_t max, capacity, used;
  struct frame *spare; /* the victim that takes the next key */
  struct frame *index[POLICY_KEYS];
  size_t questions; /* calls of policy_may_go */
  uint32_t random;
};

extern struct policy *policy_new (size_t capacity);
/* CAPACITY may grow to MAX. */
extern struct policy *policy_new_max (size_t capacity, size_t max);
extern void policy_free (struct policy *c);

/* A random number below BELOW. */
extern uint32_t policy_any (struct policy *c, uint32_t below);

/* Whether a frame may leave: OPAQUE is the policy. */
extern bool policy_may_go (struct evict_entry *entry, void *opaque);
/* Takes a victim out of the index; NULL: there is none. */
extern struct frame *policy_victim (struct policy *c);
/* Brings a key in, in a frame that is free or a victim's. */
extern struct frame *policy_admit (struct policy *c, uint64_t key,
                                   enum admission why);
/* Uses a key, and admits it if it is missing.  Returns whether it was there. */
extern bool policy_use (struct policy *c, uint64_t key, enum admission why);
/* How many keys of a range are cached. */
extern size_t policy_count (const struct policy *c, uint64_t first,
                            uint64_t end);

#endif /* POLICY_H */
