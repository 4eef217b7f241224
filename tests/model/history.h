/* SPDX-License-Identifier: BSD-3-Clause */

/* The requests of clients and their answers, and whether the one explains the
 * other.
 *
 * The disk is cut into cells, at the ends of all blocks of 512 bytes and, in
 * some blocks, at odd bytes too.  Every request begins and ends where cells
 * do.  A cell then is a register: it holds the number of the write that was
 * the last over it, which its bytes tell, or zero.
 */

#ifndef MODEL_HISTORY_H
#define MODEL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "rng.h"

#define BLOCK_SIZE 512

enum kind {
  READ,
  WRITE,
  ZERO,
  TRIM,
  FLUSH,
  CACHE,
  STATUS,
  NR_KINDS,
};

extern const char *const kind_names[NR_KINDS];

enum outcome {
  IN_FLIGHT, /* at the end: may have happened or not */
  DONE,
  FAILED,  /* may have happened or not */
  REFUSED, /* has not happened */
};

#define NEVER UINT64_MAX

struct op {
  enum kind kind;
  unsigned connection;
  uint64_t offset, length;
  uint64_t base;  /* as that of its history */
  uint32_t flags; /* as libnbd has them */
  bool fua;
  uint32_t version;    /* of a write: its number */
  uint64_t start, end; /* on one clock for all; end: NEVER while in flight */
  enum outcome outcome;
  int error;
  uint32_t *values; /* of a read, for each of its cells */
};

/* A value found on the disk after a flush that is explained only by a request
 * that failed: a later read may tell that it did not happen.
 */
struct suspect {
  size_t cell;
  uint32_t value;
  const struct op *last, *flush;
};

struct history {
  uint64_t size;

  /* Added to the offset of a word in what it holds, a multiple of 8: bytes of
   * one disk are then no bytes of another.
   */
  uint64_t base;

  uint64_t *cells; /* where each begins, and at the end SIZE */
  size_t nr_cells;
  size_t *first_cell; /* of each block, and at the end nr_cells */

  struct op **ops;
  size_t nr_ops, allocated;
  struct op **writes; /* by version; the first is null */
  uint32_t nr_versions;
  uint64_t clock;

  /* The disk forgets what is not durable when a flush fails.  Then a trimmed
   * range may read otherwise than before.
   */
  bool forgets;

  /* A flush covers the requests of its own connection only. */
  bool flushes_own;

  struct suspect *suspects;
  size_t nr_suspects;

  char complaint[4096]; /* what a check found */
};

/* Values besides the numbers of writes. */
#define VALUE_ZERO    0U
#define VALUE_UNKNOWN UINT32_MAX /* not looked at */

extern void history_init (struct history *h, uint64_t size, struct rng *rng);
extern void history_free (struct history *h);

/* The cell at OFFSET, which begins there or is the end. */
extern size_t history_cell (const struct history *h, uint64_t offset);

/* A range to where its cells begin and end. */
extern void history_round (const struct history *h, uint64_t *begin,
                           uint64_t *end);

extern struct op *history_start (struct history *h, enum kind kind,
                                 unsigned connection, uint64_t offset,
                                 uint64_t length);
extern void history_end (struct history *h, struct op *op, enum outcome outcome,
                         int error);

/* Prints all requests, a line each that begins with NAME. */
extern void history_list (const struct history *h, const char *name, FILE *f);

/* The bytes that a write puts there. */
extern void history_fill (const struct op *op, uint8_t *buf);

/* Finds the values in the bytes of a read.  False if they are not those of
 * any write there, or if a block is torn; h->complaint says where.
 */
extern bool history_values (struct history *h, struct op *op,
                            const uint8_t *buf);

/* Takes away the values of cells that a failed or unanswered request was over,
 * or a trim.
 */
extern void history_overlook_uncertain (const struct history *h,
                                        struct op *read);

/* A part of a STATUS that is told to be zeroes. */
extern void history_is_zero (struct history *h, struct op *op, uint64_t offset,
                             uint64_t length);

/* Whether for each cell there is an order of all requests that respects real
 * time and gives every read what it has seen.
 */
extern bool history_check (struct history *h);

/* Whether IMAGE, found after the server died, or after FLUSH has succeeded if
 * that is not null, has every durable write or one that is not older.
 */
extern bool history_check_durable (struct history *h, const uint8_t *image,
                                   const struct op *flush);

/* Whether what was found after flushes still is explained. */
extern bool history_check_suspects (struct history *h);

/* Whether IMAGE has every write that ended before TIME, or one that is not
 * older.
 */
extern bool history_check_since (struct history *h, const uint8_t *image,
                                 uint64_t time);

#endif /* MODEL_HISTORY_H */
