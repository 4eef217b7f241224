/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of a server, read from the file that it writes.  See
 * wtcache-top-model.c.
 */

#ifndef WTCACHE_TOP_MODEL_H
#define WTCACHE_TOP_MODEL_H

#include <stdbool.h>
#include <stddef.h>

/* Numbers of an export.  Of what the file does not have the value is NaN. */
enum value {
  READ_REQUESTS,
  READ_BYTES,
  READ_HIT_REQUESTS,
  READ_HIT_BYTES,
  READ_MISSED_REQUESTS,
  WRITE_REQUESTS,
  WRITE_BYTES,
  ZERO_REQUESTS,
  TRIM_REQUESTS,
  FLUSH_REQUESTS,
  FUA_REQUESTS,
  FAILED_REQUESTS,
  THROTTLED_WRITES,
  THROTTLED_SECONDS,
  EVICTED_PAGES,
  READAHEAD_PAGES,
  READAHEAD_USED_PAGES,
  READAHEAD_WASTED_PAGES,
  BACKEND_READS,
  BACKEND_READ_BYTES,
  BACKEND_WRITES,
  BACKEND_WRITTEN_BYTES,
  BACKEND_FLUSHES,
  BACKEND_ERRORS, /* the sum over operations */
  WRITEBACK_ERRORS,
  LAST_COUNTER = WRITEBACK_ERRORS,
  CONNECTIONS,
  CACHED_PAGES,
  PAGE_SIZE,
  DIRTY,
  WRITEBACK,
  UNSTABLE,
  DIRTY_BOUND,
  OLDEST_DIRTY,
  DEPTH,
  IN_FLIGHT,
  REFUSING,
  FAILING_SINCE,
  NR_VALUES
};

/* The name of a metric without "wtcache_". */
extern const char *value_name (enum value v);

/* Cumulative counts by upper bound, as the file has them. */
#define MAX_BUCKETS 64

struct bucket {
  double bound, count;
};

struct histogram {
  struct bucket buckets[MAX_BUCKETS]; /* by bound */
  size_t nr_buckets;
  double sum, count;
};

enum distribution {
  HIT_DURATIONS, /* of clients' requests */
  MISS_DURATIONS,
  ORDINARY_WRITE_DURATIONS,
  FUA_WRITE_DURATIONS,
  CLIENT_FLUSH_DURATIONS,
  READ_DURATIONS, /* of calls of the backend */
  WRITE_DURATIONS,
  ZERO_DURATIONS,
  TRIM_DURATIONS,
  FLUSH_DURATIONS,
  BATCH_REQUESTS,
  NR_DISTRIBUTIONS
};

/* The values of one export in one file. */
struct values {
  double v[NR_VALUES];
  struct histogram distributions[NR_DISTRIBUTIONS];
  char error[32]; /* of a backend that refuses, "" if none is named */
};

/* The miss ratio by the size of the cache; points by size. */
#define MAX_POINTS 16

struct curve_point {
  double bytes, ratio;
};

struct curve {
  struct curve_point points[MAX_POINTS];
  size_t nr_points;
  double size; /* of the cache as it is, bytes */
};

/* The part of the misses that a cache of FACTOR times its size would spare, NaN
 * if that is not known.
 */
extern double curve_saving (const struct curve *c, double factor);

/* The least that a curve has to rest on, sampled reads of pages: an estimate of
 * 50 % is right to 3 % then, two times of three to 1.6 %.
 */
#define CURVE_READS 1000

/* The values that are drawn over time. */
enum series {
  READ_SPEED,
  WRITE_SPEED,
  BACKEND_READ_SPEED,
  BACKEND_WRITE_SPEED,
  FLUSH_SPEED,
  HELD_BYTES,
  NR_SERIES
};

#define HISTORY 128

struct history {
  double values[HISTORY]; /* the latest is values[(next - 1) % HISTORY] */
  unsigned next;          /* how many there were */
};

struct export
{
  char *name;
  char *tls;    /* the label */
  char *number; /* the label */
  struct values now, before;
  bool alike;     /* another one has the same name */
  bool in_before; /* whether the file before had it, too */
  struct history history[NR_SERIES];
};

/* The kinds of memory, as far as the file names them. */
#define MAX_KINDS 8

struct memory_kind {
  char name[24];
  double bytes;
};

/* A server. */
struct source {
  const char *path;
  double written;         /* when the file was, Unix time; NaN: never seen */
  double written_before;  /* when the one before was; NaN if there was none */
  struct export *exports; /* those in the last file, in its order */
  size_t nr_exports;
  size_t last_found; /* the index of the one that was looked up last */

  double size, dirty_max; /* bytes, NaN if not known */
  struct memory_kind memory[MAX_KINDS];
  size_t nr_kinds;
  char mode[24], version[32], nbdkit[32]; /* "" if not known */
  struct curve curve;
  double sampled_reads; /* of pages, that the curve rests on */
  double ended;         /* 1: it is the last file of its server */
  double lost;          /* bytes that the server could not make durable */
  bool past;            /* what is known may be true no more */
};

extern void model_init (struct source *s, const char *path);

/* Takes over a file's text, which is changed, written at that time.  NULL, or
 * what is wrong with it, to be freed: then nothing of S has changed.
 */
extern char *model_take (struct source *s, char *text, double written);

/* Whether there are two files to compare, and the time between them. */
extern double model_seconds (const struct source *s);

/* A counter's growth in a second; NaN without two files. */
extern double model_rate (const struct source *s, const struct export *e,
                          enum value v);
/* The part of the reads that hit: between the last two files, else since the
 * counters began.  NaN if there were none.
 */
extern double model_hit_ratio (const struct export *e);
/* Calls between the two files, else all. */
extern double model_count (const struct export *e, enum distribution d);
extern double model_mean (const struct export *e, enum distribution d);
extern double model_quantile (const struct export *e, enum distribution d,
                              double q);
/* Bytes that are not on stable storage. */
extern double model_held (const struct export *e);
/* Bytes of memory taken. */
extern double model_memory (const struct source *s);

#endif /* WTCACHE_TOP_MODEL_H */
