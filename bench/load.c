/* SPDX-License-Identifier: BSD-3-Clause */
/* A load on an NBD server, for measurements.
 *
 * Each connection is one thread with one libnbd handle and `depth` slots.  A
 * slot is a buffer and, while its request is on the way, the time it began.
 * The thread fills every free slot, waits in ppoll, lets libnbd run the
 * completions, which free slots, and so on until the time or the count is
 * used up; then it waits for what is still on its way.
 *
 * The hot loop does what a measurement needs and no more: two readings of the
 * clock a request, one increment in a histogram of the thread's own.  Data are
 * not looked at unless --verify asks for it.  Requests per second count what
 * ended before the deadline, so the drain at the end is not part of it; the
 * latencies count every request.
 *
 * It knows nothing of the server but its URI.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#define NS        UINT64_C (1000000000)
#define MAX_BLOCK (UINT64_C (64) << 20) /* libnbd sends no more */

enum op { OP_READ, OP_WRITE, OP_MIXED };
enum pattern {
  PATTERN_RANDOM,
  PATTERN_SEQUENTIAL,
  PATTERN_BACKWARD,
  PATTERN_SINGLE,
  PATTERN_REPLAY /* of a trace, not to be asked for by name */
};

static struct {
  enum op op;
  enum pattern pattern;
  uint64_t block;
  uint64_t depth;
  uint64_t connections;
  uint64_t flush_every;
  uint64_t count; /* of reads and writes, 0: no bound */
  uint64_t offset, length;
  uint64_t seed;
  uint64_t read_percent;
  double seconds; /* 0: no bound */
  double zipf;    /* exponent, 0: uniform */
  double rate;    /* requests a second, 0: as fast as they end */
  bool fua;
  bool drain;
  bool verify;
  const char *uri;
} options = {
  .op = OP_READ,
  .pattern = PATTERN_RANDOM,
  .block = 4096,
  .depth = 16,
  .connections = 1,
  .length = UINT64_MAX,
  .seed = 1,
  .read_percent = 50,
};

/* The requests of --replay, in the trace's order. */
struct access {
  uint64_t block;
  bool write;
};

static struct {
  struct access *accesses;
  uint64_t count, room;
  uint64_t last; /* the highest block */
} trace;

/* Latencies: each power of two of nanoseconds is cut in 64, so a percentile is
 * exact to 1.6 %.
 */
#define SUB_BITS 6
#define SUBS     (1 << SUB_BITS)
#define BUCKETS  (64 * SUBS)

struct histogram {
  uint64_t count[BUCKETS];
  uint64_t total, max;
};

struct connection;

struct slot {
  struct connection *connection;
  void *buffer;
  uint64_t began; /* when it was issued, or due if there is a rate */
  uint64_t offset;
  enum { IS_READ, IS_WRITE, IS_FLUSH } kind;
};

/* Everything here belongs to the connection's thread until it is joined. */
struct connection {
  struct nbd_handle *nbd;
  pthread_t thread;
  unsigned index;
  bool failed;

  struct slot *slots;
  struct slot **free; /* a stack */
  unsigned nr_free;
  bool flush_due, draining;

  uint64_t random;
  uint64_t first, blocks, next; /* in blocks; next for the ordered patterns */
  uint64_t quota;               /* requests that may still be issued */
  uint64_t writes;              /* issued, for --flush-every */
  uint64_t due; /* when the next request is to begin, with --rate */
  uint64_t interval;
  uint64_t deadline;

  uint64_t requests, in_time, flushes, errors, mismatches;
  uint64_t ended; /* time of the last completion */
  struct histogram io, flush;
};

static pthread_barrier_t barrier;
static uint64_t start;

/* Written by the signal handler, read by every thread; nothing else is passed
 * through it, so relaxed order is enough.
 */
static atomic_bool stop;

static void __attribute__ ((noreturn, format (printf, 2, 3)))
die (int status, const char *fs, ...)
{
  va_list args;

  fputs ("load: ", stderr);
  va_start (args, fs);
  vfprintf (stderr, fs, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (status);
}

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * NS + (uint64_t) ts.tv_nsec;
}

static unsigned
bucket_of (uint64_t ns)
{
  unsigned shift;

  if (ns < SUBS)
    return (unsigned) ns;
  shift = 63 - SUB_BITS - (unsigned) __builtin_clzll (ns);
  return ((shift + 1) << SUB_BITS) + (unsigned) ((ns >> shift) & (SUBS - 1));
}

