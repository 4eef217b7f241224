/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters as nbdkit passes them at the start.  See options.c. */

#ifndef WTCACHE_OPTIONS_H
#define WTCACHE_OPTIONS_H

#include "export/settings.h"

/* Sets a parameter: 1 if it is valid, 0 if it is not of wtcache, -1 after
 * logging what is wrong.
 */
extern int options_parse (const char *key, const char *value);
/* Called after the last options_parse: 0, or -1 after logging which values
 * contradict each other.
 */
extern int options_check (void);
/* The thread model is not parallel: logs which of the given options have no
 * effect, and lets ordinary writes through unless a mode is given.
 */
extern void options_without_threads (void);

#endif /* WTCACHE_OPTIONS_H */
