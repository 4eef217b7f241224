/* SPDX-License-Identifier: BSD-3-Clause */

/* Where each request of the load goes, and the content that --verify wants. */

#include <math.h>

#include "load.h"

/* splitmix64: the state steps by a constant, the result is a hash of it. */
uint64_t
draw_mix (uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static uint64_t
next_random (struct connection *c)
{
  c->random += UINT64_C (0x9e3779b97f4a7c15);
  return draw_mix (c->random);
}

/* Uniform in 0 … n-1, which has 32 bits, as all numbers of blocks do: products
 * need no integers of 128 bits then, which not every target has.
 */
uint64_t
draw_below (struct connection *c, uint64_t n)
{
  const uint64_t r = next_random (c);

  return ((r >> 32) * n + ((r & UINT32_MAX) * n >> 32)) >> 32;
}

/* Uniform in (0, 1). */
static double
unit (struct connection *c)
{
  return ((double) (next_random (c) >> 11) + 0.5) / 9007199254740992.0;
}

/* Zipf's law over ranks 1 … n by rejection from the integral H of x^-s
 * (Hoermann and Derflinger's rejection-inversion): no tables, and nearly every
 * first try is taken.
 */
static double
zipf_integral (double x)
{
  const double s = options.zipf;

  return fabs (1 - s) < 1e-9 ? log (x) : (pow (x, 1 - s) - 1) / (1 - s);
}

static double
zipf_inverse (double y)
{
  const double s = options.zipf;

  return fabs (1 - s) < 1e-9 ? exp (y) : pow (1 + y * (1 - s), 1 / (1 - s));
}

static uint64_t
zipf_rank (struct connection *c, uint64_t n)
{
  const double low = zipf_integral (1.5) - 1;
  const double high = zipf_integral ((double) n + 0.5);

  for (;;) {
    const double u = high + unit (c) * (low - high);
    double k = floor (zipf_inverse (u) + 0.5);

    if (k < 1)
      k = 1;
    if (k > (double) n)
      k = (double) n;
    if (u >= zipf_integral (k + 0.5) - pow (k, -options.zipf))
      return (uint64_t) k - 1;
  }
}

/* Ranks are spread over the range, the same way on every connection, so that
 * the popular blocks are not neighbours.
 */
static uint64_t
scatter (uint64_t rank, uint64_t n)
{
  uint64_t step = UINT64_C (0x9e3779b97f4a7c15) % n | 1;

  for (uint64_t a = step, b = n;;) {
    while (b != 0) {
      const uint64_t t = a % b;
      a = b;
      b = t;
    }
    if (a == 1)
      break;
    step += 2;
    a = step;
    b = n;
  }
  return rank * step % n;
}

uint64_t
draw_offset (struct connection *c)
{
  uint64_t block = 0;

  switch (options.pattern) {
  case PATTERN_RANDOM:
    block = options.zipf > 0 ? scatter (zipf_rank (c, c->blocks), c->blocks)
                             : draw_below (c, c->blocks);
    break;
  case PATTERN_SEQUENTIAL:
    block = c->next;
    c->next = c->next + 1 == c->blocks ? 0 : c->next + 1;
    break;
  case PATTERN_BACKWARD:
    block = c->blocks - 1 - c->next;
    c->next = c->next + 1 == c->blocks ? 0 : c->next + 1;
    break;
  case PATTERN_SINGLE:
    break;
  case PATTERN_REPLAY:
    block = trace.accesses[c->next++].block;
    break;
  }
  return options.offset + (c->first + block) * options.block;
}

/* The content for --verify depends on the seed and the place alone, so that
 * every write of a place writes the same and order does not matter.
 */
static uint64_t
content (uint64_t offset)
{
  return draw_mix (options.seed * UINT64_C (0x9e3779b97f4a7c15) + offset + 1);
}

void
draw_fill (void *buffer, uint64_t offset)
{
  uint64_t *words = buffer;

  for (uint64_t i = 0; i < options.block / 8; ++i)
    words[i] = content (offset + i * 8);
}

bool
draw_matches (const void *buffer, uint64_t offset)
{
  const uint64_t *words = buffer;

  for (uint64_t i = 0; i < options.block / 8; ++i)
    if (words[i] != content (offset + i * 8))
      return false;
  return true;
}
