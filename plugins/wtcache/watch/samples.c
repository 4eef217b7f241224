/* SPDX-License-Identifier: BSD-3-Clause */

/* The values of all metrics of exports, taken in one go.
 *
 * The values of an export are taken under the registry lock, so that it stays,
 * into a sample.  Nothing is stopped for that.  Numbers that must agree (a
 * histogram's buckets and its count) are computed from one look.
 *
 * Clients choose the names of exports, and a monitor keeps each label for ever.
 * So the first 100 exports have labels until they are freed.  The others, and
 * what exports that were freed had counted, are summed up in one sample more,
 * whose counters never fall.
 *
 * Samples come and go with each writing and are not of the budget: some 2 KiB
 * for each export that has a label.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "watch/samples.h"

/* The counts of exports that were freed.  Guarded by the registry lock. */
static struct sample freed;

static void
read_values (struct export *e, struct sample *s)
{
  size_t i;

  for (i = 0; rows[i].name; ++i)
    s->values[i] = rows[i].value (e, rows[i].which);
  for (i = 0; i < LATENCIES; ++i)
    s->waits[i] = stats_latency (&e->stats, i);
  for (i = 0; i < BACKEND_CALLS; ++i)
    s->latency[i] =
        histogram_view (&e->submit.meter.calls[i].latency, &latency_scale);
  s->batches = histogram_view (&e->submit.batch_writes, &number_scale);
}

static void
add_view (struct histogram_view *to, const struct histogram_view *v)
{
  unsigned i;

  for (i = 0; i < ARRAY_LEN (to->up_to); ++i)
    to->up_to[i] += v->up_to[i];
  to->sum += v->sum;
}

/* Adds what an export has counted, and what it has NOW. */
static void
add_values (struct sample *to, struct export *e, bool now)
{
  struct sample s;
  size_t i;

  read_values (e, &s);
  for (i = 0; rows[i].name; ++i)
    if (row_is_counter (&rows[i]) || (now && rows[i].unit == SUM))
      to->values[i] += s.values[i];
  for (i = 0; i < LATENCIES; ++i)
    add_view (&to->waits[i], &s.waits[i]);
  for (i = 0; i < BACKEND_CALLS; ++i)
    add_view (&to->latency[i], &s.latency[i]);
  add_view (&to->batches, &s.batches);
}

static void
note_freed (struct export *e)
{
  assert_held (&registry.lock);
  add_values (&freed, e, false);
}

void
samples_begin (void)
{
  registry.note_freed = note_freed;
}

static int
take_sample (struct samples *all, struct export *e)
{
  struct sample *s;

  if (!e->labelled) {
    add_values (&all->others, e, true);
    all->nr_others++;
    return 0;
  }
  s = calloc (1, sizeof *s);
  if (s == NULL)
    return ENOMEM;
  s->name = name_quoted (e->name);
  s->tls = e->tls;
  s->number = e->number;
  if (atomic_load_explicit (&e->writeback.refusing, memory_order_relaxed))
    s->error = atomic_load_explicit (&e->writeback.error, memory_order_relaxed);
  read_values (e, s);
  *all->end = s;
  all->end = &s->next;
  return 0;
}

int
samples_take (struct samples *all)
{
  LOCK_FOR_SCOPE (&registry.lock);
  struct export *e;
  int err = 0;

  all->first = NULL;
  all->end = &all->first;
  all->others = freed;
  all->others.other = true;
  all->nr_others = 0;
  for (e = registry.first; e && err == 0; e = e->next)
    err = take_sample (all, e);
  return err;
}

void
samples_free (struct samples *all)
{
  struct sample *s;

  while ((s = all->first) != NULL) {
    all->first = s->next;
    free (s);
  }
}
