/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of remembered zeroes against a map of bytes, and of ranges that
 * an operation has for itself.
 */

#include <config.h>

#include "unit.h"

#define BYTES 400

/* The model: a state for each byte.  Ranges grow together, so a byte may be
 * remembered for longer than it must be, and be called lost with others.
 */
struct known {
  bool remembered, lost;
  uint16_t generation; /* the last flush that does not cover it */
};

struct model {
  struct zeroes zeroes;
  struct random random;
  struct known bytes[BYTES];
  uint16_t flushes;
  uint32_t epoch;
};

static bool
is_zeroed (struct zeroes *z, uint64_t offset)
{
  bool zeroed;

  zeroes_prefix (z, offset, 1, &zeroed);
  return zeroed;
}

static void
model_check (struct model *m)
{
  uint64_t offset, len, sum = 0, n, i;
  bool zeroed, lost, any;

  for (i = 0; i < BYTES; ++i) {
    zeroed = is_zeroed (&m->zeroes, i);
    must (zeroed == m->bytes[i].remembered);
    must (zeroes_any (&m->zeroes, i, 1) == zeroed);
    sum += zeroed;
  }
  must (zeroes_bytes (&m->zeroes) == sum);

  offset = random_below (&m->random, BYTES);
  len = 1 + random_below (&m->random, BYTES - offset);
  n = zeroes_prefix (&m->zeroes, offset, len, &zeroed);
  must (n >= 1 && n <= len);
  for (i = offset; i < offset + n; ++i)
    must (m->bytes[i].remembered == zeroed);
  any = false;
  for (i = offset; i < offset + len; ++i)
    any |= m->bytes[i].remembered;
  must (zeroes_any (&m->zeroes, offset, len) == any);

  lost = false;
  for (i = 0; i < BYTES; ++i)
    lost |= m->bytes[i].remembered && m->bytes[i].lost;
  offset = 0;
  must (!lost || zeroes_next_lost (&m->zeroes, &offset, &len));
}

static void
model_remember (struct model *m)
{
  const uint64_t offset = random_below (&m->random, BYTES);
  const uint64_t len =
      1 + random_below (&m->random, min_u64 (40, BYTES - offset));
  uint64_t i;

  if (!zeroes_remember (&m->zeroes, offset, len, m->flushes, m->epoch))
    return;
  for (i = offset; i < offset + len; ++i) {
    m->bytes[i].remembered = true;
    m->bytes[i].lost = false;
    m->bytes[i].generation = m->flushes;
  }
}

/* Ranges that the flush covers may be forgotten, others not. */
static void
model_settle (struct model *m)
{
  struct known *k;
  unsigned i;

  zeroes_settle (&m->zeroes, m->flushes);
  for (i = 0; i < BYTES; ++i) {
    k = &m->bytes[i];
    if (!k->remembered)
      continue;
    k->remembered = is_zeroed (&m->zeroes, i);
    must (k->remembered || !k->lost);
    must (k->remembered || (int16_t) (k->generation - m->flushes) < 0);
  }
}

static void
model_redo (struct model *m)
{
  uint64_t offset = 0, len, i;

  if (!zeroes_next_lost (&m->zeroes, &offset, &len))
    return;
  len = 1 + random_below (&m->random, len);
  zeroes_redone (&m->zeroes, offset, len, m->flushes, m->epoch);
  for (i = offset; i < offset + len; ++i) {
    must (m->bytes[i].remembered);
    m->bytes[i].lost = false;
    m->bytes[i].generation = m->flushes;
  }
}

static void
run_model (uint64_t seed, uint16_t flushes)
{
  struct model *m = calloc (1, sizeof *m);
  unsigned step, i;

  must (m != NULL);
  random_seed (&m->random, seed);
  m->flushes = flushes;
  zeroes_init (&m->zeroes);
  for (step = 0; step < 2000; ++step) {
    switch (random_below (&m->random, 10)) {
    case 0 ... 4:
      model_remember (m);
      break;
    case 5:
      m->flushes++;
      break;
    case 6:
    case 7:
      model_settle (m);
      break;
    case 8:
      if (random_chance (&m->random, 30)) {
        zeroes_lose (&m->zeroes, ++m->epoch);
        for (i = 0; i < BYTES; ++i)
          m->bytes[i].lost |= m->bytes[i].remembered;
      }
      break;
    default:
      model_redo (m);
    }
    if (step % 10 == 0)
      model_check (m);
  }
  zeroes_destroy (&m->zeroes);
  free (m);
}

static void
test_random_ranges (void **state)
{
  uint64_t seed;

  for (seed = 1; seed <= 20; ++seed)
    run_model (seed, 0);
  for (; seed <= 25; ++seed) /* the number of flushes wraps */
    run_model (seed, 65500);
}

static struct zeroes *
zeroes_new (void)
{
  struct zeroes *z = calloc (1, sizeof *z);

  must (z != NULL);
  zeroes_init (z);
  return z;
}

static void
zeroes_free (struct zeroes *z)
{
  zeroes_destroy (z);
  free (z);
}

