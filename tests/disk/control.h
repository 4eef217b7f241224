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

#endif /* WTDISK_CONTROL_H */
