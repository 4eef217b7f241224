/* SPDX-License-Identifier: BSD-3-Clause */

/* Common parts of the unit tests.  See unit.h. */

#include <config.h>

#include <sched.h>
#include <stdio.h>

#include "unit.h"

#define PATIENCE_NS UINT64_C (60000000000)

/* Written by the tests' own thread before others begin. */
static uint64_t told_seed;

/* The environment may name one test. */
__attribute__ ((constructor)) static void
choose_test (void)
{
  const char *name = getenv ("WT_TEST");

  if (name && *name)
    cmocka_set_test_filter (name);
}

_Noreturn void
must_fail (const char *what, const char *file, int line)
{
  fprintf (stderr, "%s:%d: %s: false (seed %llu)\n", file, line, what,
           (unsigned long long) told_seed);
  abort ();
}

void
random_seed (struct random *r, uint64_t seed)
{
  r->state = seed;
  __atomic_store_n (&told_seed, seed, __ATOMIC_RELAXED);
}

/* SplitMix64 (Steele, Lea and Flood, 2014). */
uint64_t
random_below (struct random *r, uint64_t below)
{
  uint64_t z = r->state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return (z ^ (z >> 31)) % below;
}

static void *
run_thread (void *arg)
{
  struct thread *t = arg;

  t->run (t->arg);
  return NULL;
}

void
thread_start (struct thread *t, void (*run) (void *), void *arg)
{
  t->run = run;
  t->arg = arg;
  must (pthread_create (&t->id, NULL, run_thread, t) == 0);
}

void
thread_join (struct thread *t)
{
  must (pthread_join (t->id, NULL) == 0);
}

uint64_t
wait_deadline (void)
{
  return now_ns () + PATIENCE_NS;
}

void
wait_step (uint64_t ends, const char *what, const char *file, int line)
{
  if (now_ns () > ends)
    must_fail (what, file, line);
  sched_yield ();
}

struct cache *
cache_new (uint64_t memory, uint32_t page, uint32_t block, uint64_t size)
{
  struct cache *c = calloc (1, sizeof *c);

  must (c != NULL);
  must (memory_init (&c->memory, memory) == 0);
  pools_init (&c->pools, &c->memory);
  c->pool = pools_get (&c->pools, page);
  must (c->pool != NULL);
  pagecache_init (&c->pc, &c->pools, c->pool, 1, size, block, false);
  return c;
}

void
cache_free (struct cache *c)
{
  const uint64_t whole = UINT64_C (1) << 62;

  pagecache_clear (&c->pc, 0, whole, CLEAR_UNKNOWN);
  pagecache_drop (&c->pc);
  pagecache_destroy (&c->pc);
  pools_destroy (&c->pools);
  memory_destroy (&c->memory);
  free (c);
}

struct part
part_of (const struct cache *c, uint64_t offset, uint64_t len)
{
  struct part part;

  must (next_part (&c->pc, &offset, &len, &part));
  must (len == 0);
  return part;
}

bool
block_is (struct cache *c, uint64_t offset, enum block_state state)
{
  const struct part part = part_of (c, offset, 1);
  struct page *p = pool_lock_page (c->pool, c->pc.key_base | part.index);
  bool is;

  if (p == NULL)
    return false;
  is = bit_get (pool_map (c->pool, p, state), part.offset >> c->pc.block_shift);
  word_lock_drop (&p->lock);
  return is;
}
