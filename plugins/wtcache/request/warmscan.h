/* SPDX-License-Identifier: BSD-3-Clause */

/* Makes a warm list of what is cached.  See warmscan.c. */

#ifndef WTCACHE_WARMSCAN_H
#define WTCACHE_WARMSCAN_H

#include "request/warmlist.h"

/* The text of a new list, which the caller frees; NULL: ENOMEM.  IS_UNFETCHED
 * says of which exports of the OLD list the pages are taken over from there.
 */
extern char *warmscan_text (const struct warmlist *old,
                            bool (*is_unfetched) (unsigned export));

#endif /* WTCACHE_WARMSCAN_H */
