/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the policy, in virtual time: writers elsewhere go on while a
 * place of the backend hangs, for how long each write waits, in which order and
 * with which neighbours writes go.
 */

#include <config.h>

#include "base/util.h"
#include "simulation.h"

/* ---- what hangs ---- */

/* Backends of which a place may hang while the others go on. */
static const struct backend {
  const char *name;
  unsigned serve;
  bool groups, one_stream;
  uint64_t write, flush;
} backends[] = {
  { "parallel, 0.2 ms", 64, false, false, MS / 5, 0 },
  { "parallel, 20 ms", 64, false, false, 20 * MS, 0 },
  { "four at once", 4, false, false, MS, 0 },
  { "one at a time", 1, false, false, MS, 0 },
  { "one at a time, a stream", 1, false, true, MS, 0 },
  { "groups of 2 ms", 1, true, false, 2 * MS, 0 },
  { "the flush is cheap", 4, false, false, MS / 5, 2 * MS },
};

static const unsigned depths[] = { 0, 1, 4, 16 };

static void
begin (struct simulation *s, const struct backend *b, unsigned depth)
{
  simulation_begin (s, depth, b->serve, b->write, b->flush, 48, true);
  s->groups = b->groups;
  s->one_stream = b->one_stream;
  if (b->flush == 0)
    s->fixed_way = BY_FLAG;
}

/* Writers of which the backend does not answer the next write. */
static void
hang (struct simulation *s, unsigned writers)
{
  unsigned i;

  for (i = 0; i < writers; ++i)
    s->all[i].hangs = true;
}

/* The rate of a second beside places that hang from its beginning on, all that
 * there are but at most MAX, as a part of that of the second before.
 */
static double
rate_beside (const struct backend *b, unsigned depth, unsigned max)
{
  static struct simulation s;
  unsigned hung;
  double before;

  begin (&s, b, depth);
  simulation_run (&s, 2 * SECOND);
  simulation_run (&s, SECOND);
  hung = min_u64 (depth_limit (&s.policy.depth), max);
  before = simulation_rate (&s);
  hang (&s, hung);
  simulation_run (&s, SECOND);
  return simulation_rate (&s) / (before * (s.writers - hung) / s.writers);
}

static void
test_one_place_hangs (void **state)
{
  size_t i, j;
  double rate;

  for (i = 0; i < ARRAY_LEN (backends); ++i)
    for (j = 0; j < ARRAY_LEN (depths); ++j) {
      rate = rate_beside (&backends[i], depths[j], 1);
      if (rate < 0.8)
        fail_msg ("%s, depth %u: %.2f of the rate", backends[i].name, depths[j],
                  rate);
    }
}

static void
test_all_places_hang (void **state)
{
  size_t i, j;
  double rate;

  for (i = 0; i < ARRAY_LEN (backends); ++i)
    for (j = 0; j < ARRAY_LEN (depths); ++j) {
      rate = rate_beside (&backends[i], depths[j], 16);
      if (rate < 0.5)
        fail_msg ("%s, depth %u: %.2f of the rate", backends[i].name, depths[j],
                  rate);
    }
}

static bool
are_idle (const struct simulation *s)
{
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    if (s->all[i].state != IDLE)
      return false;
  return true;
}

/* All places hang, then another writer comes: how long it waits for a place. */
static uint64_t
wait_beside_hung (struct simulation *s, unsigned depth)
{
  unsigned i;

  for (i = 0; i < s->writers; ++i)
    s->all[i].idle = true;
  while (!are_idle (s))
    simulation_run (s, SECOND);
  hang (s, depth);
  for (i = 0; i < depth; ++i)
    s->all[i].idle = false;
  while (s->policy.in_flight < depth)
    simulation_step (s, s->now + 1);
  s->all[depth].idle = false;
  simulation_step (s, s->now + 1);
  s->all[depth].idle = true;
  must (s->all[depth].state == WAITS);
  while (s->all[depth].state == WAITS)
    simulation_step (s, NEVER);
  return s->all[depth].waited;
}

/* The backend answers all of them again, and no more are written. */
static void
answer (struct simulation *s)
{
  unsigned i;

  for (i = 0; i < s->writers; ++i) {
    s->all[i].hangs = false;
    s->all[i].idle = true;
  }
}

/* A write that hung for an hour is forgotten at once; the one that went beside
 * it may have been faster than those before.
 */
