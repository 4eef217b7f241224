/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of submission: what makes a write durable, batches, flushes that
 * are shared, and failures that overlap.
 */

#include <config.h>

#include <errno.h>

#include "array.h"
#include "submit.h"
#include "unit.h"

#define SIZE   (4 * MiB)
#define MEMORY (16 * MiB)

struct setup {
  struct cache *cache;
  struct array *array;
  struct submit submit;
};

static struct setup *
setup_traits (const struct backend_traits *traits, bool merge, unsigned depth)
{
  struct setup *s = calloc (1, sizeof *s);

  must (s != NULL);
  s->cache = cache_new (MEMORY, 4096, traits->block, traits->size);
  s->array = array_new (traits);
  submit_init (&s->submit, &s->cache->pc, &s->cache->memory, merge, depth);
  /* Batches last for days: none at a gate is taken to hang. */
  s->submit.latency = UINT64_C (1000000000000000);
  return s;
}

static struct setup *
setup_new (unsigned depth)
{
  const struct backend_traits traits = array_traits (SIZE);

  return setup_traits (&traits, true, depth);
}

static void
setup_free (struct setup *s)
{
  submit_destroy (&s->submit);
  cache_free (s->cache);
  array_free (s->array);
  free (s);
}

/* A range of claimed blocks that is written. */
struct writer {
  struct setup *s;
  uint64_t offset;
  uint32_t len;
  int value;
  bool durable;

  struct thread thread;
  uint8_t *bytes;
  int error;
  unsigned ended;
};

static void
claim (struct writer *w)
{
  struct pagecache *pc = &w->s->cache->pc;
  uint64_t offset = w->offset, len = w->len;
  _Atomic bool acknowledged = false;
  struct part part;
  struct page *p;

  w->bytes = malloc (w->len);
  must (w->bytes != NULL);
  memset (w->bytes, w->value, w->len);
  while (next_part (pc, &offset, &len, &part)) {
    p = page_pin (pc, part.index, ADMIT_WRITE);
    must (p != NULL);
    must (page_claim (pc, p, &part) == 0);
    page_write_claimed (pc, p, &part, w->bytes, &acknowledged);
    page_unpin (pc, p);
  }
}

static void
run_writer (void *arg)
{
  struct writer *w = arg;
  struct completion completion;
  struct write write;

  claim (w);
  completion_init (&completion);
  memset (&write, 0xa5, sizeof write); /* nothing has to be set before */
  write.offset = w->offset;
  write.len = w->len;
  write.bytes = w->bytes;
  write.durable = w->durable;
  write.completion = &completion;
  submit_write (&w->s->submit, &w->s->array->backend, &write);
  w->error = completion_error (&completion);
  completion_destroy (&completion);
  must (++w->ended == 1);
  free (w->bytes);
}

static int
write_now (struct setup *s, uint64_t offset, uint32_t len, int value,
           bool durable)
{
  struct writer w = { s, offset, len, value, durable, .error = 0 };

  run_writer (&w);
  return w.error;
}

static void
start_writer (struct writer *w, struct setup *s, uint64_t offset, uint32_t len,
              bool durable)
{
  *w = (struct writer){
    s, offset, len, offset / 512 % 250, durable, .error = 0
  };
  thread_start (&w->thread, run_writer, w);
}

static int
join_writer (struct writer *w)
{
  thread_join (&w->thread);
  must (w->ended == 1);
  return w->error;
}

/* How many writes wait for a place. */
static unsigned
waiting (struct setup *s)
{
  struct write *w;
  unsigned n = 0;

  lock_take (&s->submit.lock);
  for (w = s->submit.first; w; w = w->next)
    n++;
  lock_drop (&s->submit.lock);
  return n;
}

static bool
array_has (struct setup *s, bool durable, uint64_t offset, uint32_t len,
           int value)
{
  uint8_t *bytes = malloc (len);
  bool has;

  must (bytes != NULL);
  memset (bytes, value, len);
  has = durable ? array_keeps (s->array, offset, bytes, len)
                : array_sees (s->array, offset, bytes, len);
  free (bytes);
  return has;
}

static struct amounts
amounts (struct setup *s)
{
  return pagecache_amounts (&s->cache->pc);
}

/* ---- what makes a write durable ---- */

static const struct {
  enum fua_kind fua;
  bool can_flush;
  bool flag, flush; /* of a durable write */
  bool plain_flag;  /* of an ordinary one */
} matrix[] = {
  { FUA_NATIVE, true, true, false, false },
  { FUA_NATIVE, false, true, false, true },
  { FUA_EMULATED, true, false, true, false },
  { FUA_EMULATED, false, true, false, true },
  { FUA_NONE, true, false, true, false },
  { FUA_NONE, false, false, false, false },
};

static struct setup *
setup_row (size_t i)
{
  struct backend_traits traits = array_traits (SIZE);

  traits.fua = matrix[i].fua;
  traits.can_flush = matrix[i].can_flush;
  return setup_traits (&traits, true, 4);
}

static void
test_durable_write (void **state)
{
  size_t i;

  (void) state;
  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (write_now (s, 512, 512, 7, true), 0);
    assert_int_equal (array_calls (s->array, ARRAY_WRITE), 1);
    assert_int_equal (array_bytes (s->array, ARRAY_WRITE), 512);
    assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), matrix[i].flush);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (array_has (s, true, 512, 512, 7));
    assert_int_equal (amounts (s).held, 0); /* stable */
    setup_free (s);
  }
}

