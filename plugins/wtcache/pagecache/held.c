/* SPDX-License-Identifier: BSD-3-Clause */

/* Which pages of a cache are held, in order.
 *
 * Write-back goes by offset, block status asks for the next held page, and a
 * flush settles what became unstable before it: so held pages stand in a tree
 * by key, and unstable ones in a list by generation.  Both are linked inside
 * the descriptors: that a page becomes dirty can never fail for want of
 * memory.
 *
 * The tree is a treap (Seidel and Aragon, "Randomized search trees", 1996)
 * whose priorities are hashes of the keys, so that nothing but two links is
 * stored.
 *
 * The same lock guards two counters, because what they are compared with
 * changes under it: flushes begun, and failures.
 *
 * Lock order: the page's own, then the held lock.
 */

#include <config.h>

#include "base/util.h"
#include "pagecache/held.h"

void
held_init (struct held *h, struct pool *pool)
{
  memset (h, 0, sizeof *h);
  h->pool = pool;
  lock_init (&h->lock, RANK_HELD);
}

void
held_destroy (struct held *h)
{
  assert (h->root == 0 && h->oldest == 0);
  lock_destroy (&h->lock);
}

static uint64_t
priority (const struct page *p)
{
  return hash_u64 (page_key (p) ^ UINT64_C (0x5bd1e995));
}

/* Splits a tree into keys below KEY and the others. */
static void
split (struct pool *pool, page_number root, uint64_t key, page_number *below,
       page_number *rest)
{
  struct page *p;

  while (root != 0) {
    p = pool_page (pool, root);
    if (page_key (p) < key) {
      *below = root;
      below = &p->right;
      root = p->right;
    }
    else {
      *rest = root;
      rest = &p->left;
      root = p->left;
    }
  }
  *below = *rest = 0;
}

/* Joins two trees; every key of A is below every key of B. */
static page_number
join (struct pool *pool, page_number a, page_number b)
{
  page_number root = 0, *link = &root;
  struct page *pa, *pb;

  while (a != 0 && b != 0) {
    pa = pool_page (pool, a);
    pb = pool_page (pool, b);
    if (priority (pa) > priority (pb)) {
      *link = a;
      link = &pa->right;
      a = pa->right;
    }
    else {
      *link = b;
      link = &pb->left;
      b = pb->left;
    }
  }
  *link = a != 0 ? a : b;
  return root;
}

void
held_add (struct held *h, struct page *p)
{
  LOCK_FOR_SCOPE (&h->lock);
  const uint64_t mine = priority (p);
  page_number *link = &h->root;
  struct page *q;

  assert_held (&p->lock);
  assert (!(p->flags & PAGE_HELD));
  while (*link != 0) {
    q = pool_page (h->pool, *link);
    if (priority (q) < mine)
      break;
    link = page_key (p) < page_key (q) ? &q->left : &q->right;
  }
  split (h->pool, *link, page_key (p), &p->left, &p->right);
  *link = pool_number (h->pool, p);
  p->flags |= PAGE_HELD;
}

void
held_remove (struct held *h, struct page *p)
{
  LOCK_FOR_SCOPE (&h->lock);
  const page_number n = pool_number (h->pool, p);
  page_number *link = &h->root;
  struct page *q;

  assert_held (&p->lock);
  assert (p->flags & PAGE_HELD);
  while (*link != n) {
    assert (*link != 0);
    q = pool_page (h->pool, *link);
    link = page_key (p) < page_key (q) ? &q->left : &q->right;
  }
  *link = join (h->pool, p->left, p->right);
  p->left = p->right = 0;
  p->flags &= ~PAGE_HELD;
}

uint64_t
held_next (struct held *h, uint64_t key)
{
  LOCK_FOR_SCOPE (&h->lock);
  page_number n = h->root;
  uint64_t found = 0;
  struct page *p;

  while (n != 0) {
    p = pool_page (h->pool, n);
    if (page_key (p) >= key) {
      found = page_key (p);
      n = p->left;
    }
    else
      n = p->right;
  }
  return found;
}

static void
unlink_unstable (struct held *h, struct page *p)
{
  assert_held (&h->lock);
  *(p->older ? &pool_page (h->pool, p->older)->newer : &h->oldest) = p->newer;
  *(p->newer ? &pool_page (h->pool, p->newer)->older : &h->newest) = p->older;
  p->older = p->newer = 0;
}

bool
held_list_unstable (struct held *h, struct page *p, uint32_t epoch)
{
  LOCK_FOR_SCOPE (&h->lock);
  const page_number n = pool_number (h->pool, p);

  assert_held (&p->lock);
  if (held_epoch (h) != epoch)
    return false;
  if (p->flags & PAGE_LISTED)
    unlink_unstable (h, p);
  p->older = h->newest;
  *(h->newest ? &pool_page (h->pool, h->newest)->newer : &h->oldest) = n;
  h->newest = n;
  p->flags |= PAGE_LISTED;
  p->generation = h->flushes;
  return true;
}

void
held_unlist_unstable (struct held *h, struct page *p)
{
  LOCK_FOR_SCOPE (&h->lock);

  assert_held (&p->lock);
  assert (p->flags & PAGE_LISTED);
  unlink_unstable (h, p);
  p->flags &= ~PAGE_LISTED;
}

uint64_t
held_oldest_unstable (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  return h->oldest ? page_key (pool_page (h->pool, h->oldest)) : 0;
}

void
held_fail (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  atomic_fetch_add_explicit (&h->epoch, 1, memory_order_release);
  h->covering = h->newest_connection; /* nothing is left unstable */
}

uint32_t
held_flushes (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  return h->flushes;
}

uint32_t
held_begin_flush (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  h->newest_at_flush = h->newest_connection;
  return ++h->flushes;
}

uint64_t
held_connect (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  return ++h->newest_connection;
}

void
held_cover (struct held *h, uint64_t number)
{
  LOCK_FOR_SCOPE (&h->lock);

  if (h->oldest == 0)
    h->covering = max_u64 (h->covering, number);
}

void
held_note_settled (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  h->covering = max_u64 (h->covering, h->newest_at_flush);
}

uint64_t
held_covering (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  return h->covering;
}

/* Generations are compared with numbers of 16 bits.  While flushes settle
 * nothing the number stands still, so that they do not wrap round.
 */
void
held_disregard_flush (struct held *h)
{
  LOCK_FOR_SCOPE (&h->lock);

  h->flushes--;
}

uint32_t
held_begin_pass (struct held *h)
{
  return atomic_fetch_add_explicit (&h->pass, 1, memory_order_relaxed);
}
