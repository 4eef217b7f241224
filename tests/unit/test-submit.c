/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of submission: calls of the right size, batches, and many writers
 * at once.
 */

#include <config.h>

#include <errno.h>

#include "setup.h"

/* ---- calls of the right size ---- */

static void
test_no_call_beyond_the_maximum (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct setup *s;
  uint8_t *bytes;

  traits.maximum = 64 * KiB;
  s = setup_traits (&traits, true, 4);
  assert_int_equal (setup_write (s, 0, 1 * MiB, 1, true), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 16);
  assert_true (setup_has (s, true, 0, 1 * MiB, 1));
  bytes = malloc (1 * MiB);
  assert_int_equal (
      submit_read (&s->submit, &s->array->backend, bytes, 512, 1 * MiB - 512),
      0);
  assert_int_equal (array_calls (s->array, ARRAY_READ), 16);
  assert_int_equal (bytes[1 * MiB - 513], 1);
  clear_range (&s->submit, &s->array->backend, 0, 1 * MiB, CLEAR_ZEROED, 0);
  assert_int_equal (array_calls (s->array, ARRAY_ZERO), 16);
  clear_range (&s->submit, &s->array->backend, 0, 1 * MiB, CLEAR_UNKNOWN, 0);
  assert_int_equal (array_calls (s->array, ARRAY_TRIM), 16);
  free (bytes);
  setup_free (s);
}

static void
test_failed_read_stops (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  uint8_t bytes[8192];
  struct setup *s;

  traits.maximum = 2048;
  s = setup_traits (&traits, true, 4);
  array_fail (s->array, ARRAY_READ, 1, 1, ENOSPC);
  assert_int_equal (
      submit_read (&s->submit, &s->array->backend, bytes, 0, sizeof bytes),
      ENOSPC);
  assert_int_equal (array_calls (s->array, ARRAY_READ), 2);
  setup_free (s);
}

/* ---- batches ---- */

#define MAX_WRITERS 32

/* One write is in flight, and others wait: N neighbours of LEN bytes from
 * OFFSET on, a gap of GAP bytes between them.
 */
struct crowd {
  struct setup *s;
  struct writer first, writers[MAX_WRITERS];
  unsigned n;
};

static void
gather_crowd (struct crowd *c, struct setup *s, unsigned n, uint64_t offset,
              uint32_t len, uint32_t gap, bool durable)
{
  unsigned i;

  c->s = s;
  c->n = n;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&c->first, s, 1 * MiB, 512, durable);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  for (i = 0; i < n; ++i) {
    /* Not in order: every other one first. */
    const unsigned j = i < (n + 1) / 2 ? 2 * i : 2 * (i - (n + 1) / 2) + 1;

    writer_start (&c->writers[j], s, offset + j * (uint64_t) (len + gap), len,
                  durable);
    wait_until (setup_waiting (s) == i + 1);
  }
}

/* Lets all end; the error that all but the first have. */
static int
end_crowd (struct crowd *c)
{
  unsigned i;
  int err;

  array_open (c->s->array, ARRAY_WRITE);
  must (writer_join (&c->first) == 0);
  err = writer_join (&c->writers[0]);
  for (i = 1; i < c->n; ++i)
    must (writer_join (&c->writers[i]) == err);
  return err;
}

static void
check_crowd (struct crowd *c, bool durable)
{
  unsigned i;

  for (i = 0; i < c->n; ++i)
    must (setup_has (c->s, durable, c->writers[i].offset, c->writers[i].len,
                     c->writers[i].value));
}

static void
test_neighbours_are_one_write (void **state)
{
  struct setup *s = setup_new (1);
  struct histogram_view batches;
  struct crowd c;

  gather_crowd (&c, s, 20, 4096 - 512, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 1).offset, 4096 - 512);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 1).len, 20 * 512);
  check_crowd (&c, true);
  batches = histogram_view (&s->submit.batch_writes, &number_scale);
  assert_int_equal (histogram_count (&batches, &number_scale), 2);
  assert_int_equal (batches.sum, 21);
  assert_int_equal (setup_amounts (s).dirty + setup_amounts (s).writeback, 0);
  setup_free (s);
}

static void
test_gaps_are_not_bridged (void **state)
{
  struct setup *s = setup_new (1);
  struct crowd c;

  gather_crowd (&c, s, 5, 0, 512, 512, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 6);
  assert_int_equal (array_bytes (s->array, ARRAY_WRITE), 6 * 512);
  check_crowd (&c, true);
  setup_free (s);
}

