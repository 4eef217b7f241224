/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of what is acknowledged and not yet durable: a model of it beside
 * the whole filter, while threads write, zero, trim and flush the same pages,
 * and calls to the backend fail and forget.
 *
 * Each thread has blocks of its own.  The model keeps all that was tried on a
 * block, in order, and how much of that was acknowledged.  A flush that answers
 * 0 promises that the backend keeps, of each block, what was acknowledged
 * before the flush came, or something tried later.
 */

#include <config.h>

#include <errno.h>
#include <sched.h>

#include "stack.h"

#define SIZE       (1 * MiB)
#define BLOCK      512
#define NR_THREADS 6
#define OWN_BLOCKS 4
#define NR_BLOCKS  (NR_THREADS * OWN_BLOCKS)
#define MAX_TRIES  200
#define STEPS      120
#define ANY        (-1) /* trimmed: the backend has what it likes */

struct history {
  int tries[MAX_TRIES]; /* values; written before `tried` covers them */
  /* Release in try pairs with acquire in may_have: a thread that sees bytes at
   * the backend finds what was tried.
   */
  _Atomic unsigned tried;
  _Atomic unsigned acknowledged; /* so many of them, or later ones, count */
};

struct model {
  struct stack *s;
  struct history blocks[NR_BLOCKS];
  _Atomic unsigned running;
};

struct client_thread {
  struct model *m;
  struct random random;
  unsigned id;
  struct thread thread;
};

/* The blocks of all threads lie between each other, in three pages. */
static uint64_t
offset_of (unsigned block)
{
  return (uint64_t) block * BLOCK;
}

static int
value_of (unsigned try)
{
  return 1 + try % 255;
}

static void
try (struct history *h, int value)
{
  const unsigned n = h->tried;

  must (n < MAX_TRIES);
  h->tries[n] = value;
  atomic_store_explicit (&h->tried, n + 1, memory_order_release);
}

/* Whether a block may have a value, if SINCE tries were acknowledged. */
static bool
may_have (struct history *h, unsigned since, int value)
{
  const unsigned n = atomic_load_explicit (&h->tried, memory_order_acquire);
  unsigned i;

  if (since == 0)
    return true; /* what it had at first */
  for (i = since - 1; i < n; ++i)
    if (h->tries[i] == value || h->tries[i] == ANY)
      return true;
  return false;
}

/* A write that failed may be there in part, so both ends are looked at. */
static void
check_kept (struct model *m, unsigned block, unsigned since)
{
  struct array *a = m->s->array;
  const uint64_t at = offset_of (block);
  int first, last;

  pthread_mutex_lock (&a->lock);
  first = a->durable[at];
  last = a->durable[at + BLOCK - 1];
  pthread_mutex_unlock (&a->lock);
  must (may_have (&m->blocks[block], since, first));
  must (may_have (&m->blocks[block], since, last));
}

static void
flush (struct model *m)
{
  unsigned since[NR_BLOCKS];
  unsigned i;

  for (i = 0; i < NR_BLOCKS; ++i)
    since[i] = atomic_load (&m->blocks[i].acknowledged);
  if (request_flush (m->s->client) == 0)
    for (i = 0; i < NR_BLOCKS; ++i)
      check_kept (m, i, since[i]);
}

static void
write_block (struct model *m, unsigned block, bool durable)
{
  struct history *h = &m->blocks[block];
  const int value = value_of (h->tried);

  try (h, value);
  if (stack_write (m->s, offset_of (block), BLOCK, value, durable) != 0)
    return;
  h->acknowledged = h->tried;
  if (durable)
    check_kept (m, block, h->acknowledged);
}

static void
clear_block (struct model *m, unsigned block, bool zero, bool durable)
{
  struct history *h = &m->blocks[block];
  const uint64_t at = offset_of (block);
  int err;

  try (h, zero ? 0 : ANY);
  err = zero ? request_zero (m->s->client, BLOCK, at, durable ? ZERO_FUA : 0)
             : request_trim (m->s->client, BLOCK, at, durable);
  if (err == 0)
    h->acknowledged = h->tried;
}

static void
read_block (struct model *m, unsigned block)
{
  struct history *h = &m->blocks[block];
  uint8_t bytes[BLOCK];

  if (request_read (m->s->client, bytes, BLOCK, offset_of (block)) != 0)
    return;
  must (may_have (h, h->acknowledged, bytes[0]));
  must (may_have (h, h->acknowledged, bytes[BLOCK - 1]));
}