static void
test_hang_of_an_hour (void **state)
{
  static struct simulation s;
  uint64_t before, after;
  size_t i, j;

  for (i = 0; i < ARRAY_LEN (backends); ++i)
    for (j = 1; j < ARRAY_LEN (depths); ++j) {
      begin (&s, &backends[i], depths[j]);
      s.policy.merge = false;
      simulation_run (&s, 2 * SECOND);
      before = wait_beside_hung (&s, depths[j]);
      simulation_run (&s, 3600 * SECOND);
      answer (&s);
      simulation_run (&s, SECOND);
      after = wait_beside_hung (&s, depths[j]);
      if (after > before * 5 / 4 || after < before * 3 / 4)
        fail_msg ("%s, depth %u: %.1f ms before, %.1f ms after",
                  backends[i].name, depths[j], before / 1e6, after / 1e6);
    }
}

/* However long batches take, a write does not wait longer than that for those
 * that hang.
 */
static void
test_wait_is_bounded (void **state)
{
  static struct simulation s;

  simulation_begin (&s, 4, 4, 100 * SECOND, 0, 8, false);
  simulation_run (&s, 1000 * SECOND);
  answer (&s);
  assert_in_range (wait_beside_hung (&s, 4), 0, SECOND);
}

/* A trial of a way by which the backend answers nothing ends, though no write
 * tells how long that way takes: those that come later go as before.
 */
static void
test_trial_of_what_hangs (void **state)
{
  static struct simulation s;
  const struct choice *c = &s.policy.choice;
  unsigned i, steps;

  simulation_begin (&s, 16, 16, MS, MS, 16, true);
  while (c->trials == 0 || c->way == c->chosen) {
    must (s.now < 60 * SECOND);
    simulation_step (&s, NEVER);
  }
  for (steps = 0; c->trials > 0; ++steps) {
    for (i = 0; i < WRITERS; ++i)
      s.all[i].hangs = c->way != c->chosen;
    if (steps % 10 == 0)
      s.writers++;
    must (s.writers < WRITERS);
    simulation_step (&s, s.now + MS);
  }
  assert_int_equal (c->chosen, BY_FLAG);
}

/* Latencies that rise by three orders of magnitude are a slow backend, not one
 * that hangs: the limit holds again.
 */
static void
test_slow_backend_is_learnt (void **state)
{
  static struct simulation s;

  simulation_begin (&s, 4, 64, MS / 5, 0, 48, false);
  simulation_run (&s, SECOND);
  assert_int_equal (s.max_at_once, 4);
  s.write = 200 * MS;
  simulation_run (&s, 5 * SECOND);
  assert_true (s.max_at_once > 4); /* it could have been hung */
  simulation_run (&s, 5 * SECOND);
  assert_int_equal (s.max_at_once, 4);
}

/* A large write may take longer than many small ones. */
static void
test_large_batch_does_not_hang (void **state)
{
  struct policy p;
  struct policy_batch small, large;
  struct policy_write w = { .len = 4096 }, v = { .len = 1 << 20 };
  unsigned i;

  policy_init (&p, true, 4);
  for (i = 0; i < 100; ++i) {
    assert_true (policy_arrive (&p, &w, i * 2 * MS));
    policy_take (&p, &small, &w, 0, false, i * 2 * MS);
    policy_written (&p, &small, MS, false, (i * 2 + 1) * MS);
    policy_end (&p, &small, (i * 2 + 1) * MS);
  }
  assert_true (policy_arrive (&p, &v, SECOND));
  policy_take (&p, &large, &v, 0, false, SECOND);
  policy_look (&p, SECOND + 900 * MS);
  assert_false (large.hung);
  policy_look (&p, 2 * SECOND);
  assert_true (large.hung);
  policy_written (&p, &large, SECOND, false, 2 * SECOND);
  policy_end (&p, &large, 2 * SECOND);
}

/* A batch that hangs is no company for a flush, and stands in no trial. */
static void
test_hung_batch_counts_nowhere (void **state)
{
  static struct simulation s;

  simulation_begin (&s, 4, 4, MS, MS, 3, true);
  s.fixed_way = BY_FLUSH;
  hang (&s, 3);
  simulation_run (&s, MS);
  assert_int_equal (s.policy.in_flight, 3);
  assert_int_equal (s.policy.durable, 3);
  assert_int_equal (s.policy.unwritten, 3);
  policy_look (&s.policy, 10 * SECOND);
  assert_int_equal (s.policy.in_flight, 0);
  assert_int_equal (s.policy.durable, 0);
  assert_int_equal (s.policy.unwritten, 0);
  assert_null (s.policy.oldest);
}

/* ---- which write goes ---- */

#define QUEUE 20

/* One batch in flight, and writes that wait. */
struct queue {
  struct policy p;
  struct policy_write first, w[QUEUE];
  struct policy_batch b, batches[QUEUE];
  unsigned batch;
};

static struct policy_write
write_at (uint64_t offset, uint64_t len)
{
  return (struct policy_write){ .offset = offset, .len = len };
}