/* The middle of a bucket. */
static double
bucket_value (unsigned bucket)
{
  const unsigned shift = bucket >> SUB_BITS;
  const double sub = bucket & (SUBS - 1);

  if (shift == 0)
    return sub;
  return (SUBS + sub + 0.5) * (double) (UINT64_C (1) << (shift - 1));
}

static void
histogram_add (struct histogram *h, uint64_t ns)
{
  h->count[bucket_of (ns)]++;
  h->total++;
  if (ns > h->max)
    h->max = ns;
}

static void
histogram_merge (struct histogram *to, const struct histogram *from)
{
  for (unsigned i = 0; i < BUCKETS; ++i)
    to->count[i] += from->count[i];
  to->total += from->total;
  if (from->max > to->max)
    to->max = from->max;
}

/* In microseconds. */
static double
histogram_quantile (const struct histogram *h, double q)
{
  const uint64_t rank = (uint64_t) ceil (q * (double) h->total);
  uint64_t seen = 0;

  for (unsigned i = 0; i < BUCKETS; ++i) {
    seen += h->count[i];
    if (seen > 0 && seen >= rank)
      return bucket_value (i) / 1e3;
  }
  return 0;
}

/* splitmix64: the state steps by a constant, the result is a hash of it. */
static uint64_t
mix (uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static uint64_t
next_random (struct connection *c)
{
  c->random += UINT64_C (0x9e3779b97f4a7c15);
  return mix (c->random);
}

/* Uniform in 0 … n-1, which has 32 bits, as all numbers of blocks do: products
 * need no integers of 128 bits then, which not every target has.
 */
static uint64_t
below (struct connection *c, uint64_t n)
{
  const uint64_t r = next_random (c);

  return ((r >> 32) * n + ((r & UINT32_MAX) * n >> 32)) >> 32;
}

/* Uniform in (0, 1). */
static double
unit (struct connection *c)
{
  return ((double) (next_random (c) >> 11) + 0.5) / 9007199254740992.0;
}

/* Zipf's law over ranks 1 … n by rejection from the integral H of x^-s
 * (Hoermann and Derflinger's rejection-inversion): no tables, and nearly every
 * first try is taken.
 */
static double
zipf_integral (double x)
{
  const double s = options.zipf;

  return fabs (1 - s) < 1e-9 ? log (x) : (pow (x, 1 - s) - 1) / (1 - s);
}

static double
zipf_inverse (double y)
{
  const double s = options.zipf;

  return fabs (1 - s) < 1e-9 ? exp (y) : pow (1 + y * (1 - s), 1 / (1 - s));
}

static uint64_t
zipf_rank (struct connection *c, uint64_t n)
{
  const double low = zipf_integral (1.5) - 1;
  const double high = zipf_integral ((double) n + 0.5);

  for (;;) {
    const double u = high + unit (c) * (low - high);
    double k = floor (zipf_inverse (u) + 0.5);

    if (k < 1)
      k = 1;
    if (k > (double) n)
      k = (double) n;
    if (u >= zipf_integral (k + 0.5) - pow (k, -options.zipf))
      return (uint64_t) k - 1;
  }
}

/* Ranks are spread over the range, the same way on every connection, so that
 * the popular blocks are not neighbours.
 */
static uint64_t
scatter (uint64_t rank, uint64_t n)
{
  uint64_t step = UINT64_C (0x9e3779b97f4a7c15) % n | 1;

  for (uint64_t a = step, b = n;;) {
    while (b != 0) {
      const uint64_t t = a % b;
      a = b;
      b = t;
    }
    if (a == 1)
      break;
    step += 2;
    a = step;
    b = n;
  }
  return rank * step % n;
}

static uint64_t
next_offset (struct connection *c)
{
  uint64_t block = 0;

  switch (options.pattern) {
  case PATTERN_RANDOM:
    block = options.zipf > 0 ? scatter (zipf_rank (c, c->blocks), c->blocks)
                             : below (c, c->blocks);
    break;
  case PATTERN_SEQUENTIAL:
    block = c->next;
    c->next = c->next + 1 == c->blocks ? 0 : c->next + 1;
    break;
  case PATTERN_BACKWARD:
    block = c->blocks - 1 - c->next;
    c->next = c->next + 1 == c->blocks ? 0 : c->next + 1;
    break;
  case PATTERN_SINGLE:
    break;
  case PATTERN_REPLAY:
    block = trace.accesses[c->next++].block;
    break;
  }
  return options.offset + (c->first + block) * options.block;
}

/* The content for --verify depends on the seed and the place alone, so that
 * every write of a place writes the same and order does not matter.
 */
static uint64_t
content (uint64_t offset)
{
  return mix (options.seed * UINT64_C (0x9e3779b97f4a7c15) + offset + 1);
}

static void
fill (void *buffer, uint64_t offset)
{
  uint64_t *words = buffer;

  for (uint64_t i = 0; i < options.block / 8; ++i)
    words[i] = content (offset + i * 8);
}

static bool
matches (const void *buffer, uint64_t offset)
{
  const uint64_t *words = buffer;

  for (uint64_t i = 0; i < options.block / 8; ++i)
    if (words[i] != content (offset + i * 8))
      return false;
  return true;
}

/* libnbd calls this from nbd_aio_notify_*, so in the connection's thread. */
static int
completed (void *opaque, int *error)
{
  struct slot *slot = opaque;
  struct connection *c = slot->connection;
  const uint64_t t = now ();

  c->free[c->nr_free++] = slot;
  c->ended = t;
  if (*error) {
    c->errors++;
    return 1;
  }
  if (slot->kind == IS_FLUSH) {
    c->flushes++;
    histogram_add (&c->flush, t - slot->began);
    return 1;
  }
  c->requests++;
  if (t <= c->deadline)
    c->in_time++;
  histogram_add (&c->io, t - slot->began);
  if (options.verify && slot->kind == IS_READ &&
      !matches (slot->buffer, slot->offset))
    c->mismatches++;
  return 1;
}

/* Begin a request in this slot. */
static bool
issue (struct connection *c, struct slot *slot, uint64_t began)
{
  const nbd_completion_callback done = { .callback = completed,
                                         .user_data = slot };
  bool reading;

  slot->began = began;
  if (c->flush_due) {
    c->flush_due = false;
    slot->kind = IS_FLUSH;
    return nbd_aio_flush (c->nbd, done, 0) >= 0;
  }

  if (options.pattern == PATTERN_REPLAY)
    reading = !trace.accesses[c->next].write;
  else
    reading = options.op == OP_READ ||
              (options.op == OP_MIXED && below (c, 100) < options.read_percent);
  slot->offset = next_offset (c);
  c->quota--;
  if (reading) {
    slot->kind = IS_READ;
    return nbd_aio_pread (c->nbd, slot->buffer, options.block, slot->offset,
                          done, 0) >= 0;
  }
  slot->kind = IS_WRITE;
  if (options.verify)
    fill (slot->buffer, slot->offset);
  if (options.flush_every && ++c->writes % options.flush_every == 0)
    c->flush_due = c->draining = true;
  return nbd_aio_pwrite (c->nbd, slot->buffer, options.block, slot->offset,
                         done, options.fua ? LIBNBD_CMD_FLAG_FUA : 0) >= 0;
}

/* Nothing more is to be issued. */
static bool
finished (const struct connection *c, uint64_t t)
{
  return !c->flush_due && (c->quota == 0 || t >= c->deadline ||
                           atomic_load_explicit (&stop, memory_order_relaxed));
}

/* Begin as many requests as may begin now.  False: the connection failed. */
static bool
refill (struct connection *c)
{
  while (c->nr_free > 0) {
    uint64_t t = now ();

    if (finished (c, t))
      return true;
    if (options.drain && c->draining) {
      /* The flush begins when all else has ended, and nothing beside it. */
      if (c->nr_free < options.depth)
        return true;
      if (!c->flush_due) {
        c->draining = false;
        continue;
      }
    }
    if (c->interval && !c->flush_due) {
      if (t < c->due)
        return true;
      /* A late start is part of the latency: the client wanted it then. */
      t = c->due;
      c->due += c->interval;
    }
    if (!issue (c, c->free[--c->nr_free], t))
      return false;
  }
  return true;
}

/* Wait until something can be read or written, or is due. */
static bool
wait_and_notify (struct connection *c)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  struct pollfd fd = { .fd = nbd_aio_get_fd (c->nbd) };
  /* Not longer, to see the deadline and the signal. */
  uint64_t ns = NS / 10;
  struct timespec timeout;
  int r;

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    fd.events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    fd.events |= POLLOUT;
  if (c->interval && c->nr_free > 0) {
    const uint64_t t = now ();
    const uint64_t wait = c->due > t ? c->due - t : 0;

    if (wait < ns)
      ns = wait;
  }
  timeout.tv_sec = 0;
  timeout.tv_nsec = (long) ns;
  r = ppoll (&fd, 1, &timeout, NULL);
  if (r == -1)
    return errno == EINTR;
  if (fd.revents & POLLOUT && nbd_aio_notify_write (c->nbd) == -1)
    return false;
  /* The write may have changed what libnbd waits for. */
  if (fd.revents & (POLLIN | POLLHUP | POLLERR) &&
      nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_READ &&
      nbd_aio_notify_read (c->nbd) == -1)
    return false;
  return !nbd_aio_is_dead (c->nbd) && !nbd_aio_is_closed (c->nbd);
}