static void
test_ordinary_write (void **state)
{
  size_t i;

  (void) state;
  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (write_now (s, 512, 512, 7, false), 0);
    assert_int_equal (array_call (s->array, ARRAY_WRITE, 0).flags,
                      matrix[i].plain_flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 0);
    assert_int_equal (amounts (s).unstable, matrix[i].can_flush ? 512 : 0);
    assert_int_equal (amounts (s).held, amounts (s).unstable);
    setup_free (s);
  }
}

static void
test_durable_zero_and_trim (void **state)
{
  struct backend *b;
  size_t i;

  (void) state;
  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    b = &s->array->backend;
    assert_int_equal (clear_zero (&s->submit, b, 0, 4096, ZERO_FUA), 0);
    assert_int_equal (clear_trim (&s->submit, b, 8192, 4096, true), 0);
    assert_int_equal (array_call (s->array, ARRAY_ZERO, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_call (s->array, ARRAY_TRIM, 0).flags,
                      matrix[i].flag ? ZERO_FUA : 0);
    assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2 * matrix[i].flush);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (array_has (s, true, 0, 4096, 0));
    assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
    setup_free (s);
  }
}

static void
test_write_past_is_durable (void **state)
{
  uint8_t bytes[4096];
  size_t i;

  (void) state;
  memset (bytes, 3, sizeof bytes);
  for (i = 0; i < ARRAY_LEN (matrix); ++i) {
    struct setup *s = setup_row (i);

    assert_int_equal (clear_write_past (&s->submit, &s->array->backend, bytes,
                                        512, sizeof bytes),
                      0);
    if (matrix[i].flag || matrix[i].flush)
      assert_true (array_has (s, true, 512, sizeof bytes, 3));
    setup_free (s);
  }
}

/* ---- calls of the right size ---- */

static void
test_no_call_beyond_the_maximum (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct setup *s;
  uint8_t *bytes;

  (void) state;
  traits.maximum = 64 * KiB;
  s = setup_traits (&traits, true, 4);
  assert_int_equal (write_now (s, 0, 1 * MiB, 1, true), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 16);
  assert_true (array_has (s, true, 0, 1 * MiB, 1));
  bytes = malloc (1 * MiB);
  assert_int_equal (
      submit_read (&s->submit, &s->array->backend, bytes, 512, 1 * MiB - 512),
      0);
  assert_int_equal (array_calls (s->array, ARRAY_READ), 16);
  assert_int_equal (bytes[1 * MiB - 513], 1);
  clear_zero (&s->submit, &s->array->backend, 0, 1 * MiB, 0);
  assert_int_equal (array_calls (s->array, ARRAY_ZERO), 16);
  clear_trim (&s->submit, &s->array->backend, 0, 1 * MiB, false);
  assert_int_equal (array_calls (s->array, ARRAY_TRIM), 16);
  free (bytes);
  setup_free (s);
}

static void
test_failed_read_stops (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  uint8_t bytes[8192];
  struct setup *s;

  (void) state;
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

#define MOST_WRITERS 32

/* One write is in flight, and others wait: N neighbours of LEN bytes from
 * OFFSET on, a gap of GAP bytes between them.
 */
struct crowd {
  struct setup *s;
  struct writer first, writers[MOST_WRITERS];
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
  start_writer (&c->first, s, 1 * MiB, 512, durable);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  for (i = 0; i < n; ++i) {
    /* Not in order: every other one first. */
    const unsigned j = i < (n + 1) / 2 ? 2 * i : 2 * (i - (n + 1) / 2) + 1;

    start_writer (&c->writers[j], s, offset + j * (uint64_t) (len + gap), len,
                  durable);
    wait_until (waiting (s) == i + 1);
  }
}

/* Lets all end; the error that all but the first have. */
static int
end_crowd (struct crowd *c)
{
  unsigned i;
  int err;

  array_open (c->s->array, ARRAY_WRITE);
  must (join_writer (&c->first) == 0);
  err = join_writer (&c->writers[0]);
  for (i = 1; i < c->n; ++i)
    must (join_writer (&c->writers[i]) == err);
  return err;
}

static void
check_crowd (struct crowd *c, bool durable)
{
  unsigned i;

  for (i = 0; i < c->n; ++i)
    must (array_has (c->s, durable, c->writers[i].offset, c->writers[i].len,
                     c->writers[i].value));
}

static void
test_neighbours_are_one_write (void **state)
{
  struct setup *s = setup_new (1);
  struct histogram_view batches;
  struct crowd c;

  (void) state;
  gather_crowd (&c, s, 20, 4096 - 512, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 1).offset, 4096 - 512);
  assert_int_equal (array_call (s->array, ARRAY_WRITE, 1).len, 20 * 512);
  check_crowd (&c, true);
  batches = histogram_view (&s->submit.batch_writes, &number_scale);
  assert_int_equal (histogram_count (&batches, &number_scale), 2);
  assert_int_equal (batches.sum, 21);
  assert_int_equal (amounts (s).dirty + amounts (s).writeback, 0);
  setup_free (s);
}

