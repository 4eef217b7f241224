/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of what exports share, and of what each has for itself: backends
 * of some exports hang, with whatever their requests have, and the others go
 * on.
 */

#include <config.h>

#include <stdio.h>

#include "request/readahead.h"
#include "stack.h"

#define SIZE         (4 * MiB)
#define MAX_PLACES   40
#define MAX_REQUESTS 6

/* An export over a disk of its own, with one connection. */
struct place {
  char name[16];
  struct array *array;
  struct backend backend;
  struct connection connection;
  struct client client;
  struct export *export;
  bool has_share;
};

static struct place places[MAX_PLACES];
static unsigned nr_places;

static void
begin_threads (void)
{
  workers_start (96);
}

static struct stack_options
begin_options (uint64_t memory)
{
  struct stack_options o = stack_options (SIZE);

  o.memory = memory;
  o.settings.fill = 4096;
  return o;
}

/* The connection of a place makes its first data request. */
static void
come (struct place *p)
{
  connections_join (&p->connection, p->export, &p->backend);
  p->has_share = shares_reserve (p->export);
  connections_lend (&p->connection);
  p->client =
      (struct client){ .export = p->export, .own = &p->connection.backend };
}

/* Opens N exports. */
static void
begin (const struct stack_options *o, unsigned n)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct open_result result;
  struct place *p;

  pthread_once (&once, begin_threads);
  settings = o->settings;
  settings.size = o->memory;
  must (export_registry_init (true) == 0);
  for (nr_places = 0; nr_places < n; ++nr_places) {
    p = &places[nr_places];
    memset (p, 0, sizeof *p);
    snprintf (p->name, sizeof p->name, "disk%u", nr_places);
    p->array = array_new (&o->traits);
    array_connect (p->array, &p->backend);
    must (export_open (p->name, false, true, &o->traits, true, &result) == 0);
    p->export = result.export;
    come (p);
  }
}

static bool
is_busy (struct place *p)
{
  return atomic_load (&p->export->writeback.running) ||
         atomic_load (&p->export->writeback.drains) > 0;
}

/* Backends that hung are back. */
static void
end (void)
{
  struct place *p;
  unsigned i;

  for (i = 0; i < nr_places; ++i) {
    p = &places[i];
    for (enum array_op op = 0; op < ARRAY_OPS; ++op)
      array_open (p->array, op);
    wait_until (!is_busy (p));
    readahead_free (p->client.ahead);
    export_end_writer (p->export);
    connections_leave (&p->connection);
    must (pagecache_amounts (&p->export->pc).writeback == 0);
    pagecache_clear (&p->export->pc, 0, UINT64_C (1) << 62, CLEAR_UNKNOWN);
    export_close (p->export);
    array_free (p->array);
  }
  export_registry_destroy ();
}

static int
put (struct place *p, uint64_t offset, uint32_t len, int value, bool durable)
{
  return stack_client_write (&p->client, offset, len, value, durable);
}

/* Whether the disk of a place has one value in a range for good. */
static bool
keeps (struct place *p, uint64_t offset, uint32_t len, int value)
{
  return stack_array_keeps (p->array, offset, len, value);
}

/* A request that another thread makes; it is expected to end. */
static void
ask (struct place *p, struct request *r)
{
  r->client = &p->client;
  request_start (r);
  wait_until (r->ended);
  must (request_join (r) == 0);
}

/* How many calls of a kind hang. */
static unsigned
hanging (struct place *p, enum array_op op)
{
  unsigned n;

  pthread_mutex_lock (&p->array->lock);
  n = p->array->at_gate[op];
  pthread_mutex_unlock (&p->array->lock);
  return n;
}

/* All of a place works: reads, cached and not, writes, FUA, flush. */
static void
works (struct place *p, uint64_t offset)
{
  struct request read = { .what = DO_READ, .offset = offset + 700, .len = 1 },
                 write = { .what = DO_WRITE,
                           .offset = offset + 8192,
                           .len = 8192,
                           .value = 3 },
                 fua = { .what = DO_FUA,
                         .offset = offset + 65536 + 100,
                         .len = 40000,
                         .value = 4 },
                 flush = { .what = DO_FLUSH };

  ask (p, &read);
  ask (p, &write);
  ask (p, &fua);
  assert_true (keeps (p, offset + 65536 + 100, 40000, 4));
  ask (p, &flush);
  assert_true (keeps (p, offset + 8192, 8192, 3));
}

