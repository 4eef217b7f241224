/* SPDX-License-Identifier: BSD-3-Clause */

/* The values that each byte of a disk may hold.  See shadow.c. */

#ifndef SHADOW_H
#define SHADOW_H

#include <stdbool.h>
#include <stdint.h>

struct shadow;

/* How a change of bytes ended. */
enum fate {
  FATE_UNKNOWN, /* it failed */
  FATE_TRIMMED, /* it may be done, and come undone, at any time */
  FATE_SEEN,    /* reads return it */
  FATE_DURABLE  /* and the disk keeps it */
};

/* At most MAX bytes, which hold what shadow_first says. */
extern struct shadow *shadow_new (uint64_t max, uint8_t salt);
extern void shadow_free (struct shadow *s);
extern uint8_t shadow_first (uint64_t offset, uint8_t salt);

/* BYTES, or LEN times VALUE if it is NULL. */
extern void shadow_change (struct shadow *s, uint64_t offset, uint64_t len,
                           const uint8_t *bytes, uint8_t value, enum fate fate);
/* The bytes that reads return are durable: ALL, or those whose last change did
 * not fail.
 */
extern void shadow_flushed (struct shadow *s, bool all);
/* From OFFSET on the disk may hold again what it kept. */
extern void shadow_cut (struct shadow *s, uint64_t offset);

/* Whether reads may return BYTES.  LEARN: they are what it is from now on. */
extern bool shadow_reads (struct shadow *s, uint64_t offset, uint64_t len,
                          const uint8_t *bytes, bool learn);
/* Whether the disk may keep BYTES. */
extern bool shadow_keeps (struct shadow *s, uint64_t offset, uint64_t len,
                          const uint8_t *bytes);
/* Whether all of a range may be zero. */
extern bool shadow_may_be_zero (struct shadow *s, uint64_t offset,
                                uint64_t len);

#endif /* SHADOW_H */