static void
test_gaps_are_not_bridged (void **state)
{
  struct setup *s = setup_new (1);
  struct crowd c;

  (void) state;
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
  struct backend_traits traits = array_traits (SIZE);
  struct setup *s;
  struct crowd c;

  (void) state;
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

  (void) state;
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

  (void) state;
  gather_crowd (&c, s, 1, 64 * KiB, 512, 0, true);
  start_writer (&ordinary, s, 0, 512, false);
  wait_until (waiting (s) == 2);
  start_writer (&durable, s, 512, 512, true);
  wait_until (waiting (s) == 3);
  assert_int_equal (end_crowd (&c), 0);
  assert_int_equal (join_writer (&ordinary), 0);
  assert_int_equal (join_writer (&durable), 0);
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
  const struct backend_traits traits = array_traits (SIZE);
  struct setup *s = setup_traits (&traits, false, 1);
  struct crowd c;

  (void) state;
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

  (void) state;
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

  (void) state;
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

  (void) state;
  for (d = 0; d < ARRAY_LEN (depths); ++d) {
    s = setup_new (depths[d]);
    array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
    for (i = 0; i < ARRAY_LEN (writers); ++i)
      start_writer (&writers[i], s, i * 4096, 512, true);
    array_wait_gate (s->array, ARRAY_WRITE, depths[d]);
    wait_until (waiting (s) == ARRAY_LEN (writers) - depths[d]);
    array_open (s->array, ARRAY_WRITE);
    for (i = 0; i < ARRAY_LEN (writers); ++i)
      assert_int_equal (join_writer (&writers[i]), 0);
    assert_int_equal (s->array->most_at_once[ARRAY_WRITE], depths[d]);
    assert_int_equal (s->submit.in_flight, 0);
    setup_free (s);
  }
}

/* COMPANY writes of a merged batch have just ended, and may come back for NS.
 */
static void
begin_gathering (struct setup *s, unsigned company, uint64_t ns)
{
  lock_take (&s->submit.lock);
  s->submit.mergeable = 16;
  s->submit.company = company;
  s->submit.gathers_until = now_ns () + ns;
  lock_drop (&s->submit.lock);
}

/* A merged batch makes the next wait for as many writes; single ones do not. */
static void
test_company_is_what_was_merged (void **state)
{
  struct setup *s = setup_new (1);
  struct crowd c;

  (void) state;
  gather_crowd (&c, s, 6, 0, 512, 0, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_true (s->submit.mergeable > 1.5);
  assert_int_equal (s->submit.company, 6);
  gather_crowd (&c, s, 6, 0, 512, 512, true);
  assert_int_equal (end_crowd (&c), 0);
  assert_true (s->submit.mergeable < 1.5);
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
  mergeable = s->submit.mergeable;
  setup_free (s);
  return mergeable;
}

/* Neighbours that came apart are to come together again; others are not. */
static void
test_company_is_what_lies_beside (void **state)
{
  (void) state;
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

  (void) state;
  begin_gathering (s, ARRAY_LEN (writers), UINT64_C (1000000000000));
  for (i = 0; i < ARRAY_LEN (writers); ++i) {
    assert_int_equal (array_calls (s->array, ARRAY_WRITE), 0);
    start_writer (&writers[i], s, i * 512, 512, true);
    if (i + 1 < ARRAY_LEN (writers))
      wait_until (waiting (s) == i + 1);
  }
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    assert_int_equal (join_writer (&writers[i]), 0);
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

  (void) state;
  begin_gathering (s, 9, 1000000);
  assert_int_equal (write_now (s, 0, 512, 1, true), 0);

  /* Those that came while one was in flight, too. */
  s->submit.latency = UINT64_C (1000000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  start_writer (&first, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    start_writer (&others[i], s, 8192 + i * 4096, 512, true);
  wait_until (waiting (s) == ARRAY_LEN (others));
  begin_gathering (s, 9, 0);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&first), 0);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    assert_int_equal (join_writer (&others[i]), 0);
  setup_free (s);
}

/* A backend that serves several at once is not kept waiting. */
static void
test_no_gathering_for_a_parallel_backend (void **state)
{
  struct setup *s = setup_new (8);

  (void) state;
  begin_gathering (s, 9, UINT64_C (1000000000000));
  assert_int_equal (write_now (s, 0, 512, 1, true), 0);
  setup_free (s);
}

/* A write waits for its own blocks only: not for batches that hang. */
static void
test_hung_batches_let_others_by (void **state)
{
  struct setup *s = setup_new (1);
  struct writer hangs, other;

  (void) state;
  s->submit.latency = 0;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  start_writer (&hangs, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  start_writer (&other, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&hangs), 0);
  assert_int_equal (join_writer (&other), 0);
  assert_int_equal (s->submit.in_flight, 0);
  setup_free (s);
}

/* So it does beside a backend where batches last for days. */
static void
test_patience_is_bounded (void **state)
{
  struct setup *s = setup_new (1);
  struct writer slow, other;

  (void) state;
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  start_writer (&slow, s, 0, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  start_writer (&other, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&slow), 0);
  assert_int_equal (join_writer (&other), 0);
  setup_free (s);
}

/* ---- flushes ---- */

struct flusher {
  struct setup *s;
  struct thread thread;
  int error;
};

static void
run_flusher (void *arg)
{
  struct flusher *f = arg;

  f->error = durable_flush (&f->s->submit, &f->s->array->backend);
}

static void
start_flusher (struct flusher *f, struct setup *s)
{
  f->s = s;
  thread_start (&f->thread, run_flusher, f);
}

static int
join_flusher (struct flusher *f)
{
  thread_join (&f->thread);
  return f->error;
}

static unsigned
flush_waiters (struct setup *s)
{
  struct flush_waiter *w;
  unsigned n = 0;

  lock_take (&s->submit.lock);
  for (w = s->submit.waiters; w; w = w->next)
    n++;
  lock_drop (&s->submit.lock);
  return n;
}

static void
test_flush_settles (void **state)
{
  struct setup *s = setup_new (4);

  (void) state;
  write_now (s, 0, 4096, 1, false);
  assert_int_equal (amounts (s).unstable, 4096);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_int_equal (amounts (s).held, 0);
  assert_true (array_has (s, true, 0, 4096, 1));
  setup_free (s);
}

/* One in flight began too early for those that come then: a second serves all
 * of them.
 */
static void
share_flushes (int error, unsigned succeed)
{
  struct setup *s = setup_new (4);
  struct flusher first, others[10];
  unsigned i;

  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  start_flusher (&first, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  write_now (s, 0, 512, 1, false);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    start_flusher (&others[i], s);
  wait_until (flush_waiters (s) == ARRAY_LEN (others));
  if (error)
    array_fail (s->array, ARRAY_FLUSH, succeed, 1, error);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (join_flusher (&first), 0);
  for (i = 0; i < ARRAY_LEN (others); ++i)
    assert_int_equal (join_flusher (&others[i]), error);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2);
  assert_int_equal (s->array->most_at_once[ARRAY_FLUSH], 1);
  assert_int_equal (amounts (s).dirty, error ? 512 : 0);
  assert_int_equal (amounts (s).unstable, 0);
  setup_free (s);
}

static void
test_waiters_share_a_flush (void **state)
{
  (void) state;
  share_flushes (0, 0);
}

static void
test_waiters_share_its_error (void **state)
{
  (void) state;
  share_flushes (EIO, 1);
}

static void
test_write_during_flush_stays_unstable (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;

  (void) state;
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  start_flusher (&f, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  write_now (s, 0, 512, 1, false);
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (join_flusher (&f), 0);
  assert_int_equal (amounts (s).unstable, 512);
  setup_free (s);
}

/* Durable writes by flush: N of them in one batch, or in flight together,
 * share.
 */
static void
test_durable_writes_share_a_flush (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct writer writers[8];
  struct flusher first;
  struct setup *s;
  unsigned i;

  (void) state;
  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 8);
  array_shut (s->array, ARRAY_FLUSH, GATE_BEFORE);
  start_flusher (&first, s);
  array_wait_gate (s->array, ARRAY_FLUSH, 1);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    start_writer (&writers[i], s, i * 8192, 512, true);
  wait_until (flush_waiters (s) == ARRAY_LEN (writers));
  array_open (s->array, ARRAY_FLUSH);
  assert_int_equal (join_flusher (&first), 0);
  for (i = 0; i < ARRAY_LEN (writers); ++i) {
    assert_int_equal (join_writer (&writers[i]), 0);
    assert_true (array_has (s, true, writers[i].offset, 512, writers[i].value));
  }
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 2);
  setup_free (s);
}

