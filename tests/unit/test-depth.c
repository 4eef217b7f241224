/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the depth: simulated backends, whose time is a number. */

#include <config.h>

#include "submit/depth.h"
#include "unit.h"

#define MS    UINT64_C (1000000)
#define STALL (20 * MS)

/* A backend that serves some batches at once, and queues the others, or that
 * commits all that have come, and then those that came meanwhile.
 */
struct simulation {
  struct depth depth;
  struct random random;
  uint64_t now;
  unsigned servers;
  uint64_t service; /* ns of a batch, less or more by a tenth */
  uint64_t bytes;
  bool mixed;       /* batches of many sizes, the large ones slower */
  unsigned writers; /* at most so many come at once; 0: more than the limit */

  bool commits;
  uint64_t each;        /* ns that a commit takes more for each batch */
  unsigned stalls;      /* one in so many takes STALL more; 0: none */
  uint64_t commit_ends; /* of the last that began */

  unsigned in_flight;
  struct {
    uint64_t began, ends, bytes;
    unsigned in_flight; /* when it began */
    bool served;
  } batches[DEPTH_MAX];

  double sum; /* of the limits outside of probes, as batches ended */
  uint64_t nr_sum;
  uint64_t ended;
};

static uint64_t
about (struct simulation *s, uint64_t time)
{
  return time * (90 + random_below (&s->random, 21)) / 100;
}

static void
serve (struct simulation *s, unsigned i)
{
  uint64_t time = s->service;

  if (s->mixed)
    time = time / 2 + time * s->batches[i].bytes / (64 * KiB);
  s->batches[i].served = true;
  s->batches[i].ends = s->now + about (s, time);
}

/* The batch that waits longest is served next. */
static void
serve_waiting (struct simulation *s)
{
  unsigned i, served = 0, oldest;

  for (i = 0; i < s->in_flight; ++i)
    served += s->batches[i].served;
  for (; served < s->servers; ++served) {
    oldest = DEPTH_MAX;
    for (i = 0; i < s->in_flight; ++i)
      if (!s->batches[i].served &&
          (oldest == DEPTH_MAX ||
           s->batches[i].began < s->batches[oldest].began))
        oldest = i;
    if (oldest == DEPTH_MAX)
      return;
    serve (s, oldest);
  }
}

/* All that wait are committed.  Their replies do not come all at once, so the
 * first of those that come back begins a commit without the others.
 */
static void
commit_waiting (struct simulation *s)
{
  unsigned i, nr = 0;

  if (s->now < s->commit_ends)
    return;
  for (i = 0; i < s->in_flight; ++i)
    nr += !s->batches[i].served;
  if (nr == 0)
    return;
  s->commit_ends = s->now + about (s, s->service + nr * s->each);
  if (s->stalls > 0 && random_below (&s->random, s->stalls) == 0)
    s->commit_ends += STALL;
  for (i = 0; i < s->in_flight; ++i)
    if (!s->batches[i].served) {
      s->batches[i].served = true;
      s->batches[i].ends =
          s->commit_ends + random_below (&s->random, s->service / 10);
    }
}

static void
begin_batches (struct simulation *s)
{
  unsigned i;

  while (s->in_flight < depth_limit (&s->depth) &&
         (s->writers == 0 || s->in_flight < s->writers)) {
    i = s->in_flight++;
    s->batches[i].began = s->now;
    s->batches[i].bytes =
        s->mixed ? (UINT64_C (4) << random_below (&s->random, 7)) * KiB
                 : s->bytes;
    s->batches[i].in_flight = s->in_flight;
    s->batches[i].served = false;
  }
  if (s->commits)
    commit_waiting (s);
  else
    serve_waiting (s);
}

