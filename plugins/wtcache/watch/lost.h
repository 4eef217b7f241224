/* SPDX-License-Identifier: BSD-3-Clause */

/* The file that says that a server has lost data.  See lost.c. */

#ifndef WTCACHE_LOST_H
#define WTCACHE_LOST_H

/* The file is NAME.lost in the folder of the file BESIDE, which is an absolute
 * path; NULL: there is none.  0 or ENOMEM.
 */
extern int lost_init (const char *beside, const char *name);
extern void lost_free (void);

/* Tells LOG each line that an earlier server has left, and puts the file out of
 * the way, as NAME.lost.old.
 */
extern void lost_tell_old (void (*log) (const char *text));

/* Adds a line about what is lost now.  0 or an errno. */
extern int lost_add (const char *line);

#endif /* WTCACHE_LOST_H */
