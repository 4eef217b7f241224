/* SPDX-License-Identifier: BSD-3-Clause */

/* The control socket of the tests' disk. */

#ifndef WTDISK_CONTROL_H
#define WTDISK_CONTROL_H

#include <stddef.h>

#include "request.h"

/* Listens on PATH; the EXPORTS live until control_stop. */
extern int control_listen (const char *path, struct export *exports,
                           size_t nr_exports);
extern int control_start (void);
extern void control_stop (void);

/* "2ms", "200us", "1s", "0.5": a time, seconds without a unit.  Returns -1
 * if it is none.
 */
extern int parse_time (const char *text, uint64_t *ns);

#endif /* WTDISK_CONTROL_H */
