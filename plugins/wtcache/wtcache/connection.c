/* SPDX-License-Identifier: BSD-3-Clause */

/* One connection, from its .open to its .close.
 *
 * It joins its export's cache in .prepare and leaves it in .finalize, or in
 * .close where nbdkit did not call .finalize.  The last connection that writes
 * drains the cache as it leaves, while its own `next` can still be called.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/name.h"
#include "request.h"
#include "submit.h"
#include "wtcache/connection.h"

/* Room for the ranges that one line of the log names. */
#define RANGES_BYTES 512

/* Whether the log already says that connections do not share.  Relaxed: an
 * exchange.
 */
static _Atomic bool told_unshared;

struct handle *
connection_new (const char *name, bool tls)
{
  struct handle *h = calloc (1, sizeof *h);

  if (h)
    h->name = strdup (name);
  if (h == NULL || h->name == NULL) {
    free (h);
    return NULL;
  }
  h->tls = tls;
  return h;
}

/* Whether the connections of this export share one cache. */
static bool
is_shared (const struct backend_traits *t)
{
  switch (SETTING (share)) {
  case SHARE_NEVER:
    return false;
  case SHARE_ALWAYS:
    /* One connection's flush has to reach what the others wrote, which only
     * threads of ours may do.
     */
    return t->can_multi_conn || registry.parallel;
  default:
    return t->can_multi_conn;
  }
}

static void
log_not_held (struct handle *h, const struct open_result *r)
{
  const bool two_kinds =
      r->nr_siblings > 0 && r->siblings[0]->tls == r->export->tls;

  if (SETTING (mode) != MODE_WRITEBACK || !h->backend.traits.can_write)
    return;
  if (r->nr_siblings > 0)
    nbdkit_error ("wtcache: export %s is open %s, "
                  "in two caches: ordinary writes go through at once",
                  name_quoted (h->name).text,
                  two_kinds ? "with multi-conn and without"
                            : "with TLS and without");
  else if (!h->shared && !atomic_exchange_explicit (&told_unshared, true,
                                                    memory_order_relaxed))
    nbdkit_error ("wtcache: export %s: connections may be over one disk "
                  "without seeing each other's writes, so each has a cache "
                  "of its own and ordinary writes go through at once",
                  name_quoted (h->name).text);
}

/* Writes back what siblings hold, because this connection may read it.  Over a
 * serial stack the sibling's own connection does so at its next request.
 */
static void
write_siblings (struct open_result *r)
{
  struct export *e;
  unsigned i;

  for (i = 0; i < r->nr_siblings; ++i) {
    e = r->siblings[i];
    if (registry.parallel && pagecache_amounts (&e->pc).dirty > 0)
      writeback_drain (e, NULL);
    export_let_go (e);
  }
}

static int
join_export (struct handle *h)
{
  const struct backend_traits *t = &h->backend.traits;
  char ranges[RANGES_BYTES];
  struct open_result r;
  int err;

  err = export_open (h->name, h->tls, is_shared (t), t, t->can_write, &r);
  if (err == ESTALE) {
    nbdkit_error ("wtcache: export %s now has %" PRIu64 " bytes in "
                  "blocks of %" PRIu32 ", but its cache is in use, or holds "
                  "data, with another size: refused",
                  name_quoted (h->name).text, t->size, t->block);
    return -1;
  }
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: export %s: no memory for its cache: %m "
                  "(wtcache-size=%" PRIu64 ")",
                  name_quoted (h->name).text, memory_limit (&registry.memory));
    return -1;
  }
  if (r.unsavable > 0) {
    export_format_held (r.export, t->size, ranges, sizeof ranges);
    nbdkit_error ("wtcache: export %s has shrunk to %" PRIu64 " bytes: "
                  "%" PRId64 " dirty bytes past its end cannot be saved "
                  "(offset+length):%s",
                  name_quoted (h->name).text, t->size, r.unsavable, ranges);
  }
  h->client.export = r.export;
  h->shared = r.export->shared;
  log_not_held (h, &r);
  write_siblings (&r);
  return 0;
}

int
connection_join (struct handle *h, nbdkit_next *next)
{
  if (backend_init (&h->backend, next) == -1 || join_export (h) == -1)
    return -1;
  connections_join (&h->connection, h->client.export, &h->backend);
  h->client.own = &h->connection.backend;
  /* If it is off, wtcachectl may still switch it on. */
  if (registry.parallel &&
      (SETTING (readahead) != 0 || settings.control != NULL))
    h->client.ahead = readahead_new (h->client.export);
  h->joined = true;
  return 0;
}

/* Reserves a share for the export; the negotiation is over. */
static void
reserve_share (struct handle *h)
{
  if (!shares_reserve (h->client.export))
    nbdkit_error ("wtcache: export %s: no memory or threads can be reserved "
                  "for it: helpers do not serve it, and ordinary writes go "
                  "through at once (wtcache-size=%" PRIu64 ")",
                  name_quoted (h->name).text, memory_limit (&registry.memory));
}

void
connection_lend (struct handle *h)
{
  reserve_share (h);
  connections_lend (&h->connection);
  warm_begin (h->client.export);
  atomic_store_explicit (&h->lent, true, memory_order_relaxed);
}

/* Writes back and flushes everything if this is the last connection that
 * writes, or if flushes of others do not cover its writes.
 */
static void
drain_before_leaving (struct handle *h)
{
  struct export *e = h->client.export;
  const bool last = export_end_writer (e);
  int err;

  if (!last && h->backend.traits.can_multi_conn && e->shared)
    return;
  if (!dirty_is_held (e))
    return;
  /* Its negotiation is over, even if it sent no request. */
  connection_lend (h);
  err = writeback_drain (e, h->client.own);
  if (err != 0) {
    errno = err;
    nbdkit_error ("wtcache: export %s: %" PRId64 " bytes could not be "
                  "written back when its last writer left: %m; they wait in "
                  "memory for the next connection",
                  name_quoted (h->name).text, pagecache_amounts (&e->pc).held);
  }
}

void
connection_leave (struct handle *h)
{
  if (!h->joined)
    return;
  h->joined = false;
  readahead_free (h->client.ahead);
  if (h->backend.traits.can_write)
    drain_before_leaving (h);
  connections_leave (&h->connection);
  export_close (h->client.export);
}

void
connection_free (struct handle *h)
{
  free (h->name);
  free (h);
}