static void
end_next (struct simulation *s)
{
  unsigned i, next = DEPTH_MAX;
  bool waits = false;

  for (i = 0; i < s->in_flight; ++i)
    if (!s->batches[i].served)
      waits = true;
    else if (next == DEPTH_MAX || s->batches[i].ends < s->batches[next].ends)
      next = i;
  if (s->commits && waits &&
      (next == DEPTH_MAX || s->commit_ends < s->batches[next].ends)) {
    s->now = max_u64 (s->now, s->commit_ends); /* the next can begin */
    return;
  }
  must (next < DEPTH_MAX);
  s->now = s->batches[next].ends;
  depth_sample (&s->depth, s->batches[next].bytes, false,
                s->now - s->batches[next].began, s->batches[next].in_flight,
                s->now);
  s->batches[next] = s->batches[--s->in_flight];
  s->ended++;
  if (!s->depth.probing) {
    s->sum += depth_limit (&s->depth);
    s->nr_sum++;
  }
}

static void
run_for (struct simulation *s, uint64_t ns)
{
  const uint64_t ends = s->now + ns;

  s->sum = s->nr_sum = s->ended = 0;
  while (s->now < ends) {
    begin_batches (s);
    end_next (s);
    must (depth_limit (&s->depth) >= 1);
    must (depth_limit (&s->depth) <= DEPTH_MAX);
  }
}

/* The mean limit while it runs for 5 s. */
static double
mean (struct simulation *s)
{
  run_for (s, 5000 * MS);
  return s->sum / s->nr_sum;
}

static void
begin (struct simulation *s, unsigned servers, uint64_t service, uint64_t seed)
{
  memset (s, 0, sizeof *s);
  random_seed (&s->random, seed);
  depth_init (&s->depth, 0);
  s->now = 1;
  s->servers = servers;
  s->service = service;
  s->bytes = 64 * KiB;
}

static void
assert_settles (struct simulation *s, unsigned servers)
{
  double m;

  run_for (s, 10000 * MS);
  m = mean (s);
  if (m < servers / 2.0 || m > servers * 2.0)
    fail_msg ("%u at once, %lu ns: %.1f in flight", servers,
              (unsigned long) s->service, m);
}

static void
settles (unsigned servers)
{
  static const uint64_t services[] = { MS / 5, 2 * MS, 20 * MS };
  struct simulation s;
  size_t i;

  for (i = 0; i < ARRAY_LEN (services); ++i) {
    begin (&s, servers, services[i], i + 1);
    assert_settles (&s, servers);
  }
}

static void
test_one_at_once (void **state)
{
  settles (1);
}

static void
test_four_at_once (void **state)
{
  settles (4);
}

static void
test_thirty_two_at_once (void **state)
{
  settles (32);
}

static void
test_batches_of_many_sizes (void **state)
{
  static const unsigned servers[] = { 1, 4, 32 };
  struct simulation s;
  size_t i;

  for (i = 0; i < ARRAY_LEN (servers); ++i) {
    begin (&s, servers[i], 2 * MS, i + 1);
    s.mixed = true;
    assert_settles (&s, servers[i]);
  }
}

static void
test_backend_gets_slower_and_faster (void **state)
{
  struct simulation s;

  begin (&s, 4, MS, 1);
  assert_settles (&s, 4);
  s.service = 10 * MS;
  assert_settles (&s, 4);
  s.service = MS / 2;
  assert_settles (&s, 4);
}

static void
test_backend_serves_more_and_fewer (void **state)
{
  struct simulation s;

  begin (&s, 32, 2 * MS, 1);
  assert_settles (&s, 32);
  s.servers = 2;
  assert_settles (&s, 2);
  s.servers = 16;
  assert_settles (&s, 16);
}

static void
test_fixed_depth_stays (void **state)
{
  struct simulation s;

  begin (&s, 1, MS, 1);
  depth_init (&s.depth, 7);
  run_for (&s, 3000 * MS);
  assert_int_equal (depth_limit (&s.depth), 7);
}

/* A backend that serves any number never sees more than the bound. */
static void
test_max_in_flight (void **state)
{
  struct simulation s;

  begin (&s, 1000, MS, 1);
  run_for (&s, 10000 * MS);
  assert_true (mean (&s) > DEPTH_MAX / 2);
}

/* Batches that come one by one do not make the limit grow. */
static void
test_little_load_does_not_grow (void **state)
{
  struct depth d;
  uint64_t now = 1;
  unsigned i, first;

  depth_init (&d, 0);
  first = depth_limit (&d);
  for (i = 0; i < 10000; ++i)
    depth_sample (&d, 4096, false, MS, 1, now += MS);
  assert_true (depth_limit (&d) <= first);
}

