/* SPDX-License-Identifier: BSD-3-Clause */

/* Writers and a backend in virtual time, around the filter's own policy.  See
 * simulation.c.
 */

#ifndef SIMULATION_H
#define SIMULATION_H

#include "submit/policy.h"
#include "unit.h"

#define MS      UINT64_C (1000000)
#define SECOND  (1000 * MS)
#define NEVER   UINT64_MAX
#define WRITERS 256 /* at most */

enum state {
  IDLE,        /* writes nothing until the test says so */
  WAITS,       /* for a place */
  IN_BATCH,    /* of another writer */
  AT_BACKEND,  /* waits there */
  SERVED,      /* until `ends` */
  WANTS_FLUSH, /* of a shared flush that has not begun */
  BEING_FLUSHED,
};

struct writer {
  enum state state;
  bool idle;  /* it writes no more once its write has ended */
  bool hangs; /* the backend does not answer a batch with its write */
  struct policy_write w;
  struct policy_batch b; /* when it has taken one */
  uint64_t looks, began, ends, turn;
  uint64_t waited; /* for a place, its last write */
};

struct simulation {
  struct policy policy;
  struct random random;
  uint64_t now, turns;

  /* The backend. */
  unsigned serve;        /* at once */
  bool groups;           /* a commit has all that came before it */
  uint64_t write, flush; /* ns of service, less or more by a tenth */
  unsigned hiccups;      /* of so many services, one takes HICCUP more */

  /* The load. */
  unsigned writers;
  bool durable;
  int fixed_way;   /* -1: by choice */
  bool one_stream; /* each write is the neighbour of the one before */

  struct writer all[WRITERS];
  struct writer flusher; /* IDLE: no flush is in progress */
  uint64_t company_ends, stream;
  unsigned at_once; /* batches that the backend has not answered */

  /* Of the time that is being measured. */
  uint64_t ended, batches, by_flush, limit_time, above_time, since;
  uint64_t max_wait;
  unsigned max_at_once;
};

/* WRITERS that write all the time, at places of their own. */
extern void simulation_begin (struct simulation *s, unsigned depth,
                              unsigned serve, uint64_t write, uint64_t flush,
                              unsigned writers, bool durable);
/* Goes on for NS, and measures. */
extern void simulation_run (struct simulation *s, uint64_t ns);
/* To the next event, at most to UNTIL. */
extern void simulation_step (struct simulation *s, uint64_t until);

/* Writes a second that ended. */
extern double simulation_rate (const struct simulation *s);
/* The mean of the limit. */
extern double simulation_limit (const struct simulation *s);

#endif /* SIMULATION_H */
