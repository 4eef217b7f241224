/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that says that a server has lost data.  See lost.c. */

#ifndef WTCACHE_LOST_H
#define WTCACHE_LOST_H

/* The file is NAME.lost in the folder of the file BESIDE, which is an absolute
 * path; NULL: there is none.  LOG logs a line.  0 or ENOMEM.
 */
extern int lost_init (const char *beside, const char *name,
                      void (*log) (const char *text));
extern void lost_free (void);

/* Has each line logged that an earlier server has left, and the file put out of
 * the way, as NAME.lost.old.
 */
extern void lost_tell_old (void);

/* Has LINES written to the file, in place of what this server wrote there
 * before, and frees it.  Without a line in it the file is removed.
 */
extern void lost_set (char *lines);

#endif /* WTCACHE_LOST_H */