/* A flush that waits for writes under way serves them, the last too. */
static void
test_one_flush_for_all_under_way (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct writer writers[8];
  struct setup *s;
  unsigned i;

  (void) state;
  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, ARRAY_LEN (writers));
  s->submit.flush_latency = UINT64_C (100000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    start_writer (&writers[i], s, i * 8192, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, ARRAY_LEN (writers));
  array_open (s->array, ARRAY_WRITE);
  for (i = 0; i < ARRAY_LEN (writers); ++i)
    assert_int_equal (join_writer (&writers[i]), 0);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 1);
  setup_free (s);
}

/* ---- failures that overlap ---- */

static void
test_failed_flush_fails_durable_write (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct setup *s;

  (void) state;
  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (write_now (s, 0, 512, 1, true), EIO);
  assert_int_equal (amounts (s).held, 0);
  assert_false (block_is (s->cache, 0, UPTODATE));
  setup_free (s);
}

/* Law 4: any error of a FUA operation makes what is unstable dirty. */
static void
test_failed_fua_makes_dirty (void **state)
{
  struct backend *b;
  struct setup *s = setup_new (4);

  (void) state;
  b = &s->array->backend;
  write_now (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (write_now (s, 4096, 512, 2, true), EIO);
  assert_int_equal (amounts (s).dirty, 512);

  write_now (s, 8192, 512, 1, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  assert_int_equal (clear_zero (&s->submit, b, 65536, 512, ZERO_FUA), EIO);
  assert_int_equal (amounts (s).dirty, 1024);

  write_now (s, 16384, 512, 1, false);
  array_fail (s->array, ARRAY_TRIM, 0, 1, EIO);
  assert_int_equal (clear_trim (&s->submit, b, 65536, 512, true), EIO);
  assert_int_equal (amounts (s).dirty, 1536);
  assert_int_equal (amounts (s).unstable, 0);
  setup_free (s);
}

static void
test_failed_ordinary_write_is_its_own_affair (void **state)
{
  struct setup *s = setup_new (4);

  (void) state;
  write_now (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_WRITE, 0, 1, EIO);
  assert_int_equal (write_now (s, 4096, 512, 2, false), EIO);
  assert_int_equal (amounts (s).dirty, 0);
  assert_int_equal (amounts (s).unstable, 512);
  setup_free (s);
}

/* The error may have been told to the FUA operation alone. */
static void
test_flush_does_not_count_if_fua_beside_it_failed (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  (void) state;
  write_now (s, 0, 512, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, 4096, 512, EIO);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  start_writer (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  start_flusher (&f, s);
  wait_until (array_calls (s->array, ARRAY_FLUSH) == 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&w), EIO);
  assert_int_equal (join_flusher (&f), EAGAIN);
  assert_int_equal (amounts (s).dirty, 512);
  setup_free (s);
}

static void
test_flush_counts_if_fua_beside_it_succeeds (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  (void) state;
  write_now (s, 0, 512, 1, false);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  start_writer (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  start_flusher (&f, s);
  wait_until (array_calls (s->array, ARRAY_FLUSH) == 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&w), 0);
  assert_int_equal (join_flusher (&f), 0);
  assert_false (block_is (s->cache, 0, UNSTABLE));
  setup_free (s);
}

/* A durable write is repeated if another request's failure overlapped it. */
static void
test_durable_write_is_repeated (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  (void) state;
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  start_writer (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  start_flusher (&f, s);
  assert_int_equal (join_flusher (&f), EIO);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&w), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_true (array_has (s, true, 4096, 512, w.value));
  setup_free (s);
}

/* The same for one that is durable by a flush: the write itself as well, since
 * the failed flush may have dropped it.
 */
static void
test_write_and_flush_are_repeated (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct flusher f;
  struct setup *s;
  struct writer w;

  (void) state;
  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  s->array->forgets = true;
  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  start_writer (&w, s, 4096, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  start_flusher (&f, s);
  assert_int_equal (join_flusher (&f), EIO);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&w), 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  assert_true (array_has (s, true, 4096, 512, w.value));
  setup_free (s);
}

static void
run_write_past (void *arg)
{
  struct writer *w = arg;

  w->bytes = malloc (w->len);
  must (w->bytes != NULL);
  memset (w->bytes, w->value, w->len);
  w->error = clear_write_past (&w->s->submit, &w->s->array->backend, w->bytes,
                               w->offset, w->len);
  free (w->bytes);
  LOCK_FOR_SCOPE (&w->s->submit.lock);
  w->ended++;
}

static void
run_durable_zero (void *arg)
{
  struct writer *w = arg;

  w->error = clear_zero (&w->s->submit, &w->s->array->backend, w->offset,
                         w->len, ZERO_FUA);
}

static bool
ended_or_waits (struct setup *s, const struct writer *w)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return w->ended > 0 || s->submit.closing_waiters > 0;
}

/* Bytes that are cached nowhere cannot be written again later: so it is
 * acknowledged when all that could take it back has ended.
 */
static void
test_write_past_waits_for_what_overlaps (void **state)
{
  struct setup *s = setup_new (4);
  struct writer zero = { .s = s, .offset = 0, .len = 512 };
  struct writer past = { .s = s, .offset = 4096, .len = 512, .value = 7 };

  (void) state;
  array_fail (s->array, ARRAY_ZERO, 0, 1, EIO);
  array_shut (s->array, ARRAY_ZERO, GATE_AFTER);
  thread_start (&zero.thread, run_durable_zero, &zero);
  array_wait_gate (s->array, ARRAY_ZERO, 1);
  thread_start (&past.thread, run_write_past, &past);
  wait_until (ended_or_waits (s, &past));
  assert_int_equal (past.ended, 0);
  array_open (s->array, ARRAY_ZERO);
  thread_join (&zero.thread);
  thread_join (&past.thread);
  assert_int_equal (zero.error, EIO);
  assert_int_equal (past.error, 0);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 2);
  setup_free (s);
}

