/* SPDX-License-Identifier: BSD-3-Clause */

/* A backend in memory that watches its caller.  See array.c. */

#ifndef ARRAY_H
#define ARRAY_H

#include <pthread.h>
#include <stddef.h>

#include "base/util.h"
#include "submit/backend.h"

enum array_op {
  ARRAY_READ,
  ARRAY_WRITE,
  ARRAY_ZERO,
  ARRAY_TRIM,
  ARRAY_FLUSH,
  ARRAY_OPS
};

/* One call, as it was.  BEGAN and ENDED count both ends of all calls. */
struct array_call {
  enum array_op op;
  uint64_t offset;
  uint32_t len;
  unsigned flags; /* enum zero_flag: ZERO_FUA of any call */
  int error;
  uint64_t began, ended; /* ENDED 0: not yet */
  unsigned in_flight;    /* calls of this kind, itself included */
};

/* Calls of a kind that touch a range fail: after SKIP of them, COUNT times. */
struct array_fault {
  enum array_op op;
  uint64_t offset, end;
  unsigned skip, count;
  int error;
};

#define ARRAY_FAULTS 8

/* Where calls of a kind wait while a gate is shut: before anything is done,
 * or when all is done but the return.
 */
enum array_gate { GATE_OPEN, GATE_BEFORE, GATE_AFTER };

#define ARRAY_CONNECTIONS 64

struct array_in_flight;

/* A call as array.watch sees it. */
struct array_watched {
  struct backend *backend;
  enum array_op op;
  uint64_t offset, len;
  unsigned flags; /* enum zero_flag: ZERO_FUA of any call */
  void *own;      /* for the watcher */
};

struct array {
  struct backend backend; /* of one connection; more: array_connect */

  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* Guarded by lock. */
  uint8_t *seen;                       /* what reads return */
  uint8_t *durable;                    /* what a power cut leaves */
  uint32_t *version, *durable_version; /* of each 512 bytes of both */
  struct backend **writer;             /* of each 512 bytes, the last */
  /* Of each 512 bytes, the connections that wrote since they were durable, as
   * bits by their place in the list below, which is used in turn.  A flush of
   * any of them covers what is there.
   */
  uint64_t *owing;
  struct backend *connections[ARRAY_CONNECTIONS];
  unsigned nr_connections;
  uint32_t versions, losses;
  bool forgets;    /* what a failed flush or FUA call may lose is lost */
  bool tears;      /* a failed write, zero or trim has done its first half */
  bool unsteady;   /* calls give way to other threads now and then */
  uint8_t trimmed; /* what a trim leaves */
  /* Called without the lock, unless it is NULL, when a call has begun and
   * before it returns (ENDED, with its result so far); the call fails with what
   * this returns.
   */
  int (*watch) (struct array *a, struct array_watched *w, bool ended,
                int error);
  _Atomic uint64_t hung_write; /* see array_hang_write */
  struct array_fault faults[ARRAY_FAULTS];
  unsigned nr_faults;
  enum array_gate gates[ARRAY_OPS];
  unsigned at_gate[ARRAY_OPS], let_by[ARRAY_OPS];
  struct array_in_flight *in_flight;
  unsigned calls[ARRAY_OPS], failed[ARRAY_OPS], now[ARRAY_OPS];
  unsigned max_at_once[ARRAY_OPS];
  uint64_t bytes[ARRAY_OPS];
  uint64_t events;
  struct array_call *log;
  size_t logged, log_room;
};

/* A disk of 512-byte blocks with everything, FUA native. */
extern struct backend_traits array_traits (uint64_t size);
/* Filled with bytes that differ from block to block; all of it durable. */
extern struct array *array_new (const struct backend_traits *traits);
extern void array_free (struct array *a);
/* From now on a write at this offset hangs, until another offset is given;
 * UINT64_MAX: none hangs.  Uses array.watch.
 */
extern void array_hang_write (struct array *a, uint64_t offset);
/* Another connection to it. */
extern void array_connect (struct array *a, struct backend *b);

/* Faults, in the order in which they are tried. */
extern void array_fail (struct array *a, enum array_op op, unsigned skip,
                        unsigned count, int error);
extern void array_fail_range (struct array *a, enum array_op op,
                              uint64_t offset, uint64_t len, int error);
extern void array_heal (struct array *a);

extern void array_shut (struct array *a, enum array_op op,
                        enum array_gate where);
extern void array_open (struct array *a, enum array_op op);
/* Lets one of those by that wait. */
extern void array_let_by (struct array *a, enum array_op op);
/* Waits until N calls wait at the gate. */
extern void array_wait_gate (struct array *a, enum array_op op, unsigned n);

/* Calls so far, of which failed, and the bytes of all. */
extern unsigned array_calls (struct array *a, enum array_op op);
extern uint64_t array_bytes (struct array *a, enum array_op op);
/* Whether a call that touches OFFSET has begun. */
extern bool array_was_called (struct array *a, enum array_op op,
                              uint64_t offset);
extern void array_forget_calls (struct array *a);
/* Call number N of a kind since array_forget_calls. */
extern struct array_call array_call (struct array *a, enum array_op op,
                                     unsigned n);

/* The power is cut: what is not durable is lost.  No call is in flight. */
extern void array_crash (struct array *a);
/* The same while calls are in flight. */
extern void array_forget (struct array *a);
/* Whether the bytes from OFFSET on are these, as seen or durable. */
extern bool array_sees (struct array *a, uint64_t offset, const void *bytes,
                        uint64_t len);
extern bool array_keeps (struct array *a, uint64_t offset, const void *bytes,
                         uint64_t len);

#endif /* ARRAY_H */
