/* SPDX-License-Identifier: BSD-3-Clause */

/* Faults, gates, latencies and the bound on requests served at once.
 *
 * A request goes through here in this order:
 *
 *   gate "before" -> a place to be served -> latency -> fault? -> the image
 *   -> the place is given back -> gate "after"
 *
 * A request that stands at a gate takes no place from others, and a fault set
 * while it stands there hits it.  It stops at no more than one gate before
 * and one after: the first closed one, in the order they were closed.
 *
 * This file knows neither nbdkit nor the images.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"

struct named_fault {
  struct named_fault *next;
  char *name;
  struct fault fault; /* skip and count go down */
  uint64_t hits;
};

/* In the list while it is closed; freed by open if no request waits at it, else
 * by the last one to leave.
 */
struct gate {
  struct gate *next;
  char *name;
  struct match match;
  bool after, open;
  uint64_t standing;
};

/* Innermost; never held while a request sleeps or does anything. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by lock. */
static struct named_fault *faults;
static struct gate *gates;
static uint64_t latencies[NR_OPS];
static unsigned bound, serving, max_serving;
static bool quit;

/* With lock. changed: a gate, the requests that wait at it, or a fault; place:
 * fewer are served or the bound is another.
 */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_cond_t place = PTHREAD_COND_INITIALIZER;

static bool
matches (const struct match *match, const struct request *request)
{
  if (match->op != OP_ANY && match->op != request->op)
    return false;
  if (match->fua != -1 && match->fua != request->fua)
    return false;
  if (match->fast != -1 && match->fast != request->fast)
    return false;
  if (match->export[0] && strcmp (match->export, request->export->name) != 0)
    return false;
  if (match->ranged)
    return request->length > 0 && request->offset <= match->last &&
           request->offset + request->length > match->first;
  return true;
}

/* Faults. */

static struct named_fault **
find_fault (const char *name)
{
  struct named_fault **p = &faults;

  while (*p && strcmp ((*p)->name, name) != 0)
    p = &(*p)->next;
  return p;
}

static void
remove_fault (struct named_fault **p)
{
  struct named_fault *f = *p;

  *p = f->next;
  free (f->name);
  free (f);
}

int
fault_set (const char *name, const struct fault *fault)
{
  struct named_fault *f = calloc (1, sizeof *f), **p;

  if (f)
    f->name = strdup (name);
  if (f == NULL || f->name == NULL) {
    free (f);
    return ENOMEM;
  }
  f->fault = *fault;

  pthread_mutex_lock (&lock);
  p = find_fault (name);
  if (*p)
    remove_fault (p);
  p = &faults;
  while (*p)
    p = &(*p)->next;
  *p = f;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  return 0;
}

int
fault_remove (const char *name)
{
  struct named_fault **p;
  int err = 0;

  pthread_mutex_lock (&lock);
  if (strcmp (name, "all") == 0)
    while (faults)
      remove_fault (&faults);
  else {
    p = find_fault (name);
    if (*p)
      remove_fault (p);
    else
      err = ENOENT;
  }
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  return err;
}

int
fault_wait_hits (const char *name, uint64_t count, uint64_t *hits)
{
  int err = 0;

  pthread_mutex_lock (&lock);
  for (;;) {
    const struct named_fault *f = *find_fault (name);

    if (f == NULL)
      err = ENOENT;
    else if (f->hits >= count)
      *hits = f->hits;
    else if (quit)
      err = ESHUTDOWN;
    else {
      pthread_cond_wait (&changed, &lock);
      continue;
    }
    break;
  }
  pthread_mutex_unlock (&lock);
  return err;
}

int
fault_hit (const struct request *request, uint64_t *partial)
{
  int err = 0;

  pthread_mutex_lock (&lock);
  for (struct named_fault *f = faults; f && !err; f = f->next) {
    if (f->fault.count == 0 || !matches (&f->fault.match, request))
      continue;
    if (f->fault.skip > 0) {
      f->fault.skip--;
      continue;
    }
    if (f->fault.count != FOR_EVER)
      f->fault.count--;
    f->hits++;
    err = f->fault.error;
    *partial = f->fault.partial;
    pthread_cond_broadcast (&changed);
  }
  pthread_mutex_unlock (&lock);
  return err;
}

/* Gates. */

static struct gate **
find_gate (const char *name)
{
  struct gate **p = &gates;

  while (*p && strcmp ((*p)->name, name) != 0)
    p = &(*p)->next;
  return p;
}

