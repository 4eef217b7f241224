/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the whole stack at random: requests of one thread and of
 * several against a shadow of what each byte must be, with backend errors and
 * without.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>

#include "stack.h"

/* ---- random requests against a shadow ---- */

struct shadow {
  struct stack *s;
  struct client *client;
  struct random random;
  uint8_t *is;    /* what each byte must be */
  bool *known;    /* … if that is known: a trim makes it unknown */
  uint64_t size;  /* of the export */
  uint64_t block; /* of the backend */
  bool faults;

  /* Its own part: stripes of so many bytes, every so manyth of them. */
  uint64_t stripe;
  unsigned number, count;
};

static void
pick_range (struct shadow *d, uint64_t *offset, uint64_t *len)
{
  const uint64_t stripes = (d->size + d->stripe - 1) / d->stripe;
  uint64_t n = stripes / d->count + (d->number < stripes % d->count);
  uint64_t start, max;

  n = random_below (&d->random, n) * d->count + d->number;
  start = n * d->stripe;
  max = min_u64 (d->stripe, d->size - start);
  if (random_chance (&d->random, 50))
    max = min_u64 (max, 3000);
  *len = 1 + random_below (&d->random, max);
  *offset =
      start + random_below (&d->random,
                            min_u64 (d->stripe, d->size - start) - *len + 1);
  if (random_chance (&d->random, 40)) { /* whole blocks, as far as it goes */
    const uint64_t end = *offset + *len;

    if (round_down (*offset, d->block) >= start)
      *offset = round_down (*offset, d->block);
    *len = end - *offset;
    if (*len > d->block)
      *len = round_down (*len, d->block);
  }
}

/* A request that failed has changed each byte or not; from now on each has the
 * value that is read.  But a backend that forgets may yet forget what it took
 * of it: bytes that were never acknowledged are not written again.
 */
static void
adopt (struct shadow *d, uint64_t offset, uint64_t len, const uint8_t *wrote)
{
  uint8_t *read = malloc (len);
  uint64_t i;

  must (read != NULL);
  must (request_read (d->client, read, len, offset) == 0);
  for (i = 0; i < len; ++i) {
    must (!d->known[offset + i] || read[i] == d->is[offset + i] ||
          read[i] == (wrote ? wrote[i] : 0));
    if (d->s->array->forgets && read[i] != d->is[offset + i])
      d->known[offset + i] = false;
    d->is[offset + i] = read[i];
  }
  free (read);
}

static void
expect (struct shadow *d, uint64_t offset, const uint8_t *read, uint64_t len)
{
  uint64_t i;

  if (memcmp (read, d->is + offset, len) == 0)
    return;
  for (i = 0; i < len; ++i)
    if (d->known[offset + i] && read[i] != d->is[offset + i]) {
      fprintf (stderr, "byte %llu (of %llu+%llu) is %u instead of %u\n",
               (unsigned long long) (offset + i), (unsigned long long) offset,
               (unsigned long long) len, read[i], d->is[offset + i]);
      must (!"equal to the shadow");
    }
}

static void
shadow_read (struct shadow *d, uint64_t offset, uint64_t len)
{
  uint8_t *read = malloc (len);

  must (read != NULL);
  must (request_read (d->client, read, len, offset) == 0);
  expect (d, offset, read, len);
  free (read);
}

/* Compares the bytes that are durable now, as far as they are known. */
static void
expect_kept (struct shadow *d, uint64_t offset, uint64_t len)
{
  const struct backend_traits *t = &d->s->array->backend.traits;

  pthread_mutex_lock (&d->s->array->lock);
  expect (d, offset,
          (t->can_flush || t->fua != FUA_NONE ? d->s->array->durable
                                              : d->s->array->seen) +
              offset,
          len);
  pthread_mutex_unlock (&d->s->array->lock);
}

static void
shadow_write (struct shadow *d, uint64_t offset, uint64_t len)
{
  const bool durable = random_chance (&d->random, 30);
  const uint64_t seed = random_below (&d->random, UINT64_MAX);
  uint8_t *new = malloc (len);
  uint64_t i;
  int err;

  must (new != NULL);
  for (i = 0; i < len; ++i)
    new[i] = seed *(2 * i + 1) >> 56;
  err = request_write (d->client, new, len, offset, durable);
  must (err == 0 || d->faults);
  if (err != 0)
    adopt (d, offset, len, new);
  else {
    memcpy (d->is + offset, new, len);
    memset (d->known + offset, true, len);
    if (durable)
      expect_kept (d, offset, len);
  }
  free (new);
}

