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
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "load.h"

static pthread_barrier_t barrier;
static uint64_t start;

/* Written by the signal handler, read by every thread; nothing else is passed
 * through it, so relaxed order is enough.
 */
static atomic_bool stop;

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
      !draw_matches (slot->buffer, slot->offset))
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
    reading =
        options.op == OP_READ ||
        (options.op == OP_MIXED && draw_below (c, 100) < options.read_percent);
  slot->offset = draw_offset (c);
  c->quota--;
  if (reading) {
    slot->kind = IS_READ;
    return nbd_aio_pread (c->nbd, slot->buffer, options.block, slot->offset,
                          done, 0) >= 0;
  }
  slot->kind = IS_WRITE;
  if (options.verify)
    draw_fill (slot->buffer, slot->offset);
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
  c->random = draw_mix (options.seed) + draw_mix (index + 1);
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    load_die (1, "%s", nbd_get_error ());
  /* Simple replies: fewer reads of the socket in the client, and the same on
   * every side.
   */
  nbd_set_request_structured_replies (c->nbd, false);
  nbd_set_pread_initialize (c->nbd, false);
  /* The key of TLS is in a file that the URI names. */
  if (nbd_set_uri_allow_local_file (c->nbd, true) == -1 ||
      nbd_connect_uri (c->nbd, options.uri) == -1)
    load_die (1, "%s", nbd_get_error ());
  size = nbd_get_size (c->nbd);
  if (size == -1)
    load_die (1, "%s", nbd_get_error ());
  if (options.offset > (uint64_t) size)
    load_die (2,
              "--range: begins past the end of the export (%" PRIi64 " bytes)",
              size);
  if (length == UINT64_MAX)
    length = (uint64_t) size - options.offset;
  else if (length > (uint64_t) size - options.offset)
    load_die (2, "--range: ends past the end of the export (%" PRIi64 " bytes)",
              size);

  blocks = length / options.block;
  if (blocks == 0)
    load_die (2, "the range holds no block of %" PRIu64 " bytes",
              options.block);
  if (blocks > INT32_MAX)
    load_die (2, "the range holds more than %" PRIi32 " blocks", INT32_MAX);
  c->blocks = blocks;
  if (options.pattern == PATTERN_SEQUENTIAL ||
      options.pattern == PATTERN_BACKWARD) {
    if (blocks < n)
      load_die (2, "--connections: more than blocks in the range");
    c->blocks = blocks / n;
    c->first = c->blocks * index;
    if (index == n - 1)
      c->blocks = blocks - c->first;
  }
  if (options.pattern == PATTERN_REPLAY && trace.last >= blocks)
    load_die (2, "--replay: block %" PRIu64 " is past the end of the range",
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
    load_die (1, "%s", strerror (ENOMEM));
  for (uint64_t i = 0; i < options.depth; ++i) {
    struct slot *slot = &c->slots[i];

    slot->connection = c;
    if (posix_memalign (&slot->buffer, 4096, options.block) != 0)
      load_die (1, "%s", strerror (ENOMEM));
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

int
main (int argc, char **argv)
{
  struct sigaction action = { .sa_handler = on_signal };
  struct connection *connections;
  double cpu, elapsed;

  options_parse (argc, argv);
  sigaction (SIGINT, &action, NULL);
  sigaction (SIGTERM, &action, NULL);

  connections = calloc (options.connections, sizeof *connections);
  if (connections == NULL)
    load_die (1, "%s", strerror (ENOMEM));
  for (unsigned i = 0; i < options.connections; ++i)
    prepare (&connections[i], i);
  if (pthread_barrier_init (&barrier, NULL, (unsigned) options.connections) !=
      0)
    load_die (1, "pthread_barrier_init failed");

  cpu = cpu_seconds ();
  for (uint64_t i = 0; i < options.connections; ++i)
    if (pthread_create (&connections[i].thread, NULL, run, &connections[i]) !=
        0)
      load_die (1, "pthread_create failed");
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