static void
test_flush_begun_later_forgets (void **state)
{
  struct zeroes *z = zeroes_new ();

  assert_true (zeroes_remember (z, 10, 10, 4, 0));
  zeroes_settle (z, 4); /* began before the zero had ended */
  assert_true (is_zeroed (z, 10));
  zeroes_settle (z, 5);
  assert_false (zeroes_any (z, 0, 100));
  zeroes_free (z);
}

static void
test_lost_is_kept_until_redone (void **state)
{
  struct zeroes *z = zeroes_new ();
  uint64_t offset = 0, len;

  zeroes_remember (z, 10, 10, 0, 0);
  assert_false (zeroes_next_lost (z, &offset, &len));
  zeroes_lose (z, 1);
  zeroes_settle (z, 5);
  assert_true (zeroes_next_lost (z, &offset, &len));
  assert_int_equal (offset, 10);
  assert_int_equal (len, 10);
  zeroes_redone (z, 10, 10, 5, 1);
  assert_false (zeroes_next_lost (z, &offset, &len));
  zeroes_settle (z, 5);
  assert_true (is_zeroed (z, 10));
  zeroes_settle (z, 6);
  assert_false (is_zeroed (z, 10));
  zeroes_free (z);
}

static void
test_neighbours_become_one (void **state)
{
  struct zeroes *z = zeroes_new ();
  bool zeroed;
  unsigned i;

  for (i = 0; i < 10 * ZEROES_MAX; ++i)
    assert_true (zeroes_remember (z, i * 10, 10, 1, 0));
  assert_int_equal (zeroes_prefix (z, 0, 1 << 20, &zeroed), 100 * ZEROES_MAX);
  assert_true (zeroed);
  zeroes_free (z);
}

/* The caller makes it durable at once then: law 4. */
static void
test_too_many_are_refused (void **state)
{
  struct zeroes *z = zeroes_new ();
  unsigned i;

  for (i = 0; i < ZEROES_MAX; ++i)
    assert_true (zeroes_remember (z, i * 20, 10, 1, 0));
  assert_false (zeroes_remember (z, 1 << 20, 10, 1, 0));
  assert_int_equal (zeroes_bytes (z), 10 * ZEROES_MAX);
  assert_true (zeroes_remember (z, 5, 20, 1, 0)); /* joins two that are there */
  assert_true (zeroes_remember (z, 1 << 20, 10, 1, 0));
  zeroes_free (z);
}

static bool
is_lost (struct zeroes *z, uint64_t offset)
{
  const uint64_t wanted = offset;
  uint64_t len;

  return zeroes_next_lost (z, &offset, &len) && offset <= wanted &&
         wanted < offset + len;
}

/* A failure came between the call to the backend and its being remembered. */
static void
test_zero_before_a_failure_is_lost (void **state)
{
  struct zeroes *z = zeroes_new ();

  zeroes_lose (z, 7);
  zeroes_remember (z, 0, 10, 3, 6);
  zeroes_remember (z, 20, 10, 3, 7);
  zeroes_settle (z, 4);
  assert_true (is_lost (z, 0));
  assert_false (is_zeroed (z, 20));
  zeroes_redone (z, 0, 10, 4, 6);
  assert_true (is_lost (z, 0));
  zeroes_redone (z, 0, 10, 4, 7);
  assert_false (is_lost (z, 0));
  zeroes_free (z);
}

/* The beginning of what is lost is taken from it, and nothing else. */
static void
test_redone_is_the_beginning (void **state)
{
  struct zeroes *z = zeroes_new ();
  uint64_t offset = 0, len;

  zeroes_remember (z, 0, 10, 0, 0);
  zeroes_lose (z, 1);
  zeroes_redone (z, 10, 10, 0, 1);
  assert_true (zeroes_next_lost (z, &offset, &len));
  assert_int_equal (offset, 0);
  assert_int_equal (len, 10);
  zeroes_redone (z, 0, 4, 0, 1);
  assert_true (zeroes_next_lost (z, &offset, &len));
  assert_int_equal (offset, 4);
  assert_int_equal (len, 6);
  assert_true (zeroes_lose_range (z, 2, 1)); /* lost again */
  zeroes_redone (z, 4, 6, 0, 1);
  offset = 0;
  assert_true (zeroes_next_lost (z, &offset, &len));
  assert_int_equal (offset, 2);
  zeroes_free (z);
}

static void
test_ranges_are_lost_alone (void **state)
{
  struct zeroes *z = zeroes_new ();
  unsigned i;

  for (i = 0; i < 4; ++i)
    zeroes_remember (z, i * 20, 10, 0, 0);
  assert_false (zeroes_lose_range (z, 10, 10));
  assert_true (zeroes_lose_range (z, 29, 12));
  assert_false (zeroes_lose_range (z, 29, 12)); /* it is lost already */
  assert_false (is_lost (z, 0));
  assert_false (is_lost (z, 28));
  assert_true (is_lost (z, 29));
  assert_true (is_lost (z, 40));
  assert_false (is_lost (z, 60));
  zeroes_free (z);
}