/* Whether no large buffer of write-back is left to share. */
static bool
no_batch_is_left (struct place *p)
{
  struct borrower *borrower = &p->export->pc.borrower;
  void *buffer = batch_buffer_try (&registry.memory, borrower, 256 * KiB);

  if (buffer)
    batch_buffer_put (&registry.memory, borrower, buffer, 256 * KiB);
  return buffer == NULL;
}

/* Laws 14 and 21: exports whose write-back hangs have all shared buffers. */
static void
test_flush_beside_hung_writeback (void **state)
{
  struct stack_options o = begin_options (64 * MiB);
  struct request flushes[2];
  unsigned i;

  o.settings.dirty_max = 24 * MiB;
  o.settings.depth = 16;
  begin (&o, 3);
  for (i = 0; i < 2; ++i) {
    assert_int_equal (put (&places[i], 0, SIZE, 1, false), 0);
    array_shut (places[i].array, ARRAY_WRITE, GATE_BEFORE);
    flushes[i] =
        (struct request){ .what = DO_FLUSH, .client = &places[i].client };
    request_start (&flushes[i]);
    wait_until (hanging (&places[i], ARRAY_WRITE) >= 1);
  }
  wait_until (no_batch_is_left (&places[2]));
  works (&places[2], 0);
  for (i = 0; i < 2; ++i)
    array_open (places[i].array, ARRAY_WRITE);
  for (i = 0; i < 2; ++i)
    assert_int_equal (request_join (&flushes[i]), 0);
  end ();
}

/* Brings a range into the cache, as the cache request of NBD does. */
struct prefetch {
  struct place *place;
  uint64_t offset;
  struct thread thread;
};

static void
run_prefetch (void *arg)
{
  struct prefetch *p = arg;

  fetch_range (p->place->export, p->place->client.own, p->offset, 256 * KiB,
               ADMIT_AHEAD);
}

/* Law 21: reads at some places of the disk hang with all buffers that the
 * export may have; what is partly covered elsewhere is written.
 */
static void
test_partial_writes_beside_hung_reads (void **state)
{
  struct stack_options o = begin_options (64 * MiB);
  struct prefetch hung[12];
  unsigned i;

  begin (&o, 1);
  assert_int_equal (put (places, 3 * MiB, MiB, 1, true), 0);
  array_shut (places[0].array, ARRAY_READ, GATE_AFTER);
  for (i = 0; i < ARRAY_LEN (hung); ++i) {
    hung[i] = (struct prefetch){ .place = places, .offset = i * 256 * KiB };
    thread_start (&hung[i].thread, run_prefetch, &hung[i]);
  }
  wait_until (hanging (&places[0], ARRAY_READ) >= 4);
  works (places, 3 * MiB);
  array_open (places[0].array, ARRAY_READ);
  for (i = 0; i < ARRAY_LEN (hung); ++i)
    thread_join (&hung[i].thread);
  end ();
}

/* Whether there is none for 64 KiB. */
static bool
no_scratch_is_left (struct place *p)
{
  struct borrower *borrower = &p->export->pc.borrower;
  void *buffer =
      scratch_try (&registry.memory, borrower, 64 * KiB, URGENCY_NEEDED);

  if (buffer)
    scratch_put (&registry.memory, borrower, buffer, 64 * KiB);
  return buffer == NULL;
}

/* Requests of one place that hang in calls of one kind, as many as it may. */
struct hang {
  enum array_op op;
  struct request requests[MAX_REQUESTS];
};

/* A read in OP is many calls: every second page is there. */
static void
make_hang (struct hang *h, struct place *p, enum array_op op)
{
  uint8_t byte;
  unsigned i;

  h->op = op;
  memset (p->array->seen, 0, MiB); /* a request reads one value */
  for (i = 0; i < 128; ++i)
    must (request_read (&p->client, &byte, 1, i * 8 * KiB) == 0);
  must (put (p, 3 * MiB, MiB, 1, op != ARRAY_WRITE) == 0);
  array_shut (p->array, op, GATE_BEFORE);
  for (i = 0; i < MAX_REQUESTS; ++i) {
    h->requests[i] =
        (struct request){ .what = op == ARRAY_READ                  ? DO_READ
                                  : op == ARRAY_FLUSH || i % 2 == 0 ? DO_FLUSH
                                                                    : DO_FUA,
                          .client = &p->client,
                          .offset = i * 128 * KiB + 100,
                          .len = 120 * KiB,
                          .value = 2 };
    request_start (&h->requests[i]);
  }
  wait_until (hanging (p, op) > 0);
}

