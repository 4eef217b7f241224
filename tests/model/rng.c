/* SPDX-License-Identifier: BSD-3-Clause */

/* Numbers that depend on nothing but a seed. */

#include "rng.h"

uint64_t
rng_mix (uint64_t x)
{
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  return x ^ x >> 32;
}

/* The inverse of rng_mix: the multiplier is that of the factor modulo 2^64. */
uint64_t
rng_unmix (uint64_t x)
{
  x ^= x >> 32;
  x *= UINT64_C (0xcfee444d8b59a89b);
  x ^= x >> 32;
  x *= UINT64_C (0xcfee444d8b59a89b);
  return x ^ x >> 32;
}

uint64_t
rng_next (struct rng *rng)
{
  rng->state += UINT64_C (0x9e3779b97f4a7c15);
  return rng_mix (rng->state);
}

uint64_t
rng_below (struct rng *rng, uint64_t n)
{
  return rng_next (rng) % n;
}

bool
rng_chance (struct rng *rng, unsigned percent)
{
  return rng_below (rng, 100) < percent;
}

const char *
rng_one_of (struct rng *rng, const char *const *choices)
{
  size_t n = 0;

  while (choices[n])
    ++n;
  return choices[rng_below (rng, n)];
}
