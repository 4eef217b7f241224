/* SPDX-License-Identifier: BSD-3-Clause */

/* Which page leaves the cache.
 *
 * Policy alone: it orders entries that the caller embeds in its page
 * descriptors, and may not know pages, frames, exports or locks.
 *
 * Locking: the caller holds one lock, its eviction lock, on every call except
 * evict_hit. evict_hit takes no lock.  Its accesses are relaxed and unpaired: a
 * stale value miscounts one use, which the policy tolerates.  For example, of
 * two hits at the same moment it may count one.
 */

#ifndef WTCACHE_EVICT_H
#define WTCACHE_EVICT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a page is admitted. */
enum admission {
  ADMIT_READ,  /* a client reads it */
  ADMIT_WRITE, /* a client writes it */
  ADMIT_AHEAD, /* readahead: no client has asked for it yet */
  ADMIT_WARM,  /* from the warm list; the heat is added, see evict_heat */
};

/* How hot a page is: 0 is one that no client has used again, 1 … 4 one of the
 * main queue, or that would go there, with 0 … 3 uses.
 */
#define EVICT_HEATS 5

/* The queue of an entry.  Zeroed memory is an entry in no queue. */
enum evict_queue {
  EVICT_NONE,
  EVICT_SMALL, /* new pages */
  EVICT_MAIN,  /* pages that were asked for again */
  EVICT_AHEAD, /* readahead */
  EVICT_HELD,  /* were to leave, and might not */
  EVICT_QUEUES
};

/* Embedded in the caller's descriptor, one for each frame; entry i lies at
 * first_entry + i * stride.  The caller sets key before evict_admit; all else
 * belongs to the policy, under the caller's eviction lock but for uses.
 */
struct evict_entry {
  /* Aligned for atomic operations on 32-bit targets too. */
  _Alignas(8) uint64_t key;
  uint32_t older, newer; /* neighbours in the queue */

  /* How many uses were counted, in the two lowest bits; whether the page is
   * watched, in the highest; and evict.now when the last one was, in the
   * others.  One word, so that a hit is one store.
   */
  _Atomic uint32_t uses;
  uint8_t queue; /* enum evict_queue */
  uint8_t trust; /* why the ghost was trusted with it, 0 if it was not */
};
_Static_assert(sizeof (struct evict_entry) <= 24, "an entry a frame");

#define EVICT_USES    3u /* the bits of the count, and the most it counts */
#define EVICT_WATCHED (UINT32_C (1) << 31)
#define EVICT_TIME    (EVICT_WATCHED - 1) /* evict.now has no other bits */

/* How new pages and pages that were used again share the cache.  See evict.c.
 */
enum evict_mode {
  EVICT_USUAL,
  EVICT_WIDEN, /* the main queue shrinks while none of its pages is used */
  EVICT_CLOCK, /* all pages enter the main queue */
};

/* The part of the policy that callers use without the eviction lock; the rest
 * is in evict.c.  All of it is relaxed, see above.
 */
struct evict {
  _Atomic uint32_t now;    /* grows by 4 with each page admitted; it wraps */
  _Atomic uint32_t window; /* uses so close together are one, in such units */
  _Atomic uint32_t share;  /* of the small queue, see evict_share */
  _Atomic uint64_t order;  /* the last of evict_order, 0 if there was none */
};

/* A policy for a cache of CAPACITY pages now and at most MAX ever.  Returns
 * NULL if there is no memory.
 */
struct evict *evict_new (size_t capacity, size_t max, void *first_entry,
                         size_t stride);
void evict_free (struct evict *ev);

/* The policy stands for one of so many TIMES its size, of whose accesses it
 * sees a sample: what it counts in pages, it counts in as many fewer.
 */
void evict_stand_for (struct evict *ev, size_t times);

/* The number of pages that may be cached has changed.  If it is fewer than are
 * cached, the caller continues to call evict_victim.
 */
void evict_resize (struct evict *ev, size_t capacity);

/* How many pages the small queue may have, of EVICT_WHOLE.  Takes no lock. */
#define EVICT_WHOLE (1u << 16)
static inline uint32_t
evict_share (const struct evict *ev)
{
  return atomic_load_explicit (&ev->share, memory_order_relaxed);
}

/* From the next victim on the policy is in this mode, and the small queue has
 * this share, as evict_share returns it.  Takes no lock; one caller at a time.
 */
void evict_order (struct evict *ev, enum evict_mode mode, uint32_t share);

/* The share of the small queue alone, at once. */
void evict_set_share (struct evict *ev, uint32_t share);

/* Whether the uses of an entry are to be reported, see evict_hit.  The entry
 * must not be in a queue.
 */
void evict_watch (struct evict_entry *entry, bool watched);

/* A page came into the cache.  It must not be in a queue. */
void evict_admit (struct evict *ev, struct evict_entry *entry,
                  enum admission why);

/* The heat of an entry; -1: no client has used the page.  A page that is
 * admitted with ADMIT_WARM and this heat is as hot.
 */
int evict_heat (const struct evict_entry *entry);

/* Pick the page that leaves, take it from its queue and remember its key.
 * May_go says whether a page may leave now: it may not call the policy.
 *
 * A call looks at no more than 1024 entries, and after the first 512 its
 * uses save no page, so that its time is bounded whatever the size and
 * state of the cache.  Entries that may not go are put behind the others, so
 * the next call looks at other ones.  NULL: none of those that it looked at
 * may go, and those are all if the cache holds 256 pages or fewer.
 */
struct evict_entry *evict_victim (struct evict *ev,
                                  bool (*may_go) (struct evict_entry *, void *),
                                  void *opaque);

/* A page leaves without being remembered: dropped or discarded.  Nothing
 * happens if it is in no queue.
 */
void evict_forget (struct evict *ev, struct evict_entry *entry);

/* Bytes of memory that the policy itself has allocated. */
size_t evict_memory (const struct evict *ev);

/* Entries that are in a queue now. */
size_t evict_count (const struct evict *ev);

/* Whether it was read ahead, and no client has asked for it since. */
static inline bool
evict_is_unused (const struct evict_entry *entry)
{
  return entry->queue == EVICT_AHEAD &&
         (atomic_load_explicit (&entry->uses, memory_order_relaxed) &
          EVICT_USES) == 0;
}

/* A page was used.  Uses that are close together count as one; then, and
 * for a page in steady use, nothing is stored.  True: nothing was done, as the
 * page is watched, and evict_hit_watched is to be called.
 *
 * That costs the others nothing: the bit makes a page seem neither in steady
 * use nor just used, so it is looked at on the rare way only.
 */
static inline bool
evict_hit (const struct evict *ev, struct evict_entry *entry)
{
  const uint32_t uses =
      atomic_load_explicit (&entry->uses, memory_order_relaxed);
  uint32_t now;

  if ((uses & (EVICT_WATCHED | EVICT_USES)) == EVICT_USES)
    return false;
  now = atomic_load_explicit (&ev->now, memory_order_relaxed);
  if (now - (uses & ~EVICT_USES) <
      atomic_load_explicit (&ev->window, memory_order_relaxed))
    return false;
  if (uses & EVICT_WATCHED)
    return true;
  atomic_store_explicit (&entry->uses, (now | (uses & EVICT_USES)) + 1,
                         memory_order_relaxed);
  return false;
}

void evict_hit_watched (const struct evict *ev, struct evict_entry *entry);

#endif /* WTCACHE_EVICT_H */
