/* SPDX-License-Identifier: BSD-3-Clause */

/* Common parts of the unit tests: cmocka, a check that holds in any thread,
 * random numbers by a seed that is told on failure, threads, and a small cache.
 */

#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pagecache.h"

/* cmocka hands each test a state, which none of them uses. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* cmocka's assertions leave a test by longjmp, which only its own thread may
 * do; this one ends the program, and tells the seed.
 */
#define must(condition)                                                        \
  ((condition) ? (void) 0 : must_fail (#condition, __FILE__, __LINE__))
extern _Noreturn void must_fail (const char *what, const char *file, int line);

/* cmocka's own has other names from 2.0 on. */
#define assert_between(n, min, max)                                            \
  do {                                                                         \
    assert_true ((n) >= (min));                                                \
    assert_true ((n) <= (max));                                                \
  } while (0)

/* Random numbers of one thread. */
struct random {
  uint64_t state;
};

/* SEED is told if a check fails after this. */
extern void random_seed (struct random *r, uint64_t seed);
/* A number below BELOW, which is not 0. */
extern uint64_t random_below (struct random *r, uint64_t below);
static inline bool
random_chance (struct random *r, unsigned percent)
{
  return random_below (r, 100) < percent;
}

/* A thread of a test. */
struct thread {
  pthread_t id;
  void (*run) (void *arg);
  void *arg;
};

extern void thread_start (struct thread *t, void (*run) (void *), void *arg);
extern void thread_join (struct thread *t);

/* Waits for a condition that another thread brings about without telling: it
 * fails when that does not happen at all.
 */
#define wait_until(condition)                                                  \
  for (uint64_t wait_ends = wait_deadline (); !(condition);)                   \
  wait_step (wait_ends, #condition, __FILE__, __LINE__)
extern uint64_t wait_deadline (void);
extern void wait_step (uint64_t ends, const char *what, const char *file,
                       int line);

/* A cache of one export, with memory of its own. */
struct cache {
  struct memory memory;
  struct pools pools;
  struct pool *pool;
  struct pagecache pc;
};

extern struct cache *cache_new (uint64_t memory, uint32_t page, uint32_t block,
                                uint64_t size);
/* Pages that are held are let go first. */
extern void cache_free (struct cache *c);

/* The part of a cache's byte range, which lies in one page. */
extern struct part part_of (const struct cache *c, uint64_t offset,
                            uint64_t len);

/* Whether a block is in a state; one without a page is in none. */
extern bool block_is (struct cache *c, uint64_t offset, enum block_state state);

#endif /* UNIT_H */