/* To forget never fails: a range that crosses the beginning of an operation
 * needs a slot, which the operation reserves.
 */
static void
test_slots_are_reserved (void **state)
{
  struct zeroes *z = zeroes_new ();
  struct exclusive inside, other, all;
  unsigned i;

  for (i = 0; i < ZEROES_MAX - 1; ++i)
    zeroes_remember (z, i * 20, 10, 1, 0);
  exclusive_begin (z, &all, 20, 10);
  assert_true (exclusive_reserve (z, &all));
  exclusive_begin (z, &inside, 2, 2);
  assert_true (exclusive_reserve (z, &inside));
  exclusive_begin (z, &other, 42, 2);
  assert_false (exclusive_reserve (z, &other)); /* the last slot is reserved */
  assert_false (zeroes_remember (z, 1 << 20, 10, 1, 0));
  zeroes_forget (z, 2, 2);
  assert_true (is_zeroed (z, 1));
  assert_false (is_zeroed (z, 2));
  assert_true (is_zeroed (z, 4));
  zeroes_forget (z, 20, 10);
  exclusive_end (z, &inside);
  assert_true (exclusive_reserve (z, &other)); /* of the range forgotten */
  zeroes_forget (z, 42, 2);
  exclusive_end (z, &other);
  exclusive_end (z, &all);
  assert_false (zeroes_remember (z, 1 << 20, 10, 1, 0));
  zeroes_free (z);
}

/* Neighbours do not become one where an operation begins that has no slot. */
static void
test_neighbours_stay_apart_at_operations (void **state)
{
  struct zeroes *z = zeroes_new ();
  struct exclusive forgets, zero;

  zeroes_remember (z, 10, 10, 1, 0);
  zeroes_remember (z, 40, 10, 1, 0);
  exclusive_begin (z, &forgets, 10, 5);
  assert_true (exclusive_reserve (z, &forgets));
  assert_false (forgets.has_slot);
  exclusive_begin (z, &zero, 0, 10);
  zeroes_remember (z, 0, 10, 1, 0);
  assert_int_equal (atomic_load (&z->nr_zeroed), 3);
  exclusive_end (z, &zero);
  exclusive_begin (z, &zero, 50, 10); /* its own beginning is no hindrance */
  zeroes_remember (z, 50, 10, 1, 0);
  assert_int_equal (atomic_load (&z->nr_zeroed), 3);
  exclusive_end (z, &zero);
  exclusive_end (z, &forgets);
  zeroes_free (z);
}

struct holder {
  struct zeroes *z;
  uint64_t offset, len;
  unsigned rounds;
  _Atomic unsigned *inside;
};

static void
hold (void *arg)
{
  struct holder *h = arg;
  struct exclusive x;
  unsigned i;

  for (i = 0; i < h->rounds; ++i) {
    exclusive_begin (h->z, &x, h->offset, h->len);
    must (exclusive_conflict (h->z, h->offset, 1));
    must (atomic_fetch_add (h->inside, 1) == 0);
    atomic_fetch_sub (h->inside, 1);
    exclusive_end (h->z, &x);
  }
}

static void
test_one_at_a_time (void **state)
{
  struct zeroes *z = zeroes_new ();
  _Atomic unsigned inside = 0;
  struct holder holders[4];
  struct thread threads[4];
  unsigned i;

  for (i = 0; i < 4; ++i) { /* each overlaps each */
    holders[i] = (struct holder){ z, i * 10, 100, 500, &inside };
    thread_start (&threads[i], hold, &holders[i]);
  }
  for (i = 0; i < 4; ++i)
    thread_join (&threads[i]);
  assert_false (exclusive_conflict (z, 0, 1000));
  zeroes_free (z);
}

static void
test_apart_do_not_wait (void **state)
{
  struct zeroes *z = zeroes_new ();
  struct exclusive a, b;

  exclusive_begin (z, &a, 0, 10);
  exclusive_begin (z, &b, 10, 10);
  assert_true (exclusive_conflict (z, 9, 1));
  assert_true (exclusive_conflict (z, 19, 100));
  assert_false (exclusive_conflict (z, 20, 100));
  exclusive_wait (z, 20, 100);
  exclusive_end (z, &a);
  assert_false (exclusive_conflict (z, 0, 10));
  exclusive_end (z, &b);
  zeroes_free (z);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random_ranges),
    cmocka_unit_test (test_flush_begun_later_forgets),
    cmocka_unit_test (test_lost_is_kept_until_redone),
    cmocka_unit_test (test_neighbours_become_one),
    cmocka_unit_test (test_too_many_are_refused),
    cmocka_unit_test (test_zero_before_a_failure_is_lost),
    cmocka_unit_test (test_redone_is_the_beginning),
    cmocka_unit_test (test_ranges_are_lost_alone),
    cmocka_unit_test (test_slots_are_reserved),
    cmocka_unit_test (test_neighbours_stay_apart_at_operations),
    cmocka_unit_test (test_one_at_a_time),
    cmocka_unit_test (test_apart_do_not_wait),
  };

  return cmocka_run_group_tests_name ("zeroes", tests, NULL, NULL);
}