static void
shadow_zero (struct shadow *d, uint64_t offset, uint64_t len)
{
  const unsigned flags = random_below (&d->random, 8);
  const int err = request_zero (d->client, len, offset, flags);

  must (err == 0 || d->faults);
  if (err != 0)
    adopt (d, offset, len, NULL);
  else {
    memset (d->is + offset, 0, len);
    memset (d->known + offset, true, len);
    if (flags & ZERO_FUA)
      expect_kept (d, offset, len);
  }
}

static void
shadow_trim (struct shadow *d, uint64_t offset, uint64_t len)
{
  const int err =
      request_trim (d->client, len, offset, random_chance (&d->random, 30));

  must (err == 0 || d->faults);
  memset (d->known + offset, false, len);
}

static void
shadow_flush (struct shadow *d)
{
  const int err = request_flush (d->client);
  uint64_t at;

  must (err == 0 || d->faults);
  if (err == 0)
    for (at = d->number * d->stripe; at < d->size; at += d->count * d->stripe)
      expect_kept (d, at, min_u64 (d->stripe, d->size - at));
}

/* Something will fail soon; sometimes, nothing any more. */
static void
shadow_fault (struct shadow *d)
{
  static const enum array_op ops[] = { ARRAY_WRITE, ARRAY_WRITE, ARRAY_FLUSH,
                                       ARRAY_ZERO, ARRAY_TRIM };
  struct array *a = d->s->array;
  struct array_fault f = { .op = ops[random_below (&d->random, 5)],
                           .end = UINT64_MAX,
                           .skip = random_below (&d->random, 4),
                           .count = 1 + random_below (&d->random, 3),
                           .error = EIO };

  pthread_mutex_lock (&a->lock);
  if (a->nr_faults == ARRAY_FAULTS || random_chance (&d->random, 30))
    a->nr_faults = 0;
  else
    a->faults[a->nr_faults++] = f;
  pthread_mutex_unlock (&a->lock);
}

static void
shadow_step (struct shadow *d)
{
  uint64_t offset, len;

  pick_range (d, &offset, &len);
  switch (random_below (&d->random, 100)) {
  case 0 ... 39:
    shadow_read (d, offset, len);
    break;
  case 40 ... 84:
    shadow_write (d, offset, len);
    break;
  case 85 ... 90:
    shadow_zero (d, offset, len);
    break;
  case 91 ... 93:
    shadow_trim (d, offset, len);
    break;
  case 94 ... 96:
    shadow_flush (d);
    break;
  case 97:
    must (fetch_range (d->s->export, d->client->own, offset, len,
                       ADMIT_AHEAD) == 0);
    break;
  default:
    if (d->faults)
      shadow_fault (d);
  }
}

/* In the end nothing fails: all is written, and survives a power cut. */
static void
shadow_end (struct shadow *d)
{
  struct array *a = d->s->array;

  array_heal (a);
  must (request_flush (d->client) == 0);
  must (stack_amounts (d->s).dirty == 0);
  must (stack_amounts (d->s).unstable == 0);
  d->number = 0;
  d->count = 1;
  expect_kept (d, 0, d->size);
  shadow_read (d, 0, d->size);
}

static void
shadow_begin (struct shadow *d, struct stack *s, uint64_t seed)
{
  memset (d, 0, sizeof *d);
  d->s = s;
  d->client = s->client;
  d->size = s->array->backend.traits.size;
  d->block = s->array->backend.traits.block;
  d->is = malloc (d->size);
  d->known = malloc (d->size);
  must (d->is && d->known);
  memcpy (d->is, s->array->seen, d->size);
  memset (d->known, true, d->size);
  d->stripe = d->size;
  d->count = 1;
  random_seed (&d->random, seed);
}

static void
shadow_free (struct shadow *d)
{
  free (d->is);
  free (d->known);
}

