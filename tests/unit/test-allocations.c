/* SPDX-License-Identifier: BSD-3-Clause */

/* The Nth allocation fails: for each N, a fixed scenario.
 *
 * The linker hands every allocation of this program to the functions here,
 * threads and mappings among them.  They count those of the filter alone:
 * code outside of it (the test, the backend in the array) sets a flag of its
 * thread.
 *
 * An allocation that fails may keep the server from starting and a client from
 * joining, and the caller gets an error.  Nothing else: no request fails, what
 * was acknowledged stays, and the client that tries again is served.  When it
 * is over a flush succeeds and all is durable.
 *
 * Each run is a process of its own, so that one that dies or hangs is told as
 * the one that it is, and the threads of the filter are begun anew.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"
#include "export/writeback.h"
#include "request.h"
#include "request/readahead.h"
#include "unit.h"
#include "watch/metrics.h"

#define CLIENTS 3
#define REGION  (512 * KiB)
#define SIZE    (CLIENTS * REGION)
#define STEPS   120
#define HANGS   120 /* s */

/* Which allocations fail. */

#define ALWAYS (~0U)

/* Shared with the process that runs the scenario. */
struct plan {
  unsigned first, count;
  _Atomic unsigned calls, refused;
  _Atomic bool armed;
  bool counts;          /* the scenario has begun */
  bool began;           /* the server had started */
  unsigned turned_away; /* clients, once or more */
};

static struct plan *plan;
static _Thread_local unsigned outside;

static bool
refuse (void)
{
  unsigned n;

  if (outside > 0 || plan == NULL || !plan->armed)
    return false;
  n = plan->calls++;
  if (n < plan->first || n - plan->first >= plan->count)
    return false;
  plan->refused++;
  errno = ENOMEM;
  return true;
}

/* The blocks that the filter has allocated and not freed. */

#define MAX_TAKEN 4096

static struct {
  pthread_mutex_t lock;
  const void *what[MAX_TAKEN]; /* guarded by lock */
  unsigned n;
} taken = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *
take (void *p, const void *failure)
{
  if (outside > 0 || plan == NULL || !plan->counts || p == failure)
    return p;
  pthread_mutex_lock (&taken.lock);
  must (taken.n < MAX_TAKEN);
  taken.what[taken.n++] = p;
  pthread_mutex_unlock (&taken.lock);
  return p;
}

static void
give (const void *p)
{
  unsigned i = 0;

  pthread_mutex_lock (&taken.lock);
  while (i < taken.n && taken.what[i] != p)
    i++;
  if (i < taken.n)
    taken.what[i] = taken.what[--taken.n];
  pthread_mutex_unlock (&taken.lock);
}

#define WRAP(result, name, params, body)                                       \
  extern result __real_##name params;                                          \
  extern result __wrap_##name params;                                          \
  result __wrap_##name params                                                  \
  {                                                                            \
    body;                                                                      \
  }

