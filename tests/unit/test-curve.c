/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the estimated miss ratios: against the policy itself, at the
 * full size, on loads of several kinds.
 */

#include <config.h>

#include "pagecache/curve.h"
#include "pagecache/evict.h"
#include "unit.h"

#define PAGES    8192   /* of the cache whose curve is estimated */
#define ACCESSES 800000 /* of a load */
#define HOUR     UINT64_C (3600000000000)

/* ---- loads: the page of access number I ---- */

struct load {
  struct random random;
  uint64_t (*page) (struct load *l, uint64_t i);
};

/* Low numbers are much more likely, and neighbours are not neighbours. */
static uint64_t
skewed (struct load *l, uint64_t pages)
{
  const uint64_t n = UINT64_C (1) << 20;
  const uint64_t u = random_below (&l->random, n);
  const uint64_t rank = u * u / n * u / n * u / n * pages / n;

  return rank * UINT64_C (2654435761) % (UINT64_C (1) << 40);
}

static uint64_t
skewed_load (struct load *l, uint64_t i)
{
  (void) i;
  return skewed (l, 200000);
}

/* Fits in four times the size, and in nothing smaller. */
static uint64_t
loop_load (struct load *l, uint64_t i)
{
  (void) l;
  return i % (3 * PAGES);
}

static uint64_t
uniform_load (struct load *l, uint64_t i)
{
  (void) i;
  return random_below (&l->random, 6 * PAGES);
}

/* A skewed load, half of the time beside pages that come once. */
static uint64_t
scan_load (struct load *l, uint64_t i)
{
  const bool scans = i / 50000 % 2 == 1;

  return scans && random_chance (&l->random, 40) ? (UINT64_C (1) << 45) + i
                                                 : skewed (l, 100000);
}

/* Other pages from the middle on. */
static uint64_t
changing_load (struct load *l, uint64_t i)
{
  return skewed (l, 60000) + (i < ACCESSES / 2 ? 0 : UINT64_C (1) << 44);
}

/* Each page twice, the second time after more new ones than the small queue
 * has at first.
 */
static uint64_t
twice_load (struct load *l, uint64_t i)
{
  const uint64_t page = i / 2, distance = PAGES / 5;

  (void) l;
  return i % 2 == 0 || page < distance ? page : page - distance;
}

/* The distance changes: as many as the small queue at its most loses. */
static uint64_t
far_load (struct load *l, uint64_t i)
{
  const uint64_t page = i / 2, distance = PAGES * 5 / 16 +
                                          random_below (&l->random, PAGES / 8);

  return i % 2 == 0 || page < distance ? page : page - distance;
}

/* From the middle on skewed, beside pages that come once. */
static uint64_t
far_then_scan_load (struct load *l, uint64_t i)
{
  if (i < ACCESSES / 2)
    return far_load (l, i);
  return random_chance (&l->random, 70) ? (UINT64_C (1) << 45) + i
                                        : skewed (l, 3 * PAGES);
}

/* ---- the policy at the full size ---- */

struct full_page {
  struct evict_entry entry;
  uint32_t next;
};

struct full {
  size_t capacity, used;
  struct evict *evict;
  struct full_page *pages;
  uint32_t chains[1 << 16]; /* number + 1 */
};

static struct full *
full_new (size_t capacity)
{
  struct full *f = calloc (1, sizeof *f);

  assert_non_null (f);
  f->capacity = capacity;
  f->pages = calloc (capacity, sizeof *f->pages);
  assert_non_null (f->pages);
  f->evict =
      evict_new (capacity, capacity, &f->pages[0].entry, sizeof f->pages[0]);
  assert_non_null (f->evict);
  return f;
}

static void
full_free (struct full *f)
{
  evict_free (f->evict);
  free (f->pages);
  free (f);
}

static uint32_t *
full_chain (struct full *f, uint64_t key)
{
  return &f->chains[hash_u64 (key) % ARRAY_LEN (f->chains)];
}

static bool
may_go (struct evict_entry *entry, void *opaque)
{
  (void) entry;
  (void) opaque;
  return true;
}

static struct full_page *
full_evict (struct full *f)
{
  struct full_page *p = container_of (evict_victim (f->evict, may_go, NULL),
                                      struct full_page, entry);
  uint32_t *link = full_chain (f, p->entry.key);

  while (&f->pages[*link - 1] != p)
    link = &f->pages[*link - 1].next;
  *link = p->next;
  return p;
}

