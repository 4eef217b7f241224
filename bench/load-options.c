/* SPDX-License-Identifier: BSD-3-Clause */

/* The command line of the load, and the trace that --replay names. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

struct options options = {
  .op = OP_READ,
  .pattern = PATTERN_RANDOM,
  .block = 4096,
  .depth = 16,
  .connections = 1,
  .length = UINT64_MAX,
  .seed = 1,
  .read_percent = 50,
};

struct trace trace;

void
load_die (int status, const char *fs, ...)
{
  va_list args;

  fputs ("load: ", stderr);
  va_start (args, fs);
  vfprintf (stderr, fs, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (status);
}

static void
add_access (uint64_t block, bool write)
{
  if (trace.count == trace.room) {
    trace.room = trace.room > 0 ? 2 * trace.room : 1 << 16;
    trace.accesses =
        realloc (trace.accesses, trace.room * sizeof *trace.accesses);
    if (trace.accesses == NULL)
      load_die (1, "%s", strerror (ENOMEM));
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
    load_die (2, "--replay: %s: %s", name, strerror (errno));
  while (fgets (line, sizeof line, file) != NULL) {
    how = 'R';
    blocks = 1;
    if (strchr (line, ',') ? sscanf (line, "%*[^,],%c,%" SCNu64 ",%" SCNu64,
                                     &how, &first, &blocks) != 3
                           : sscanf (line, "%" SCNu64, &first) != 1)
      load_die (2, "--replay: %s: a line is not as expected", name);
    for (uint64_t i = 0; i < blocks; ++i)
      add_access (first + i, how == 'W');
  }
  if (ferror (file))
    load_die (2, "--replay: %s: %s", name, strerror (errno));
  if (file != stdin)
    fclose (file);
  if (trace.count == 0)
    load_die (2, "--replay: %s: nothing is in it", name);
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
parse_size (const char *option, const char *text, uint64_t min, uint64_t max)
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
  if (n < min || n > max)
    goto bad;
  return n;

bad:
  load_die (2, "--%s: '%s' is not a number from %" PRIu64 " to %" PRIu64,
            option, text, min, max);
}

static double
parse_real (const char *option, const char *text, double max)
{
  char *end;
  const double x = strtod (text, &end);

  if (end == text || *end != '\0' || !(x > 0) || !(x <= max))
    load_die (2, "--%s: '%s' is not a number above 0, at most %g", option, text,
              max);
  return x;
}

static int
parse_choice (const char *option, const char *text, const char *const *choices)
{
  for (int i = 0; choices[i]; ++i)
    if (strcmp (text, choices[i]) == 0)
      return i;
  load_die (2, "--%s: no such choice: '%s'", option, text);
}

static void
parse_range (const char *text)
{
  const char *colon = strchr (text, ':');
  char offset[32];

  if (colon == NULL || colon - text >= (ptrdiff_t) sizeof offset)
    load_die (2, "--range: '%s' is not OFFSET:LENGTH", text);
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

void
options_parse (int argc, char **argv)
{
  int option;

  while ((option = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    set_option (option);
  if (optind + 1 != argc)
    load_die (2, "one URI is needed (--help lists the options)");
  options.uri = argv[optind];
  if (options.verify && options.block % 8 != 0)
    load_die (2, "--verify: the block is not a multiple of 8");
  if (options.op == OP_READ && (options.fua || options.flush_every))
    load_die (2, "--fua and --flush-every: there are no writes");
  if (options.zipf > 0 && options.pattern != PATTERN_RANDOM)
    load_die (2, "--zipf: the pattern is not random");
  if (options.pattern == PATTERN_REPLAY) {
    if (options.connections != 1)
      load_die (2, "--replay: needs one connection");
    if (options.count == 0 || options.count > trace.count)
      options.count = trace.count;
  }
  if (options.seconds <= 0 && options.count == 0)
    options.seconds = 5;
}
