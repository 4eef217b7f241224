/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of a history: memory, and the cells of a request. */

#ifndef MODEL_HISTORY_INSIDE_H
#define MODEL_HISTORY_INSIDE_H

#include "history.h"

/* Memory for N of SIZE bytes; the program ends if there is none. */
extern void *history_grow (void *p, size_t n, size_t size);
extern void *history_zeroed (size_t n, size_t size);

/* The cells that a request is over: the first, and the one after the last. */
extern size_t history_first_cell (const struct history *h, const struct op *op);
extern size_t history_end_cell (const struct history *h, const struct op *op);
/* Whether a request is over all of a cell. */
extern bool history_covers (const struct history *h, const struct op *op,
                            size_t cell);

/* Finds the values of the cells FIRST to END - 1 in their bytes, and looks
 * whether their blocks are whole.
 */
extern bool history_values_of (struct history *h, size_t first, size_t end,
                               const uint8_t *buf, uint32_t *values);

#endif /* MODEL_HISTORY_INSIDE_H */
