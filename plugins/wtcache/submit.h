/* SPDX-License-Identifier: BSD-3-Clause */

/* To the backend: batches (submit.c), what makes them durable (durable.c), and
 * operations that have their range exclusively (clear.c).
 */

#ifndef WTCACHE_SUBMIT_H
#define WTCACHE_SUBMIT_H

#include "base/histogram.h"
#include "pagecache.h"
#include "submit/backend.h"
#include "submit/choice.h"
#include "submit/completion.h"
#include "submit/depth.h"
#include "submit/meter.h"

/* Something that is under way, in order of its beginning. */
struct open_op {
  struct open_op *prev, *next; /* guarded by submit.lock */
  uint64_t ticket;
  bool fua;       /* a call to the backend that has to make durable */
  uint64_t began; /* of such a call, ns */
  bool hung;      /* of such a call: flushes no longer wait for it */

  /* It took marks from blocks that held acknowledged bytes: a flush waits for
   * it.  Release in pagecache.c pairs with acquire in submit.c.
   */
  _Atomic bool acknowledged;
};

/* One range of whole blocks to be written; on its request's stack. */
struct write {
  uint64_t offset;
  uint32_t len;         /* bytes */
  const uint8_t *bytes; /* do not change until it has ended */
  bool durable;
  uint64_t turn; /* from submit_turn; 0: after all that came before it */
  struct completion *completion;
  const struct backend *backend; /* of the thread that brought it */

  /* Guarded by submit.lock. */
  struct write *prev, *next; /* what waits, by offset */
  struct write *in_batch;    /* the next of the same batch */
  uint64_t arrival;
  uint64_t came; /* ns */
  bool waits;    /* in the queue */
  bool ended;
  bool has_place; /* counted in submit.in_flight */
  struct event wake;
};

/* Who waits for a flush that begins after him. */
struct flush_waiter {
  struct flush_waiter *next;
  bool ended;
  bool kept; /* it succeeded, and what it covered stays unstable */
  int error;
};

struct submit {
  /* Constant. */
  struct pagecache *pc;
  struct memory *memory;
  bool merge; /* batches may carry blocks of several requests */
  /* Flushes what all connections wrote; OWN may be one that cannot flush. */
  int (*flush) (void *opaque, struct backend *own);
  void *opaque;

  struct lock lock; /* RANK_SUBMIT */
  /* Guarded by lock. */
  struct write *first, *last; /* what waits, by offset */
  unsigned waiting;           /* writes in that queue */
  unsigned in_flight;
  struct batch *oldest_batch, *newest_batch; /* their write is under way */
  /* Writes that ended since a batch was taken last, and those that are to go
   * with them: so many may wait soon, until then (ns).
   */
  unsigned company;
  uint64_t gathers_until;
  double mergeable; /* writes that could be one batch, a moving mean */
  uint64_t arrivals;
  struct depth depth;
  struct choice choice; /* of who can do both ways */
  unsigned unwritten;   /* durable writes whose write has not ended */
  unsigned durable;     /* … that have not ended */
  struct condition written;
  uint64_t flush_latency; /* ns, a moving mean */
  uint64_t latency;       /* ns, of batches, a moving mean */
  uint64_t last_ended;    /* ns; when a batch ended last */
  struct open_op *oldest, *newest;
  uint64_t tickets;
  unsigned closing_waiters;
  struct condition closed;
  struct flush_waiter *waiters; /* for the next flush */
  uint64_t nr_flushes;          /* that have ended */
  bool flushing;
  struct condition flushed;

  /* Bytes a second, a moving mean; 0: not known.  Relaxed: written under the
   * lock, read without.
   */
  _Atomic uint64_t write_speed;

  /* Bytes that stayed unstable though a flush has covered them, because a FUA
   * operation beside it hangs: no further flush helps.  Relaxed: an estimate.
   */
  _Atomic int64_t kept;

  /* Statistics: relaxed, exact enough. */
  struct meter meter;
  struct histogram batch_writes; /* how many in a batch */
  _Atomic uint64_t flushes_asked, flushes_done;
};

extern void submit_init (struct submit *s, struct pagecache *pc,
                         struct memory *memory, bool merge, unsigned depth);
extern void submit_destroy (struct submit *s);
/* DEPTH batches in flight from now on, or found by measuring if that is 0. */
extern void submit_set_depth (struct submit *s, unsigned depth);

/* Reads whole blocks, in calls of at most the backend's maximum. */
extern int submit_read (struct submit *s, struct backend *b, void *buf,
                        uint64_t offset, uint64_t len);

/* A turn for writes that begin later, before all that come from now on. */
extern uint64_t submit_turn (struct submit *s);

/* Writes claimed or gathered blocks and ends them in the pages: batches with
 * others that wait, and serves those meanwhile.  Returns when it has ended;
 * the error is in its completion.
 */
extern void submit_write (struct submit *s, struct backend *b, struct write *w);

/* Like exclusive_begin, for an operation that forgets remembered zeroes: a
 * write past the cache or a trim.  X has the slot that this may need.  If none
 * is free, remembered zeroes are made durable first.  0; or an errno, and the
 * caller does not have the range.
 */
extern int submit_begin_forgetting (struct submit *s, struct backend *b,
                                    struct exclusive *x, uint64_t offset,
                                    uint64_t len);

/* Writes past the cache; the caller has the range by submit_begin_forgetting.
 * Durable.
 */
extern int submit_write_past (struct submit *s, struct backend *b,
                              const void *bytes, uint64_t offset, uint64_t len);

/* Zeroes or trims whole blocks; the caller has the range exclusively, for a
 * trim by submit_begin_forgetting, and nothing of it is in writeback.  Ends the
 * blocks in the pages.
 */
extern int submit_zero (struct submit *s, struct backend *b, uint64_t offset,
                        uint64_t len, unsigned flags);
extern int submit_trim (struct submit *s, struct backend *b, uint64_t offset,
                        uint64_t len, bool fua);
/* Gives up whatever of a range of whole blocks the backend has not got, or may
 * yet forget: from then on reads see what the backend has.  Waits for what of
 * it is on its way.  *HELD and *ZEROED: how many bytes were given up of either.
 * ENOSPC: a part of what is remembered as zero cannot be given up alone, and
 * nothing was.
 */
extern int submit_discard (struct submit *s, uint64_t offset, uint64_t len,
                           uint64_t *held, uint64_t *zeroed);
/* Zeroes again what a failed flush may have lost. */
extern int submit_redo_zeroes (struct submit *s, struct backend *b);

/* A flush that begins after this call, shared with who else waits.  EAGAIN:
 * it succeeded, but a FUA operation beside it failed, so it does not count.
 * 0 beside a FUA operation that hangs: what it covered may stay unstable.
 */
extern int submit_flush (struct submit *s, struct backend *b);

/* Registers an operation that is about to take marks from blocks. */
extern void submit_open (struct submit *s, struct open_op *op);
extern void submit_close (struct submit *s, struct open_op *op);
/* Waits for the operations open now that took acknowledged bytes. */
extern void submit_wait_acknowledged (struct submit *s);

/* From which age on a call is taken to hang, ns; under the lock. */
extern uint64_t submit_hang (const struct submit *s);

#endif /* WTCACHE_SUBMIT_H */
