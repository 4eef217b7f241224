/* SPDX-License-Identifier: BSD-3-Clause */

/* Small arithmetic, time and macros that every part uses. */

#ifndef WTCACHE_UTIL_H
#define WTCACHE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define KiB UINT64_C (1024)
#define MiB (KiB * 1024)
#define GiB (MiB * 1024)

/* Largest range nbdkit takes in one read or write, bytes. */
#define MAX_TRANSFER (64 * MiB)

#define CLEANUP(fn) __attribute__ ((cleanup (fn)))

/* Each thread has one.  The initial-exec model spares a call for each access;
 * there is room for it in a module as long as all of them are small.
 */
#define THREAD_OWN __thread __attribute__ ((tls_model ("initial-exec")))

#define ARRAY_LEN(a) (sizeof (a) / sizeof ((a)[0]))

#define container_of(ptr, type, member)                                        \
  ((type *) ((char *) (ptr) -offsetof (type, member)))

static inline uint64_t
min_u64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static inline uint64_t
max_u64 (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

static inline uint64_t
clamp_u64 (uint64_t v, uint64_t low, uint64_t high)
{
  return v < low ? low : v > high ? high : v;
}

/* The least power of 2 that is not below N. */
static inline size_t
power_of_2_from (size_t n)
{
  size_t p = 1;

  while (p < n)
    p *= 2;
  return p;
}

/* Whether number A came before B, of numbers that are counted up and may wrap.
 */
static inline bool
before_u16 (uint16_t a, uint16_t b)
{
  return (int16_t) (a - b) < 0;
}

static inline bool
before_u32 (uint32_t a, uint32_t b)
{
  return (int32_t) (a - b) < 0;
}

/* ALIGN is a power of two. */
static inline uint64_t
round_down (uint64_t v, uint64_t align)
{
  return v & ~(align - 1);
}

static inline uint64_t
round_up (uint64_t v, uint64_t align)
{
  return (v + align - 1) & ~(align - 1);
}

static inline bool
is_power_of_2 (uint64_t v)
{
  return v != 0 && (v & (v - 1)) == 0;
}

/* The exponent of a power of two. */
static inline unsigned
log2_u64 (uint64_t v)
{
  return 63 - __builtin_clzll (v);
}

/* Multiplicative (Fibonacci) hashing, Knuth vol. 3, 6.4: neighbours spread. */
static inline uint64_t
hash_u64 (uint64_t v)
{
  v *= UINT64_C (0x9e3779b97f4a7c15);
  return v ^ (v >> 32);
}

/* Monotonic time in nanoseconds. */
static inline uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

#endif /* WTCACHE_UTIL_H */
