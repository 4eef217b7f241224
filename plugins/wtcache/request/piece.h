/* SPDX-License-Identifier: BSD-3-Clause */

/* Common to pieces of reads and of writes.  See piece.c. */

#ifndef WTCACHE_PIECE_H
#define WTCACHE_PIECE_H

#include "export.h"

/* The most pages of a piece. */
#define PIECE_PAGES 256

/* Blocks up to this size need no buffer from the budget. */
#define SMALL_BLOCK 4096

/* A buffer for whole blocks: a small one of the caller's, or from the budget.
 */
struct scratch {
  struct export *e;
  uint8_t *bytes;
  uint64_t len;
  uint8_t small[SMALL_BLOCK];
};

/* A buffer of LEN bytes or, if that cannot be had at once, of fewer, and at
 * least MIN.  It waits only if MIN is more than SMALL_BLOCK; the caller has
 * nothing pinned.
 */
extern void piece_take_scratch (struct scratch *s, struct export *e,
                                uint64_t len, uint64_t min);
/* One of LEN bytes that the caller can do without; false: there is none now. */
extern bool piece_try_scratch (struct scratch *s, struct export *e,
                               uint64_t len);
/* Gives it back, if there is one. */
extern void piece_drop_scratch (struct scratch *s);

/* The most bytes of a piece: a power of two, at most a sixteenth of the memory.
 */
extern uint64_t piece_max (const struct export *e);
/* How long a piece that begins at OFFSET may be: it ends at a multiple of the
 * most.
 */
extern uint64_t piece_len (const struct export *e, uint64_t offset,
                           uint64_t len);

/* How many pieces a range has. */
extern uint64_t piece_count (const struct export *e, uint64_t offset,
                             uint64_t len);

/* Does the pieces of a large request by RUN, side by side as far as there are
 * threads and memory.  The caller sets what else it needs of S.
 */
extern int piece_spread (struct export *e, struct spread *s, uint64_t offset,
                         uint64_t len);

/* The end of the block that OFFSET lies in or that ends there. */
extern uint64_t piece_block_end (const struct export *e, uint64_t offset);
/* Whether a range consists of whole blocks. */
extern bool piece_is_aligned (const struct export *e, uint64_t offset,
                              uint64_t len);
/* The first byte of a part in the export. */
static inline uint64_t
piece_part_offset (const struct pagecache *pc, const struct part *part)
{
  return (part->index << pc->page_shift) + part->offset;
}

#endif /* WTCACHE_PIECE_H */