/* One that returns a pointer. */
#define WRAP_POINTER(name, failure, params, args)                              \
  WRAP (void *, name, params,                                                  \
        return refuse () ? failure : take (__real_##name args, failure))

WRAP_POINTER (malloc, NULL, (size_t n), (n))
WRAP_POINTER (calloc, NULL, (size_t n, size_t size), (n, size))
WRAP_POINTER (aligned_alloc, NULL, (size_t align, size_t n), (align, n))
WRAP_POINTER (strdup, NULL, (const char *s), (s))
WRAP_POINTER (mmap, MAP_FAILED,
              (void *p, size_t n, int prot, int flags, int fd, off_t offset),
              (p, n, prot, flags, fd, offset))
WRAP_POINTER (mmap64, MAP_FAILED,
              (void *p, size_t n, int prot, int flags, int fd, off_t offset),
              (p, n, prot, flags, fd, offset))
WRAP (int, pthread_create,
      (pthread_t * id, const pthread_attr_t *attr, void *(*run) (void *),
       void *arg),
      return refuse () ? EAGAIN : __real_pthread_create (id, attr, run, arg))
WRAP (FILE *, fopen, (const char *path, const char *mode),
      return refuse () ? NULL : __real_fopen (path, mode))
WRAP (FILE *, fopen64, (const char *path, const char *mode),
      return refuse () ? NULL : __real_fopen64 (path, mode))
WRAP (void, free, (void *p), give (p); __real_free (p))
WRAP (int, munmap, (void *p, size_t n), give (p); return __real_munmap (p, n))

extern int __wrap_asprintf (char **p, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

int
__wrap_asprintf (char **p, const char *format, ...)
{
  va_list args;
  int r;

  if (refuse ())
    return -1;
  va_start (args, format);
  r = vasprintf (p, format, args);
  va_end (args);
  take (*p, NULL);
  return r;
}

/* The backend is outside. */

static struct backend plain; /* the calls of the array */

#define OUTSIDE(name, params, args)                                            \
  static int name##_outside params                                             \
  {                                                                            \
    int err;                                                                   \
                                                                               \
    outside++;                                                                 \
    err = plain.name args;                                                     \
    outside--;                                                                 \
    return err;                                                                \
  }

OUTSIDE (read, (struct backend * b, void *buf, uint32_t len, uint64_t offset),
         (b, buf, len, offset))
OUTSIDE (write,
         (struct backend * b, const void *buf, uint32_t len, uint64_t offset,
          bool fua),
         (b, buf, len, offset, fua))
OUTSIDE (zero,
         (struct backend * b, uint32_t len, uint64_t offset, unsigned flags),
         (b, len, offset, flags))
OUTSIDE (trim, (struct backend * b, uint32_t len, uint64_t offset, bool fua),
         (b, len, offset, fua))
OUTSIDE (flush, (struct backend * b), (b))

static void
connect_outside (struct array *a, struct backend *b)
{
  array_connect (a, b);
  plain = *b;
  b->read = read_outside;
  b->write = write_outside;
  b->zero = zero_outside;
  b->trim = trim_outside;
  b->flush = flush_outside;
}

/* A call of the filter, by a thread that is outside. */
#define INSIDE(call)                                                           \
  ({                                                                           \
    outside--;                                                                 \
    __auto_type inside_result = (call);                                        \
    outside++;                                                                 \
    inside_result;                                                             \
  })

/* Clients: each is alone in its region, two of them in one export. */

struct guest {
  const char *export;
  struct array *array;
  struct backend backend;
  struct connection connection;
  struct client client;
  struct random rng;
  struct thread thread;
  uint64_t base;
  uint8_t *shadow; /* what its region has to be */
};

struct world {
  struct array *arrays[2];
  struct guest guests[CLIENTS];
};

static int
join (struct guest *g)
{
  const struct backend_traits *t = &g->array->backend.traits;
  struct open_result r;
  int err = export_open (g->export, false, true, t, true, &r);

  if (err != 0)
    return err;
  g->client.export = r.export;
  g->client.own = &g->connection.backend;
  connections_join (&g->connection, r.export, &g->backend);
  g->client.ahead = readahead_new (r.export);
  connections_lend (&g->connection);
  return 0;
}

/* Tries again, as a client does. */
static void
enter (struct guest *g)
{
  int err = INSIDE (join (g)), tries = 1;

  for (; err != 0; ++tries) {
    must (err == ENOMEM);
    plan->turned_away++;
    if (tries == 20)
      plan->armed = false;
    must (tries <= 20);
    err = INSIDE (join (g));
  }
}

/* As wtcache.c leaves an export. */
static int
part (struct guest *g)
{
  struct export *e = g->client.export;
  int err = 0;

  readahead_free (g->client.ahead);
  if (export_end_writer (e) && dirty_is_held (e))
    err = writeback_drain (e, g->client.own);
  connections_leave (&g->connection);
  export_close (e);
  return err;
}

static void
look (struct guest *g, uint64_t at, uint32_t len)
{
  uint8_t *bytes = malloc (len);

  must (bytes != NULL);
  must (INSIDE (request_read (&g->client, bytes, len, g->base + at)) == 0);
  must (memcmp (bytes, g->shadow + at, len) == 0);
  free (bytes);
}

static void
change (struct guest *g, uint64_t at, uint32_t len, unsigned what)
{
  static const int values[] = { [3] = 0, [4] = 0xff }; /* zero and trim */
  const bool durable = random_chance (&g->rng, 30);
  struct client *c = &g->client;
  int err;

  memset (g->shadow + at,
          what < 3 ? 1 + (int) random_below (&g->rng, 250) : values[what], len);
  if (what < 3)
    err =
        INSIDE (request_write (c, g->shadow + at, len, g->base + at, durable));
  else if (what == 3)
    err = INSIDE (request_zero (c, len, g->base + at, durable ? ZERO_FUA : 0));
  else
    err = INSIDE (request_trim (c, len, g->base + at, durable));
  must (err == 0);
}

static void
run_guest (void *arg)
{
  struct guest *g = arg;
  const uint32_t block = g->array->backend.traits.block;
  uint64_t at;
  uint32_t len;
  unsigned i, what;

  outside = 1;
  for (i = 0; i < STEPS; ++i) {
    at = random_below (&g->rng, REGION);
    len = 1 + random_below (&g->rng,
                            random_chance (&g->rng, 20) ? 128 * KiB : 6000);
    what = random_below (&g->rng, 9);
    if (what == 4) { /* a trim may leave the edges of its range */
      at = round_down (at, block);
      len = round_up (len, block);
    }
    len = min_u64 (len, REGION - at);
    if (what < 5)
      change (g, at, len, what);
    else if (what < 7)
      look (g, at, len);
    else if (what == 7)
      must (INSIDE (request_flush (&g->client)) == 0);
    else
      for (at = 0; at < 128 * KiB; at += 16 * KiB) /* a stream */
        look (g, at, 16 * KiB);
  }
}

/* The scenario. */

static void
make (struct world *w)
{
  static const char *const exports[CLIENTS] = { "a", "a", "b" };
  struct backend_traits traits = array_traits (SIZE);
  struct guest *g;
  unsigned i;

  memset (w, 0, sizeof *w);
  w->arrays[0] = array_new (&traits);
  traits.block = 8 * KiB; /* other pages than those of the first */
  w->arrays[1] = array_new (&traits);
  for (i = 0; i < CLIENTS; ++i) {
    g = &w->guests[i];
    g->export = exports[i];
    g->array = w->arrays[i == 2];
    connect_outside (g->array, &g->backend);
    random_seed (&g->rng, 1 + i);
    g->base = i * REGION;
    g->shadow = malloc (REGION);
    must (g->shadow != NULL);
    memcpy (g->shadow, g->array->seen + g->base, REGION);
  }
}

static void
make_statistics (void)
{
  size_t len;
  char *text;
  int err = INSIDE (metrics_text (&text, &len));

  must (err == 0 ? len > 0 : err == ENOMEM);
  INSIDE ((free (text), 0));
}

/* Acknowledged bytes can be read, and made durable. */
static void
judge (struct world *w)
{
  struct guest *g;

  for (g = w->guests; g < w->guests + CLIENTS; ++g)
    must (INSIDE (request_flush (&g->client)) == 0);
  for (g = w->guests; g < w->guests + CLIENTS; ++g) {
    look (g, 0, REGION);
    must (array_sees (g->array, g->base, g->shadow, REGION));
    must (array_keeps (g->array, g->base, g->shadow, REGION));
  }
}

/* The export has another size when it is opened again: its cache is made anew,
 * and what the backend has is read.
 */
static void
shrink (struct guest *g)
{
  g->array->backend.traits.size -= 64 * KiB;
  connect_outside (g->array, &g->backend);
  enter (g);
  must (g->client.export->pc.size == SIZE - 64 * KiB);
  look (g, 0, REGION - 64 * KiB);
  make_statistics ();
  must (INSIDE (part (g)) == 0);
}

static void
serve (struct world *w)
{
  struct guest *g;

  for (g = w->guests; g < w->guests + CLIENTS; ++g)
    enter (g);
  for (g = w->guests; g < w->guests + CLIENTS; ++g)
    thread_start (&g->thread, run_guest, g);
  make_statistics ();
  for (g = w->guests; g < w->guests + CLIENTS; ++g)
    thread_join (&g->thread);
  plan->armed = false;
  judge (w);
  plan->armed = true;
  for (g = w->guests; g < w->guests + CLIENTS; ++g)
    must (INSIDE (part (g)) == 0);
  shrink (&w->guests[2]);
}

static void
run_scenario (void)
{
  const struct settings wanted = {
    .size = 2 * MiB,
    .mode = MODE_WRITEBACK,
    .page_size = 4096,
    .dirty_max = 256 * KiB, /* so that much is written back and goes through */
    .dirty_age = UINT64_C (1000000000000),
    .drain = UINT64_C (20000000000),
    .readahead = 256 * KiB,
    .keep = true,
  };
  struct world w;
  int err;

  settings = wanted;
  outside = 1;
  make (&w);
  plan->armed = plan->counts = true;
  err = INSIDE (export_registry_init (true));
  must (err == 0 || err == ENOMEM);
  if (err == 0) {
    INSIDE ((workers_start (8), 0));
    if (workers_are_there ()) {
      plan->began = true;
      serve (&w);
    }
    INSIDE ((workers_stop (), 0));
    export_registry_destroy ();
  }
  else /* the server knows by this that there is nothing to destroy */
    must (!registry.there);
  must (taken.n == 0);
}

/* Runs it with the allocations from FIRST on failing, COUNT of them. */
static void
run_with (unsigned first, unsigned count)
{
  pid_t child;
  int status;

  memset (plan, 0, sizeof *plan);
  plan->first = first;
  plan->count = count;
  fflush (NULL);
  child = fork ();
  must (child != -1);
  if (child == 0) {
    alarm (HANGS);
    run_scenario ();
    _exit (0);
  }
  must (waitpid (child, &status, 0) == child);
  if (status == 0)
    return;
  print_error ("%u allocations from number %u on fail: %s %d\n", count, first,
               WIFSIGNALED (status) ? "signal" : "status",
               WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status));
  fail ();
}

/* For each N until the scenario has fewer allocations than that. */
static void
run_all (unsigned count)
{
  unsigned first, began = 0, turned_away = 0;

#ifdef __SANITIZE_THREAD__
  /* It does not bear that a process of its own begins threads. */
  skip ();
#endif
  for (first = 0; first == 0 || plan->refused > 0; ++first) {
    run_with (first, count);
    began += plan->began;
    turned_away += plan->turned_away > 0;
    if (plan->refused == 0)
      assert_true (plan->began && plan->turned_away == 0);
  }
  /* Some end the server, some a client's connection, some neither. */
  assert_true (first > 20);
  assert_between (began, 5, first - 2);
  assert_between (turned_away, 3, began - 3);
}

static void
test_one (void **state)
{
  run_all (1);
}

static void
test_two (void **state)
{
  run_all (2);
}

static void
test_many (void **state)
{
  run_all (12);
}

static void
test_all_from_there (void **state)
{
  run_all (ALWAYS);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_one),
    cmocka_unit_test (test_two),
    cmocka_unit_test (test_many),
    cmocka_unit_test (test_all_from_there),
  };
  void *shared = mmap (NULL, sizeof *plan, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  if (shared == MAP_FAILED)
    return EXIT_FAILURE;
  plan = shared;
  return cmocka_run_group_tests (tests, NULL, NULL);
}