static void *
run (void *opaque)
{
  struct connection *c = opaque;

  pthread_barrier_wait (&barrier);
  if (c->index == 0)
    start = now ();
  pthread_barrier_wait (&barrier);

  c->due = start;
  c->ended = start;
  c->deadline = options.seconds > 0
                    ? start + (uint64_t) (options.seconds * (double) NS)
                    : UINT64_MAX;
  for (;;) {
    if (!refill (c))
      break;
    if (c->nr_free == options.depth && finished (c, now ()))
      return NULL;
    if (!wait_and_notify (c))
      break;
  }
  fprintf (stderr, "load: connection %u: %s\n", c->index,
           nbd_get_error () ? nbd_get_error () : "closed by the server");
  c->failed = true;
  return NULL;
}

/* Connect and take this connection's share of the range and of the count. */
static void
prepare (struct connection *c, unsigned index)
{
  const uint64_t n = options.connections;
  int64_t size;
  uint64_t blocks, length = options.length;

  c->index = index;
  c->random = mix (options.seed) + mix (index + 1);
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    die (1, "%s", nbd_get_error ());
  /* Simple replies: fewer reads of the socket in the client, and the same on
   * every side.
   */
  nbd_set_request_structured_replies (c->nbd, false);
  nbd_set_pread_initialize (c->nbd, false);
  if (nbd_connect_uri (c->nbd, options.uri) == -1)
    die (1, "%s", nbd_get_error ());
  size = nbd_get_size (c->nbd);
  if (size == -1)
    die (1, "%s", nbd_get_error ());
  if (options.offset > (uint64_t) size)
    die (2, "--range: begins past the end of the export (%" PRIi64 " bytes)",
         size);
  if (length == UINT64_MAX)
    length = (uint64_t) size - options.offset;
  else if (length > (uint64_t) size - options.offset)
    die (2, "--range: ends past the end of the export (%" PRIi64 " bytes)",
         size);

  blocks = length / options.block;
  if (blocks == 0)
    die (2, "the range holds no block of %" PRIu64 " bytes", options.block);
  if (blocks > INT32_MAX)
    die (2, "the range holds more than %" PRIi32 " blocks", INT32_MAX);
  c->blocks = blocks;
  if (options.pattern == PATTERN_SEQUENTIAL ||
      options.pattern == PATTERN_BACKWARD) {
    if (blocks < n)
      die (2, "--connections: more than blocks in the range");
    c->blocks = blocks / n;
    c->first = c->blocks * index;
    if (index == n - 1)
      c->blocks = blocks - c->first;
  }
  if (options.pattern == PATTERN_REPLAY && trace.last >= blocks)
    die (2, "--replay: block %" PRIu64 " is past the end of the range",
         trace.last);
  c->quota = UINT64_MAX;
  if (options.count)
    c->quota = options.count / n + (index < options.count % n);
  if (options.rate > 0) {
    c->interval = (uint64_t) ((double) NS * (double) n / options.rate);
    if (c->interval == 0)
      c->interval = 1;
  }

  c->slots = calloc (options.depth, sizeof *c->slots);
  c->free = calloc (options.depth, sizeof *c->free);
  if (c->slots == NULL || c->free == NULL)
    die (1, "%s", strerror (ENOMEM));
  for (uint64_t i = 0; i < options.depth; ++i) {
    struct slot *slot = &c->slots[i];

    slot->connection = c;
    if (posix_memalign (&slot->buffer, 4096, options.block) != 0)
      die (1, "%s", strerror (ENOMEM));
    memset (slot->buffer, 'a' + (int) (i % 26), options.block);
    c->free[c->nr_free++] = slot;
  }
}

