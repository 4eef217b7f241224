/* SPDX-License-Identifier: BSD-3-Clause */

/* The file of the durable image. */

#ifndef WTDISK_DURABLE_H
#define WTDISK_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

/* The most that durable_zero takes. */
#define DURABLE_ZERO_MAX 65536

/* Opens the file, creating it when it is missing, and makes it no shorter
 * than *SIZE; -1 there stands for the size it has.  A null PATH is anonymous
 * memory.  Returns -1 with errno set.
 */
extern int durable_open (const char *path, int64_t *size, bool readonly);

/* These return 0 or an errno.  Past the end of the file are zeroes. */
extern int durable_read (int fd, uint8_t *buf, uint64_t length,
                         uint64_t offset);
extern int durable_write (int fd, const uint8_t *buf, uint64_t length,
                          uint64_t offset);
extern int durable_zero (int fd, uint64_t length, uint64_t offset);

/* Where data or a hole begins from OFFSET on, at most LIMIT. */
extern uint64_t durable_next_data (int fd, uint64_t offset, uint64_t limit);
extern uint64_t durable_next_hole (int fd, uint64_t offset, uint64_t limit);

#endif /* WTDISK_DURABLE_H */