/* ---- what hangs ---- */

/* The block of which a write hangs until it is let go. */
#define HUNG_AT 4096

static struct {
  int (*write) (struct backend *b, const void *bytes, uint32_t len,
                uint64_t offset, bool fua);
  _Atomic bool holds, hangs;
} hang;

static int
write_that_hangs (struct backend *b, const void *bytes, uint32_t len,
                  uint64_t offset, bool fua)
{
  if (offset == HUNG_AT) {
    hang.hangs = true;
    wait_until (!hang.holds);
  }
  return hang.write (b, bytes, len, offset, fua);
}

/* A FUA write that hangs, and is soon taken to. */
static void
start_hung_fua (struct setup *s, struct writer *w)
{
  s->submit.latency = 0;
  hang.write = s->array->backend.write;
  hang.holds = true;
  hang.hangs = false;
  s->array->backend.write = write_that_hangs;
  start_writer (w, s, HUNG_AT, 512, true);
  wait_until (hang.hangs);
}

/* It ends; returns its error. */
static int
join_hung (struct writer *w)
{
  hang.holds = false;
  return join_writer (w);
}

static bool
is_flushing (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.flushing;
}

/* A client's flush covers what ended before it.  So neither it nor a flush that
 * it shares waits for a durable write that would want a flush, too.
 */
static void
test_client_flush_waits_for_no_company (void **state)
{
  struct backend_traits traits = array_traits (SIZE);
  struct writer in_progress, waits;
  struct flusher f;
  struct setup *s;

  (void) state;
  traits.fua = FUA_EMULATED;
  s = setup_traits (&traits, true, 4);
  s->submit.flush_latency = UINT64_C (1000000000000000);
  array_shut (s->array, ARRAY_WRITE, GATE_BEFORE);
  start_writer (&in_progress, s, 0, 512, true);
  start_writer (&waits, s, 8192, 512, true);
  array_wait_gate (s->array, ARRAY_WRITE, 2);
  array_let_by (s->array, ARRAY_WRITE);
  wait_until (is_flushing (s));
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 0);
  start_flusher (&f, s);
  assert_int_equal (join_flusher (&f), 0);
  assert_int_equal (array_calls (s->array, ARRAY_FLUSH), 1);
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&in_progress), 0);
  assert_int_equal (join_writer (&waits), 0);
  setup_free (s);
}

/* A flush ends beside a FUA write that hangs; if that fails, what the flush
 * covered is still there and is written again.
 */