static void
free_gate (struct gate *gate)
{
  free (gate->name);
  free (gate);
}

static void
open_gate (struct gate **p)
{
  struct gate *gate = *p;

  *p = gate->next;
  gate->open = true;
  if (gate->standing == 0)
    free_gate (gate);
}

int
gate_close (const char *name, const struct match *match, bool after)
{
  struct gate *gate = calloc (1, sizeof *gate), **p;
  int err = 0;

  if (gate)
    gate->name = strdup (name);
  if (gate == NULL || gate->name == NULL) {
    free (gate);
    return ENOMEM;
  }
  gate->match = *match;
  gate->after = after;

  pthread_mutex_lock (&lock);
  p = find_gate (name);
  if (*p)
    err = EEXIST;
  else
    *p = gate;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  if (err)
    free_gate (gate);
  return err;
}

int
gate_wait_standing (const char *name, uint64_t count, uint64_t *standing)
{
  int err = 0;

  pthread_mutex_lock (&lock);
  for (;;) {
    const struct gate *gate = *find_gate (name);

    if (gate == NULL)
      err = ENOENT;
    else if (gate->standing >= count)
      *standing = gate->standing;
    else {
      pthread_cond_wait (&changed, &lock);
      continue;
    }
    break;
  }
  pthread_mutex_unlock (&lock);
  return err;
}

int
gate_open (const char *name)
{
  struct gate **p;
  int err = 0;

  pthread_mutex_lock (&lock);
  if (strcmp (name, "all") == 0)
    while (gates)
      open_gate (&gates);
  else {
    p = find_gate (name);
    if (*p)
      open_gate (p);
    else
      err = ENOENT;
  }
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
  return err;
}

void
gate_pass (const struct request *request, bool after)
{
  struct gate *gate;

  pthread_mutex_lock (&lock);
  gate = gates;
  while (gate && (gate->after != after || !matches (&gate->match, request)))
    gate = gate->next;
  if (gate && !quit) {
    gate->standing++;
    pthread_cond_broadcast (&changed);
    while (!gate->open)
      pthread_cond_wait (&changed, &lock);
    if (--gate->standing == 0)
      free_gate (gate);
  }
  pthread_mutex_unlock (&lock);
}

/* Latencies and places. */

void
latency_set (enum op op, uint64_t ns)
{
  pthread_mutex_lock (&lock);
  for (enum op o = 0; o < NR_OPS; o++)
    if (op == OP_ANY || op == o)
      latencies[o] = ns;
  pthread_mutex_unlock (&lock);
}

uint64_t
latency_get (enum op op)
{
  uint64_t ns;

  pthread_mutex_lock (&lock);
  ns = latencies[op];
  pthread_mutex_unlock (&lock);
  return ns;
}

void
serve_set (unsigned n)
{
  pthread_mutex_lock (&lock);
  bound = n;
  pthread_cond_broadcast (&place);
  pthread_mutex_unlock (&lock);
}

void
serve_begin (void)
{
  pthread_mutex_lock (&lock);
  while (bound > 0 && serving >= bound)
    pthread_cond_wait (&place, &lock);
  serving++;
  if (serving > max_serving)
    max_serving = serving;
  pthread_mutex_unlock (&lock);
}

void
serve_end (void)
{
  pthread_mutex_lock (&lock);
  serving--;
  pthread_cond_signal (&place);
  pthread_mutex_unlock (&lock);
}

/* Not nbdkit_nanosleep, which ends early when the server is told to stop: a
 * disk does not.
 */
void
sleep_ns (uint64_t ns)
{
  struct timespec ts = {
    .tv_sec = ns / 1000000000,
    .tv_nsec = ns % 1000000000,
  };

  if (ns > 0)
    while (clock_nanosleep (CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
      ;
}

void
serve_as (enum op op)
{
  serve_begin ();
  sleep_ns (latency_get (op));
  serve_end ();
}

unsigned
serve_max_seen (void)
{
  unsigned n;

  pthread_mutex_lock (&lock);
  n = max_serving;
  pthread_mutex_unlock (&lock);
  return n;
}

void
serve_reset_max_seen (void)
{
  pthread_mutex_lock (&lock);
  max_serving = serving;
  pthread_mutex_unlock (&lock);
}

void
fault_quit (void)
{
  pthread_mutex_lock (&lock);
  quit = true;
  while (gates)
    open_gate (&gates);
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}
