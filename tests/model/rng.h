/* SPDX-License-Identifier: BSD-3-Clause */

/* Numbers that depend on nothing but a seed. */

#ifndef MODEL_RNG_H
#define MODEL_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A stream of them. */
struct rng {
  uint64_t state;
};

extern uint64_t rng_next (struct rng *rng);
extern uint64_t rng_below (struct rng *rng, uint64_t n); /* 0 .. n-1 */
extern bool rng_chance (struct rng *rng, unsigned percent);

/* One of these strings. */
#define ONE_OF(rng, ...)                                                       \
  rng_one_of (rng, (const char *const[]){ __VA_ARGS__, NULL })
extern const char *rng_one_of (struct rng *rng, const char *const *choices);

/* A hash of a number, different for each. */
extern uint64_t rng_mix (uint64_t x);
/* The number that has this hash. */
extern uint64_t rng_unmix (uint64_t x);

#endif /* MODEL_RNG_H */