static void
on_signal (int signal)
{
  (void) signal;
  atomic_store_explicit (&stop, true, memory_order_relaxed);
}

static double
cpu_seconds (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec / (double) NS;
}

/* Print the one line.  Returns the exit status. */
static int
report (const struct connection *connections, double elapsed, double cpu)
{
  static struct histogram io, flush;
  uint64_t requests = 0, in_time = 0, flushes = 0, errors = 0, mismatches = 0;
  uint64_t ended = start;
  bool failed = false;
  double seconds;

  for (uint64_t i = 0; i < options.connections; ++i) {
    const struct connection *c = &connections[i];

    requests += c->requests;
    in_time += c->in_time;
    flushes += c->flushes;
    errors += c->errors;
    mismatches += c->mismatches;
    failed |= c->failed;
    if (c->ended > ended)
      ended = c->ended;
    histogram_merge (&io, &c->io);
    histogram_merge (&flush, &c->flush);
  }
  /* Ended by the time, or by the count or a signal before it. */
  seconds = (double) (ended - start) / (double) NS;
  if (options.seconds > 0 && elapsed >= options.seconds)
    seconds = options.seconds;
  if (seconds <= 0)
    seconds = 1e-9;

  printf ("iops=%.1f bytes/s=%.0f p50=%.1f p99=%.1f max=%.1f errors=%" PRIu64
          " mismatches=%" PRIu64 " requests=%" PRIu64 " seconds=%.3f"
          " flushes=%" PRIu64
          " flush_p50=%.1f flush_max=%.1f client_cpu=%.2f\n",
          (double) in_time / seconds,
          (double) in_time / seconds * (double) options.block,
          histogram_quantile (&io, 0.5), histogram_quantile (&io, 0.99),
          (double) io.max / 1e3, errors, mismatches, requests, seconds, flushes,
          histogram_quantile (&flush, 0.5), (double) flush.max / 1e3,
          requests ? cpu * 1e6 / (double) requests : 0);
  return failed || errors > 0 || mismatches > 0 ? 1 : 0;
}

