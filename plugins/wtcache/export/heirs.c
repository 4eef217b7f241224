/* SPDX-License-Identifier: BSD-3-Clause */

/* Data that the backend refused, of caches whose connections have gone.
 *
 * Connections that do not share have a cache each.  If the last drain of one
 * fails, its data waits.  Another cache over that disk would read older bytes
 * there, and the data might overwrite newer ones later.  So there is one heir
 * for each name: the data of every cache that loses its last connection goes to
 * it, and until all that it inherited is durable every new connection joins it,
 * whether such connections share or not.
 *
 * For example, A and B have a cache each, and the backend refuses.  A leaves,
 * and B's cache inherits.  C comes and joins B's cache.  The backend recovers,
 * and a flush by B or C succeeds: a connection that comes then has a cache of
 * its own again.
 *
 * The heir is a cache that inherits already; else one that a writer uses, since
 * it can write the data now, and what it writes later replaces it; else the
 * cache of the connection that leaves.  Its clean pages may be older than what
 * others have written, so it drops them.
 *
 * All but the two functions for a flush: under the registry lock.
 *
 * May not know nbdkit.
 */

#include <config.h>

#include "export/dirty.h"
#include "export/heirs.h"

static bool
has_name (const struct export *e, const char *name, bool tls)
{
  return strcmp (e->name, name) == 0 && e->tls == tls;
}

bool
heirs_inherits (struct export *e)
{
  assert_held (&registry.lock);
  return atomic_load_explicit (&e->inherited, memory_order_relaxed) !=
             atomic_load_explicit (&e->inherited_settled,
                                   memory_order_relaxed) &&
         dirty_is_held (e);
}

static bool
may_inherit (const struct export *o, const struct export *e)
{
  return o != e && has_name (o, e->name, e->tls) && o->pc.pool == e->pc.pool &&
         o->pc.size == e->pc.size && o->pc.block_shift == e->pc.block_shift;
}

static struct export *
find_heir (struct export *e)
{
  struct export *o, *best = e;

  for (o = registry.first; o; o = o->next) {
    if (!may_inherit (o, e))
      continue;
    if (heirs_inherits (o))
      return o;
    if (o->writers > 0)
      best = o;
  }
  return best;
}

void
heirs_bequeath (struct export *e)
{
  struct export *heir;

  assert_held (&registry.lock);
  if (e->users > 0 || !dirty_is_held (e))
    return;
  heir = find_heir (e);
  if (heir != e) {
    pagecache_drop (&heir->pc);
    move_held (&e->pc, &heir->pc);
  }
  /* Release pairs with acquire in heirs_begin_flush: a flush that finds the
   * number finds the data.
   */
  atomic_fetch_add_explicit (&heir->inherited, 1, memory_order_release);
}

/* A cache that could not move all has another try first: there may be frames
 * now.
 */
struct export *
heirs_find (const char *name, bool tls)
{
  struct export *e;

  assert_held (&registry.lock);
  for (e = registry.first; e; e = e->next)
    if (has_name (e, name, tls))
      heirs_bequeath (e);
  for (e = registry.first; e; e = e->next)
    if (has_name (e, name, tls) && heirs_inherits (e))
      return e;
  return NULL;
}

uint32_t
heirs_begin_flush (struct export *e)
{
  return atomic_load_explicit (&e->inherited, memory_order_acquire);
}

/* Relaxed: if an older flush ends after a newer one, connections join the heir
 * for longer.
 */
void
heirs_settle (struct export *e, uint32_t begun)
{
  atomic_store_explicit (&e->inherited_settled, begun, memory_order_relaxed);
}