/* The kinds of backend, and of settings, that are run through. */
static struct stack_options
random_options (struct random *r)
{
  static const uint32_t blocks[] = { 512, 512, 4096, 65536 };
  static const uint32_t pages[] = { 4096, 4096, 16384, 65536 };
  struct stack_options o = stack_options (1 * MiB + random_below (r, 100000));

  o.traits.block = blocks[random_below (r, 4)];
  o.traits.preferred = max_u64 (4096, o.traits.block);
  if (random_chance (r, 50))
    o.traits.maximum = o.traits.block * (1 + random_below (r, 8));
  o.traits.fua = random_below (r, 3);
  o.traits.can_flush = random_chance (r, 80);
  o.traits.can_multi_conn = random_chance (r, 70);
  o.settings.mode = random_below (r, 3);
  o.settings.page_size = pages[random_below (r, 4)];
  o.settings.depth = random_below (r, 3);
  o.settings.fill = random_chance (r, 50) ? 65536 : 0;
  o.memory = random_chance (r, 50) ? 1 * MiB : 8 * MiB;
  if (random_chance (r, 50))
    o.settings.dirty_max = 128 * KiB;
  return o;
}

static void
random_requests (uint64_t seed, bool faults, bool serial)
{
  struct random r;
  struct stack_options o;
  struct shadow d;
  struct stack *s;
  unsigned i;

  random_seed (&r, seed);
  o = random_options (&r);
  o.serial = serial;
  s = stack_new (&o);
  s->array->forgets = faults && random_chance (&r, 50);
  s->array->tears = faults && random_chance (&r, 20);
  shadow_begin (&d, s, seed);
  d.faults = faults;
  for (i = 0; i < 300; ++i)
    shadow_step (&d);
  shadow_end (&d);
  shadow_free (&d);
  stack_free (s);
}

static void
test_random_requests (void **state)
{
  uint64_t seed;

  for (seed = 1; seed <= 25; ++seed)
    random_requests (seed, false, false);
}

static void
test_random_requests_in_series (void **state)
{
  uint64_t seed;

  for (seed = 101; seed <= 115; ++seed)
    random_requests (seed, false, true);
}

static void
test_random_faults (void **state)
{
  uint64_t seed;

  for (seed = 201; seed <= 230; ++seed)
    random_requests (seed, true, false);
}

static void
test_random_faults_in_series (void **state)
{
  uint64_t seed;

  for (seed = 301; seed <= 315; ++seed)
    random_requests (seed, true, true);
}

/* ---- from several threads ---- */

#define THREADS 4

static void
run_shadow (void *arg)
{
  struct shadow *d = arg;
  unsigned i;

  for (i = 0; i < 150; ++i)
    shadow_step (d);
}

/* Stripes that are no multiple of a block: threads share blocks, and each has
 * its own bytes of them.
 */
static void
random_threads (uint64_t seed, uint64_t stripe, bool faults)
{
  struct shadow shadows[THREADS], d;
  struct thread threads[THREADS];
  struct stack_options o;
  struct random r;
  struct stack *s;
  unsigned i;

  random_seed (&r, seed);
  o = random_options (&r);
  o.clients = random_chance (&r, 50) ? THREADS : 1;
  s = stack_new (&o);
  s->array->unsteady = true;
  s->array->forgets = faults && random_chance (&r, 50);
  shadow_begin (&d, s, seed);
  for (i = 0; i < THREADS; ++i) {
    shadows[i] = d;
    shadows[i].client = &s->clients[i % o.clients];
    shadows[i].random.state = seed * 1000 + i;
    shadows[i].number = i;
    shadows[i].count = THREADS;
    shadows[i].stripe = stripe;
    shadows[i].faults = faults;
    thread_start (&threads[i], run_shadow, &shadows[i]);
  }
  for (i = 0; i < THREADS; ++i)
    thread_join (&threads[i]);
  shadow_end (&d);
  shadow_free (&d);
  stack_free (s);
}

static void
test_random_threads (void **state)
{
  uint64_t seed;

  for (seed = 401; seed <= 415; ++seed) {
    random_threads (seed, 1000, false);
    random_threads (seed, 77777, false);
  }
}

static void
test_random_threads_and_faults (void **state)
{
  uint64_t seed;

  for (seed = 501; seed <= 515; ++seed) {
    random_threads (seed, 1000, true);
    random_threads (seed, 77777, true);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_random_requests),
    cmocka_unit_test (test_random_requests_in_series),
    cmocka_unit_test (test_random_faults),
    cmocka_unit_test (test_random_faults_in_series),
    cmocka_unit_test (test_random_threads),
    cmocka_unit_test (test_random_threads_and_faults),
  };

  return cmocka_run_group_tests_name ("random", tests, NULL, NULL);
}
