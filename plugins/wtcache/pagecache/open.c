/* SPDX-License-Identifier: BSD-3-Clause */

/* Writes in progress that carry acknowledged bytes.
 *
 * A block that holds such bytes has a mark.  A write on its way to the backend
 * takes the mark, and while it is in progress it is all that tells a flush of
 * them.  So it is open from before the first mark goes until its blocks have
 * their marks again, or need none.
 *
 *     page     dirty ──> writeback ──────────────> clean, or dirty again
 *     write       └ open ──────────────────────────────────┘ end
 *     flush               pass finds no mark, waits ────────> goes on
 *
 * For example, a FUA write over clean blocks is not open, since no flush owes
 * anything of theirs; one over a dirty block is.
 *
 * May not know what the write does meanwhile.
 */

#include <config.h>

#include "base/probes.h"
#include "pagecache/open.h"

void
open_init (struct pagecache *pc)
{
  lock_init (&pc->open_lock, RANK_OPEN);
  condition_init (&pc->open_closed);
}

void
open_destroy (struct pagecache *pc)
{
  assert (pc->oldest_open == NULL);
  condition_destroy (&pc->open_closed);
  lock_destroy (&pc->open_lock);
}

/* A flush looks at the page, under its lock, before it looks here: it finds the
 * mark, or the write that took it.
 */
void
open_begin (struct pagecache *pc, struct open_write *w)
{
  if (w->is_open)
    return;

  LOCK_FOR_SCOPE (&pc->open_lock);
  w->is_open = true;
  w->ticket = pc->open_tickets++;
  w->next = NULL;
  w->prev = pc->newest_open;
  *(w->prev ? &w->prev->next : &pc->oldest_open) = w;
  pc->newest_open = w;
}

void
open_end (struct pagecache *pc, struct open_write *w)
{
  if (!w->is_open)
    return;

  LOCK_FOR_SCOPE (&pc->open_lock);
  *(w->prev ? &w->prev->next : &pc->oldest_open) = w->next;
  *(w->next ? &w->next->prev : &pc->newest_open) = w->prev;
  if (pc->open_waiters > 0)
    condition_wake_all (&pc->open_closed);
}

void
open_wait (struct pagecache *pc)
{
  lock_check_none_held ();
  LOCK_FOR_SCOPE (&pc->open_lock);
  const uint64_t before = pc->open_tickets;

  PROBE2 (wait__begin, export_number (pc), WAIT_ACKNOWLEDGED);
  pc->open_waiters++;
  while (pc->oldest_open && pc->oldest_open->ticket < before)
    condition_wait (&pc->open_closed, &pc->open_lock);
  pc->open_waiters--;
  PROBE2 (wait__end, export_number (pc), WAIT_ACKNOWLEDGED);
}
