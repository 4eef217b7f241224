/* SPDX-License-Identifier: BSD-3-Clause */

/* Which write goes to the backend now, with which neighbours, by which way, and
 * when to look again.  See policy.c.
 */

#ifndef WTCACHE_POLICY_H
#define WTCACHE_POLICY_H

#include "submit/choice.h"
#include "submit/depth.h"

/* Whether a write carries the FUA flag. */
enum flagging { FLAG_NEVER, FLAG_ALWAYS, FLAG_BY_CHOICE };

/* One range to be written.  The caller sets what stands first. */
struct policy_write {
  uint64_t offset, len; /* bytes */
  uint64_t turn;        /* of policy_turn; 0: after all that came before it */
  unsigned kind;        /* only writes of one kind go as one batch */
  bool alone;           /* it goes as a batch of its own */
  bool durable;
  enum flagging flagging;

  uint64_t came; /* ns */
  uint64_t arrival;
  struct policy_write *prev, *next;      /* in the queue, by offset */
  struct policy_write *earlier, *later;  /* without a place, by arrival */
  struct policy_write *in_batch, *awake; /* the next of its batch; to wake */
  bool waits;                            /* in the queue */
  bool has_place;                        /* counted in policy.in_flight */
  bool is_awake;
};

/* Adjacent writes that go to the backend as one. */
struct policy_batch {
  struct policy_write *writes; /* linked by in_batch, by offset */
  unsigned nr;
  uint64_t offset, len;
  enum way way;
  bool flag; /* it carries FUA */

  struct policy_batch *prev, *next; /* of those with a place, by began */
  uint64_t began;                   /* ns */
  unsigned in_flight;               /* batches when it began, itself included */
  bool has_place;                   /* counted in policy.in_flight */
  bool written;                     /* policy_written was called */
  bool hung;                        /* it took far longer than usual */
};

/* How long batches take, with the flag or without. */
struct usual {
  double latency, len; /* moving means, ns and bytes; 0: not known */

  /* Generations of batches, each begun after the last had ended, of which none
   * took less than a batch that hangs.
   */
  unsigned slow;
  uint64_t generation; /* when the last ended, ns */
};

struct policy {
  bool merge; /* batches may have more than one write */
  struct depth depth;
  struct choice choice; /* for writes that can go both ways */
  struct usual usual[2];

  struct policy_write *first, *last;      /* the queue, by offset */
  struct policy_write *earliest, *latest; /* in it, without a place */
  struct policy_write *awake;
  unsigned waiting; /* writes in the queue */
  uint64_t arrivals;

  struct policy_batch *oldest, *newest; /* with a place */
  unsigned in_flight;                   /* places that are taken */
  uint64_t looks;     /* before then none in flight can hang, ns */
  unsigned durable;   /* writes that have not ended */
  unsigned unwritten; /* … of which the backend has not taken the bytes */

  /* So many writes are expected until then (ns): the clients whose writes
   * ended since the last batch was taken, and those that wait beside those.
   */
  unsigned company;
  uint64_t gathers_until;
  double mergeable; /* writes that could be one batch, a moving mean */
};

/* DEPTH batches in flight, or found by measuring if that is 0. */
extern void policy_init (struct policy *p, bool merge, unsigned depth);
extern void policy_set_depth (struct policy *p, unsigned depth, uint64_t now);

/* A turn for writes that come later, before all that come from now on. */
extern uint64_t policy_turn (struct policy *p);

/* A write comes.  True: it has a place, and goes now; else it waits. */
extern bool policy_arrive (struct policy *p, struct policy_write *w,
                           uint64_t now);

/* A write that has a place goes.  Whether others that wait lie beside it: */
extern bool policy_has_neighbours (const struct policy *p,
                                   const struct policy_write *w);
/* It becomes a batch, with its neighbours up to MAX bytes; 0: alone.  FLUSH:
 * durable without the flag, if it can be.
 */
extern void policy_take (struct policy *p, struct policy_batch *b,
                         struct policy_write *w, uint64_t max, bool flush,
                         uint64_t now);

/* The backend has taken the bytes, or failed.  LATENCY: of the call, ns; 0: it
 * failed.  RELEASE: a flush follows, and others may write meanwhile.
 */
extern void policy_written (struct policy *p, struct policy_batch *b,
                            uint64_t latency, bool release, uint64_t now);
/* All that was asked of the batch has ended; policy_written has been called. */
extern void policy_end (struct policy *p, struct policy_batch *b, uint64_t now);

/* Time has passed. */
extern void policy_look (struct policy *p, uint64_t now);
/* When a write that waits calls policy_look next, unless it is woken, ns. */
extern uint64_t policy_looks_again (const struct policy *p, uint64_t now);

/* After each event until NULL: a write that got a place, or has to ask anew
 * when it looks again.
 */
extern struct policy_write *policy_wake (struct policy *p);

/* The age from which on a call is taken to hang by those that would wait for
 * its result, ns.
 */
extern uint64_t policy_hang_age (const struct policy *p);

#endif /* WTCACHE_POLICY_H */