static void
begin_queue (struct queue *q, unsigned depth)
{
  memset (q, 0, sizeof *q);
  policy_init (&q->p, true, depth);
  q->first = write_at (1 << 30, 512);
  assert_true (policy_arrive (&q->p, &q->first, 0));
  policy_take (&q->p, &q->b, &q->first, 0, false, 0);
}

static void
add (struct queue *q, unsigned i, uint64_t offset)
{
  q->w[i].offset = offset;
  q->w[i].len = 512;
  assert_false (policy_arrive (&q->p, &q->w[i], 1));
  assert_null (policy_wake (&q->p));
}

static void
end_batch (struct queue *q, struct policy_batch *b)
{
  policy_written (&q->p, b, MS, false, MS);
  policy_end (&q->p, b, MS);
}

/* The batch that goes when one has ended; it ends the last one. */
static struct policy_batch *
next_batch (struct queue *q, uint64_t max)
{
  struct policy_batch *b = &q->batches[q->batch];
  struct policy_write *w;

  end_batch (q, q->batch == 0 ? &q->b : b - 1);
  w = policy_wake (&q->p);
  assert_non_null (w);
  assert_null (policy_wake (&q->p));
  if (!w->has_place) { /* others may come that would join its batch */
    policy_look (&q->p, SECOND);
    assert_ptr_equal (policy_wake (&q->p), w);
  }
  policy_take (&q->p, b, w, policy_has_neighbours (&q->p, w) ? max : 0, false,
               MS);
  q->batch++;
  return b;
}

/* The last one ends, and nothing is left. */
static void
end_queue (struct queue *q)
{
  end_batch (q, &q->batches[q->batch - 1]);
  assert_null (policy_wake (&q->p));
  assert_null (q->p.first);
  assert_null (q->p.earliest);
  assert_int_equal (q->p.in_flight, 0);
  assert_int_equal (q->p.waiting, 0);
}

static void
test_order_of_arrival (void **state)
{
  static const uint64_t offsets[] = { 5, 2, 9, 1, 7, 3 };
  struct queue q;
  size_t i;

  begin_queue (&q, 1);
  for (i = 0; i < ARRAY_LEN (offsets); ++i)
    add (&q, i, offsets[i] << 20);
  for (i = 0; i < ARRAY_LEN (offsets); ++i)
    assert_int_equal (next_batch (&q, 1 << 20)->offset, offsets[i] << 20);
  end_queue (&q);
}

/* A write with an earlier turn goes before those that came meanwhile. */
static void
test_turn (void **state)
{
  struct queue q;

  begin_queue (&q, 1);
  add (&q, 0, 1 << 20);
  q.w[1].turn = policy_turn (&q.p);
  add (&q, 2, 2 << 20);
  add (&q, 1, 3 << 20);
  assert_int_equal (next_batch (&q, 1 << 20)->offset, 1 << 20);
  assert_int_equal (next_batch (&q, 1 << 20)->offset, 3 << 20);
  assert_int_equal (next_batch (&q, 1 << 20)->offset, 2 << 20);
  end_queue (&q);
}

/* Neighbours of the same kind are one batch, as long as they fit. */
static void
test_neighbours (void **state)
{
  struct policy_batch *b;
  struct queue q;

  begin_queue (&q, 1);
  q.w[3].kind = 1;
  q.w[5].durable = true;
  add (&q, 0, 1024);
  add (&q, 1, 512);
  add (&q, 2, 1536);
  add (&q, 3, 0);    /* of another kind */
  add (&q, 4, 2560); /* behind a gap */
  add (&q, 5, 3072); /* durable */
  b = next_batch (&q, 4096);
  assert_int_equal (b->offset, 512);
  assert_int_equal (b->len, 1536);
  assert_int_equal (b->nr, 3);
  assert_ptr_equal (b->writes, &q.w[1]);
  assert_ptr_equal (b->writes->in_batch, &q.w[0]);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  end_queue (&q);

  begin_queue (&q, 1);
  for (unsigned i = 0; i < 10; ++i)
    add (&q, i, i * 512);
  assert_int_equal (next_batch (&q, 4 * 512)->nr, 4);
  assert_int_equal (next_batch (&q, 4 * 512)->nr, 4);
  assert_int_equal (next_batch (&q, 4 * 512)->nr, 2);
  end_queue (&q);

  begin_queue (&q, 1);
  q.p.merge = false;
  add (&q, 0, 0);
  add (&q, 1, 512);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  end_queue (&q);
}

/* Writes that failed as one batch do not become the same batch again. */
static void
test_write_that_goes_alone (void **state)
{
  struct queue q;
  unsigned i;

  begin_queue (&q, 1);
  q.w[1].alone = true;
  for (i = 0; i < 4; ++i)
    add (&q, i, i * 512);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  assert_int_equal (next_batch (&q, 4096)->nr, 1);
  assert_int_equal (next_batch (&q, 4096)->nr, 2);
  end_queue (&q);
}

