/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of the load: its options, and a connection.
 *
 * load.c sends the requests and prints the line, load-options.c reads the
 * command line and the trace, load-draw.c chooses where each request goes and
 * with which content.
 */

#ifndef LOAD_H
#define LOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

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

/* As the command line has them. */
struct options {
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
};

extern struct options options;

/* The requests of --replay, in the trace's order. */
struct access {
  uint64_t block;
  bool write;
};

struct trace {
  struct access *accesses;
  uint64_t count, room;
  uint64_t last; /* the highest block */
};

extern struct trace trace;

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

extern void load_die (int status, const char *fs, ...)
    __attribute__ ((noreturn, format (printf, 2, 3)));

/* Fills in options and trace, or ends the program. */
extern void options_parse (int argc, char **argv);

/* A hash, by which seeds become streams of numbers. */
extern uint64_t draw_mix (uint64_t x);
/* Uniform in 0 ... n-1, which has 32 bits. */
extern uint64_t draw_below (struct connection *c, uint64_t n);
/* Where the next request of a connection goes. */
extern uint64_t draw_offset (struct connection *c);
/* The content of a block for --verify: writes it, or compares with it. */
extern void draw_fill (void *buffer, uint64_t offset);
extern bool draw_matches (const void *buffer, uint64_t offset);

#endif /* LOAD_H */