static void
test_flush_beside_hung_fua_that_fails (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;

  (void) state;
  write_now (s, 0, 512, 1, false);
  array_fail_range (s->array, ARRAY_WRITE, HUNG_AT, 512, EIO);
  start_hung_fua (s, &w);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_true (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (s->submit.kept, 512);
  assert_int_equal (join_hung (&w), EIO);
  assert_true (block_is (s->cache, 0, DIRTY));
  assert_int_equal (s->submit.kept, 0);
  setup_free (s);
}

/* If it ends well, the next flush makes all of it stable.  However many there
 * were meanwhile, their numbers have not wrapped round.
 */
static void
test_flush_beside_hung_fua_that_succeeds (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;
  unsigned i;

  (void) state;
  write_now (s, 0, 512, 1, false);
  start_hung_fua (s, &w);
  for (i = 0; i < 40000; ++i)
    assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_true (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (join_hung (&w), 0);
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_int_equal (amounts (s).held, 0);
  setup_free (s);
}

/* Kept bytes stay within the bound: beyond it, a flush that has succeeded
 * counts.
 */
static void
test_flush_beyond_the_bound_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (4);
  struct writer w;

  (void) state;
  write_now (s, 0, 512, 1, false);
  start_hung_fua (s, &w);
  s->cache->pc.bound = 512; /* the block that hangs is held, too */
  assert_int_equal (durable_flush (&s->submit, &s->array->backend), 0);
  assert_false (block_is (s->cache, 0, UNSTABLE));
  assert_int_equal (join_hung (&w), 0);
  setup_free (s);
}

/* Durable writes that share a flush go on beside one that hangs: it holds no
 * place and stands in no trial.  If it fails, they are written again.
 */
static void
test_durable_writes_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (1);
  struct writer w;
  unsigned i;

  (void) state;
  array_fail_range (s->array, ARRAY_WRITE, HUNG_AT, 512, EIO);
  start_hung_fua (s, &w);
  s->submit.choice.chosen = BY_FLUSH;
  for (i = 0; i < 8; ++i) {
    assert_int_equal (write_now (s, MiB + i * 8192, 512, 1, true), 0);
    assert_true (array_has (s, true, MiB + i * 8192, 512, 1));
  }
  assert_true (array_calls (s->array, ARRAY_FLUSH) > 0);
  lock_take (&s->submit.lock);
  assert_int_equal (s->submit.in_flight, 0);
  assert_int_equal (s->submit.durable, 0);
  assert_int_equal (s->submit.unwritten, 0);
  lock_drop (&s->submit.lock);
  assert_int_equal (amounts (s).unstable, 8 * 512);
  assert_int_equal (join_hung (&w), EIO);
  assert_int_equal (amounts (s).dirty, 8 * 512);
  setup_free (s);
}

/* A write past the cache leaves nothing to be written again: it does not wait
 * for what hangs either.
 */
static void
test_write_past_beside_hung_fua (void **state)
{
  struct setup *s = setup_new (4);
  uint8_t bytes[512] = { 7 };
  struct writer w;

  (void) state;
  start_hung_fua (s, &w);
  assert_int_equal (clear_write_past (&s->submit, &s->array->backend, bytes,
                                      MiB, sizeof bytes),
                    0);
  assert_true (array_keeps (s->array, MiB, bytes, sizeof bytes));
  assert_int_equal (join_hung (&w), 0);
  setup_free (s);
}

static bool
is_kept_waiting (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.alone_waiters > 0;
}

/* A writer whose write failures of others have undone so often that it runs
 * alone: its next attempt is at the gate.
 */
static void
start_undone_writer (struct setup *s, struct writer *w)
{
  struct flusher f;
  unsigned i;

  array_shut (s->array, ARRAY_WRITE, GATE_AFTER);
  array_fail (s->array, ARRAY_FLUSH, 0, ~0U, EIO);
  start_writer (w, s, 4096, 512, true);
  for (i = 1; i <= 3; ++i) {
    wait_until (array_calls (s->array, ARRAY_WRITE) == i);
    array_wait_gate (s->array, ARRAY_WRITE, 1);
    start_flusher (&f, s);
    assert_int_equal (join_flusher (&f), EIO);
    array_let_by (s->array, ARRAY_WRITE);
  }
  wait_until (array_calls (s->array, ARRAY_WRITE) == 4);
  array_wait_gate (s->array, ARRAY_WRITE, 1);
}

/* A durable write never has the error of other operations, however often those
 * fail: the last attempt keeps them from beginning.
 */
static void
test_undone_write_runs_alone (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;

  (void) state;
  start_undone_writer (s, &w);
  start_flusher (&f, s);
  wait_until (is_kept_waiting (s));
  array_open (s->array, ARRAY_WRITE);
  assert_int_equal (join_writer (&w), 0);
  assert_int_equal (join_flusher (&f), EIO);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 4);
  setup_free (s);
}

/* If it hangs, others go on; and if their failures still undo it, it ends. */
static void
test_write_that_hangs_alone (void **state)
{
  struct setup *s = setup_new (4);
  struct flusher f;
  struct writer w;
  unsigned i;

  (void) state;
  start_undone_writer (s, &w);
  lock_take (&s->submit.lock);
  s->submit.latency = 0;
  lock_drop (&s->submit.lock);
  for (i = 4; i <= 8; ++i) {
    wait_until (array_calls (s->array, ARRAY_WRITE) == i);
    array_wait_gate (s->array, ARRAY_WRITE, 1);
    start_flusher (&f, s);
    assert_int_equal (join_flusher (&f), EIO);
    array_let_by (s->array, ARRAY_WRITE);
  }
  assert_int_equal (join_writer (&w), EIO);
  assert_int_equal (array_calls (s->array, ARRAY_WRITE), 8);
  array_open (s->array, ARRAY_WRITE);
  setup_free (s);
}

