/* SPDX-License-Identifier: BSD-3-Clause */

/* The control of an array by its test: faults and gates, and questions about
 * its calls and bytes.
 */

#include <config.h>

#include <unistd.h>

#include "array.h"
#include "base/util.h"
#include "unit.h"

static int
hang_write (struct array *a, struct array_watched *w, bool ended, int error)
{
  if (w->op == ARRAY_WRITE && !ended)
    while (w->offset == atomic_load (&a->hung_write))
      usleep (1000);
  return error;
}

void
array_hang_write (struct array *a, uint64_t offset)
{
  atomic_store (&a->hung_write, offset);
  if (a->watch != hang_write) /* else calls may be reading it */
    a->watch = hang_write;
}

static void
add_fault (struct array *a, const struct array_fault *f)
{
  pthread_mutex_lock (&a->lock);
  must (a->nr_faults < ARRAY_FAULTS);
  a->faults[a->nr_faults++] = *f;
  pthread_mutex_unlock (&a->lock);
}

void
array_fail (struct array *a, enum array_op op, unsigned skip, unsigned count,
            int error)
{
  add_fault (a, &(struct array_fault){ .op = op,
                                       .end = UINT64_MAX,
                                       .skip = skip,
                                       .count = count,
                                       .error = error });
}

void
array_fail_range (struct array *a, enum array_op op, uint64_t offset,
                  uint64_t len, int error)
{
  add_fault (a, &(struct array_fault){ .op = op,
                                       .offset = offset,
                                       .end = offset + len,
                                       .count = ~0U,
                                       .error = error });
}

void
array_heal (struct array *a)
{
  pthread_mutex_lock (&a->lock);
  a->nr_faults = 0;
  pthread_mutex_unlock (&a->lock);
}

void
array_shut (struct array *a, enum array_op op, enum array_gate where)
{
  pthread_mutex_lock (&a->lock);
  a->gates[op] = where;
  a->let_by[op] = 0;
  pthread_mutex_unlock (&a->lock);
}

void
array_open (struct array *a, enum array_op op)
{
  pthread_mutex_lock (&a->lock);
  a->gates[op] = GATE_OPEN;
  pthread_cond_broadcast (&a->changed);
  pthread_mutex_unlock (&a->lock);
}

void
array_let_by (struct array *a, enum array_op op)
{
  pthread_mutex_lock (&a->lock);
  a->let_by[op]++;
  pthread_cond_broadcast (&a->changed);
  pthread_mutex_unlock (&a->lock);
}

void
array_wait_gate (struct array *a, enum array_op op, unsigned n)
{
  pthread_mutex_lock (&a->lock);
  while (a->at_gate[op] - a->let_by[op] != n)
    pthread_cond_wait (&a->changed, &a->lock);
  pthread_mutex_unlock (&a->lock);
}

unsigned
array_calls (struct array *a, enum array_op op)
{
  unsigned n;

  pthread_mutex_lock (&a->lock);
  n = a->calls[op];
  pthread_mutex_unlock (&a->lock);
  return n;
}

uint64_t
array_bytes (struct array *a, enum array_op op)
{
  uint64_t n;

  pthread_mutex_lock (&a->lock);
  n = a->bytes[op];
  pthread_mutex_unlock (&a->lock);
  return n;
}

bool
array_was_called (struct array *a, enum array_op op, uint64_t offset)
{
  bool was = false;
  size_t i;

  pthread_mutex_lock (&a->lock);
  for (i = 0; i < a->logged; ++i)
    was |= a->log[i].op == op && a->log[i].offset <= offset &&
           offset - a->log[i].offset < a->log[i].len;
  pthread_mutex_unlock (&a->lock);
  return was;
}

/* Nothing is in flight. */
void
array_forget_calls (struct array *a)
{
  pthread_mutex_lock (&a->lock);
  must (a->in_flight == NULL);
  memset (a->calls, 0, sizeof a->calls);
  memset (a->failed, 0, sizeof a->failed);
  memset (a->bytes, 0, sizeof a->bytes);
  memset (a->max_at_once, 0, sizeof a->max_at_once);
  a->logged = 0;
  pthread_mutex_unlock (&a->lock);
}

struct array_call
array_call (struct array *a, enum array_op op, unsigned n)
{
  struct array_call call = { 0 };
  bool found = false;
  size_t i;

  pthread_mutex_lock (&a->lock);
  for (i = 0; i < a->logged && !found; ++i)
    if (a->log[i].op == op && n-- == 0) {
      call = a->log[i];
      found = true;
    }
  pthread_mutex_unlock (&a->lock);
  must (found);
  return call;
}

static bool
equal (struct array *a, const uint8_t *image, uint64_t offset,
       const void *bytes, uint64_t len)
{
  bool same;

  pthread_mutex_lock (&a->lock);
  same = memcmp (image + offset, bytes, len) == 0;
  pthread_mutex_unlock (&a->lock);
  return same;
}

bool
array_sees (struct array *a, uint64_t offset, const void *bytes, uint64_t len)
{
  return equal (a, a->seen, offset, bytes, len);
}

bool
array_keeps (struct array *a, uint64_t offset, const void *bytes, uint64_t len)
{
  return equal (a, a->durable, offset, bytes, len);
}
