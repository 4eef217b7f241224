/* SPDX-License-Identifier: BSD-3-Clause */

/* Differences between the versions of nbdkit that this builds with. */

#ifndef WTCACHE_NBDKIT_COMPAT_H
#define WTCACHE_NBDKIT_COMPAT_H

#include <nbdkit-filter.h>

/* A filter can add lines to --dump-plugin. */
#if NBDKIT_VERSION_MAJOR > 1 || NBDKIT_VERSION_MINOR >= 36
#define HAVE_DUMP_PLUGIN 1
#endif

#endif /* WTCACHE_NBDKIT_COMPAT_H */
