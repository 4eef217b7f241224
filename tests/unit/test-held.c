/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the tree of held pages and the list of unstable ones, against
 * plain arrays.
 */

#include <config.h>

#include "unit.h"

#define PAGES 400

struct pages {
  struct cache *c;
  struct held held;
  struct page *pages[PAGES]; /* by key, all pinned */
};

static uint64_t
key_of (unsigned i)
{
  return 1000 + i * UINT64_C (7919);
}

static struct pages *
pages_new (void)
{
  struct pages *ps = calloc (1, sizeof *ps);
  unsigned i;

  must (ps != NULL);
  ps->c = cache_new (4 * MiB, 4096, 512, 1 * MiB);
  held_init (&ps->held, ps->c->pool);
  for (i = 0; i < PAGES; ++i) {
    ps->pages[i] =
        pools_pin_page (&ps->c->pools, ps->c->pool, key_of (i), ADMIT_READ);
    must (ps->pages[i] != NULL);
  }
  return ps;
}

static void
add (struct pages *ps, unsigned i)
{
  word_lock_take (&ps->pages[i]->lock, RANK_PAGE);
  held_add (&ps->held, ps->pages[i]);
  word_lock_drop (&ps->pages[i]->lock);
}

static void
take_out (struct pages *ps, unsigned i)
{
  word_lock_take (&ps->pages[i]->lock, RANK_PAGE);
  held_remove (&ps->held, ps->pages[i]);
  word_lock_drop (&ps->pages[i]->lock);
}

static bool
list (struct pages *ps, unsigned i, uint32_t epoch)
{
  bool listed;

  word_lock_take (&ps->pages[i]->lock, RANK_PAGE);
  listed = held_list_unstable (&ps->held, ps->pages[i], epoch);
  word_lock_drop (&ps->pages[i]->lock);
  return listed;
}

static void
unlist (struct pages *ps, unsigned i)
{
  word_lock_take (&ps->pages[i]->lock, RANK_PAGE);
  held_unlist_unstable (&ps->held, ps->pages[i]);
  word_lock_drop (&ps->pages[i]->lock);
}

static void
pages_free (struct pages *ps)
{
  unsigned i;

  for (i = 0; i < PAGES; ++i) {
    if (ps->pages[i]->flags & PAGE_LISTED)
      unlist (ps, i);
    if (ps->pages[i]->flags & PAGE_HELD)
      take_out (ps, i);
  }
  held_destroy (&ps->held);
  cache_free (ps->c);
  free (ps);
}

static void
test_nothing_is_held (void **state)
{
  struct pages *ps = pages_new ();

  assert_int_equal (held_next (&ps->held, 0), 0);
  assert_int_equal (held_oldest_unstable (&ps->held), 0);
  pages_free (ps);
}

static void
test_next_is_at_or_after (void **state)
{
  struct pages *ps = pages_new ();

  add (ps, 5);
  assert_int_equal (held_next (&ps->held, 0), key_of (5));
  assert_int_equal (held_next (&ps->held, key_of (5)), key_of (5));
  assert_int_equal (held_next (&ps->held, key_of (5) + 1), 0);
  pages_free (ps);
}

/* The whole order, however it came about. */
static void
check_order (struct pages *ps, const bool *in)
{
  uint64_t key = 0;
  unsigned i;

  for (i = 0; i < PAGES; ++i)
    if (in[i]) {
      key = held_next (&ps->held, key + 1);
      must (key == key_of (i));
    }
  must (held_next (&ps->held, key + 1) == 0);
}

static void
test_order_by_key (void **state)
{
  bool in[PAGES] = { false };
  struct pages *ps;
  struct random r;
  unsigned i, step;
  uint64_t seed;

  for (seed = 1; seed <= 5; ++seed) {
    random_seed (&r, seed);
    ps = pages_new ();
    memset (in, 0, sizeof in);
    for (step = 0; step < 4000; ++step) {
      i = random_below (&r, PAGES);
      if (in[i])
        take_out (ps, i);
      else
        add (ps, i);
      in[i] = !in[i];
      if (step % 100 == 0)
        check_order (ps, in);
    }
    check_order (ps, in);
    pages_free (ps);
  }
}

/* Keys that come in order do not make a chain: it would be as slow as it is
 * long, and looking all of it up with it.
 */
static unsigned
depth_of (struct pages *ps, page_number n)
{
  struct page *p;
  unsigned left, right;

  if (n == 0)
    return 0;
  p = pool_page (ps->c->pool, n);
  left = depth_of (ps, p->left);
  right = depth_of (ps, p->right);
  return 1 + (left > right ? left : right);
}