static void
run_client (void *arg)
{
  struct client_thread *t = arg;
  struct model *m = t->m;
  unsigned step, block;

  for (step = 0; step < STEPS; ++step) {
    block = random_below (&t->random, OWN_BLOCKS) * NR_THREADS + t->id;
    switch (random_below (&t->random, 10)) {
    case 0:
    case 1:
    case 2:
      write_block (m, block, false);
      break;
    case 3:
    case 4:
    case 5:
      write_block (m, block, true);
      break;
    case 6:
      clear_block (m, block, true, random_chance (&t->random, 30));
      break;
    case 7:
      clear_block (m, block, false, random_chance (&t->random, 30));
      break;
    case 8:
      read_block (m, block);
      break;
    default:
      flush (m);
    }
  }
  m->running--;
}

/* While the clients run, calls of all kinds fail now and then. */
static void
run_faults (struct model *m, struct random *random)
{
  static const enum array_op ops[] = { ARRAY_WRITE, ARRAY_ZERO, ARRAY_TRIM,
                                       ARRAY_FLUSH };
  unsigned i;

  while (m->running > 0) {
    array_heal (m->s->array);
    for (i = 0; i < 2; ++i)
      array_fail (m->s->array, ops[random_below (random, ARRAY_LEN (ops))],
                  random_below (random, 8), 1, EIO);
    for (i = 0; i < 50; ++i)
      sched_yield ();
  }
  array_heal (m->s->array);
}

static void
run_model (uint64_t seed)
{
  struct stack_options o = stack_options (SIZE);
  struct client_thread clients[NR_THREADS];
  struct model *m = calloc (1, sizeof *m);
  struct random random;
  unsigned i;

  must (m != NULL);
  random_seed (&random, seed);
  o.settings.mode = random_chance (&random, 70) ? MODE_WRITEBACK : MODE_PROMPT;
  o.traits.fua = random_chance (&random, 70) ? FUA_NATIVE : FUA_EMULATED;
  o.settings.depth = 8;
  o.memory = 16 * MiB;
  m->s = stack_new (&o);
  m->s->array->forgets = m->s->array->tears = m->s->array->unsteady = true;
  m->running = NR_THREADS;
  for (i = 0; i < NR_THREADS; ++i) {
    clients[i] = (struct client_thread){ .m = m, .id = i };
    random_seed (&clients[i].random, seed * 100 + i);
    thread_start (&clients[i].thread, run_client, &clients[i]);
  }
  run_faults (m, &random);
  for (i = 0; i < NR_THREADS; ++i)
    thread_join (&clients[i].thread);
  assert_int_equal (request_flush (m->s->client), 0);
  flush (m);
  for (i = 0; i < NR_BLOCKS; ++i)
    read_block (m, i);
  stack_free (m->s);
  free (m);
}

static void
test_model (void **state)
{
  uint64_t seed;

  for (seed = 1; seed <= 40; ++seed)
    run_model (seed);
}

/* ---- what is counted ---- */

/* Though nothing is unstable: a write in flight may have taken the mark. */
static void
test_each_failure_is_counted (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s = stack_new (&o);
  const uint64_t unmade = unmade_total (&s->export->pc);

  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (stack_write (s, 4096, BLOCK, 2, true), EIO);
  assert_true (unmade_total (&s->export->pc) > unmade);
  stack_free (s);
}

/* Whatever the event, blocks that become dirty again are counted. */
static void
test_undone_blocks_are_counted (void **state)
{
  struct stack_options o = stack_options (SIZE);
  struct stack *s;
  uint64_t unmade;

  o.settings.mode = MODE_PROMPT;
  s = stack_new (&o);
  assert_int_equal (stack_write (s, 0, BLOCK, 1, false), 0);
  unmade = unmade_total (&s->export->pc);
  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  assert_int_equal (request_zero (s->client, BLOCK, 0, 0), EIO);
  assert_true (unmade_total (&s->export->pc) > unmade);
  stack_free (s);
}

/* While an operation waits for a slot, zeroes take none. */
static void
test_wanted_room_is_kept (void **state)
{
  struct zeroes *z = calloc (1, sizeof *z);

  must (z != NULL);
  zeroes_init (z);
  assert_true (zeroes_remember (z, 0, 512, 0, 0));
  zeroes_keep_room (z, true);
  assert_false (zeroes_remember (z, 4096, 512, 0, 0));
  assert_true (zeroes_remember (z, 0, 1024, 0, 0)); /* takes no slot */
  zeroes_keep_room (z, false);
  assert_true (zeroes_remember (z, 4096, 512, 0, 0));
  zeroes_destroy (z);
  free (z);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_model),
    cmocka_unit_test (test_each_failure_is_counted),
    cmocka_unit_test (test_undone_blocks_are_counted),
    cmocka_unit_test (test_wanted_room_is_kept),
  };

  return cmocka_run_group_tests_name ("ledger", tests, NULL, NULL);
}