/* ---- zeroes ---- */

static void
test_zero_is_remembered_until_flushed (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  (void) state;
  assert_int_equal (clear_zero (&s->submit, b, 0, 64 * KiB, 0), 0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 64 * KiB);
  assert_int_equal (durable_flush (&s->submit, b), 0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
  assert_true (array_has (s, true, 0, 64 * KiB, 0));
  setup_free (s);
}

static void
test_zero_goes_durable_when_too_many_are_remembered (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;
  unsigned i;

  (void) state;
  for (i = 0; i < ZEROES_MOST + 3; ++i)
    assert_int_equal (clear_zero (&s->submit, b, i * 8192, 512, 0), 0);
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 512 * ZEROES_MOST);
  for (i = ZEROES_MOST; i < ZEROES_MOST + 3; ++i)
    assert_true (array_has (s, true, i * 8192, 512, 0));
  setup_free (s);
}

static void
test_fast_zero_refused_changes_nothing (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  (void) state;
  write_now (s, 0, 512, 1, false);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOTSUP);
  assert_int_equal (clear_zero (&s->submit, b, 0, 4096, ZERO_FAST | ZERO_FUA),
                    ENOTSUP);
  assert_true (block_is (s->cache, 0, UPTODATE));
  assert_int_equal (amounts (s).unstable, 512);
  assert_int_equal (amounts (s).dirty, 0);
  setup_free (s);
}

/* All round the blocks that are held: those are newer. */
static void
test_lost_zeroes_are_done_again (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;

  (void) state;
  s->array->forgets = true;
  clear_zero (&s->submit, b, 0, 64 * KiB, 0);
  write_now (s, 4096 + 512, 1024, 7, true);
  write_now (s, 64 * KiB - 512, 512, 8, true);
  array_fail (s->array, ARRAY_FLUSH, 0, 1, EIO);
  assert_int_equal (durable_flush (&s->submit, b), EIO);
  assert_false (array_has (s, false, 0, 4096, 0)); /* the disk forgot */
  assert_int_equal (clear_redo_zeroes (&s->submit, b), 0);
  assert_int_equal (durable_flush (&s->submit, b), 0);
  assert_true (array_has (s, true, 0, 4096 + 512, 0));
  assert_true (array_has (s, true, 4096 + 512, 1024, 7));
  assert_true (array_has (s, true, 4096 + 1536, 64 * KiB - 512 - 5632, 0));
  assert_true (array_has (s, true, 64 * KiB - 512, 512, 8));
  assert_int_equal (zeroes_bytes (&s->cache->pc.zeroes), 0);
  setup_free (s);
}

