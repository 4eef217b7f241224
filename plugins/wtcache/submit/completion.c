/* SPDX-License-Identifier: BSD-3-Clause */

/* The parts of one request that are under way, and its first error.
 *
 * For example, a read that has three runs begins three parts.  The wait returns
 * once all three have ended, with the error of the first that failed, or 0.
 *
 * May not know what the parts are.
 */

#include <config.h>

#include <string.h>

#include "submit/completion.h"

void
completion_init (struct completion *c)
{
  memset (c, 0, sizeof *c);
  lock_init (&c->lock, RANK_SUBMIT);
  condition_init (&c->ended);
}

void
completion_destroy (struct completion *c)
{
  assert (c->outstanding == 0);
  condition_destroy (&c->ended);
  lock_destroy (&c->lock);
}

void
completion_fail (struct completion *c, int error)
{
  int none = 0;

  if (error != 0)
    atomic_compare_exchange_strong_explicit (
        &c->error, &none, error, memory_order_relaxed, memory_order_relaxed);
}

int
completion_error (struct completion *c)
{
  return atomic_load_explicit (&c->error, memory_order_relaxed);
}

void
completion_begin (struct completion *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  c->outstanding++;
}

/* The waiter may free the completion as soon as the lock is dropped. */
void
completion_end (struct completion *c, int error)
{
  LOCK_FOR_SCOPE (&c->lock);

  completion_fail (c, error);
  assert (c->outstanding > 0);
  if (--c->outstanding == 0)
    condition_wake_all (&c->ended);
}

int
completion_wait (struct completion *c)
{
  LOCK_FOR_SCOPE (&c->lock);

  while (c->outstanding > 0)
    condition_wait (&c->ended, &c->lock);
  return completion_error (c);
}
