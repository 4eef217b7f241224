/* SPDX-License-Identifier: BSD-3-Clause */

/* The warm list: fetches what a former server had cached, and lists what this
 * one has.  See warm.c.
 */

#ifndef WTCACHE_WARM_H
#define WTCACHE_WARM_H

#include "export.h"

/* Takes a list, the TEXT of a file of LEN bytes, which malloc gave.  0; or -1,
 * with the reason in WHY, one line of at most SIZE bytes: then there is no
 * list, as if it had not been called.
 */
extern int warm_start (char *text, size_t len, char *why, size_t size);
/* No request, helper or clock calls any more. */
extern void warm_stop (void);

/* The export has a connection from now on that lends its backend. */
extern void warm_begin (struct export *e);
/* To be called ten times a second, once there are helpers. */
extern void warm_tick (void);

/* A list of the pages that all exports have, without the file's mark.  Pages of
 * an older list that are not fetched yet are in it too.  The caller
 * frees it.  NULL: ENOMEM.
 */
extern char *warm_text (void);

enum warm_state {
  WARM_NONE,    /* the export is in no list */
  WARM_WAITING, /* for a connection */
  WARM_LOADING,
  WARM_DONE,
  WARM_FULL,   /* ended early: the cache has no more room */
  WARM_FAILED, /* ended early: the backend fails */
};

struct warm_progress {
  enum warm_state state;
  uint64_t listed, fetched; /* bytes; what was cached already is fetched */
};

extern struct warm_progress warm_progress (const char *name, bool tls);
#endif /* WTCACHE_WARM_H */
