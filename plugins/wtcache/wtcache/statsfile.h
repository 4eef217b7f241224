/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of statistics (wtcache-stats).  See statsfile.c.  Without that
 * option none of these does anything.
 */

#ifndef WTCACHE_STATSFILE_H
#define WTCACHE_STATSFILE_H

/* Checks what can be checked before the server goes into the background.  0; or
 * -1, after logging why it cannot be written.
 */
extern int statsfile_check (void);
/* Locks and writes it, once the server runs as its user (nbdkit -u).  0; or -1,
 * after logging why not.
 */
extern int statsfile_begin (void);
/* Has it written again, unless the last time has not ended. */
extern void statsfile_renew (void);
/* Has it written for the last time. */
extern void statsfile_renew_last (void);
/* Releases its lock, after the last write. */
extern void statsfile_end (void);

#endif /* WTCACHE_STATSFILE_H */