/* Uses a page; whether it was there. */
static bool
full_use (struct full *f, uint64_t key)
{
  uint32_t i = *full_chain (f, key);
  struct full_page *p;

  while (i != 0 && f->pages[i - 1].entry.key != key)
    i = f->pages[i - 1].next;
  if (i != 0) {
    evict_hit (f->evict, &f->pages[i - 1].entry);
    return true;
  }
  p = f->used < f->capacity ? &f->pages[f->used++] : full_evict (f);
  p->entry.key = key;
  p->next = *full_chain (f, key);
  *full_chain (f, key) = (uint32_t) (p - f->pages) + 1;
  evict_admit (f->evict, &p->entry, ADMIT_READ);
  return false;
}

/* ---- helpers ---- */

static struct curve *
curve_of (size_t pages)
{
  struct curve *c = curve_new (pages);

  assert_non_null (c);
  curve_resize (c, pages);
  return c;
}

static void
use (struct curve *c, uint64_t key, enum curve_use use)
{
  if (curve_samples (c, key))
    curve_note (c, key, use);
}

/* The miss ratio that a load has at size I. */
static double
miss_ratio (uint64_t (*page) (struct load *, uint64_t), unsigned i)
{
  struct full *f = full_new ((PAGES << i) / 4);
  struct load l = { .page = page };
  uint64_t n, missed = 0;

  random_seed (&l.random, 7);
  for (n = 0; n < ACCESSES; ++n)
    missed += !full_use (f, l.page (&l, n));
  full_free (f);
  return (double) missed / ACCESSES;
}

static struct curve_estimate
estimate (uint64_t (*page) (struct load *, uint64_t))
{
  struct curve *c = curve_of (PAGES);
  struct full *f = full_new (PAGES);
  struct load l = { .page = page };
  struct curve_estimate e;
  struct curve_counts counts;
  uint64_t n, key;
  bool hit;

  random_seed (&l.random, 7);
  for (n = 0; n < ACCESSES; ++n) {
    key = l.page (&l, n);
    hit = full_use (f, key);
    use (c, key, hit ? CURVE_HIT : CURVE_MISS);
  }
  curve_get (c, &counts);
  assert_int_equal (counts.dropped, 0);
  curve_estimate (c, ACCESSES, 1, &e);
  assert_int_equal (e.reads, ACCESSES);
  full_free (f);
  curve_free (c);
  return e;
}

static void
check_load (uint64_t (*page) (struct load *, uint64_t))
{
  const struct curve_estimate e = estimate (page);
  double real, error, sum = 0;
  unsigned i;

  for (i = 0; i < CURVE_SIZES; ++i) {
    real = miss_ratio (page, i);
    error = e.miss_ratio[i] > real ? e.miss_ratio[i] - real
                                   : real - e.miss_ratio[i];
    sum += error;
    print_message ("# size %g: %.4f, estimated %.4f\n", (1 << i) / 4.0, real,
                   e.miss_ratio[i]);
  }
  print_message ("# mean absolute error %.4f\n", sum / CURVE_SIZES);
  assert_true (sum / CURVE_SIZES <= 0.02);
}

/* ---- the cases ---- */

static void
test_skewed (void **state)
{
  check_load (skewed_load);
}

static void
test_loop (void **state)
{
  check_load (loop_load);
}

static void
test_uniform (void **state)
{
  check_load (uniform_load);
}

static void
test_scans (void **state)
{
  check_load (scan_load);
}

static void
test_changing (void **state)
{
  check_load (changing_load);
}

/* The miss ratio of accesses FROM to TO, whether a curve guides or not. */
static double
guided_ratio (uint64_t (*page) (struct load *, uint64_t), bool guided,
              uint64_t from, uint64_t to)
{
  struct full *f = full_new (PAGES);
  struct curve *c = curve_of (PAGES);
  struct load l = { .page = page };
  uint64_t n, key, missed = 0;
  bool hit;

  if (guided)
    curve_guide (c, f->evict);
  random_seed (&l.random, 7);
  for (n = 0; n < to; ++n) {
    key = l.page (&l, n) + 1;
    hit = full_use (f, key);
    missed += !hit && n >= from;
    use (c, key, hit ? CURVE_HIT : CURVE_MISS);
  }
  curve_free (c);
  full_free (f);
  print_message ("# %sguided: %.4f\n", guided ? "" : "not ",
                 (double) missed / (to - from));
  return (double) missed / (to - from);
}

/* Half of the accesses are first ones; all others could hit. */
static void
test_guide_finds_late_uses (void **state)
{
  assert_true (guided_ratio (twice_load, false, 0, ACCESSES) > 0.75);
  assert_true (guided_ratio (twice_load, true, 0, ACCESSES) < 0.55);
}

/* Here a larger small queue is not enough: all pages have to enter main. */
static void
test_guide_finds_later_uses (void **state)
{
  assert_true (guided_ratio (far_load, false, 0, ACCESSES) > 0.75);
  assert_true (guided_ratio (far_load, true, 0, ACCESSES) < 0.58);
}

