/* SPDX-License-Identifier: BSD-3-Clause */

/* wtcache-replay TRACE URI: sends the requests of a trace to an NBD server, at
 * the times at which they were recorded, and prints how long they took.  A line
 * of a trace, as wtcachectl records it, is
 *
 *   MICROSECONDS,R or W,FIRST PAGE,PAGES          1042,R,1280,8
 *
 * in pages of 4096 bytes.  One connection carries all requests, with at most
 * --depth at once.  A request that has to wait for a place is late, and its
 * time counts from when it was due.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "base/util.h"
#include "die.h"

#define PAGE        4096
#define MAX_REQUEST (UINT64_C (64) << 20) /* bytes; NBD has no longer one */
#define MAX_DEPTH   1024
#define MAX_SPEED   1e6
#define NS          UINT64_C (1000000000)

const char program_name[] = "wtcache-replay";

static struct {
  const char *trace, *uri;
  unsigned depth;
  double speed; /* times as fast as recorded; 0: as fast as the server is */
  bool writes, json;
} options = { .depth = 32, .speed = 1 };

struct request {
  uint64_t at; /* us */
  uint64_t first, pages;
  bool write;
};

static struct {
  struct request *at;
  size_t nr;
  uint64_t longest; /* pages */
  uint64_t end;     /* the first page after all */
  size_t writes;
} trace;

/* The results of the requests of one kind. */
struct result {
  uint64_t *ns; /* how long each took that succeeded */
  size_t nr;
  uint64_t bytes, errors;
};

static struct result reads, writes;

struct slot {
  void *buffer;
  uint64_t due; /* ns */
  uint64_t len;
  bool write;
};

/* Those without a request, as a stack. */
static struct slot **free_slots;
static unsigned nr_free;

static struct nbd_handle *nbd;
static uint64_t size; /* of the export */

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * NS + ts.tv_nsec;
}

/* ---- the trace ---- */

static void
add_request (const struct request *r)
{
  if ((trace.nr & (trace.nr - 1)) == 0)
    trace.at = checked (
        realloc (trace.at, (trace.nr > 0 ? 2 * trace.nr : 1) * sizeof *r));
  trace.at[trace.nr++] = *r;
  trace.writes += r->write;
  if (r->pages > trace.longest)
    trace.longest = r->pages;
  if (r->first + r->pages > trace.end)
    trace.end = r->first + r->pages;
}

/* False: it is no line of a trace. */
static bool
parse_line (const char *line, struct request *r)
{
  char kind, rest;

  if (sscanf (line, "%" SCNu64 ",%c,%" SCNu64 ",%" SCNu64 "%c", &r->at, &kind,
              &r->first, &r->pages, &rest) != 5 ||
      rest != '\n' || (kind != 'R' && kind != 'W') || r->pages == 0 ||
      r->pages > MAX_REQUEST / PAGE || r->first > INT64_MAX / PAGE - r->pages)
    return false;
  r->write = kind == 'W';
  return true;
}

static void
read_trace (void)
{
  FILE *f =
      strcmp (options.trace, "-") == 0 ? stdin : fopen (options.trace, "r");
  char line[128];
  size_t number = 0;
  struct request r;

  if (f == NULL)
    die (EXIT_FAILED, "%s: %s", options.trace, strerror (errno));
  while (fgets (line, sizeof line, f) != NULL) {
    number++;
    if (!parse_line (line, &r))
      die (EXIT_FAILED,
           "%s: line %zu is not MICROSECONDS,R or W,FIRST PAGE,PAGES",
           options.trace, number);
    if (trace.nr > 0 && r.at < trace.at[trace.nr - 1].at)
      die (EXIT_FAILED, "%s: line %zu is earlier than the line before it",
           options.trace, number);
    add_request (&r);
  }
  if (ferror (f))
    die (EXIT_FAILED, "%s: %s", options.trace, strerror (errno));
  if (f != stdin)
    fclose (f);
  if (trace.nr == 0)
    die (EXIT_FAILED, "%s: there is no request in it", options.trace);
}

/* ---- the server ---- */

static void
connect_to_server (void)
{
  int64_t bytes;

  nbd = nbd_create ();
  if (nbd == NULL || nbd_connect_uri (nbd, options.uri) == -1 ||
      (bytes = nbd_get_size (nbd)) == -1)
    die (EXIT_FAILED, "%s: %s", options.uri, nbd_get_error ());
  size = bytes;
  if (trace.end > (size + PAGE - 1) / PAGE)
    die (EXIT_FAILED,
         "%s: the trace has requests up to byte %" PRIu64
         ", the export has %" PRIu64,
         options.uri, trace.end * PAGE, size);
  if (options.writes && nbd_is_read_only (nbd) == 1)
    die (EXIT_FAILED, "%s: is read-only, so --write cannot work", options.uri);
}