static void
test_batch_keeps_to_the_maximum (void **state)
{
  struct backend_traits traits = array_traits (SETUP_SIZE);
  struct setup *s;
  struct crowd c;

  traits.maximum = 8192;
  s = setup_traits (&traits, true, 1);
  gather_crowd (&c, s, 24, 0, 1024, 0, false);
  assert_int_equal (end_crowd (&c), 0);
  assert_between (array_calls (s->array, ARRAY_WRITE), 1 + 3, 1 + 5);
  assert_int_equal (array_bytes (s->array, ARRAY_WRITE), 512 + 24 * 1024);
  check_crowd (&c, false);
  setup_free (s);
}

static void
test_batch_keeps_to_its_buffer (void **state)
{
  struct setup *s = setup_new (1);
  const uint32_t buffer =
      min_u64 (memory_batch_size (&s->cache->memory), 128 * KiB);
  struct crowd c;

  gather_crowd (&c, s, 8, 0, buffer / 2, 0, false);
  assert_int_equal (end_crowd (&c), 0);
  assert_between (array_calls (s->array, ARRAY_WRITE), 1 + 4, 1 + 6);
  check_crowd (&c, false);
  setup_free (s);
}

static void
test_ordinary_and_durable_are_apart (void **state)
{
  struct setup *s = setup_new (1);
  struct writer ordinary, durable;
  struct crowd c;
  unsigned i;

  gather_crowd (&c, s, 1, 64 * KiB, 512, 0, true);
  writer_start (&ordinary, s, 0, 512, false);
  wait_until (setup_waiting (s) == 2);
  writer_start (&durable, s, 512, 512, true);
  wait_until (setup_waiting (s) == 3);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (writer_join (&ordinary), 0);
  assert_int_equal (writer_join (&durable), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 4);
  for (i = 0; i < 4; ++i)
    if (array_call (s->array, ARRAY_WRITE, i).offset == 0)
      assert_int_equal (array_call (s->array, ARRAY_WRITE, i).flags, 0);
  setup_free (s);
}

/* Law 20: over a serial stack each writes in its own thread, its own. */
static void
test_no_merging_if_told_so (void **state)
{
  const struct backend_traits traits = array_traits (SETUP_SIZE);
  struct setup *s = setup_traits (&traits, false, 1);
  struct crowd c;

  gather_crowd (&c, s, 6, 0, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 7);
  setup_free (s);
}

/* Without a buffer to copy to, writes go one by one. */
static void
test_no_buffer_no_batch (void **state)
{
  struct setup *s = setup_new (1);
  struct memory *m = &s->cache->memory;
  struct borrower *borrower = &s->cache->pc.borrower;
  void *taken[512];
  size_t n = 0;
  struct crowd c;

  gather_crowd (&c, s, 4, 0, 512, 0, true);
  while ((taken[n] = batch_buffer_try (m, borrower, 1)) != NULL)
    n++;
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 5);
  check_crowd (&c, true);
  while (n > 0)
    batch_buffer_put (m, borrower, taken[--n], 1);
  setup_free (s);
}

/* Law 12. */
static void
test_error_goes_to_every_writer (void **state)
{
  struct setup *s = setup_new (1);
  struct crowd c;
  unsigned i;

  array_fail_range (s->array, ARRAY_WRITE, 0, 64 * KiB, ENOSPC);
  gather_crowd (&c, s, 8, 0, 512, 0, true);
  assert_int_equal (end_crowd (&c), ENOSPC);
  assert_int_equal (s->array->failed[ARRAY_WRITE], 1); /* a batch of all */
  for (i = 0; i < 8; ++i) /* nothing was acknowledged */
    assert_false (block_is (s->cache, i * 512, DIRTY));
  assert_false (block_is (s->cache, 0, UPTODATE));
  assert_true (block_is (s->cache, 1 * MiB, UPTODATE));
  setup_free (s);
}