/* The mode that suits one load is left for the next. */
static void
test_guide_comes_back (void **state)
{
  const double usual =
      guided_ratio (far_then_scan_load, false, ACCESSES / 2, ACCESSES);

  assert_true (guided_ratio (far_then_scan_load, true, ACCESSES / 2, ACCESSES) <
               usual + 0.015);
}

static void
test_guide_does_no_harm (void **state)
{
  static uint64_t (*const loads[]) (struct load *,
                                    uint64_t) = { skewed_load, uniform_load,
                                                  scan_load, changing_load };
  size_t i;

  for (i = 0; i < ARRAY_LEN (loads); ++i)
    assert_true (guided_ratio (loads[i], true, 0, ACCESSES) <
                 1.03 * guided_ratio (loads[i], false, 0, ACCESSES));
}

static void
test_nothing_read (void **state)
{
  struct curve *c = curve_of (PAGES);
  struct curve_estimate e;
  unsigned i;

  curve_estimate (c, 0, 1, &e);
  assert_int_equal (e.reads, 0);
  for (i = 0; i < CURVE_SIZES; ++i)
    assert_true (e.miss_ratio[i] == 0);
  curve_free (c);
}

/* The caches are simulated from samples, by which a larger one may miss more;
 * the estimate never says so.
 */
static void
test_larger_is_no_worse (void **state)
{
  struct load l = { .page = uniform_load };
  struct curve *c = curve_of (PAGES);
  struct curve_counts counts;
  struct curve_estimate e;
  unsigned i, by_chance = 0;
  uint64_t n;

  random_seed (&l.random, 7);
  for (n = 0; n < ACCESSES / 4; ++n) {
    use (c, l.page (&l, n), CURVE_MISS);
    if (n % 100 != 0)
      continue;
    curve_get (c, &counts);
    curve_estimate (c, n + 1, 1, &e);
    for (i = 1; i < CURVE_SIZES; ++i) {
      by_chance += counts.misses[i] > counts.misses[i - 1];
      assert_true (e.miss_ratio[i] <= e.miss_ratio[i - 1]);
    }
  }
  assert_true (by_chance > 0);
  curve_free (c);
}

/* Written pages are cached, but a write's miss is none that counts. */
static void
test_writes (void **state)
{
  struct curve *c = curve_of (PAGES);
  struct curve_counts counts;
  uint64_t key;
  unsigned i;

  for (key = 1; key <= PAGES; ++key)
    use (c, key, CURVE_WRITE);
  for (key = 1; key <= PAGES; ++key)
    use (c, key, CURVE_HIT);
  curve_get (c, &counts);
  assert_between (counts.sampled_reads, PAGES / 64, PAGES / 16);
  assert_true (counts.misses[0] > PAGES / 2.0);
  for (i = 3; i < CURVE_SIZES; ++i)
    assert_true (counts.misses[i] == 0);
  curve_free (c);
}

/* Hits in a cache that is large enough, while the smaller ones would miss:
 * the sample shrinks, and the estimate stays right.
 */
static void
test_work_is_bounded (void **state)
{
  const uint64_t max = 40000000;
  struct curve *c = curve_of (8 * PAGES);
  struct curve_counts counts;
  struct curve_estimate e;
  struct random random;
  uint64_t n, key, noted = 0;

  random_seed (&random, 3);
  for (n = 0; n < max; ++n) {
    key = random_below (&random, 6 * PAGES);
    if (curve_samples (c, key)) {
      curve_note (c, key, CURVE_HIT);
      noted++;
    }
  }
  curve_get (c, &counts);
  assert_int_equal (counts.sampled_reads, noted);
  assert_true (noted < max / 64);
  curve_estimate (c, max, 1, &e);
  print_message ("# %g of 1/32 noted; %.4f %.4f %.4f\n", 32.0 * noted / max,
                 e.miss_ratio[0], e.miss_ratio[1], e.miss_ratio[2]);
  assert_true (e.miss_ratio[0] > 0.57 && e.miss_ratio[0] < 0.77);
  assert_true (e.miss_ratio[1] > 0.23 && e.miss_ratio[1] < 0.43);
  assert_true (e.miss_ratio[2] < 0.02);
  curve_free (c);
}

