/* SPDX-License-Identifier: BSD-3-Clause */

/* Files that are replaced whole, and only if they are ours.  See ownfile.c. */

#ifndef WTCACHE_OWNFILE_H
#define WTCACHE_OWNFILE_H

#include <stddef.h>

struct ownfile {
  const char *path;
  const char *mark; /* the first line, with its newline */
  int lock;         /* -1: not locked */
};

/* All return 0, or -1 and the reason in WHY, one line of at most SIZE bytes. */

/* Whether the file may be replaced and no other process has locked it. */
extern int ownfile_check (const struct ownfile *f, char *why, size_t size);
/* Whether there is a file, and if it may be replaced and read: 1; 0: there is
 * none; -1: it is another program's, or cannot be read.
 */
extern int ownfile_look (const struct ownfile *f, char *why, size_t size);
/* Reads what follows the mark, at most MAX bytes: *TEXT, which the caller
 * frees, has *LEN bytes.  It is NULL where there is no file or an empty one.
 */
extern int ownfile_read (const struct ownfile *f, size_t max, char **text,
                         size_t *len, char *why, size_t size);
/* Keeps other processes from writing the file, until ownfile_unlock; 1: another
 * process does so now.
 */
extern int ownfile_lock (struct ownfile *f, char *why, size_t size);
extern void ownfile_unlock (struct ownfile *f);
/* Replaces the file by the mark and TEXT. */
extern int ownfile_replace (const struct ownfile *f, const char *text,
                            size_t len, char *why, size_t size);

#endif /* WTCACHE_OWNFILE_H */
