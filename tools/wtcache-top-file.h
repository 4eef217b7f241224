/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that are followed while they are replaced.  See wtcache-top-file.c. */

#ifndef WTCACHE_TOP_FILE_H
#define WTCACHE_TOP_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "wtcache-top-model.h"

/* How often a file is looked at that is waited for. */
#define FOLLOW_LOOK_NS 50000000

struct followed {
  struct source source;
  char *trouble; /* why the file cannot be read now, or NULL */
  struct {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
  } mark; /* tells a file from the one that replaced it */
};

/* Looks at the file a first time.  One that is not there is waited for, but no
 * longer than 5 seconds.
 */
extern void follow (struct followed *f, const char *path);

/* Looks at the file; whether it, or the trouble with it, is another than at the
 * last look.
 */
extern bool follow_again (struct followed *f);

/* How long ago the file was written, seconds; 0 if it was never read. */
extern double follow_age (const struct followed *f);

/* Whether the file is not written any more, as far as its age tells. */
extern bool follow_is_stale (const struct followed *f);

/* Whether it is the last file of a server that has ended. */
extern bool follow_has_ended (const struct followed *f);

#endif /* WTCACHE_TOP_FILE_H */