static void
add_access (uint64_t block, bool write)
{
  if (trace.count == trace.room) {
    trace.room = trace.room > 0 ? 2 * trace.room : 1 << 16;
    trace.accesses =
        realloc (trace.accesses, trace.room * sizeof *trace.accesses);
    if (trace.accesses == NULL)
      die (1, "%s", strerror (ENOMEM));
  }
  trace.accesses[trace.count++] = (struct access){ block, write };
  if (block > trace.last)
    trace.last = block;
}

/* Each line is a block's number, or TIME,R|W,FIRST,BLOCKS: one request for
 * each of these.
 */
static void
read_trace (const char *name)
{
  FILE *file = strcmp (name, "-") == 0 ? stdin : fopen (name, "r");
  char line[256];
  uint64_t first, blocks;
  char how;

  if (file == NULL)
    die (2, "--replay: %s: %s", name, strerror (errno));
  while (fgets (line, sizeof line, file) != NULL) {
    how = 'R';
    blocks = 1;
    if (strchr (line, ',') ? sscanf (line, "%*[^,],%c,%" SCNu64 ",%" SCNu64,
                                     &how, &first, &blocks) != 3
                           : sscanf (line, "%" SCNu64, &first) != 1)
      die (2, "--replay: %s: a line is not as expected", name);
    for (uint64_t i = 0; i < blocks; ++i)
      add_access (first + i, how == 'W');
  }
  if (ferror (file))
    die (2, "--replay: %s: %s", name, strerror (errno));
  if (file != stdin)
    fclose (file);
  if (trace.count == 0)
    die (2, "--replay: %s: nothing is in it", name);
}