static void
test_failed_redo_is_told_and_tried_again (void **state)
{
  struct setup *s = setup_new (4);
  struct backend *b = &s->array->backend;
  uint64_t offset = 0, len;

  (void) state;
  clear_zero (&s->submit, b, 0, 4096, 0);
  zeroes_lose (&s->cache->pc.zeroes, 0);
  array_fail (s->array, ARRAY_ZERO, 0, 1, ENOSPC);
  assert_int_equal (clear_redo_zeroes (&s->submit, b), ENOSPC);
  assert_true (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  assert_int_equal (clear_redo_zeroes (&s->submit, b), 0);
  assert_false (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  setup_free (s);
}

/* A backend to which something fails beside every zero. */
static struct pagecache *failing_beside;
static int (*zero_alone) (struct backend *, uint32_t, uint64_t, unsigned);

static int
zero_beside_a_failure (struct backend *b, uint32_t len, uint64_t offset,
                       unsigned flags)
{
  const int err = zero_alone (b, len, offset, flags);

  pagecache_fail (failing_beside, held_epoch (&failing_beside->held));
  return err;
}

/* Else it would go on for as long as others fail. */
static void
test_redo_zeroes_each_range_once (void **state)
{
  struct setup *s = setup_new (4);
  struct backend b = s->array->backend;
  uint64_t offset = 0, len;
  unsigned i;

  (void) state;
  for (i = 0; i < 5; ++i)
    clear_zero (&s->submit, &b, i * 8192, 4096, 0);
  zeroes_lose (&s->cache->pc.zeroes, 0);
  array_forget_calls (s->array);
  failing_beside = &s->cache->pc;
  zero_alone = b.zero;
  b.zero = zero_beside_a_failure;
  assert_int_equal (clear_redo_zeroes (&s->submit, &b), 0);
  assert_int_equal (array_calls (s->array, ARRAY_ZERO), 5);
  assert_true (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  assert_int_equal (offset, 0);
  b.zero = zero_alone;
  assert_int_equal (clear_redo_zeroes (&s->submit, &b), 0);
  assert_false (zeroes_next_lost (&s->cache->pc.zeroes, &offset, &len));
  setup_free (s);
}

/* ---- completions and open operations ---- */

static void
test_first_error_wins (void **state)
{
  struct completion c;

  (void) state;
  completion_init (&c);
  completion_begin (&c);
  completion_begin (&c);
  completion_end (&c, ENOSPC);
  completion_end (&c, EIO);
  assert_int_equal (completion_wait (&c), ENOSPC);
  completion_destroy (&c);
}

static void
end_one (void *arg)
{
  completion_end (arg, 0);
}

static void
test_completion_waits_for_all (void **state)
{
  struct thread threads[8];
  struct completion c;
  unsigned i;

  (void) state;
  completion_init (&c);
  for (i = 0; i < ARRAY_LEN (threads); ++i) {
    completion_begin (&c);
    thread_start (&threads[i], end_one, &c);
  }
  assert_int_equal (completion_wait (&c), 0);
  assert_int_equal (c.outstanding, 0);
  for (i = 0; i < ARRAY_LEN (threads); ++i)
    thread_join (&threads[i]);
  completion_destroy (&c);
}

struct open_waiter {
  struct setup *s;
  _Atomic bool ended;
};

static void
wait_acknowledged (void *arg)
{
  struct open_waiter *w = arg;

  durable_wait_acknowledged (&w->s->submit);
  w->ended = true;
}

static bool
waits_for_open (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.closing_waiters > 0;
}

static void
test_flush_waits_for_open_operations_before_it (void **state)
{
  struct setup *s = setup_new (4);
  struct open_waiter w = { s, false };
  struct open_op plain, before, after;
  struct thread t;

  (void) state;
  durable_open (&s->submit, &plain);
  durable_wait_acknowledged (&s->submit); /* that one took nothing */
  durable_open (&s->submit, &before);
  before.acknowledged = true;
  thread_start (&t, wait_acknowledged, &w);
  wait_until (waits_for_open (s));
  durable_open (&s->submit, &after);
  after.acknowledged = true;
  assert_false (w.ended);
  durable_close (&s->submit, &before);
  thread_join (&t); /* though another is open, that came later */
  durable_close (&s->submit, &after);
  durable_close (&s->submit, &plain);
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
  const unsigned blocks = SIZE / 512 / LOADERS;
  uint64_t offset;
  unsigned i;
  int err;

  for (i = 0; i < l->steps; ++i) {
    offset = (random_below (&r, blocks) % 64 * LOADERS + l->number) * 512;
    if (random_chance (&r, 5))
      err = durable_flush (&l->s->submit, &l->s->array->backend);
    else
      err = write_now (l->s, offset, 512, i % 250, random_chance (&r, 60));
    atomic_fetch_add (l->ended, 1);
    if (err != 0)
      atomic_fetch_add (l->failed, 1);
  }
}

static void
test_random_load (void **state)
{
  static const enum fua_kind kinds[] = { FUA_NATIVE, FUA_EMULATED };
  struct backend_traits traits = array_traits (SIZE);
  _Atomic unsigned ended, failed;
  struct loader loaders[LOADERS];
  struct thread threads[LOADERS];
  struct setup *s;
  unsigned i, round;

  (void) state;
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
    must (amounts (s).writeback == 0);
    must (s->submit.in_flight == 0 && s->submit.first == NULL);
    must (s->submit.oldest == NULL && s->submit.unwritten == 0);
    must (s->array->most_at_once[ARRAY_FLUSH] <= 1);
    setup_free (s);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_durable_write),
    cmocka_unit_test (test_ordinary_write),
    cmocka_unit_test (test_durable_zero_and_trim),
    cmocka_unit_test (test_write_past_is_durable),
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
    cmocka_unit_test (test_flush_settles),
    cmocka_unit_test (test_waiters_share_a_flush),
    cmocka_unit_test (test_waiters_share_its_error),
    cmocka_unit_test (test_write_during_flush_stays_unstable),
    cmocka_unit_test (test_durable_writes_share_a_flush),
    cmocka_unit_test (test_one_flush_for_all_under_way),
    cmocka_unit_test (test_failed_flush_fails_durable_write),
    cmocka_unit_test (test_failed_fua_makes_dirty),
    cmocka_unit_test (test_failed_ordinary_write_is_its_own_affair),
    cmocka_unit_test (test_flush_does_not_count_if_fua_beside_it_failed),
    cmocka_unit_test (test_flush_counts_if_fua_beside_it_succeeds),
    cmocka_unit_test (test_durable_write_is_repeated),
    cmocka_unit_test (test_write_and_flush_are_repeated),
    cmocka_unit_test (test_write_past_waits_for_what_overlaps),
    cmocka_unit_test (test_client_flush_waits_for_no_company),
    cmocka_unit_test (test_flush_beside_hung_fua_that_fails),
    cmocka_unit_test (test_flush_beside_hung_fua_that_succeeds),
    cmocka_unit_test (test_flush_beyond_the_bound_beside_hung_fua),
    cmocka_unit_test (test_durable_writes_beside_hung_fua),
    cmocka_unit_test (test_write_past_beside_hung_fua),
    cmocka_unit_test (test_undone_write_runs_alone),
    cmocka_unit_test (test_write_that_hangs_alone),
    cmocka_unit_test (test_zero_is_remembered_until_flushed),
    cmocka_unit_test (test_zero_goes_durable_when_too_many_are_remembered),
    cmocka_unit_test (test_fast_zero_refused_changes_nothing),
    cmocka_unit_test (test_lost_zeroes_are_done_again),
    cmocka_unit_test (test_failed_redo_is_told_and_tried_again),
    cmocka_unit_test (test_redo_zeroes_each_range_once),
    cmocka_unit_test (test_first_error_wins),
    cmocka_unit_test (test_completion_waits_for_all),
    cmocka_unit_test (test_flush_waits_for_open_operations_before_it),
    cmocka_unit_test (test_random_load),
  };

  return cmocka_run_group_tests_name ("submit", tests, NULL, NULL);
}
