/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads that wait for a page to change: for a fill, or for a write in flight.
 *
 * A descriptor has no room for a condition of its own.  So all pages share a
 * few queues, by a hash of the descriptor's address.  A queue lists its waiters
 * with the page that each waits for: a wait ends with a change of that page
 * alone.  Else a reader that joined a fill would read for itself as soon as the
 * fill of another page ended.
 *
 * For example, threads A and B wait for page 7 and C for page 9, in one queue:
 * a change of page 7 ends the waits of A and B only.
 */

#include <config.h>

#include <pthread.h>

#include "base/util.h"
#include "pagecache/waits.h"

/* Threads that wait for a page sleep in one of these queues. */
#define WAIT_QUEUES 64

/* On the stack of the thread that waits. */
struct waiter {
  struct waiter *next;
  const struct page *page;
  bool woken;
};

struct wait_queue {
  struct lock lock; /* RANK_WAIT */
  struct condition changed;
  struct waiter *first; /* guarded by lock, as the waiters are */
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
  struct waiter me = { .page = p };

  assert_held (&p->lock);
  p->flags |= PAGE_WAITERS;
  lock_take (&q->lock);
  me.next = q->first;
  q->first = &me;
  word_lock_drop (&p->lock);
  while (!me.woken)
    condition_wait (&q->changed, &q->lock);
  lock_drop (&q->lock);
}

void
waits_wake (struct page *p)
{
  struct wait_queue *q = queue_of (p);
  struct waiter **link, *w;

  assert_held (&p->lock);
  if (!(p->flags & PAGE_WAITERS))
    return;
  p->flags &= ~PAGE_WAITERS;
  lock_take (&q->lock);
  for (link = &q->first; (w = *link) != NULL;)
    if (w->page == p) {
      w->woken = true;
      *link = w->next;
    }
    else
      link = &w->next;
  condition_wake_all (&q->changed);
  lock_drop (&q->lock);
}

void
waits_init (void)
{
  pthread_once (&queues_once, init_queues);
}