static const char usage[] =
    "usage: load [options] URI\n"
    "  --op read|write|mixed       what is asked (read)\n"
    "  --read-percent N            reads among mixed requests (50)\n"
    "  --pattern random|sequential|backward|single\n"
    "                              where (random); the ordered patterns give\n"
    "                              each connection its own part of the range\n"
    "  --replay FILE               what a trace says instead, on one "
    "connection;\n"
    "                              a line is the number of a block, or\n"
    "                              TIME,R|W,FIRST,BLOCKS; -: standard input\n"
    "  --block SIZE                bytes of a request (4K)\n"
    "  --depth N                   requests in flight on a connection (16)\n"
    "  --connections N             each with a thread of its own (1)\n"
    "  --fua                       writes are durable when they end\n"
    "  --flush-every N             a flush after every N writes of a "
    "connection,\n"
    "                              beside the writes that follow\n"
    "  --drain                     a flush waits for the writes before it, "
    "and\n"
    "                              the writes after it wait for the flush\n"
    "  --seconds S, --count N      when to end, whichever comes first (5 s)\n"
    "  --range OFFSET:LENGTH       the part of the export (all)\n"
    "  --seed N                    of offsets and of the content (1)\n"
    "  --zipf S                    skew of random offsets, the exponent (0)\n"
    "  --rate N                    requests a second in all, begun when due;\n"
    "                              the latency counts from then\n"
    "  --verify                    write, or expect to read, the seed's "
    "content\n"
    "Prints one line of key=value; latencies are in microseconds, client_cpu "
    "in\n"
    "microseconds a request.  SIGINT and SIGTERM end it early, with the line.\n"
    "Exit status 1: a request failed or differed; 2: wrong options.\n";

static uint64_t
parse_size (const char *option, const char *text, uint64_t least, uint64_t most)
{
  static const char suffixes[] = "KMGT";
  char *end;
  const char *suffix;
  uint64_t n;

  errno = 0;
  n = strtoull (text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || errno)
    goto bad;
  if (*end != '\0') {
    suffix = strchr (suffixes, *end);
    if (suffix == NULL || end[1] != '\0' ||
        n > UINT64_MAX >> (10 * (suffix - suffixes + 1)))
      goto bad;
    n <<= 10 * (suffix - suffixes + 1);
  }
  if (n < least || n > most)
    goto bad;
  return n;

bad:
  die (2, "--%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, option,
       text, least, most);
}

static double
parse_real (const char *option, const char *text, double most)
{
  char *end;
  const double x = strtod (text, &end);

  if (end == text || *end != '\0' || !(x > 0) || !(x <= most))
    die (2, "--%s: '%s' is not a number above 0, at most %g", option, text,
         most);
  return x;
}

static int
parse_choice (const char *option, const char *text, const char *const *choices)
{
  for (int i = 0; choices[i]; ++i)
    if (strcmp (text, choices[i]) == 0)
      return i;
  die (2, "--%s: no such choice: '%s'", option, text);
}

static void
parse_range (const char *text)
{
  const char *colon = strchr (text, ':');
  char offset[32];

  if (colon == NULL || colon - text >= (ptrdiff_t) sizeof offset)
    die (2, "--range: '%s' is not OFFSET:LENGTH", text);
  memcpy (offset, text, (size_t) (colon - text));
  offset[colon - text] = '\0';
  options.offset = parse_size ("range", offset, 0, INT64_MAX);
  options.length = parse_size ("range", colon + 1, 1, INT64_MAX);
}

/* The letters only tell the options apart: there are no short ones. */
static const struct option long_options[] = {
  { "op", required_argument, NULL, 'o' },
  { "read-percent", required_argument, NULL, 'p' },
  { "pattern", required_argument, NULL, 'P' },
  { "replay", required_argument, NULL, 'T' },
  { "block", required_argument, NULL, 'b' },
  { "depth", required_argument, NULL, 'd' },
  { "connections", required_argument, NULL, 'c' },
  { "fua", no_argument, NULL, 'f' },
  { "flush-every", required_argument, NULL, 'F' },
  { "drain", no_argument, NULL, 'D' },
  { "seconds", required_argument, NULL, 's' },
  { "count", required_argument, NULL, 'n' },
  { "range", required_argument, NULL, 'r' },
  { "seed", required_argument, NULL, 'S' },
  { "zipf", required_argument, NULL, 'z' },
  { "rate", required_argument, NULL, 'R' },
  { "verify", no_argument, NULL, 'v' },
  { "help", no_argument, NULL, 'h' },
  { NULL, 0, NULL, 0 },
};

