/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of this division: an export, and the registry of all
 * exports.
 */

#ifndef WTCACHE_EXPORT_TYPES_H
#define WTCACHE_EXPORT_TYPES_H

#include "base/probes.h"
#include "base/repeat.h"
#include "base/stats.h"
#include "base/workers.h"
#include "export/settings.h"
#include "pagecache.h"
#include "submit.h"

/* The state of write-back in an export.  See writeback.c. */
struct writeback {
  struct task task, drain_task;
  /* The task is queued or runs; the thread that sets this starts the task.
   * Acquire and release pair with each other: what one run saw, the next sees.
   */
  _Atomic bool running;
  _Atomic bool wanted;     /* asked for again while it ran */
  _Atomic bool refusing;   /* the last write-back failed at the backend */
  _Atomic uint64_t retry;  /* ns; when refusing: not before this */
  _Atomic unsigned passes; /* flushes in progress: background work waits */
  _Atomic unsigned drains; /* tasks that drain it; it is not freed */
  /* Bytes logged as LOST.  Only for the clock, and for .cleanup after it. */
  uint64_t told;

  /* Only for display: relaxed. */
  _Atomic int error;             /* when refusing: the last errno */
  _Atomic int64_t failing_since; /* when refusing: since, in s since 1970 */
  _Atomic uint64_t errors;       /* passes that failed; see refusal.c */

  /* Only for the clock: the refusal as logged, ERRORS when it looked last, and
   * before the refusal.
   */
  struct repeat refusal;
  uint64_t looked, looked_before;
};

/* The life of a connection: it moves down this list, and never back.  Each
 * change has one function.
 */
enum connection_state {
  CONNECTION_JOINING, /* connections_join: it has sent no data request */
  CONNECTION_LENDING, /* connections_lend: helpers may call its backend */
  CONNECTION_LEAVING, /* connections_leave: only flushes still reach it */
  CONNECTION_GONE,    /* and after the last of them */
};

struct connection {
  /* The calls of its own client's requests: they go to BELOW, and are noted
   * here.
   */
  struct backend backend;
  struct backend *below;
  struct export *export;

  /* Guarded by the export's connections lock. */
  enum connection_state state;
  struct connection *next;
  unsigned borrowers;  /* loans that are out */
  uint64_t number;     /* see held_connect; UINT64_MAX while it joins */
  uint64_t last_flush; /* the last flush of all connections that took it … */
  uint64_t failed_flush; /* … and that one, if it failed or was late; else 0 */
  struct {               /* for another connection's client */
    struct task task;
    bool runs;
    int error;
  } flush;

  /* It owes a flush: it wrote since its last good flush began.  Release in
   * call_below, after a write, pairs with acquire in connection_flush.
   */
  _Atomic bool owes;

  /* A call by it failed, or was late, where another connection did better: it
   * lends nothing while others can, until a call of its own client succeeds.
   * Relaxed: a stale value costs one more attempt.
   */
  _Atomic bool suspect;
};

/* Whether an export has a share of its own.  See shares.c. */
enum share_state { SHARE_NONE, SHARE_RESERVED, SHARE_REFUSED };

struct export
{
  /* Constant. */
  struct memory *memory;
  char *name;
  bool tls;
  bool shared; /* among connections */
  unsigned number;

  uint32_t preferred; /* bytes; changes only while it has no connection */

  struct pagecache pc;
  struct submit submit;
  struct writeback writeback;
  struct stats stats;
  struct burst failures[REQUEST_KINDS]; /* of requests, as logged */

  /* Written under the registry lock; relaxed, see shares.c. */
  _Atomic enum share_state share;

  /* Ordinary writes may stay dirty: no other cache over this disk is in use.
   * Relaxed: it falls before another can be written.
   */
  _Atomic bool holds;

  /* How often it has inherited, and that number when the last flush began that
   * succeeded.  See heirs.c.
   */
  _Atomic uint32_t inherited, inherited_settled;

  /* Guarded by the registry lock. */
  struct export *next;
  unsigned users, writers; /* connections */
  bool labelled;           /* in the metrics, by its name */
  bool wrote;       /* perhaps, since its siblings dropped what it overwrote */
  unsigned keepers; /* commands that act on it: it is not freed */
  uint64_t last_used; /* counts closes: the least was idle longest */

  struct lock connections_lock; /* RANK_LOANS */
  /* Guarded by connections_lock. */
  struct connection *connections; /* that have sent a data request */
  struct condition connections_changed;
  uint64_t flushes; /* of all connections */
  /* How long the last ones took that succeeded by one connection, ns. */
  uint64_t flush_times[3];
  unsigned timed_flushes;
  /* A flush of one connection does not cover what others wrote. */
  bool flushes_each;
};

/* All exports, and what they share. */
struct registry {
  bool there; /* between export_registry_init and export_registry_destroy */
  struct memory memory;
  struct pools pools;
  bool parallel; /* threads of ours may call the backend */

  struct lock lock; /* RANK_REGISTRY */
  /* Guarded by lock. */
  struct export *first;
  uint64_t closes;
  unsigned labelled;                        /* exports that are */
  uint64_t numbers[(MAX_CACHES + 64) / 64]; /* a bit for each in use */
  /* Takes over what an export has counted, before it is freed; or NULL. */
  void (*note_freed) (struct export *e);

  /* Relaxed: read when the bound of dirty data is divided. */
  _Atomic unsigned holding; /* exports that writers use, or that hold data */
  _Atomic bool stopping;    /* the server was told to stop */
};

extern struct registry registry;

#endif /* WTCACHE_EXPORT_TYPES_H */