static void
test_tree_is_shallow (void **state)
{
  struct pages *ps = pages_new ();
  unsigned i;

  for (i = 0; i < PAGES; ++i)
    add (ps, i);
  assert_between (depth_of (ps, ps->held.root), 9, 36);
  pages_free (ps);
}

static void
test_oldest_unstable_is_first (void **state)
{
  struct pages *ps = pages_new ();
  const uint32_t epoch = held_epoch (&ps->held);

  assert_true (list (ps, 3, epoch));
  assert_true (list (ps, 1, epoch));
  assert_true (list (ps, 2, epoch));
  assert_int_equal (held_oldest_unstable (&ps->held), key_of (3));
  assert_true (list (ps, 3, epoch)); /* again: it is the newest now */
  assert_int_equal (held_oldest_unstable (&ps->held), key_of (1));
  unlist (ps, 1);
  assert_int_equal (held_oldest_unstable (&ps->held), key_of (2));
  unlist (ps, 2);
  assert_int_equal (held_oldest_unstable (&ps->held), key_of (3));
  unlist (ps, 3);
  assert_int_equal (held_oldest_unstable (&ps->held), 0);
  pages_free (ps);
}

static void
test_generation_is_flushes_begun (void **state)
{
  struct pages *ps = pages_new ();
  const uint32_t epoch = held_epoch (&ps->held);

  list (ps, 0, epoch);
  assert_int_equal (ps->pages[0]->generation, 0);
  assert_int_equal (held_begin_flush (&ps->held), 1);
  list (ps, 1, epoch);
  assert_int_equal (ps->pages[1]->generation, 1);
  assert_true (before_u16 (ps->pages[0]->generation, 1));
  assert_false (before_u16 (ps->pages[1]->generation, 1));
  pages_free (ps);
}

static void
test_failure_refuses_the_list (void **state)
{
  struct pages *ps = pages_new ();
  const uint32_t epoch = held_epoch (&ps->held);

  held_fail (&ps->held);
  assert_false (list (ps, 0, epoch));
  assert_int_equal (held_oldest_unstable (&ps->held), 0);
  assert_true (list (ps, 0, held_epoch (&ps->held)));
  pages_free (ps);
}

static void
test_unstable_at_random (void **state)
{
  unsigned order[PAGES], n = 0, i, j, step;
  struct pages *ps = pages_new ();
  struct random r;

  random_seed (&r, 1);
  for (step = 0; step < 20000; ++step) {
    i = random_below (&r, PAGES);
    for (j = 0; j < n && order[j] != i; ++j)
      ;
    if (j < n) { /* out of its place */
      memmove (&order[j], &order[j + 1], (n - j - 1) * sizeof *order);
      n--;
      if (random_chance (&r, 60)) {
        unlist (ps, i);
        i = PAGES;
      }
    }
    if (i < PAGES) {
      must (list (ps, i, held_epoch (&ps->held)));
      order[n++] = i;
    }
    must (held_oldest_unstable (&ps->held) == (n ? key_of (order[0]) : 0));
  }
  pages_free (ps);
}

static void
test_numbers_wrap (void **state)
{
  assert_true (before_u16 (65535, 0));
  assert_false (before_u16 (0, 65535));
  assert_false (before_u16 (7, 7));
  assert_true (before_u32 (UINT32_MAX, 0));
  assert_false (before_u32 (0, UINT32_MAX));
}

static void
test_pass_takes_earlier_ones (void **state)
{
  struct pages *ps = pages_new ();
  const uint32_t before = held_pass (&ps->held);
  const uint32_t number = held_begin_pass (&ps->held);

  assert_false (before_u32 (number, before));
  assert_true (before_u32 (number, held_pass (&ps->held)));
  pages_free (ps);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_nothing_is_held),
    cmocka_unit_test (test_next_is_at_or_after),
    cmocka_unit_test (test_order_by_key),
    cmocka_unit_test (test_tree_is_shallow),
    cmocka_unit_test (test_oldest_unstable_is_first),
    cmocka_unit_test (test_generation_is_flushes_begun),
    cmocka_unit_test (test_failure_refuses_the_list),
    cmocka_unit_test (test_unstable_at_random),
    cmocka_unit_test (test_numbers_wrap),
    cmocka_unit_test (test_pass_takes_earlier_ones),
  };

  return cmocka_run_group_tests_name ("held", tests, NULL, NULL);
}
