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

static void *
get_batch (struct memory *m, struct borrower *borrower, size_t size)
{
  size_t got = size;
  void *p = batch_buffer_get (m, borrower, size, &got);

  must (got == size);
  return p;
}

static void *
get_scratch (struct memory *m, struct borrower *borrower, size_t size)
{
  size_t got = size;
  void *p = scratch_get (m, borrower, size, &got, true);

  must (got == size);
  return p;
}

/* How many buffers of one unit are lent to a borrower that takes all it may. */
static size_t
take_all (struct memory *m, struct borrower *borrower, enum urgency urgency,
          void **buffers)
{
  size_t n = 0;

  while ((buffers[n] = scratch_try (m, borrower, 1, urgency)) != NULL)
    n++;
  return n;
}

static void
return_all (struct memory *m, struct borrower *borrower, void **buffers,
            size_t n)
{
  while (n > 0)
    scratch_put (m, borrower, buffers[--n], 1);
}

/* A borrower takes of the shared buffers one, two or three times what it leaves
 * free, and the last one is never lent.
 */
static void
test_urgent_needs_take_more (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  const size_t all = m->scratch.units;
  struct borrower one = { 0 }, other = { 0 };
  void *buffers[512], *others[512];
  size_t n, more;

  n = take_all (m, &one, URGENCY_AHEAD, buffers);
  assert_int_equal (n, all / 2);
  return_all (m, &one, buffers, n);
  n = take_all (m, &one, URGENCY_BESIDE, buffers);
  assert_int_equal (n, all * 2 / 3);
  return_all (m, &one, buffers, n);
  n = take_all (m, &one, URGENCY_NEEDED, buffers);
  assert_int_equal (n, all * 3 / 4);
  assert_null (scratch_try (m, &one, 1, URGENCY_AHEAD));
  more = take_all (m, &other, URGENCY_NEEDED, others);
  assert_int_equal (more, (all - n) * 3 / 4);
  assert_between (m->scratch.free, 1, all);
  return_all (m, &other, others, more);
  return_all (m, &one, buffers, n);
  assert_int_equal (one.scratch.units, 0);
  assert_int_equal (m->scratch.free, all);
  memory_free (m);
}

/* Where no large buffer is to be had, a smaller one is. */
static void
test_smaller_buffer (void **state)
{
  struct memory *m = memory_new (256 * MiB);
  struct borrower borrowers[2] = { 0 };
  const size_t size = memory_batch_size (m), unit = m->batches.unit;
  const size_t n = m->batches.units * unit * 3 / 4 / size;
  void *buffers[64], *large, *less;
  size_t i, got = size;

  for (i = 0; i < n; ++i)
    buffers[i] = get_batch (m, &borrowers[0], size);
  large = get_batch (m, &borrowers[1], size);
  less = batch_buffer_get (m, &borrowers[1], unit, &got);
  assert_int_equal (got, size / 2);
  memset (less, 1, got);
  batch_buffer_put (m, &borrowers[1], less, got);
  batch_buffer_put (m, &borrowers[1], large, size);
  for (i = 0; i < n; ++i)
    batch_buffer_put (m, &borrowers[0], buffers[i], size);
  assert_int_equal (m->batches.free, m->batches.units);
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
  a = get_batch (m, &one, 65536);
  b = get_scratch (m, &one, 65536);
  assert_non_null (a);
  assert_non_null (b);
  batch_buffer_put (m, &one, a, 65536);
  scratch_put (m, &one, b, 65536);
  memory_free (m);
}

