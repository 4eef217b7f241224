/* SPDX-License-Identifier: BSD-3-Clause */

/* The means of a test to disturb requests: faults, gates, latencies and the
 * bound on requests served at once.  All of it may change while the disk runs.
 */

#ifndef WTDISK_FAULT_H
#define WTDISK_FAULT_H

#include <stdint.h>

#include "request.h"

/* Which requests a fault or a gate is for. */
struct match {
  enum op op;    /* OP_ANY: every one */
  int fua, fast; /* 0, 1, or -1: both */
  bool ranged;   /* touches FIRST to LAST, which a flush never does */
  uint64_t first, last;
  char export[64]; /* empty: every one */
};

struct fault {
  struct match match;
  int error;
  uint64_t skip, count; /* the COUNT ones after the first SKIP fail */
  uint64_t partial;     /* bytes that a failing write or zero does first */
};

#define FOR_EVER UINT64_MAX

/* For the control socket.  Names are copied and replace one of that name.
 * Those that return int return 0 or an errno.
 */
extern int fault_set (const char *name, const struct fault *fault);
extern int fault_remove (const char *name); /* "all": all of them */
extern int fault_wait_hits (const char *name, uint64_t count, uint64_t *hits);
extern int gate_close (const char *name, const struct match *match, bool after);
extern int gate_wait_standing (const char *name, uint64_t count,
                               uint64_t *standing);
extern int gate_open (const char *name); /* "all": all of them */
extern void latency_set (enum op op, uint64_t ns);
extern uint64_t latency_get (enum op op);
extern void serve_set (unsigned bound); /* 0: none */
extern unsigned serve_max_seen (void);
extern void serve_reset_max_seen (void);

/* For requests. */
extern void gate_pass (const struct request *request, bool after);
extern void serve_begin (void);
extern void serve_end (void);
extern void sleep_ns (uint64_t ns);
/* Takes a place, waits for the latency of OP, and gives the place back. */
extern void serve_as (enum op op);

/* Returns the errno with which the request has to fail, or 0. */
extern int fault_hit (const struct request *request, uint64_t *partial);

/* At the end: nothing waits here any more. */
extern void fault_quit (void);

#endif /* WTDISK_FAULT_H */