static void
run_nothing (struct task *t)
{
  *(_Atomic bool *) (t + 1) = true;
}

/* Whether an export that has no threads of its own finds none. */
static bool
no_helper_is_left (void)
{
  static struct {
    struct task task;
    _Atomic bool ended;
  } nothing = { .task.run = run_nothing };

  nothing.ended = false;
  if (!workers_try (MAX_CREWS - 1, &nothing.task, URGENCY_NEEDED))
    return true;
  wait_until (nothing.ended);
  return false;
}

/* Old data is written back, which no client waits for. */
static void
is_written_back (struct place *p)
{
  must (put (p, MiB, 64 * KiB, 5, false) == 0);
  settings.dirty_age = 0;
  wait_until ((writeback_tick (p->export, NULL),
               pagecache_amounts (&p->export->pc).dirty == 0));
}

/* Laws 3, 14 and 21: all exports but one hang, with whatever they may have.
 * The last one is served, written back, drained by its last writer and at the
 * stop.
 */
static void
test_one_of_forty_goes_on (void **state)
{
  static const enum array_op kinds[] = { ARRAY_READ, ARRAY_WRITE, ARRAY_FLUSH };
  struct stack_options o = begin_options (256 * MiB);
  static struct hang hangs[MAX_PLACES - 1];
  struct place *last = &places[MAX_PLACES - 1];
  unsigned i, j;

  begin (&o, MAX_PLACES);
  for (i = 0; i < MAX_PLACES - 1; ++i) {
    must (places[i].has_share);
    make_hang (&hangs[i], &places[i], kinds[i % ARRAY_LEN (kinds)]);
  }
  wait_until (no_helper_is_left ());
  works (last, 0);
  is_written_back (last);
  assert_int_equal (put (last, 2 * MiB, 64 * KiB, 6, false), 0);
  assert_int_equal (writeback_drain (last->export, last->client.own), 0);
  assert_true (keeps (last, 2 * MiB, 64 * KiB, 6));
  assert_int_equal (put (last, 2 * MiB, 64 * KiB, 7, false), 0);
  writeback_begin_drain (last->export, NULL);
  wait_until (keeps (last, 2 * MiB, 64 * KiB, 7));
  for (i = 0; i < MAX_PLACES - 1; ++i) {
    array_open (places[i].array, hangs[i].op);
    for (j = 0; j < MAX_REQUESTS; ++j)
      request_join (&hangs[i].requests[j]);
  }
  end ();
}

/* Writes that cover blocks in part hang with all buffers for it. */
static void
beside_hung_partial_writes (uint32_t block)
{
  struct stack_options o = begin_options (64 * MiB);
  struct request hung[3][MAX_REQUESTS];
  struct place *last = &places[3];
  unsigned i, j;

  o.traits.block = block;
  begin (&o, 4);
  assert_int_equal (put (last, 0, MiB, 1, true), 0);
  for (i = 0; i < 3; ++i) {
    assert_int_equal (put (&places[i], 0, SIZE, 1, true), 0);
    array_shut (places[i].array, ARRAY_WRITE, GATE_BEFORE);
    for (j = 0; j < MAX_REQUESTS; ++j) {
      hung[i][j] = (struct request){ .what = DO_FUA,
                                     .client = &places[i].client,
                                     .offset = j * 512 * KiB + 100,
                                     .len = 500 * KiB,
                                     .value = 2 };
      request_start (&hung[i][j]);
    }
    wait_until (i == 2 || hanging (&places[i], ARRAY_WRITE) >= 2);
  }
  wait_until (no_scratch_is_left (last));
  works (last, 0);
  for (i = 0; i < 3; ++i)
    array_open (places[i].array, ARRAY_WRITE);
  for (i = 0; i < 3; ++i)
    for (j = 0; j < MAX_REQUESTS; ++j)
      assert_int_equal (request_join (&hung[i][j]), 0);
  for (i = 0; i < 3; ++i)
    for (j = 0; j < MAX_REQUESTS; ++j)
      assert_true (keeps (&places[i], j * 512 * KiB + 100, 500 * KiB, 2));
  end ();
}

