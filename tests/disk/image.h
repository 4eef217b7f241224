/* SPDX-License-Identifier: BSD-3-Clause */

/* The image of one export of the tests' disk: what a reader sees (the
 * volatile image) and what a crash leaves (the durable one).
 */

#ifndef WTDISK_IMAGE_H
#define WTDISK_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct image;

/* Opens the durable image at PATH, creating it when it is missing.  A null
 * PATH keeps it in anonymous memory.  SIZE is -1 for that of the file.
 */
extern struct image *image_open (const char *path, int64_t size, bool readonly);
extern void image_close (struct image *image);

extern uint64_t image_size (struct image *image);
extern int image_resize (struct image *image, uint64_t size);

/* These return 0 or an errno.  A durable write or zero is on the durable
 * image when the function returns.  WRITER is the number of the connection.
 */
extern int image_read (struct image *image, void *buf, uint64_t length,
                       uint64_t offset);
extern int image_write (struct image *image, const void *buf, uint64_t length,
                        uint64_t offset, unsigned writer, bool durable);
extern int image_zero (struct image *image, uint64_t length, uint64_t offset,
                       unsigned writer, bool durable);

/* Tells that a request which wrote this range has now ended. */
extern void image_ended (struct image *image, uint64_t length, uint64_t offset);

/* A flush is a call when it begins and, later, one with the value that this
 * returned when it is carried out.  It covers the blocks that WRITER wrote
 * last; 0: all of them.
 */
extern uint64_t image_flush_begin (struct image *image);
extern int image_flush (struct image *image, uint64_t began, unsigned writer);

/* Makes the volatile image equal to the durable one. */
extern void image_forget (struct image *image);

/* Makes all of the volatile image durable and lets no request act after that:
 * the process has to end now.
 */
extern int image_freeze (struct image *image);

/* Writes the durable or the volatile image, as it is at one moment, to a new
 * file.
 */
extern int image_copy (struct image *image, const char *path, bool volatiles);

/* Calls ADD in order for the extents of a range; a hole reads as zeroes.
 * Holes begin and end at multiples of ALIGN.
 */
typedef int (*image_extent_fn) (void *opaque, uint64_t offset, uint64_t length,
                                bool hole);
extern int image_extents (struct image *image, uint64_t length, uint64_t offset,
                          uint64_t align, image_extent_fn add, void *opaque);

#endif /* WTDISK_IMAGE_H */