static void
begin_commits (struct simulation *s, uint64_t service, uint64_t each,
               unsigned writers)
{
  begin (s, DEPTH_MAX, service, writers);
  s->commits = true;
  s->each = each;
  s->writers = writers;
}

/* From so soon on the rate has to be PERCENT of that of a fixed depth that lets
 * all writers in.
 */
static void
assert_moves (const struct simulation *like, uint64_t soon, unsigned percent)
{
  struct simulation s = *like;
  uint64_t best;

  depth_init (&s.depth, DEPTH_MAX);
  run_for (&s, soon);
  run_for (&s, 20000 * MS);
  best = s.ended;
  s = *like;
  run_for (&s, soon);
  run_for (&s, 20000 * MS);
  if (s.ended * 100 < best * percent)
    fail_msg ("commits of %lu us and %lu for each, %u writers: %lu, of %lu",
              (unsigned long) s.service / 1000, (unsigned long) s.each / 1000,
              s.writers, (unsigned long) s.ended, (unsigned long) best);
}

static const uint64_t commits[] = { MS, 5 * MS, 20 * MS };

/* Commits that take SHARE of their time more for each batch, one in STALLS
 * stalls; 8 to MAX writers.
 */
static void
assert_all_move (double share, unsigned stalls, unsigned max, unsigned percent)
{
  unsigned i, writers;
  struct simulation s;

  for (i = 0; i < ARRAY_LEN (commits); ++i)
    for (writers = 8; writers <= max; writers *= 2) {
      begin_commits (&s, commits[i], commits[i] * share, writers);
      s.stalls = stalls;
      assert_moves (&s, 5000 * MS, percent);
    }
}

/* All that a commit takes is its own. */
static void
test_group_commit (void **state)
{
  assert_all_move (0, 0, DEPTH_MAX, 95);
}

/* 1, 5 and 16 at once take 1.2, 3.2 and 5.4 times as long as a commit of none,
 * about what Ceph's BlueStore does.  A trial asks for a tenth more.
 */
static void
test_group_commit_of_some_cost_each (void **state)
{
  assert_all_move (0.2, 0, 32, 85);
}

/* From the start on, with as many writers as are let in at first. */
static void
test_group_commit_at_once (void **state)
{
  struct simulation s;
  unsigned i;

  for (i = 0; i < ARRAY_LEN (commits); ++i) {
    begin_commits (&s, commits[i], commits[i] / 5, 16);
    assert_moves (&s, 1, 90);
  }
}

/* The machine is busy: a commit takes much longer now and then. */
static void
test_group_commit_with_stalls (void **state)
{
  assert_all_move (0.2, 200, 32, 90);
}

/* A limit that proved better is left when it no longer is, and found again. */
static void
test_group_commit_ends_and_begins (void **state)
{
  struct simulation s;

  begin_commits (&s, 2 * MS, MS / 5, 32);
  assert_moves (&s, 5000 * MS, 95);
  run_for (&s, 5000 * MS);
  assert_true (mean (&s) > 24);
  s.commits = false;
  s.servers = 4;
  run_for (&s, 2000 * MS);
  assert_between (mean (&s), 2, 8);
  s.commits = true;
  assert_moves (&s, 5000 * MS, 95);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_one_at_once),
    cmocka_unit_test (test_four_at_once),
    cmocka_unit_test (test_thirty_two_at_once),
    cmocka_unit_test (test_batches_of_many_sizes),
    cmocka_unit_test (test_backend_gets_slower_and_faster),
    cmocka_unit_test (test_backend_serves_more_and_fewer),
    cmocka_unit_test (test_fixed_depth_stays),
    cmocka_unit_test (test_max_in_flight),
    cmocka_unit_test (test_little_load_does_not_grow),
    cmocka_unit_test (test_group_commit),
    cmocka_unit_test (test_group_commit_of_some_cost_each),
    cmocka_unit_test (test_group_commit_at_once),
    cmocka_unit_test (test_group_commit_with_stalls),
    cmocka_unit_test (test_group_commit_ends_and_begins),
  };

  return cmocka_run_group_tests_name ("depth", tests, NULL, NULL);
}