static void
set_option (int option)
{
  static const char *const ops[] = { "read", "write", "mixed", NULL };
  static const char *const patterns[] = { "random", "sequential", "backward",
                                          "single", NULL };

  switch (option) {
  case 'o':
    options.op = (enum op) parse_choice ("op", optarg, ops);
    break;
  case 'p':
    options.read_percent = parse_size ("read-percent", optarg, 0, 100);
    break;
  case 'P':
    options.pattern = (enum pattern) parse_choice ("pattern", optarg, patterns);
    break;
  case 'T':
    options.pattern = PATTERN_REPLAY;
    read_trace (optarg);
    break;
  case 'b':
    options.block = parse_size ("block", optarg, 1, MAX_BLOCK);
    break;
  case 'd':
    options.depth = parse_size ("depth", optarg, 1, 4096);
    break;
  case 'c':
    options.connections = parse_size ("connections", optarg, 1, 1024);
    break;
  case 'f':
    options.fua = true;
    break;
  case 'F':
    options.flush_every = parse_size ("flush-every", optarg, 1, INT64_MAX);
    break;
  case 'D':
    options.drain = true;
    break;
  case 's':
    options.seconds = parse_real ("seconds", optarg, 1e6);
    break;
  case 'n':
    options.count = parse_size ("count", optarg, 1, INT64_MAX);
    break;
  case 'r':
    parse_range (optarg);
    break;
  case 'S':
    options.seed = parse_size ("seed", optarg, 0, INT64_MAX);
    break;
  case 'z':
    options.zipf = parse_real ("zipf", optarg, 10);
    break;
  case 'R':
    options.rate = parse_real ("rate", optarg, 1e9);
    break;
  case 'v':
    options.verify = true;
    break;
  case 'h':
    fputs (usage, stdout);
    exit (0);
  default:
    exit (2);
  }
}

static void
parse_options (int argc, char **argv)
{
  int option;

  while ((option = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    set_option (option);
  if (optind + 1 != argc)
    die (2, "one URI is needed (--help lists the options)");
  options.uri = argv[optind];
  if (options.verify && options.block % 8 != 0)
    die (2, "--verify: the block is not a multiple of 8");
  if (options.op == OP_READ && (options.fua || options.flush_every))
    die (2, "--fua and --flush-every: there are no writes");
  if (options.zipf > 0 && options.pattern != PATTERN_RANDOM)
    die (2, "--zipf: the pattern is not random");
  if (options.pattern == PATTERN_REPLAY) {
    if (options.connections != 1)
      die (2, "--replay: needs one connection");
    if (options.count == 0 || options.count > trace.count)
      options.count = trace.count;
  }
  if (options.seconds <= 0 && options.count == 0)
    options.seconds = 5;
}

int
main (int argc, char **argv)
{
  struct sigaction action = { .sa_handler = on_signal };
  struct connection *connections;
  double cpu, elapsed;

  parse_options (argc, argv);
  sigaction (SIGINT, &action, NULL);
  sigaction (SIGTERM, &action, NULL);

  connections = calloc (options.connections, sizeof *connections);
  if (connections == NULL)
    die (1, "%s", strerror (ENOMEM));
  for (unsigned i = 0; i < options.connections; ++i)
    prepare (&connections[i], i);
  if (pthread_barrier_init (&barrier, NULL, (unsigned) options.connections) !=
      0)
    die (1, "pthread_barrier_init failed");

  cpu = cpu_seconds ();
  for (uint64_t i = 0; i < options.connections; ++i)
    if (pthread_create (&connections[i].thread, NULL, run, &connections[i]) !=
        0)
      die (1, "pthread_create failed");
  for (uint64_t i = 0; i < options.connections; ++i)
    pthread_join (connections[i].thread, NULL);
  cpu = cpu_seconds () - cpu;
  elapsed = (double) (now () - start) / (double) NS;

  for (uint64_t i = 0; i < options.connections; ++i) {
    struct connection *c = &connections[i];

    if (!c->failed)
      nbd_shutdown (c->nbd, 0);
    nbd_close (c->nbd);
    for (uint64_t j = 0; j < options.depth; ++j)
      free (c->slots[j].buffer);
    free (c->slots);
    free (c->free);
  }
  return report (connections, elapsed, cpu);
}