static void
make_slots (void)
{
  struct slot *slots = checked (calloc (options.depth, sizeof *slots));
  unsigned i;

  free_slots = checked (calloc (options.depth, sizeof *free_slots));
  for (i = 0; i < options.depth; ++i) {
    slots[i].buffer = checked (malloc (trace.longest * PAGE));
    memset (slots[i].buffer, 'w', trace.longest * PAGE);
    free_slots[nr_free++] = &slots[i];
  }
  reads.ns = checked (calloc (trace.nr, sizeof *reads.ns));
  writes.ns = checked (calloc (trace.nr, sizeof *writes.ns));
}

/* libnbd's callback. */
static int
completed (void *opaque, int *error)
{
  struct slot *slot = opaque;
  struct result *r = slot->write ? &writes : &reads;

  free_slots[nr_free++] = slot;
  if (*error)
    r->errors++;
  else {
    r->ns[r->nr++] = now () - slot->due;
    r->bytes += slot->len;
  }
  return 1;
}

static void
send_request (const struct request *r, uint64_t due)
{
  struct slot *slot = free_slots[--nr_free];
  const nbd_completion_callback done = { .callback = completed,
                                         .user_data = slot };
  const uint64_t offset = r->first * PAGE;

  slot->due = due;
  slot->write = r->write;
  slot->len = r->pages * PAGE;
  if (slot->len > size - offset)
    slot->len = size - offset; /* the last page of the export is shorter */
  if ((r->write ? nbd_aio_pwrite (nbd, slot->buffer, slot->len, offset, done, 0)
                : nbd_aio_pread (nbd, slot->buffer, slot->len, offset, done,
                                 0)) == -1)
    die (EXIT_FAILED, "%s: %s", options.uri, nbd_get_error ());
}

/* Until a reply comes, or that time. */
static void
wait_until (uint64_t until)
{
  const unsigned direction = nbd_aio_get_direction (nbd);
  const uint64_t t = now (), ns = until > t ? until - t : 0;
  const struct timespec limit = { .tv_sec = ns / NS, .tv_nsec = ns % NS };
  struct pollfd fd = { .fd = nbd_aio_get_fd (nbd) };

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    fd.events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    fd.events |= POLLOUT;
  if (ppoll (&fd, 1, &limit, NULL) == -1 && errno != EINTR)
    die (EXIT_FAILED, "poll: %s", strerror (errno));
  if ((fd.revents & POLLOUT && nbd_aio_notify_write (nbd) == -1) ||
      (fd.revents & (POLLIN | POLLHUP | POLLERR) &&
       nbd_aio_get_direction (nbd) & LIBNBD_AIO_DIRECTION_READ &&
       nbd_aio_notify_read (nbd) == -1) ||
      nbd_aio_is_dead (nbd) || nbd_aio_is_closed (nbd))
    die (EXIT_FAILED, "%s: the connection has ended: %s", options.uri,
         nbd_get_error () ? nbd_get_error () : "by the server");
}

/* How long all took, in seconds. */
static double
replay (void)
{
  const uint64_t start = now ();
  const struct request *r = trace.at, *end = r + trace.nr;
  uint64_t due;

  while (r < end || nr_free < options.depth) {
    if (r < end && r->write && !options.writes) {
      r++;
      continue;
    }
    due = start;
    if (r < end && options.speed > 0)
      due += (r->at - trace.at[0].at) * 1000 / options.speed;
    if (r == end || nr_free == 0)
      wait_until (now () + NS / 10);
    else if (due > now ())
      wait_until (due);
    else {
      send_request (r, options.speed > 0 ? due : now ());
      r++;
    }
  }
  return (now () - start) / 1e9;
}

/* ---- the report ---- */

