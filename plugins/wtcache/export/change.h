/* SPDX-License-Identifier: BSD-3-Clause */

/* Parameters that change while the server runs.  See change.c. */

#ifndef WTCACHE_CHANGE_H
#define WTCACHE_CHANGE_H

#include "export/parameters.h"

enum change_result {
  CHANGE_DONE,
  CHANGE_INVALID, /* such a parameter or value is never valid here */
  CHANGE_FAILED,  /* it is, but not now */
};

extern void change_init (void);

/* Changes a parameter, whose name is given with or without the prefix.  All but
 * CHANGE_DONE say in *WHY why not, and then nothing has changed.
 */
extern enum change_result change_setting (const char *name, const char *value,
                                          struct why *why);

/* The settings as they were at one moment. */
extern struct settings change_snapshot (void);

#endif /* WTCACHE_CHANGE_H */
