/* SPDX-License-Identifier: BSD-3-Clause */

/* Which of two ways to make writes durable is cheaper.  See choice.c. */

#ifndef WTCACHE_CHOICE_H
#define WTCACHE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

enum way { BY_FLAG, BY_FLUSH, WAYS };

struct choice {
  enum way way;      /* in use now */
  enum way chosen;   /* outside of trials */
  unsigned trials;   /* windows of the trial that are left */
  unsigned alone;    /* how many came alone, one after another */
  double crowd;      /* how many are under way at once, of late */
  uint64_t tried;    /* when the last trial ended, ns */
  uint64_t interval; /* until the next, if nothing changes, ns */
  uint64_t again;    /* until the next, if something does, ns */
  bool unsure;       /* a trial spoke for the other way, and is repeated */
  bool surprised;    /* something has changed since */

  /* The window. */
  uint64_t began;           /* writes that came before are not measured, ns */
  uint64_t sum;             /* of the latencies, ns */
  unsigned window;          /* how many are measured in a trial */
  unsigned samples, passed; /* measured; passed: all that ended */

  /* Of the last trial. */
  uint64_t mean[WAYS]; /* of the better window, ns; 0: none yet */
  double rate;         /* writes a ns that ended by the chosen way */
};

/* The way for a write that comes now, when IN_FLIGHT durable writes (itself
 * included) are under way.
 */
extern enum way choice_way (struct choice *c, unsigned in_flight, uint64_t now);
/* A write came at CAME, went WAY and ended now. */
extern void choice_sample (struct choice *c, enum way way, uint64_t came,
                           uint64_t now);

#endif /* WTCACHE_CHOICE_H */
