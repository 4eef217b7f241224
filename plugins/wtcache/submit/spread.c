/* SPDX-License-Identifier: BSD-3-Clause */

/* The parts of one operation, side by side: pieces of a large read or write,
 * parts of a zero or trim.
 *
 * The caller's thread takes part after part.  Before a part calls the backend
 * it invites one more thread, which does the same; so as many threads join as
 * have something to wait for, and a part that needs no backend wakes no thread.
 * Where no thread is free the caller does all parts in turn.
 *
 *     caller   part 0 ──── backend ────────── part 3 ── backend ──
 *     helper       └─ part 1 ──── backend ──────
 *     helper              └─ part 2 ──── backend ──────
 *
 * For example, a zero of 1 GiB has 16 parts of 64 MiB.  With 15 free threads
 * all are at the backend at once.
 *
 * May not know what a part does.
 */

#include <config.h>

#include "base/util.h"
#include "submit/spread.h"

/* The next part; false: none is left, or one has failed. */
static bool
take_part (struct spread *s, uint64_t *offset, uint64_t *len)
{
  LOCK_FOR_SCOPE (&s->completion.lock);
  unsigned i;

  if (s->next >= s->end || completion_error (&s->completion) != 0)
    return false;
  *offset = s->next;
  *len = min_u64 (s->end - s->next, s->part - (s->next - s->origin) % s->part);
  for (i = 0; i < ARRAY_LEN (s->cut); ++i)
    if (s->cut[i] > *offset)
      *len = min_u64 (*len, s->cut[i] - *offset);
  s->next += *len;
  s->in_progress++;
  return true;
}

static void
end_part (struct spread *s, int err)
{
  LOCK_FOR_SCOPE (&s->completion.lock);

  completion_fail (&s->completion, err);
  if (--s->in_progress == 0)
    condition_wake_all (&s->completion.ended);
}

static bool
is_first_to_rest (struct spread *s)
{
  LOCK_FOR_SCOPE (&s->completion.lock);
  const bool first = !s->rests;

  s->rests = true;
  return first;
}

static void
do_parts (struct spread *s)
{
  uint64_t offset, len;

  while (take_part (s, &offset, &len))
    end_part (s, s->run (s, offset, len));
  if (s->rest && is_first_to_rest (s))
    s->rest (s);
}

void
spread_wait (struct spread *s, uint64_t deadline)
{
  LOCK_FOR_SCOPE (&s->completion.lock);

  while (s->in_progress > 0 &&
         condition_wait_until (&s->completion.ended, &s->completion.lock,
                               deadline))
    ;
}

static void
run_spread_helper (struct task *t)
{
  struct spread *s = container_of (t, struct spread_helper, task)->spread;

  do_parts (s);
  completion_end (&s->completion, 0);
}

void
spread_invite (struct spread *s)
{
  struct spread_helper *h = NULL;

  if (s->max_helpers == 0)
    return;
  lock_take (&s->completion.lock);
  if (s->next < s->end && s->nr_helpers < s->max_helpers) {
    h = &s->helpers[s->nr_helpers++];
    *h = (struct spread_helper){ .task.run = run_spread_helper, .spread = s };
    s->completion.outstanding++;
  }
  lock_drop (&s->completion.lock);
  /* Without a thread the place stays unused: the next try would fail too. */
  if (h && !workers_try (s->crew, &h->task, URGENCY_BESIDE))
    completion_end (&s->completion, 0);
}

int
spread_run (struct spread *s, uint64_t offset, uint64_t len)
{
  int err;

  s->next = offset;
  s->end = offset + len;
  s->in_progress = s->nr_helpers = 0;
  s->rests = false;
  completion_init (&s->completion);
  do_parts (s);
  err = completion_wait (&s->completion);
  completion_destroy (&s->completion);
  return err;
}
