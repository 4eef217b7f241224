/* SPDX-License-Identifier: BSD-3-Clause */

/* Lines at the start about the server that the filter runs in.  See advice.c.
 */

#ifndef WTCACHE_ADVICE_H
#define WTCACHE_ADVICE_H

#include <stdbool.h>

/* PARALLEL: the thread model is. */
extern void advice_log (bool parallel);

#endif /* WTCACHE_ADVICE_H */
