/* SPDX-License-Identifier: BSD-3-Clause */

/* The history of a run: cells, requests, and the values of cells.
 *
 * A write fills its bytes, by aligned words, with its number and the place of
 * the word, mixed so that any part of a word that belongs elsewhere shows.  A
 * cell is 16 bytes or more and so has a whole word, which gives the number;
 * then all its bytes must be those of that write.
 *
 * This file knows neither NBD nor the server.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history-inside.h"

#define MIN_CELL 16

const char *const kind_names[NR_KINDS] = {
  [READ] = "read",   [WRITE] = "write", [ZERO] = "zero",     [TRIM] = "trim",
  [FLUSH] = "flush", [CACHE] = "cache", [STATUS] = "status",
};

void *
history_grow (void *p, size_t n, size_t size)
{
  p = reallocarray (p, n ? n : 1, size);
  if (p == NULL)
    abort ();
  return p;
}

void *
history_zeroed (size_t n, size_t size)
{
  void *p = history_grow (NULL, n, size);

  memset (p, 0, n * size);
  return p;
}

/* Cells. */

static void
cut_block (struct history *h, uint64_t offset, struct rng *rng)
{
  uint64_t end = offset + BLOCK_SIZE < h->size ? offset + BLOCK_SIZE : h->size;
  unsigned cuts = rng_below (rng, 100);

  h->cells[h->nr_cells++] = offset;
  for (cuts = cuts < 60 ? 0 : cuts < 85 ? 1 : 2; cuts > 0; --cuts) {
    if (end - offset < 2 * MIN_CELL)
      return;
    offset += MIN_CELL + rng_below (rng, end - offset - 2 * MIN_CELL + 1);
    h->cells[h->nr_cells++] = offset;
  }
}

void
history_init (struct history *h, uint64_t size, struct rng *rng)
{
  uint64_t nr_blocks = (size + BLOCK_SIZE - 1) / BLOCK_SIZE;

  memset (h, 0, sizeof *h);
  h->size = size;
  h->cells = history_grow (NULL, 3 * nr_blocks + 1, sizeof *h->cells);
  h->first_cell = history_grow (NULL, nr_blocks + 1, sizeof *h->first_cell);
  for (uint64_t block = 0; block < nr_blocks; ++block) {
    h->first_cell[block] = h->nr_cells;
    cut_block (h, block * BLOCK_SIZE, rng);
  }
  h->first_cell[nr_blocks] = h->nr_cells;
  h->cells[h->nr_cells] = size;
  h->writes = history_zeroed (1, sizeof *h->writes);
  h->nr_versions = 1;
}

void
history_free (struct history *h)
{
  for (size_t i = 0; i < h->nr_ops; ++i) {
    free (h->ops[i]->values);
    free (h->ops[i]);
  }
  free (h->ops);
  free (h->writes);
  free (h->cells);
  free (h->first_cell);
  free (h->suspects);
}

size_t
history_cell (const struct history *h, uint64_t offset)
{
  size_t i;

  if (offset == h->size)
    return h->nr_cells;
  i = h->first_cell[offset / BLOCK_SIZE];
  while (h->cells[i] < offset)
    ++i;
  return i;
}

void
history_round (const struct history *h, uint64_t *begin, uint64_t *end)
{
  while (h->cells[history_cell (h, *begin)] != *begin)
    --*begin;
  while (h->cells[history_cell (h, *end)] != *end)
    ++*end;
}

size_t
history_first_cell (const struct history *h, const struct op *op)
{
  return history_cell (h, op->offset);
}

size_t
history_end_cell (const struct history *h, const struct op *op)
{
  return history_cell (h, op->offset + op->length);
}

bool
history_covers (const struct history *h, const struct op *op, size_t cell)
{
  return op->offset <= h->cells[cell] &&
         h->cells[cell + 1] <= op->offset + op->length;
}

/* Requests. */

struct op *
history_start (struct history *h, enum kind kind, unsigned connection,
               uint64_t offset, uint64_t length)
{
  struct op *op = history_zeroed (1, sizeof *op);

  op->kind = kind;
  op->connection = connection;
  op->offset = offset;
  op->length = length;
  op->base = h->base;
  op->start = ++h->clock;
  op->end = NEVER;
  if (kind == WRITE) {
    h->writes = history_grow (h->writes, h->nr_versions + 1, sizeof *h->writes);
    h->writes[h->nr_versions] = op;
    op->version = h->nr_versions++;
  }
  if (h->nr_ops == h->allocated) {
    h->allocated = 2 * h->allocated + 64;
    h->ops = history_grow (h->ops, h->allocated, sizeof *h->ops);
  }
  return h->ops[h->nr_ops++] = op;
}

void
history_end (struct history *h, struct op *op, enum outcome outcome, int error)
{
  op->end = ++h->clock;
  op->outcome = outcome;
  op->error = error;
}

void
history_list (const struct history *h, const char *name, FILE *f)
{
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];

    fprintf (f,
             "%s%" PRIu64 " %" PRId64 " %u %s %" PRIu64 " %" PRIu64
             " flags=%" PRIu32 " version=%" PRIu32 " outcome=%d error=%d\n",
             name, op->start, (int64_t) op->end, op->connection,
             kind_names[op->kind], op->offset, op->length, op->flags,
             op->version, (int) op->outcome, op->error);
  }
}