/* Laws 14 and 21. */
static void
test_partial_writes_beside_hung_ones (void **state)
{
  beside_hung_partial_writes (512);
  beside_hung_partial_writes (64 * KiB);
}

/* Writes one piece after another. */
struct writer {
  struct place *place;
  _Atomic bool ended;
  struct thread thread;
};

static void
run_writer (void *arg)
{
  struct writer *w = arg;
  uint64_t at;

  for (at = 0; at < SIZE; at += 64 * KiB)
    must (put (w->place, at, 64 * KiB, 1, false) == 0);
  w->ended = true;
}

static bool
waits_for_flush (struct place *p)
{
  LOCK_FOR_SCOPE (&p->export->submit.lock);

  return p->export->submit.waiters != NULL;
}

/* Law 6: writes that go through at once stay unstable while flushes hang.  They
 * are bounded too, and take no pages of another export.
 */
static void
test_writes_that_go_through_are_bounded (void **state)
{
  struct stack_options o = begin_options (6 * MiB);
  struct place *other = &places[1];
  struct writer w = { .place = places };
  uint8_t *bytes = malloc (3 * MiB);
  uint64_t cached;

  must (bytes != NULL);
  o.settings.dirty_max = 1 * MiB;
  begin (&o, 2);
  /* As where two caches may be over one disk. */
  atomic_store (&places[0].export->holds, false);
  must (request_read (&other->client, bytes, 3 * MiB, 0) == 0);
  cached = atomic_load (&other->export->pc.counts->cached);
  array_shut (places[0].array, ARRAY_FLUSH, GATE_BEFORE);
  thread_start (&w.thread, run_writer, &w);
  wait_until (w.ended ||
              (hanging (places, ARRAY_FLUSH) > 0 && waits_for_flush (places)));
  assert_false (w.ended);
  /* The bound is divided; one write at a time may be beyond it. */
  assert_between ((uint64_t) pagecache_amounts (&places[0].export->pc).held,
                  256 * KiB, 512 * KiB + 64 * KiB);
  assert_int_equal (atomic_load (&other->export->pc.counts->cached), cached);
  array_open (places[0].array, ARRAY_FLUSH);
  thread_join (&w.thread);
  free (bytes);
  end ();
}

/* An export that gets no share is served by its clients' threads, and holds
 * nothing back.
 */
static void
test_export_without_a_share (void **state)
{
  struct stack_options o = begin_options (1 * MiB);
  unsigned i, refused = 0;

  begin (&o, 20);
  for (i = 0; i < 20; ++i)
    if (!places[i].has_share) {
      refused++;
      works (&places[i], 0);
      assert_int_equal (put (&places[i], 0, 4096, 7, false), 0);
      assert_int_equal (pagecache_amounts (&places[i].export->pc).dirty, 0);
      /* That is told once. */
      assert_true (shares_reserve (places[i].export));
      assert_false (shares_allow_helpers (places[i].export));
    }
  assert_between (refused, 1, 17); /* three are served at any size */
  assert_true (places[2].has_share);
  works (&places[0], 0);
  end ();
}

/* A share goes back when the last connection ends, and to the next export. */
static void
test_share_is_released (void **state)
{
  struct stack_options o = begin_options (1 * MiB);
  struct open_result result;
  struct place *p = places;
  uint64_t used;

  begin (&o, 1);
  used = memory_buffers (&registry.memory);
  export_end_writer (p->export);
  connections_leave (&p->connection);
  export_close (p->export);
  assert_true (memory_buffers (&registry.memory) < used);
  must (export_open (p->name, false, true, &o.traits, true, &result) == 0);
  p->export = result.export; /* the idle one may have been freed */
  come (p);
  assert_true (p->has_share);
  assert_int_equal (memory_buffers (&registry.memory), used);
  end ();
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_flush_beside_hung_writeback),
    cmocka_unit_test (test_partial_writes_beside_hung_reads),
    cmocka_unit_test (test_partial_writes_beside_hung_ones),
    cmocka_unit_test (test_one_of_forty_goes_on),
    cmocka_unit_test (test_writes_that_go_through_are_bounded),
    cmocka_unit_test (test_export_without_a_share),
    cmocka_unit_test (test_share_is_released),
  };

  return cmocka_run_group_tests_name ("shares", tests, NULL, NULL);
}
