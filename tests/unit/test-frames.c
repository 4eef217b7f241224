/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the budget and of buffers. */

#include <config.h>

#include "unit.h"

static struct memory *
memory_new (uint64_t limit)
{
  struct memory *m = calloc (1, sizeof *m);

  must (m != NULL);
  must (memory_init (m, limit) == 0);
  return m;
}

static void
memory_free (struct memory *m)
{
  memory_destroy (m);
  free (m);
}

static void
test_budget_is_kept (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  const uint64_t left = m->limit - m->used;

  assert_false (memory_take (m, left + 1));
  assert_true (memory_take (m, left));
  assert_false (memory_take (m, 1));
  memory_give (m, 10);
  assert_true (memory_take (m, 10));
  assert_int_equal (m->used, m->limit);
  memory_free (m);
}

/* Buffers are a small share of the smallest and the largest budget. */
static void
test_buffers_are_counted (void **state)
{
  static const uint64_t limits[] = { 1 * MiB, 32 * MiB, 1 * GiB, 64 * GiB };
  size_t i;

  for (i = 0; i < ARRAY_LEN (limits); ++i) {
    struct memory *m = memory_new (limits[i]);

    assert_int_equal (m->used, m->batches.unit * m->batches.units +
                                   m->scratch.unit * m->scratch.units);
    assert_between (m->used, 1, limits[i] / 4);
    assert_true (is_power_of_2 (memory_batch_size (m)));
    assert_between (memory_scratch_max (m), 4096, m->used);
    memory_free (m);
  }
}

static void
test_mapping_reads_as_zero_after_release (void **state)
{
  const size_t bytes = 64 * KiB;
  uint8_t *p = memory_map (1, bytes);
  size_t i;

  assert_non_null (p);
  memset (p, 0xff, bytes);
  memory_release (p, bytes);
  for (i = 0; i < bytes; ++i)
    assert_int_equal (p[i], 0);
  memory_unmap (p, bytes);
}

/* (2^32 + 1) * 2^32 is 2^32 in 64 bits; 2^20 pages of 4 KiB are 0 in 32. */
static void
test_size_that_wraps_is_not_mapped (void **state)
{
  assert_null (memory_map ((UINT64_C (1) << 32) + 1, UINT64_C (1) << 32));
  assert_null (memory_map (2, (uint64_t) SIZE_MAX / 2 + 1));
  assert_null (memory_map (1, (uint64_t) PTRDIFF_MAX + 1));
}

/* One export whose backend hangs keeps half of the buffers at most. */
static void
test_half_of_the_batches_each (void **state)
{
  struct memory *m = memory_new (32 * MiB);
  const size_t most = memory_batch_size (m), small = m->batches.unit;
  struct borrower one = { 0 }, other = { 0 };
  void *buffers[512], *theirs;
  size_t n = 0;

  while ((buffers[n] = batch_buffer_try (m, &one, small)) != NULL)
    n++;
  assert_int_equal (n, m->batches.units / 2);
  assert_null (batch_buffer_try (m, &one, 1));
  theirs = batch_buffer_get (m, &other, most); /* does not wait */
  assert_non_null (theirs);
  batch_buffer_put (m, &other, theirs, most);
  while (n > 0)
    batch_buffer_put (m, &one, buffers[--n], small);
  assert_int_equal (one.batch_units, 0);
  memory_free (m);
}

/* Half of the smallest budget's buffers hold the largest block. */
static void
test_largest_block_fits (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  struct borrower one = { 0 };
  void *a, *b;

  assert_between (memory_batch_size (m), 65536, 1 * MiB);
  a = batch_buffer_get (m, &one, 65536);
  b = scratch_get (m, &one, 65536);
  assert_non_null (a);
  assert_non_null (b);
  batch_buffer_put (m, &one, a, 65536);
  scratch_put (m, &one, b, 65536);
  memory_free (m);
}

static void
test_half_of_the_scratch_each (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  const size_t most = memory_scratch_max (m);
  struct borrower one = { 0 }, other = { 0 };
  void *a, *b;

  a = scratch_get (m, &one, most);
  assert_null (scratch_try (m, &one, 1));
  b = scratch_get (m, &other, most);
  assert_non_null (b);
  scratch_put (m, &one, a, most);
  a = scratch_try (m, &one, 1);
  assert_non_null (a);
  scratch_put (m, &one, a, 1);
  scratch_put (m, &other, b, most);
  memory_free (m);
}

/* A reader cannot take the last buffer of write-back, nor the other way. */
static void
test_purposes_are_apart (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  const size_t most = memory_scratch_max (m);
  struct borrower one = { 0 }, other = { 0 };
  void *a = scratch_get (m, &one, most), *b = scratch_get (m, &other, most);
  void *batch = batch_buffer_try (m, &one, 1);

  assert_non_null (batch);
  batch_buffer_put (m, &one, batch, 1);
  scratch_put (m, &one, a, most);
  scratch_put (m, &other, b, most);
  memory_free (m);
}

struct user {
  struct memory *m;
  struct borrower *borrower;
  uint64_t seed;
};

/* No other thread writes to a buffer that is lent. */
static void
use_buffers (void *arg)
{
  struct user *u = arg;
  struct random r = { u->seed };
  size_t bytes, i;
  unsigned step;
  uint8_t *p;
  bool batch;

  for (step = 0; step < 500; ++step) {
    batch = random_chance (&r, 50);
    bytes = 1 + random_below (&r, batch ? memory_batch_size (u->m)
                                        : memory_scratch_max (u->m));
    p = batch ? batch_buffer_get (u->m, u->borrower, bytes)
              : scratch_get (u->m, u->borrower, bytes);
    memset (p, u->seed, bytes);
    for (i = 0; i < bytes; ++i)
      must (p[i] == u->seed);
    if (batch)
      batch_buffer_put (u->m, u->borrower, p, bytes);
    else
      scratch_put (u->m, u->borrower, p, bytes);
  }
}

static void
test_buffers_of_threads_are_apart (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  struct borrower borrowers[2] = { 0 };
  struct thread threads[6];
  struct user users[6];
  size_t i;

  for (i = 0; i < ARRAY_LEN (users); ++i) {
    users[i] = (struct user){ m, &borrowers[i % 2], i + 1 };
    thread_start (&threads[i], use_buffers, &users[i]);
  }
  for (i = 0; i < ARRAY_LEN (users); ++i)
    thread_join (&threads[i]);
  for (i = 0; i < ARRAY_LEN (m->scratch.taken); ++i)
    assert_int_equal (m->scratch.taken[i] | m->batches.taken[i], 0);
  memory_free (m);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_budget_is_kept),
    cmocka_unit_test (test_buffers_are_counted),
    cmocka_unit_test (test_mapping_reads_as_zero_after_release),
    cmocka_unit_test (test_size_that_wraps_is_not_mapped),
    cmocka_unit_test (test_half_of_the_batches_each),
    cmocka_unit_test (test_largest_block_fits),
    cmocka_unit_test (test_half_of_the_scratch_each),
    cmocka_unit_test (test_purposes_are_apart),
    cmocka_unit_test (test_buffers_of_threads_are_apart),
  };

  return cmocka_run_group_tests_name ("frames", tests, NULL, NULL);
}
