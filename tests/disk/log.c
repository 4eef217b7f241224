/* SPDX-License-Identifier: BSD-3-Clause */

/* The log of the tests' disk: one line when a request starts and one when it
 * ends, each with the number of the event in one order for all exports:
 *
 *   N start ID EXPORT CONN OP OFFSET LEN FLAGS INFLIGHT TIME_NS [DATA_OFFSET]
 *   N end ID ERRNO TIME_NS
 *   N violation ID
 *   N partial ID BYTES
 *   N forget EXPORT
 *   N crash
 *
 * A request that ended before another one started has the lower number at its
 * end.  The changes of the images by other files lie between the two lines.
 * Counters are kept here too since they change at the same two points.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"

const char *const op_names[NR_OPS] = {
  [OP_READ] = "read", [OP_WRITE] = "write", [OP_ZERO] = "zero",
  [OP_TRIM] = "trim", [OP_FLUSH] = "flush", [OP_EXTENTS] = "extents",
};

struct counters {
  struct {
    uint64_t count, fua, bytes, errors;
  } op[NR_OPS];
  uint64_t violations, forgets, max_in_flight;
};

/* Innermost but for stdio's own.  Guards all below and export.in_flight. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *text, *bytes;
static uint64_t nr_bytes; /* written to bytes */
static uint64_t events, requests, in_flight;
static uint64_t connections, connected; /* ever, and now */
static struct counters counters;

static uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * UINT64_C (1000000000) + ts.tv_nsec;
}

/* Adds a line.  Called with the lock held. */
static void __attribute__ ((format (printf, 1, 2)))
event (const char *format, ...)
{
  va_list args;

  events++;
  if (text == NULL)
    return;
  fprintf (text, "%" PRIu64 " ", events);
  va_start (args, format);
  vfprintf (text, format, args);
  va_end (args);
  putc ('\n', text);
}

int
log_open (const char *path, bool with_data)
{
  char *data_path;

  text = fopen (path, "we");
  if (text == NULL)
    return -1;
  setvbuf (text, NULL, _IOFBF, 1 << 20);
  if (!with_data)
    return 0;
  if (asprintf (&data_path, "%s.data", path) == -1)
    return -1;
  bytes = fopen (data_path, "we");
  free (data_path);
  return bytes ? 0 : -1;
}

void
log_close (void)
{
  if (text)
    fclose (text);
  if (bytes)
    fclose (bytes);
  text = bytes = NULL;
}

int
log_sync (void)
{
  int r = 0;

  pthread_mutex_lock (&lock);
  if (bytes && fflush (bytes) == EOF)
    r = -1;
  if (text && fflush (text) == EOF)
    r = -1;
  pthread_mutex_unlock (&lock);
  return r;
}

/* The flags as one word. */
static const char *
flags_of (const struct request *request, char buf[static 32])
{
  buf[0] = '\0';
  if (request->fua)
    strcat (buf, ",fua");
  if (request->may_trim)
    strcat (buf, ",may_trim");
  if (request->fast)
    strcat (buf, ",fast");
  return buf[0] ? buf + 1 : "-";
}

void
log_start (struct request *request, const void *data)
{
  struct export *export = request->export;
  char flags[32], where[32] = "";

  pthread_mutex_lock (&lock);
  request->id = ++requests;
  export->in_flight++;
  in_flight++;
  if (in_flight > counters.max_in_flight)
    counters.max_in_flight = in_flight;
  counters.op[request->op].count++;
  counters.op[request->op].fua += request->fua;
  counters.op[request->op].bytes += request->length;

  if (data && bytes) {
    fwrite (data, 1, request->length, bytes);
    snprintf (where, sizeof where, " %" PRIu64, nr_bytes);
    nr_bytes += request->length;
  }
  event ("start %" PRIu64 " %s %u %s %" PRIu64 " %" PRIu64 " %s %u %" PRIu64
         "%s",
         request->id, export->name, request->connection, op_names[request->op],
         request->offset, request->length, flags_of (request, flags),
         export->in_flight, now_ns (), where);
  pthread_mutex_unlock (&lock);
}

void
log_end (struct request *request, int error)
{
  pthread_mutex_lock (&lock);
  request->export->in_flight--;
  in_flight--;
  if (error)
    counters.op[request->op].errors++;
  event ("end %" PRIu64 " %d %" PRIu64, request->id, error, now_ns ());
  pthread_mutex_unlock (&lock);
}

void
log_violation (const struct request *request)
{
  pthread_mutex_lock (&lock);
  counters.violations++;
  event ("violation %" PRIu64, request->id);
  pthread_mutex_unlock (&lock);
}

void
log_partial (const struct request *request, uint64_t n)
{
  pthread_mutex_lock (&lock);
  event ("partial %" PRIu64 " %" PRIu64, request->id, n);
  pthread_mutex_unlock (&lock);
}

void
log_forget (const struct export *export)
{
  pthread_mutex_lock (&lock);
  counters.forgets++;
  event ("forget %s", export->name);
  pthread_mutex_unlock (&lock);
}

void
log_crash (void)
{
  pthread_mutex_lock (&lock);
  event ("crash");
  pthread_mutex_unlock (&lock);
}

void
log_connection (bool opened)
{
  pthread_mutex_lock (&lock);
  if (opened) {
    connections++;
    connected++;
  }
  else
    connected--;
  pthread_mutex_unlock (&lock);
}

void
log_stats (char *buf, size_t length)
{
  size_t n = 0;

  pthread_mutex_lock (&lock);
  for (enum op op = 0; op < NR_OPS && n < length; op++)
    n += snprintf (buf + n, length - n,
                   "%s=%" PRIu64 " %s_fua=%" PRIu64 " %s_bytes=%" PRIu64
                   " %s_errors=%" PRIu64 " ",
                   op_names[op], counters.op[op].count, op_names[op],
                   counters.op[op].fua, op_names[op], counters.op[op].bytes,
                   op_names[op], counters.op[op].errors);
  if (n < length)
    snprintf (buf + n, length - n,
              "violations=%" PRIu64 " forgets=%" PRIu64 " connections=%" PRIu64
              " connected=%" PRIu64 " in_flight=%" PRIu64
              " max_in_flight=%" PRIu64,
              counters.violations, counters.forgets, connections, connected,
              in_flight, counters.max_in_flight);
  pthread_mutex_unlock (&lock);
}

/* Requests in flight and connections go on being counted. */
void
log_stats_reset (void)
{
  pthread_mutex_lock (&lock);
  memset (&counters, 0, sizeof counters);
  counters.max_in_flight = in_flight;
  pthread_mutex_unlock (&lock);
}