/* The size changes: so does what a quarter of it is. */
static void
test_resize (void **state)
{
  struct curve *c = curve_of (4 * PAGES);
  struct curve_estimate e;
  uint64_t n;

  curve_resize (c, PAGES);
  for (n = 0; n < 40 * PAGES; ++n)
    use (c, n % (PAGES * 3 / 2), CURVE_MISS);
  curve_estimate (c, n, 1, &e);
  assert_true (e.miss_ratio[1] > 0.5);
  assert_true (e.miss_ratio[3] < 0.1);
  curve_resize (c, 4 * PAGES);
  for (n = 0; n < 40 * PAGES; ++n)
    use (c, n % (PAGES * 3 / 2), CURVE_HIT);
  curve_estimate (c, 2 * n, 1, &e);
  assert_true (e.miss_ratio[1] < 0.9);
  curve_resize (c, 16);
  for (n = 0; n < PAGES; ++n)
    use (c, n, CURVE_MISS);
  curve_free (c);
}

/* It grows far beyond what it began with: the memory stays. */
static void
test_grow (void **state)
{
  struct curve *c = curve_of (PAGES / 4);
  const size_t bytes = curve_memory (c);
  struct curve_estimate e;
  uint64_t n, noted = 0;

  curve_resize (c, 4 * PAGES);
  assert_int_equal (curve_memory (c), bytes);
  for (n = 1; n <= 80 * PAGES; ++n) {
    noted += curve_samples (c, n % (6 * PAGES) + 1);
    use (c, n % (6 * PAGES) + 1, CURVE_MISS);
  }
  assert_between (noted, 80 * PAGES / 400, 80 * PAGES / 60);
  curve_estimate (c, n, 1, &e);
  assert_true (e.miss_ratio[1] > 0.5);
  assert_true (e.miss_ratio[3] < 0.12);
  curve_free (c);
}

/* Reads of long ago no longer count. */
static void
test_looks_back_two_hours (void **state)
{
  struct curve *c = curve_of (PAGES);
  struct curve_estimate e;
  uint64_t reads = 0, n;

  curve_estimate (c, 0, 1, &e);
  for (n = 0; n < 100000; ++n, ++reads)
    use (c, UINT64_C (1) << 40 | n, CURVE_MISS);
  curve_estimate (c, reads, 1 + HOUR, &e);
  assert_int_equal (e.reads, 100000);
  assert_true (e.miss_ratio[2] > 0.8);
  for (n = 0; n < 100000; ++n, ++reads)
    use (c, n % 100, CURVE_HIT);
  curve_estimate (c, reads, 1 + 2 * HOUR, &e);
  assert_int_equal (e.reads, 100000);
  assert_true (e.miss_ratio[2] < 0.01);
  curve_free (c);
}

/* Reads through exports that are gone count as long as their misses do. */
static void
test_gone_exports (void **state)
{
  struct curve *c = curve_of (PAGES);
  struct curve_estimate e;

  curve_add_reads (c, 1000);
  curve_estimate (c, 500, 1, &e);
  assert_int_equal (e.reads, 1500);
  curve_free (c);
}

static void
test_small_caches (void **state)
{
  struct curve_counts counts;
  struct curve *c;
  size_t pages;
  uint64_t n;

  for (pages = 1; pages < 300; ++pages) {
    c = curve_of (pages);
    for (n = 0; n < 2000; ++n)
      use (c, n * n % 1013, CURVE_MISS);
    curve_get (c, &counts);
    assert_true (counts.misses[0] > 0);
    curve_free (c);
  }
}

static void
test_memory (void **state)
{
  static const size_t sizes[] = { 16, 256, 4096, 65536, 1 << 20, 1 << 24 };
  struct curve *c;
  size_t i, bytes;

  for (i = 0; i < ARRAY_LEN (sizes); ++i) {
    c = curve_of (sizes[i]);
    bytes = curve_memory (c);
    print_message ("# %zu pages: %zu bytes\n", sizes[i], bytes);
    assert_true (bytes < 800000);
    assert_true (bytes < 32768 + sizes[i] * 26);
    curve_free (c);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_skewed),
    cmocka_unit_test (test_loop),
    cmocka_unit_test (test_uniform),
    cmocka_unit_test (test_scans),
    cmocka_unit_test (test_changing),
    cmocka_unit_test (test_guide_finds_late_uses),
    cmocka_unit_test (test_guide_finds_later_uses),
    cmocka_unit_test (test_guide_comes_back),
    cmocka_unit_test (test_guide_does_no_harm),
    cmocka_unit_test (test_nothing_read),
    cmocka_unit_test (test_larger_is_no_worse),
    cmocka_unit_test (test_writes),
    cmocka_unit_test (test_work_is_bounded),
    cmocka_unit_test (test_resize),
    cmocka_unit_test (test_grow),
    cmocka_unit_test (test_looks_back_two_hours),
    cmocka_unit_test (test_gone_exports),
    cmocka_unit_test (test_small_caches),
    cmocka_unit_test (test_memory),
  };

  return cmocka_run_group_tests_name ("curve", tests, NULL, NULL);
}
