/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that wait for a page to change: for a fill, or for a write in flight.
 *
 * A descriptor has no room for a condition of its own.  So all pages share a
 * few queues, by a hash of the descriptor's address, and a wake-up of one page
 * also wakes those of the pages that share its queue: each looks at its own
 * page again.
 */

#include <config.h>

#include <pthread.h>

#include "base/util.h"
#include "pagecache/waits.h"

/* Threads that wait for a page sleep in one of these queues. */
#define WAIT_QUEUES 64

struct wait_queue {
  struct lock lock; /* RANK_WAIT */
  struct condition changed;
  uint64_t wakes; /* guarded by lock */
};

static struct wait_queue queues[WAIT_QUEUES];
static pthread_once_t queues_once = PTHREAD_ONCE_INIT;

static void
init_queues (void)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (queues); ++i) {
    lock_init (&queues[i].lock, RANK_WAIT);
    condition_init (&queues[i].changed);
  }
}

static struct wait_queue *
queue_of (const struct page *p)
{
  return &queues[hash_u64 ((uintptr_t) p) % WAIT_QUEUES];
}

void
waits_sleep (struct page *p)
{
  struct wait_queue *q = queue_of (p);
  uint64_t wakes;

  assert_held (&p->lock);
  p->flags |= PAGE_WAITERS;
  lock_take (&q->lock);
  wakes = q->wakes;
  word_lock_drop (&p->lock);
  while (q->wakes == wakes)
    condition_wait (&q->changed, &q->lock);
  lock_drop (&q->lock);
}

void
waits_wake (struct page *p)
{
  struct wait_queue *q = queue_of (p);

  assert_held (&p->lock);
  if (!(p->flags & PAGE_WAITERS))
    return;
  p->flags &= ~PAGE_WAITERS;
  lock_take (&q->lock);
  q->wakes++;
  condition_wake_all (&q->changed);
  lock_drop (&q->lock);
}

void
waits_init (void)
{
  pthread_once (&queues_once, init_queues);
}
