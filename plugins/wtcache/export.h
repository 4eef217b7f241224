/* SPDX-License-Identifier: BSD-3-Clause */

/* The exports: which cache a connection uses, how much of it the backend may
 * lack (export/dirty.h), its connections and loans of them
 * (export/connections.h), when dirty blocks are written (export/writeback.h),
 * what is reserved for each (export/shares.h), the parameters
 * (export/parameters.h), at the start (export/options.h) and while the server
 * runs (export/change.h).
 */

#ifndef WTCACHE_EXPORT_H
#define WTCACHE_EXPORT_H

#include "export/change.h"
#include "export/connections.h"
#include "export/dirty.h"
#include "export/heirs.h"
#include "export/loans.h"
#include "export/options.h"
#include "export/parameters.h"
#include "export/refusal.h"
#include "export/shares.h"
#include "export/types.h"
#include "export/writeback.h"

/* By the settings.  0 or an errno. */
extern int export_registry_init (bool parallel);
/* See memory_after_fork. */
extern void export_registry_after_fork (void);
/* Frees all; dirty data is lost, and was logged before. */
extern void export_registry_destroy (void);

/* With TLS and without. */
#define MAX_SIBLINGS 2

/* The results of export_open beside the errno. */
struct open_result {
  struct export *export;
  /* Shared caches over the same disk that are in use or hold data: each is
   * there until export_let_go.
   */
  struct export *siblings[MAX_SIBLINGS];
  unsigned nr_siblings;
  int64_t unsavable; /* bytes held past the end that it now has */
};

/* Finds or makes the cache for a connection.  SHARE: with the other connections
 * of that name; without it the connection still joins a shared cache that is in
 * use, if helpers can flush what each of its connections wrote.  Either way it
 * joins the heir, if there is one (export/heirs.h).  It joins whatever it can
 * do.  ESTALE: the cache is in use with another size or block
 * size, or holds bytes that do not fit those; ENOMEM.
 */
extern int export_open (const char *name, bool tls, bool share,
                        const struct backend_traits *traits, bool writes,
                        struct open_result *result);

/* For a thread that has no connection: of the exports with this name (NULL: of
 * all) that with the least number above NUMBER; NULL: no more.  It is there
 * until export_let_go.
 */
extern struct export *export_keep_next (unsigned number, const char *name);
/* For a thread whose connection has it, which may end. */
extern void export_keep (struct export *e);
extern void export_let_go (struct export *e);

/* A connection that writes ends; true: no other one writes. */
extern bool export_end_writer (struct export *e);
/* The connection no longer uses it; every borrower has returned it. */
extern void export_close (struct export *e);

/* The held ranges of an export from byte FROM on, as text: " OFFSET+LENGTH …",
 * and " ..." where they do not fit in SIZE bytes.
 */
extern void export_format_held (struct export *e, uint64_t from, char *text,
                                size_t size);
/* The same for what was acknowledged and is not durable, without blocks that
 * only a write in flight holds; returns their bytes.
 */
extern uint64_t export_format_owed (struct export *e, char *text, size_t size);
/* The ranges that were zeroed and are not durable. */
extern void export_format_zeroed (struct export *e, char *text, size_t size);

/* Calls F for every export, under the registry lock. */
extern void export_for_each (void (*f) (struct export *e, void *opaque),
                             void *opaque);

/* The miss ratio at other values of wtcache-size, over all exports: they share
 * it.
 */
extern void export_curve (struct curve_estimate *estimate,
                          struct curve_counts *counts);

#endif /* WTCACHE_EXPORT_H */