static void
test_depth_is_kept (void **state)
{
  static const unsigned depths[] = { 1, 3, 8 };
  struct writer writers[20];
  struct setup *s;
  unsigned d, i;

  for (d = 0; d < ARRAY_LEN (depths); ++d) {
    s = setup_new (depths[d]);
    array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
    for (i = 0; i < ARRAY_LEN (writers); ++i)
      writer_start (&writers[i], s, i * 4096, 512, true);
    array_wait_gate (s->array, ARRAY_WRITE, depths[d]);
    wait_until (setup_waiting (s) == ARRAY_LEN (writers) - depths[d]);
    array_open (s->array, ARRAY_WRITE);
    for (i = 0; i < ARRAY_LEN (writers); ++i)
      assert_int_equal (writer_join (&writers[i]), 0);
    assert_int_equal (s->array->max_at_once[ARRAY_WRITE], depths[d]);
    assert_int_equal (s->submit.policy.in_flight, 0);
    setup_free (s);
  }
}

/* COMPANY writes of a merged batch have just ended, and may come back for NS.
 */
static void
begin_gathering (struct setup *s, unsigned company, uint64_t ns)
{
  lock_take (&s->submit.lock);
  s->submit.policy.mergeable = 16;
  s->submit.policy.company = company;
  s->submit.policy.gathers_until = now_ns () + ns;
  lock_drop (&s->submit.lock);
}