static int
by_number (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* In seconds, of times that are sorted. */
static double
quantile (const struct result *r, double q)
{
  return r->nr > 0 ? r->ns[(size_t) (q * (r->nr - 1))] / 1e9 : 0;
}

static void
print_result (const char *name, const struct result *r)
{
  if (options.json)
    printf (", \"%s\": {\"requests\": %zu, \"bytes\": %" PRIu64
            ", \"errors\": %" PRIu64 ", \"p50_seconds\": %.9f"
            ", \"p99_seconds\": %.9f, \"max_seconds\": %.9f}",
            name, r->nr, r->bytes, r->errors, quantile (r, 0.5),
            quantile (r, 0.99), quantile (r, 1));
  else if (r->nr > 0)
    printf ("%-8s %9zu requests  %9.1f MiB  p50 %.3f ms  p99 %.3f ms  "
            "max %.3f ms\n",
            name, r->nr, r->bytes / 1048576.0, quantile (r, 0.5) * 1e3,
            quantile (r, 0.99) * 1e3, quantile (r, 1) * 1e3);
}

static void
print_report (double seconds)
{
  const uint64_t errors = reads.errors + writes.errors;
  const size_t left_out = options.writes ? 0 : trace.writes;

  qsort (reads.ns, reads.nr, sizeof *reads.ns, by_number);
  qsort (writes.ns, writes.nr, sizeof *writes.ns, by_number);
  if (options.json)
    printf ("{\"seconds\": %.3f, \"writes_left_out\": %zu", seconds, left_out);
  print_result ("reads", &reads);
  print_result ("writes", &writes);
  if (options.json)
    printf ("}\n");
  else {
    printf ("in %.1f s\n", seconds);
    if (left_out > 0)
      printf ("%zu writes were left out: --write sends them, and overwrites "
              "the disk\n",
              left_out);
  }
  if (errors > 0)
    die (EXIT_FAILED, "%" PRIu64 " requests failed", errors);
}

/* ---- the command line ---- */

static const char help[] =
    "Usage: wtcache-replay [OPTION...] TRACE URI\n"
    "Send the requests of a trace to an NBD server, when they were recorded.\n"
    "\n"
    "  -w, --write           Send writes, too, of bytes that mean nothing: "
    "this\n"
    "                        OVERWRITES the disk.\n"
    "  -f, --fast            Do not wait for the recorded times.\n"
    "  -s, --speed=N         Replay N times as fast as recorded (1).\n"
    "  -d, --depth=N         Requests in flight at once (32; at most 1024).\n"
    "  -j, --json            Print the result as JSON.\n"
    "  -h, --help            Print this.\n"
    "  -V, --version         Print the version.\n"
    "\n"
    "TRACE is a file that `wtcachectl trace` has written, or - for standard\n"
    "input. URI is that of the server: nbd://HOST, nbd+unix:///?socket=PATH.\n";

static const struct option long_options[] = {
  { "write", no_argument, NULL, 'w' },
  { "fast", no_argument, NULL, 'f' },
  { "speed", required_argument, NULL, 's' },
  { "depth", required_argument, NULL, 'd' },
  { "json", no_argument, NULL, 'j' },
  { "help", no_argument, NULL, 'h' },
  { "version", no_argument, NULL, 'V' },
  { NULL, 0, NULL, 0 },
};

/* More than 0, at most MAX. */
static double
parse_number (const char *option, const char *text, double max)
{
  char *end;
  const double n = strtod (text, &end);

  if (end == text || *end || !(n > 0) || !(n <= max))
    die (EXIT_USAGE, "--%s=%s: must be a number above 0, at most %.0f", option,
         text, max);
  return n;
}

static void
parse_options (int argc, char **argv)
{
  double n;
  int option;

  opterr = 0;
  while ((option =
              getopt_long (argc, argv, ":wfs:d:jhV", long_options, NULL)) != -1)
    switch (option) {
    case 'w':
      options.writes = true;
      break;
    case 'f':
      options.speed = 0;
      break;
    case 's':
      options.speed = parse_number ("speed", optarg, MAX_SPEED);
      break;
    case 'd':
      n = parse_number ("depth", optarg, MAX_DEPTH);
      options.depth = n;
      if (options.depth != n)
        die (EXIT_USAGE, "--depth=%s: must be a whole number", optarg);
      break;
    case 'j':
      options.json = true;
      break;
    case 'h':
      print_and_exit (help);
    case 'V':
      print_and_exit ("wtcache-replay " PACKAGE_VERSION "\n");
    case ':':
      die (EXIT_USAGE, "%s: a number is missing", argv[optind - 1]);
    default:
      die_of_option (argv[optind - 1], long_options);
    }
  if (argc - optind != 2)
    die (EXIT_USAGE, "usage: wtcache-replay [OPTION...] TRACE URI");
  options.trace = argv[optind];
  options.uri = argv[optind + 1];
}

int
main (int argc, char **argv)
{
  double seconds;

  parse_options (argc, argv);
  read_trace ();
  connect_to_server ();
  make_slots ();
  seconds = replay ();
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  print_report (seconds);
  if (fflush (stdout) != 0 || ferror (stdout))
    die (EXIT_FAILED, "cannot write the result: %s", strerror (errno));
  return EXIT_SUCCESS;
}
