/* SPDX-License-Identifier: BSD-3-Clause */

/* Data that the backend refused, of caches whose connections have gone.  See
 * heirs.c.
 */

#ifndef WTCACHE_HEIRS_H
#define WTCACHE_HEIRS_H

#include "export/types.h"

/* A connection has left E.  If it was the last and E holds data, this goes to
 * the heir: E itself, if there is no other.
 */
extern void heirs_bequeath (struct export *e);
/* The cache that every connection has to join; NULL: none inherits. */
extern struct export *heirs_find (const char *name, bool tls);
/* Whether it holds data that it inherited. */
extern bool heirs_inherits (struct export *e);

/* Around a flush of E, which succeeded: what E had inherited when it began is
 * durable.
 */
extern uint32_t heirs_begin_flush (struct export *e);
extern void heirs_settle (struct export *e, uint32_t begun);

#endif /* WTCACHE_HEIRS_H */
