/* SPDX-License-Identifier: BSD-3-Clause */

/* The view in a terminal.  See wtcache-top-view.c. */

#ifndef WTCACHE_TOP_VIEW_H
#define WTCACHE_TOP_VIEW_H

#include "wtcache-top-file.h"

/* Shows the files, as they change, until the user ends it. */
extern void view_run (struct followed *files, size_t nr_files);

#endif /* WTCACHE_TOP_VIEW_H */
