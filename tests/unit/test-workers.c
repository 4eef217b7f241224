/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the pool of threads: which crew gets one while tasks of others
 * hang.
 */

#include <config.h>

#include <dirent.h>

#include "base/lock.h"
#include "base/workers.h"
#include "unit.h"

#define SHARED   8
#define MAX_JOBS 200

/* A task that hangs until it is let go. */
struct job {
  struct task task;
  _Atomic bool runs, may_end, ended;
};

static struct job jobs[MAX_JOBS];
static unsigned nr_jobs;

static void
run_job (struct task *t)
{
  struct job *j = container_of (t, struct job, task);

  j->runs = true;
  wait_until (j->may_end);
  j->ended = true;
}

static struct job *
new_job (void)
{
  struct job *j = &jobs[nr_jobs++];

  must (nr_jobs <= MAX_JOBS);
  memset (j, 0, sizeof *j);
  j->task.run = run_job;
  return j;
}

/* Tasks of a crew that the pool takes at once. */
static unsigned
take_all (unsigned crew, enum urgency urgency)
{
  unsigned n = 0;

  while (workers_try (crew, &new_job ()->task, urgency))
    n++;
  nr_jobs--; /* the last was refused */
  return n;
}

static void
end_all (void)
{
  unsigned i;

  for (i = 0; i < nr_jobs; ++i)
    jobs[i].may_end = true;
  for (i = 0; i < nr_jobs; ++i)
    wait_until (jobs[i].ended);
  nr_jobs = 0;
}

static int
setup (void **state)
{
  (void) state;
  workers_start (SHARED);
  return 0;
}

static int
teardown (void **state)
{
  (void) state;
  end_all ();
  workers_stop ();
  return 0;
}

/* Law 21: a crew takes only a part of what is shared, so that the next finds
 * some, and never what others have of their own.
 */
static void
test_shared_threads_are_divided (void **state)
{
  assert_true (workers_reserve (3));
  assert_int_equal (take_all (1, URGENCY_AHEAD), SHARED / 2);
  assert_int_equal (take_all (2, URGENCY_BESIDE), 2);
  assert_int_equal (take_all (3, URGENCY_BESIDE), 1);
  assert_int_equal (take_all (4, URGENCY_BESIDE), 0);
  /* A task that calls no backend finds the last one. */
  workers_run (NO_CREW, &new_job ()->task);
  wait_until (jobs[nr_jobs - 1].runs);
  workers_release (3);
}

/* Law 21: whatever hangs elsewhere, two needed tasks of a crew run at once, and
 * a third when one of them has ended.
 */
static void
test_own_threads (void **state)
{
  struct job *own[3];
  unsigned i;

  assert_true (workers_reserve (1));
  for (i = 2; i < 10; ++i)
    take_all (i, URGENCY_NEEDED);
  for (i = 0; i < 3; ++i) {
    own[i] = new_job ();
    workers_run (1, &own[i]->task);
  }
  wait_until (own[0]->runs && own[1]->runs);
  assert_false (own[2]->runs);
  assert_false (workers_try (1, &new_job ()->task, URGENCY_NEEDED));
  nr_jobs--;
  own[0]->may_end = true;
  wait_until (own[2]->runs);
  workers_release (1);
}

/* A task that only makes something faster takes no thread of a crew's own. */
static void
test_own_threads_are_for_what_is_needed (void **state)
{
  unsigned i;

  assert_true (workers_reserve (1));
  for (i = 2; i < 10; ++i)
    take_all (i, URGENCY_NEEDED);
  assert_int_equal (take_all (1, URGENCY_BESIDE), 0);
  assert_int_equal (take_all (1, URGENCY_NEEDED), 2);
  workers_release (1);
}

/* A crew without threads of its own waits for a shared one. */
static void
test_crew_without_own_threads_waits (void **state)
{
  struct job *waits;
  unsigned i;

  for (i = 2; i < 10; ++i)
    take_all (i, URGENCY_NEEDED);
  waits = new_job ();
  workers_run (1, &waits->task);
  assert_false (waits->runs);
  for (i = 0; i + 1 < nr_jobs; ++i)
    jobs[i].may_end = true;
  wait_until (waits->runs);
}

/* Tasks that still run when a crew is released count in the next one of the
 * same number.
 */
static void
test_release_while_tasks_run (void **state)
{
  struct job *hangs = new_job ();
  unsigned i;

  assert_true (workers_reserve (1));
  for (i = 2; i < 10; ++i)
    take_all (i, URGENCY_NEEDED);
  workers_run (1, &hangs->task);
  wait_until (hangs->runs);
  workers_release (1);
  assert_int_equal (take_all (1, URGENCY_NEEDED), 0);
  assert_true (workers_reserve (1));
  assert_int_equal (take_all (1, URGENCY_NEEDED), 1);
  workers_release (1);
  end_all ();
  assert_true (workers_reserve (1));
  for (i = 2; i < 10; ++i)
    take_all (i, URGENCY_NEEDED);
  assert_int_equal (take_all (1, URGENCY_NEEDED), 2);
  workers_release (1);
}

/* Threads of this process. */
static unsigned
count_threads (void)
{
  DIR *d = opendir ("/proc/self/task");
  unsigned n = 0;
  struct dirent *e;

  must (d != NULL);
  while ((e = readdir (d)) != NULL)
    n += e->d_name[0] != '.';
  closedir (d);
  return n;
}

/* Law 15: own threads are begun when they are reserved, and end when no crew
 * has them any more.
 */
static void
test_threads_end (void **state)
{
  const unsigned before = count_threads ();
  unsigned i, round;

  for (round = 0; round < 2; ++round) {
    for (i = 1; i <= 50; ++i)
      assert_true (workers_reserve (i));
    assert_true (count_threads () >= before + 100);
    for (i = 1; i <= 50; ++i)
      workers_release (i);
    wait_until (count_threads () <= 1 + SHARED);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_shared_threads_are_divided, setup,
                                     teardown),
    cmocka_unit_test_setup_teardown (test_own_threads, setup, teardown),
    cmocka_unit_test_setup_teardown (test_own_threads_are_for_what_is_needed,
                                     setup, teardown),
    cmocka_unit_test_setup_teardown (test_crew_without_own_threads_waits, setup,
                                     teardown),
    cmocka_unit_test_setup_teardown (test_release_while_tasks_run, setup,
                                     teardown),
    cmocka_unit_test_setup_teardown (test_threads_end, setup, teardown),
  };

  return cmocka_run_group_tests_name ("workers", tests, NULL, NULL);
}
