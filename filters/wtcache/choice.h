/* SPDX-License-Identifier: BSD-3-Clause */

/* Which of two ways to make writes durable is cheaper.  See choice.c. */

#ifndef WTCACHE_CHOICE_H
#define WTCACHE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

enum way { BY_FLAG, BY_FLUSH, WAYS };

struct choice {
  enum way way;    /* in use now */
  enum way chosen; /* outside of trials */
  unsigned trials; /* windows of the trial that are left */
  uint64_t began;  /* the window: writes that came before do not count, ns */
  uint64_t next;   /* the next trial, ns */
  uint64_t sum;    /* of the window's latencies, ns */
  unsigned samples;
  uint64_t mean[WAYS]; /* of the last window of each, ns */
};

/* The way for a write that comes now, when IN_FLIGHT durable writes (itself
 * included) are under way.
 */
extern enum way choice_way (struct choice *c, unsigned in_flight, uint64_t now);
/* A write came at CAME, went WAY and ended now. */
extern void choice_sample (struct choice *c, enum way way, uint64_t came,
                           uint64_t now);

#endif /* WTCACHE_CHOICE_H */