/* Where a write meets no other, nothing is queued and none is woken. */
static void
test_write_that_meets_no_other (void **state)
{
  struct policy_write w[4];
  struct policy_batch b[4];
  struct policy p;
  unsigned i;

  policy_init (&p, true, 4);
  for (i = 0; i < 4; ++i) {
    w[i] = write_at (i * 512, 512);
    assert_true (policy_arrive (&p, &w[i], 0));
    assert_null (p.first);
    assert_null (p.awake);
    policy_take (&p, &b[i], &w[i], 0, false, 0);
    assert_int_equal (b[i].nr, 1);
    assert_int_equal (b[i].in_flight, i + 1);
  }
  for (i = 0; i < 4; ++i) {
    policy_written (&p, &b[i], MS, false, MS);
    policy_end (&p, &b[i], MS);
    assert_null (p.awake);
  }
  assert_int_equal (p.in_flight, 0);
}

/* A backend that serves one at a time has the writes of a stream in batches. */
static void
test_stream_is_gathered (void **state)
{
  static struct simulation s;

  simulation_begin (&s, 0, 1, MS, 0, 16, true);
  s.fixed_way = BY_FLAG;
  s.one_stream = true;
  simulation_run (&s, 2 * SECOND);
  simulation_run (&s, SECOND);
  assert_true (s.ended > 12 * s.batches);
}

/* A write of a batch that hangs, where no other is in flight, sleeps until the
 * batch ends: there is no gathering that it could wait for.
 */
static void
test_write_in_a_hung_batch_sleeps (void **state)
{
  const uint64_t now = 10 * SECOND;
  struct policy_batch *b;
  struct queue q;

  begin_queue (&q, 1);
  add (&q, 0, 0);
  add (&q, 1, 512);
  b = next_batch (&q, 4096);
  assert_int_equal (b->nr, 2);
  policy_look (&q.p, now);
  assert_true (b->hung);
  assert_int_equal (q.p.in_flight, 0);
  assert_true (policy_looks_again (&q.p, now) > now);
  end_queue (&q);
}

/* ---- all at once ---- */

/* Hangs, idle writers, changes of the depth and of the backend, by chance: each
 * write ends, and at the end nothing is left behind.
 */
static void
test_random (void **state)
{
  static struct simulation s;
  unsigned seed, i, round;

  for (seed = 0; seed < 60; ++seed) {
    simulation_begin (&s, seed % 5, 1 + seed % 7, MS / 4 << seed % 5,
                      MS << seed % 3, 1 + seed % 40, seed % 3 != 0);
    random_seed (&s.random, seed);
    s.groups = seed % 4 == 3;
    s.one_stream = seed % 2;
    for (round = 0; round < 50; ++round) {
      for (i = 0; i < s.writers; ++i) {
        s.all[i].idle = random_chance (&s.random, 30);
        s.all[i].hangs = random_chance (&s.random, 5);
      }
      if (random_chance (&s.random, 10))
        policy_set_depth (&s.policy, random_below (&s.random, 20), s.now);
      simulation_run (&s, random_below (&s.random, 100) * MS + 1);
    }
    answer (&s);
    for (i = 0; i < s.writers; ++i)
      s.all[i].idle = true;
    simulation_run (&s, 1000 * SECOND);
    must (are_idle (&s));
    must (s.policy.in_flight == 0 && s.policy.waiting == 0);
    must (s.policy.durable == 0 && s.policy.unwritten == 0);
    must (s.policy.first == NULL && s.policy.earliest == NULL);
    must (s.policy.oldest == NULL && s.policy.awake == NULL);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_one_place_hangs),
    cmocka_unit_test (test_all_places_hang),
    cmocka_unit_test (test_hang_of_an_hour),
    cmocka_unit_test (test_wait_is_bounded),
    cmocka_unit_test (test_trial_of_what_hangs),
    cmocka_unit_test (test_slow_backend_is_learnt),
    cmocka_unit_test (test_large_batch_does_not_hang),
    cmocka_unit_test (test_hung_batch_counts_nowhere),
    cmocka_unit_test (test_order_of_arrival),
    cmocka_unit_test (test_turn),
    cmocka_unit_test (test_neighbours),
    cmocka_unit_test (test_write_that_goes_alone),
    cmocka_unit_test (test_write_that_meets_no_other),
    cmocka_unit_test (test_stream_is_gathered),
    cmocka_unit_test (test_write_in_a_hung_batch_sleeps),
    cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests_name ("policy", tests, NULL, NULL);
}