/* A merged batch makes the next wait for as many writes; single ones do not. */
static void
test_company_is_what_was_merged (void **state)
{
  struct setup *s = setup_new (1);
  struct crowd c;

  gather_crowd (&c, s, 6, 0, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_true (s->submit.policy.mergeable > 1.5);
  assert_int_equal (s->submit.policy.company, 6);
  gather_crowd (&c, s, 6, 0, 512, 512, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_true (s->submit.policy.mergeable < 1.5);
  setup_free (s);
}

/* One batch in flight, one write that waits: OFFSET is its place.  How many
 * could have been one batch, by what is known after both.
 */
static double
mergeable_beside (uint64_t offset)
{
  struct setup *s = setup_new (1);
  double mergeable;
  struct crowd c;

  gather_crowd (&c, s, 1, offset, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  mergeable = s->submit.policy.mergeable;
  setup_free (s);
  return mergeable;
}

/* Neighbours that came apart are to come together again; others are not. */
static void
test_company_is_what_lies_beside (void **state)
{
  assert_true (mergeable_beside (1 * MiB + 512) > 1);
  assert_true (mergeable_beside (1 * MiB - 512) > 1);
  assert_true (mergeable_beside (1 * MiB + 1024) == 1);
  assert_true (mergeable_beside (1 * MiB - 1024) == 1);
}

static void
test_gathered_writes_are_one (void **state)
{
  struct setup *s = setup_new (1);
  struct writer writers[3];
  unsigned i;

  begin_gathering (s, ARRAY_LEN (writers), UINT64_C (1000000000000));
  for (i = 0; i < ARRAY_LEN (writers); ++i) {
    assert_int_equal (array_calls (s->array, ARRAY_WRITE), 0);
    writer_start (&writers[i], s, i * 512, 512, true);
    if (i + 1 < ARRAY_LEN (writers))
      wait_until (setup_waiting (s) == i + 1);
  }
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    assert_int_equal (writer_join (&writers[i]), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 1);
  setup_free (s);
}

/* A batch does not wait for requests that never arrive. */
static void
test_gathering_ends (void **state)
{
  struct setup *s = setup_new (1);
  struct writer first, others[2];
  unsigned i;

  begin_gathering (s, 9, 1000000);
  assert_int_equal (setup_write (s, 0, 512, 1, true), 0);

  /* Those that came while one was in flight, too. */
  s->submit.policy.usual[0].latency = s->submit.policy.usual[1].latency =
      UINT64_C (1000000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  writer_start (&first, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    writer_start (&others[i], s, 8192 + i * 4096, 512, true);
  wait_until (setup_waiting (s) == ARRAY_LEN (others));
  begin_gathering (s, 9, 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&first), 0);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    assert_int_equal (writer_join (&others[i]), 0);
  setup_free (s);
}

/* A backend that serves several at once is not kept waiting. */
static void
test_no_gathering_for_a_parallel_backend (void **state)
{
  struct setup *s = setup_new (8);

  begin_gathering (s, 9, UINT64_C (1000000000000));
  assert_int_equal (setup_write (s, 0, 512, 1, true), 0);
  setup_free (s);
}

/* A write waits for its own blocks only: not for batches that hang. */
static void
test_hung_batches_let_others_by (void **state)
{
  struct setup *s = setup_new (1);
  struct writer hangs, other;

  s->submit.policy.usual[0].latency = s->submit.policy.usual[1].latency = 0;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&hangs, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  writer_start (&other, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&hangs), 0);
  assert_int_equal (writer_join (&other), 0);
  assert_int_equal (s->submit.policy.in_flight, 0);
  setup_free (s);
}

/* So it does beside a backend where batches last for days. */
static void
test_patience_is_bounded (void **state)
{
  struct setup *s = setup_new (1);
  struct writer slow, other;

  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  writer_start (&slow, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  writer_start (&other, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (writer_join (&slow), 0);
  assert_int_equal (writer_join (&other), 0);
  setup_free (s);
}

/* ---- many at once ---- */

#define LOADERS 6

struct loader {
  struct setup *s;
  unsigned number, steps;
  _Atomic unsigned *ended, *failed;
};

/* Blocks are divided among threads in turn, so that neighbours meet. */
static void
run_loader (void *arg)
{
  struct loader *l = arg;
  struct random r = { l->number + 1 };
  const unsigned blocks = SETUP_SIZE / 512 / LOADERS;
  uint64_t offset;
  unsigned i;
  int err;

  for (i = 0; i < l->steps; ++i) {
    offset = (random_below (&r, blocks) % 64 * LOADERS + l->number) * 512;
    if (random_chance (&r, 5))
      err = durable_flush (&l->s->submit, &l->s->array->backend);
    else
      err = setup_write (l->s, offset, 512, i % 250, random_chance (&r, 60));
    atomic_fetch_add (l->ended, 1);
    if (err != 0)
      atomic_fetch_add (l->failed, 1);
  }
}

static void
test_random_load (void **state)
{
  static const enum fua_kind kinds[] = { FUA_NATIVE, FUA_EMULATED };
  struct backend_traits traits = array_traits (SETUP_SIZE);
  _Atomic unsigned ended, failed;
  struct loader loaders[LOADERS];
  struct thread threads[LOADERS];
  struct setup *s;
  unsigned i, round;

  for (round = 0; round < 8; ++round) {
    traits.fua = kinds[round % 2];
    s = setup_traits (&traits, true, round % 3); /* 0: automatic */
    s->array->unsteady = true;
    s->array->forgets = round >= 4;
    ended = failed = 0;
    if (round >= 4) {
      array_fail (s->array, ARRAY_WRITE, 50, 3, EIO);
      array_fail (s->array, ARRAY_FLUSH, 3, 2, EIO);
    }
    for (i = 0; i < LOADERS; ++i) {
      loaders[i] = (struct loader){ s, i, 200, &ended, &failed };
      thread_start (&threads[i], run_loader, &loaders[i]);
    }
    for (i = 0; i < LOADERS; ++i)
      thread_join (&threads[i]);
    must (ended == LOADERS * 200);
    must (round >= 4 || failed == 0);
    must (setup_amounts (s).writeback == 0);
    must (s->submit.policy.in_flight == 0 && s->submit.policy.first == NULL);
    must (s->submit.oldest == NULL && s->submit.policy.unwritten == 0);
    must (s->array->max_at_once[ARRAY_FLUSH] <= 1);
    setup_free (s);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_no_call_beyond_the_maximum),
    cmocka_unit_test (test_failed_read_stops),
    cmocka_unit_test (test_neighbours_are_one_write),
    cmocka_unit_test (test_gaps_are_not_bridged),
    cmocka_unit_test (test_batch_keeps_to_the_maximum),
    cmocka_unit_test (test_batch_keeps_to_its_buffer),
    cmocka_unit_test (test_ordinary_and_durable_are_apart),
    cmocka_unit_test (test_no_merging_if_told_so),
    cmocka_unit_test (test_no_buffer_no_batch),
    cmocka_unit_test (test_error_goes_to_every_writer),
    cmocka_unit_test (test_depth_is_kept),
    cmocka_unit_test (test_company_is_what_was_merged),
    cmocka_unit_test (test_company_is_what_lies_beside),
    cmocka_unit_test (test_gathered_writes_are_one),
    cmocka_unit_test (test_gathering_ends),
    cmocka_unit_test (test_no_gathering_for_a_parallel_backend),
    cmocka_unit_test (test_hung_batches_let_others_by),
    cmocka_unit_test (test_patience_is_bounded),
    cmocka_unit_test (test_random_load),
  };

  return cmocka_run_group_tests_name ("submit", tests, NULL, NULL);
}