/* A borrower with buffers of its own gets them when others have all else. */
static void
test_own_buffers (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  const uint64_t cost = borrower_cost (m, 4096), used = memory_used (m);
  struct borrower hung[8] = { 0 }, one = { 0 };
  static void *buffers[8][512];
  void *a, *b;
  size_t n[8], i, size = 65536, little = 65536;

  assert_true (memory_take (m, cost));
  assert_int_equal (borrower_reserve (m, &one, 4096), 0);
  for (i = 0; i < ARRAY_LEN (hung); ++i)
    n[i] = take_all (m, &hung[i], URGENCY_NEEDED, buffers[i]);
  assert_null (scratch_try (m, &one, 1, URGENCY_NEEDED));
  a = scratch_get (m, &one, 4096, &size, true); /* does not wait */
  assert_non_null (a);
  assert_between (size, 4096, 65536);
  memset (a, 1, size);
  assert_null (scratch_get (m, &one, 4096, &little, false));
  size = 65536;
  b = batch_buffer_get (m, &one, 4096, &size);
  batch_buffer_put (m, &one, b, size);
  scratch_put (m, &one, a, one.scratch.own_size);
  for (i = 0; i < ARRAY_LEN (hung); ++i)
    return_all (m, &hung[i], buffers[i], n[i]);
  assert_int_equal (memory_buffers (m), used + cost);
  borrower_release (m, &one);
  assert_int_equal (memory_used (m), used);
  memory_free (m);
}

/* All buffers that belong to one export each are an eighth of the budget. */
static void
test_own_buffers_are_bounded (void **state)
{
  static const uint64_t limits[] = { 1 * MiB, 256 * MiB };
  static struct borrower borrowers[300];
  size_t i, n;

  for (i = 0; i < ARRAY_LEN (limits); ++i) {
    struct memory *m = memory_new (limits[i]);
    const uint64_t cost = borrower_cost (m, 512);

    for (n = 0; n < ARRAY_LEN (borrowers); ++n)
      if (!memory_take (m, cost) ||
          borrower_reserve (m, &borrowers[n], 512) != 0)
        break;
    assert_between (n, 3, limits[i] / 8 / cost);
    assert_true (n < 40 || limits[i] == 256 * MiB);
    while (n > 0)
      borrower_release (m, &borrowers[--n]);
    memory_free (m);
  }
}

/* A reader cannot take the last buffer of write-back, nor the other way. */
static void
test_purposes_are_apart (void **state)
{
  struct memory *m = memory_new (1 * MiB);
  struct borrower one = { 0 };
  void *buffers[512], *batch;
  const size_t n = take_all (m, &one, URGENCY_NEEDED, buffers);

  batch = batch_buffer_try (m, &one, 1);
  assert_non_null (batch);
  batch_buffer_put (m, &one, batch, 1);
  return_all (m, &one, buffers, n);
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
  size_t bytes, size, i;
  unsigned step;
  uint8_t *p;
  bool batch;

  for (step = 0; step < 500; ++step) {
    batch = random_chance (&r, 50);
    bytes = 1 + random_below (&r, batch ? memory_batch_size (u->m)
                                        : memory_scratch_max (u->m));
    size = bytes;
    p = batch ? batch_buffer_get (u->m, u->borrower, 1, &size)
              : scratch_get (u->m, u->borrower, 1, &size, true);
    must (size <= bytes);
    memset (p, u->seed, size);
    for (i = 0; i < size; ++i)
      must (p[i] == u->seed);
    if (batch)
      batch_buffer_put (u->m, u->borrower, p, size);
    else
      scratch_put (u->m, u->borrower, p, size);
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

  must (memory_take (m, borrower_cost (m, 512)));
  must (borrower_reserve (m, &borrowers[0], 512) == 0);
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
    cmocka_unit_test (test_urgent_needs_take_more),
    cmocka_unit_test (test_smaller_buffer),
    cmocka_unit_test (test_largest_block_fits),
    cmocka_unit_test (test_own_buffers),
    cmocka_unit_test (test_own_buffers_are_bounded),
    cmocka_unit_test (test_purposes_are_apart),
    cmocka_unit_test (test_buffers_of_threads_are_apart),
  };

  return cmocka_run_group_tests_name ("frames", tests, NULL, NULL);
}
