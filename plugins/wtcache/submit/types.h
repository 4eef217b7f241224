/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of submit: its struct, a write that waits for a batch,
 * and an operation in progress.
 */

#ifndef WTCACHE_SUBMIT_TYPES_H
#define WTCACHE_SUBMIT_TYPES_H

#include <pthread.h>

#include "base/histogram.h"
#include "pagecache.h"
#include "submit/backend.h"
#include "submit/meter.h"
#include "submit/policy.h"

/* An operation in progress that has to make durable; oldest first. */
struct fua_op {
  struct fua_op *prev, *next; /* guarded by submit.lock */
  uint64_t ticket;
  uint64_t began; /* ns */
  bool hung;      /* flushes no longer wait for it */
};

/* One range of whole blocks to be written; on its request's stack. */
struct write {
  uint64_t offset;
  uint32_t len;         /* bytes */
  const uint8_t *bytes; /* do not change until it has ended */
  bool durable;
  bool by_flush; /* durable without the flag, if it can be */
  bool keeps;    /* the caller ends its blocks; EPOCH: when the write began */
  uint32_t epoch;
  uint64_t turn; /* from submit_turn; 0: after all that came before it */
  int error;     /* set by submit_write: an errno, 0 if it succeeded */
  const struct backend *backend; /* of the thread that submits it */

  /* Guarded by submit.lock. */
  struct policy_write policy;
  bool ended;
  bool again; /* its batch has failed, perhaps because of another's write */
  struct event wake;
};

/* A thread that waits for a flush which begins after its call. */
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
  /* Flushes what all connections wrote; OWN may be one that cannot flush. */
  int (*flush) (void *opaque, struct backend *own);
  /* Whether helpers may call the backend beside a request; or NULL: none may.
   */
  bool (*may_help) (void *opaque);
  void *opaque;

  struct lock lock; /* RANK_SUBMIT */
  /* Guarded by lock. */
  struct policy policy;
  struct condition written;
  uint64_t flush_latency; /* ns, a moving mean */
  struct fua_op *oldest, *newest;
  uint64_t tickets;
  unsigned fua_waiters;
  struct condition fua_ended;
  struct flush_waiter *waiters; /* for the next flush */
  bool hurried;        /* one of them is not for a durable write: no company */
  uint64_t nr_flushes; /* that have ended */
  bool flushing;
  struct condition flushed;

  /* FUA operations and flushes in progress.  Changes under the lock; see
   * call_with_fua.
   */
  _Atomic unsigned undoing;

  /* See durable_again. */
  pthread_t alone_thread;
  uint64_t alone_since;   /* ns */
  unsigned alone_waiters; /* operations that may not begin */
  struct condition alone_ended;

  /* An operation runs alone.  Changes under the lock; relaxed: an operation
   * that misses it has begun before.
   */
  _Atomic bool alone;

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

#endif /* WTCACHE_SUBMIT_TYPES_H */