static uint64_t
word_of (uint32_t version, uint64_t offset)
{
  return rng_mix ((uint64_t) version << 32 | (uint32_t) (offset / 8));
}

static uint8_t
byte_of (uint32_t version, uint64_t offset)
{
  return word_of (version, offset) >> 8 * (offset % 8);
}

static void
fill (uint32_t version, uint64_t offset, uint64_t length, uint8_t *buf)
{
  uint64_t i = 0;

  while (i < length) {
    if ((offset + i) % 8 == 0 && length - i >= 8) {
      /* As byte_of has it, whatever the order of bytes here. */
      uint64_t word = htole64 (word_of (version, offset + i));

      memcpy (buf + i, &word, 8);
      i += 8;
    }
    else {
      buf[i] = byte_of (version, offset + i);
      ++i;
    }
  }
}

void
history_fill (const struct op *op, uint8_t *buf)
{
  fill (op->version, op->base + op->offset, op->length, buf);
}

/* The value that bytes stand for. */

static bool
all_zero (const uint8_t *buf, uint64_t length)
{
  return buf[0] == 0 && memcmp (buf, buf + 1, length - 1) == 0;
}

static bool
value_of_cell (struct history *h, size_t cell, const uint8_t *buf,
               uint32_t *value)
{
  const uint64_t offset = h->cells[cell];
  const uint64_t length = h->cells[cell + 1] - offset;
  uint8_t expected[BLOCK_SIZE];
  uint64_t word;
  uint32_t version;

  if (all_zero (buf, length)) {
    *value = VALUE_ZERO;
    return true;
  }
  memcpy (&word, buf + (8 - offset % 8) % 8, 8);
  word = le64toh (word);
  version = rng_unmix (word) >> 32;
  fill (version, h->base + offset, length, expected);
  *value = version;
  if (version > 0 && version < h->nr_versions &&
      history_covers (h, h->writes[version], cell) &&
      memcmp (buf, expected, length) == 0)
    return true;
  snprintf (h->complaint, sizeof h->complaint,
            "the bytes %" PRIu64 "+%" PRIu64 " are of no write over them; "
            "their first word tells of write %" PRIu32 " and byte %" PRIu64,
            offset, length, version, 8 * (rng_unmix (word) & UINT32_MAX));
  return false;
}

/* A block is written as one: of two writes over two cells of it, one came
 * last over both.
 */
static bool
block_is_whole (struct history *h, size_t first, size_t end,
                const uint32_t *values)
{
  for (size_t i = first; i < end; ++i)
    for (size_t j = i + 1; j < end; ++j) {
      uint32_t a = values[i - first], b = values[j - first];

      if (a == b || a == VALUE_ZERO || b == VALUE_ZERO)
        continue;
      if (!history_covers (h, h->writes[a], j) ||
          !history_covers (h, h->writes[b], i))
        continue;
      snprintf (h->complaint, sizeof h->complaint,
                "the block at %" PRIu64 " is torn: byte %" PRIu64
                " is of write %" PRIu32 ", byte %" PRIu64 " of write %" PRIu32,
                h->cells[first] / BLOCK_SIZE * BLOCK_SIZE, h->cells[i], a,
                h->cells[j], b);
      return false;
    }
  return true;
}

bool
history_values_of (struct history *h, size_t first, size_t end,
                   const uint8_t *buf, uint32_t *values)
{
  const uint64_t offset = h->cells[first];
  size_t i, block_first = first;

  for (i = first; i < end; ++i)
    if (!value_of_cell (h, i, buf + (h->cells[i] - offset), &values[i - first]))
      return false;
  for (i = first; i < end; ++i)
    if (i + 1 == end || h->cells[i + 1] % BLOCK_SIZE == 0) {
      if (!block_is_whole (h, block_first, i + 1, &values[block_first - first]))
        return false;
      block_first = i + 1;
    }
  return true;
}

static void
allocate_values (const struct history *h, struct op *op)
{
  size_t n = history_end_cell (h, op) - history_first_cell (h, op);

  op->values = history_grow (NULL, n, sizeof *op->values);
  for (size_t i = 0; i < n; ++i)
    op->values[i] = VALUE_UNKNOWN;
}

bool
history_values (struct history *h, struct op *op, const uint8_t *buf)
{
  allocate_values (h, op);
  return history_values_of (h, history_first_cell (h, op),
                            history_end_cell (h, op), buf, op->values);
}

void
history_overlook_uncertain (const struct history *h, struct op *read)
{
  const size_t first = history_first_cell (h, read),
               end = history_end_cell (h, read);

  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    size_t cell = history_first_cell (h, op);

    if (op->kind != TRIM && (op->outcome == DONE || op->outcome == REFUSED ||
                             (op->kind != WRITE && op->kind != ZERO)))
      continue;
    for (; cell < history_end_cell (h, op); ++cell)
      if (cell >= first && cell < end)
        read->values[cell - first] = VALUE_UNKNOWN;
  }
}

void
history_is_zero (struct history *h, struct op *op, uint64_t offset,
                 uint64_t length)
{
  const size_t first = history_first_cell (h, op),
               end = history_end_cell (h, op);

  if (op->values == NULL)
    allocate_values (h, op);
  for (size_t i = first; i < end; ++i)
    if (offset <= h->cells[i] && h->cells[i + 1] <= offset + length)
      op->values[i - first] = VALUE_ZERO;
}
