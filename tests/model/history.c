/* SPDX-License-Identifier: BSD-3-Clause */

/* The history of a run and its checks.
 *
 * A write fills its bytes, by aligned words, with its number and the place of
 * the word, mixed so that any part of a word that belongs elsewhere shows.  A
 * cell is 16 bytes or more and so has a whole word, which gives the number;
 * then all its bytes must be those of that write.
 *
 * The order is searched for each cell alone, as requests start and end, with
 * the set of all states in which the cell may be: its value, and which of
 * the requests in flight have happened.  A request has to have happened when
 * it ends; to get there, others in flight may have happened before it.  A
 * read happens as soon as the value is the one that it saw.
 *
 * A write that failed may happen or not; reads that are in flight together
 * with it may see it in either case.  After a trim the value is zero or any
 * that was there before, and stays what the first read has seen.
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

#include "history.h"

#define MIN_CELL 16

const char *const kind_names[NR_KINDS] = {
  [READ] = "read",   [WRITE] = "write", [ZERO] = "zero",     [TRIM] = "trim",
  [FLUSH] = "flush", [CACHE] = "cache", [STATUS] = "status",
};

/* A program of the tests has no use for a life without memory. */
static void *
grow (void *p, size_t n, size_t size)
{
  p = reallocarray (p, n ? n : 1, size);
  if (p == NULL)
    abort ();
  return p;
}

static void *
zeroed (size_t n, size_t size)
{
  void *p = grow (NULL, n, size);

  memset (p, 0, n * size);
  return p;
}

/* Numbers. */

static uint64_t
mix (uint64_t x)
{
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  return x ^ x >> 32;
}

/* The inverse of mix: the multiplier is that of the factor modulo 2^64. */
static uint64_t
unmix (uint64_t x)
{
  x ^= x >> 32;
  x *= UINT64_C (0xcfee444d8b59a89b);
  x ^= x >> 32;
  x *= UINT64_C (0xcfee444d8b59a89b);
  return x ^ x >> 32;
}

uint64_t
rng_next (struct rng *rng)
{
  rng->state += UINT64_C (0x9e3779b97f4a7c15);
  return mix (rng->state);
}

uint64_t
rng_below (struct rng *rng, uint64_t n)
{
  return rng_next (rng) % n;
}

bool
rng_chance (struct rng *rng, unsigned percent)
{
  return rng_below (rng, 100) < percent;
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
  h->cells = grow (NULL, 3 * nr_blocks + 1, sizeof *h->cells);
  h->first_cell = grow (NULL, nr_blocks + 1, sizeof *h->first_cell);
  for (uint64_t block = 0; block < nr_blocks; ++block) {
    h->first_cell[block] = h->nr_cells;
    cut_block (h, block * BLOCK_SIZE, rng);
  }
  h->first_cell[nr_blocks] = h->nr_cells;
  h->cells[h->nr_cells] = size;
  h->writes = zeroed (1, sizeof *h->writes);
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

static size_t
first_cell_of (const struct history *h, const struct op *op)
{
  return history_cell (h, op->offset);
}

static size_t
end_cell_of (const struct history *h, const struct op *op)
{
  return history_cell (h, op->offset + op->length);
}

static bool
covers (const struct history *h, const struct op *op, size_t cell)
{
  return op->offset <= h->cells[cell] &&
         h->cells[cell + 1] <= op->offset + op->length;
}

/* Requests. */

struct op *
history_start (struct history *h, enum kind kind, unsigned connection,
               uint64_t offset, uint64_t length)
{
  struct op *op = zeroed (1, sizeof *op);

  op->kind = kind;
  op->connection = connection;
  op->offset = offset;
  op->length = length;
  op->base = h->base;
  op->start = ++h->clock;
  op->end = NEVER;
  if (kind == WRITE) {
    h->writes = grow (h->writes, h->nr_versions + 1, sizeof *h->writes);
    h->writes[h->nr_versions] = op;
    op->version = h->nr_versions++;
  }
  if (h->nr_ops == h->allocated) {
    h->allocated = 2 * h->allocated + 64;
    h->ops = grow (h->ops, h->allocated, sizeof *h->ops);
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

static uint64_t
word_of (uint32_t version, uint64_t offset)
{
  return mix ((uint64_t) version << 32 | (uint32_t) (offset / 8));
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
  version = unmix (word) >> 32;
  fill (version, h->base + offset, length, expected);
  *value = version;
  if (version > 0 && version < h->nr_versions &&
      covers (h, h->writes[version], cell) &&
      memcmp (buf, expected, length) == 0)
    return true;
  snprintf (h->complaint, sizeof h->complaint,
            "the bytes %" PRIu64 "+%" PRIu64 " are of no write over them; "
            "their first word tells of write %" PRIu32 " and byte %" PRIu64,
            offset, length, version, 8 * (unmix (word) & UINT32_MAX));
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
      if (!covers (h, h->writes[a], j) || !covers (h, h->writes[b], i))
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

/* Finds the values of the cells of a range, and looks at its blocks. */
static bool
values_of (struct history *h, size_t first, size_t end, const uint8_t *buf,
           uint32_t *values)
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
  size_t n = end_cell_of (h, op) - first_cell_of (h, op);

  op->values = grow (NULL, n, sizeof *op->values);
  for (size_t i = 0; i < n; ++i)
    op->values[i] = VALUE_UNKNOWN;
}

bool
history_values (struct history *h, struct op *op, const uint8_t *buf)
{
  allocate_values (h, op);
  return values_of (h, first_cell_of (h, op), end_cell_of (h, op), buf,
                    op->values);
}

void
history_overlook_uncertain (const struct history *h, struct op *read)
{
  const size_t first = first_cell_of (h, read), end = end_cell_of (h, read);

  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    size_t cell = first_cell_of (h, op);

    if (op->kind != TRIM && (op->outcome == DONE || op->outcome == REFUSED ||
                             (op->kind != WRITE && op->kind != ZERO)))
      continue;
    for (; cell < end_cell_of (h, op); ++cell)
      if (cell >= first && cell < end)
        read->values[cell - first] = VALUE_UNKNOWN;
  }
}

void
history_is_zero (struct history *h, struct op *op, uint64_t offset,
                 uint64_t length)
{
  const size_t first = first_cell_of (h, op), end = end_cell_of (h, op);

  if (op->values == NULL)
    allocate_values (h, op);
  for (size_t i = first; i < end; ++i)
    if (offset <= h->cells[i] && h->cells[i + 1] <= offset + length)
      op->values[i - first] = VALUE_ZERO;
}

/* The search. */

#define TRIMMED   UINT32_MAX
#define SLOTS     64
#define STATE_MAX 2000 /* beyond that the cell is not looked at */
#define TABLE     16384

/* A request over the cell that is looked at. */
struct act {
  const struct op *op;
  uint32_t value; /* read or written; TRIMMED */
};

struct event {
  uint64_t time;
  size_t act;
  bool end;
};

struct state {
  uint32_t value;
  uint64_t happened; /* the requests in flight that have, by slot */
};

struct slot {
  bool used, reads, optional;
  uint32_t value;
};

struct search {
  const struct history *h;
  struct slot slots[SLOTS];
  struct state *states;
  size_t nr_states, allocated;
  bool too_many;

  /* Where a state stands in the array, by hash; an entry of another round is
   * none.
   */
  struct {
    uint32_t round, index;
  } table[TABLE];
  uint32_t round;
};

#define BIT(slot) (UINT64_C (1) << (slot))

static void
clear_states (struct search *s)
{
  s->nr_states = 0;
  s->round++;
}

static void
add_state (struct search *s, struct state state)
{
  size_t at;

  /* A read happens as soon as it can: it changes nothing. */
  for (unsigned i = 0; i < SLOTS; ++i)
    if (s->slots[i].used && s->slots[i].reads &&
        (s->slots[i].value == state.value ||
         (state.value == TRIMMED && s->h->forgets)))
      state.happened |= BIT (i);
  at = mix (state.happened ^ mix (state.value)) % TABLE;
  for (; s->table[at].round == s->round; at = (at + 1) % TABLE) {
    const struct state *other = &s->states[s->table[at].index];

    if (other->value == state.value && other->happened == state.happened)
      return;
  }
  if (s->nr_states == STATE_MAX) {
    s->too_many = true;
    return;
  }
  s->table[at].round = s->round;
  s->table[at].index = s->nr_states;
  if (s->nr_states == s->allocated) {
    s->allocated = 2 * s->allocated + 64;
    s->states = grow (s->states, s->allocated, sizeof *s->states);
  }
  s->states[s->nr_states++] = state;
}

/* Adds all states that can be reached while one that must happen has not. */
static void
reach (struct search *s, unsigned until)
{
  for (size_t i = 0; i < s->nr_states && !s->too_many; ++i) {
    const struct state state = s->states[i];

    if (state.happened & BIT (until))
      continue;
    for (unsigned j = 0; j < SLOTS; ++j) {
      const struct slot *slot = &s->slots[j];

      if (!slot->used || (state.happened & BIT (j)) ||
          (slot->reads && state.value != TRIMMED))
        continue;
      add_state (s, (struct state){ .value = slot->value,
                                    .happened = state.happened | BIT (j) });
    }
  }
}

/* A read that may see what fails may see it and not. */
static void
excuse_reads (struct search *s)
{
  for (unsigned i = 0; i < SLOTS; ++i)
    if (s->slots[i].used && s->slots[i].optional && !s->slots[i].reads)
      for (unsigned j = 0; j < SLOTS; ++j)
        if (s->slots[j].used && s->slots[j].reads &&
            (s->slots[j].value == s->slots[i].value ||
             s->slots[i].value == TRIMMED))
          s->slots[j].optional = true;
}

/* Returns the slot, or SLOTS if there is none. */
static unsigned
begin_act (struct search *s, const struct act *act)
{
  unsigned i = 0;
  size_t n = s->nr_states;

  while (i < SLOTS && s->slots[i].used)
    ++i;
  if (i == SLOTS) {
    s->too_many = true;
    return i;
  }
  s->slots[i] = (struct slot){
    .used = true,
    .reads = act->op->kind == READ || act->op->kind == STATUS,
    .optional = act->op->outcome != DONE,
    .value = act->value,
  };
  excuse_reads (s);
  if (s->slots[i].reads) {
    clear_states (s);
    for (size_t j = 0; j < n; ++j)
      add_state (s, s->states[j]);
  }
  return i;
}

/* False if there is no state in which it can have happened. */
static bool
end_act (struct search *s, unsigned slot)
{
  const bool optional = s->slots[slot].optional;
  size_t n;

  if (!(s->slots[slot].reads && optional))
    reach (s, slot);
  n = s->nr_states;
  clear_states (s);
  s->slots[slot].used = false;
  for (size_t i = 0; i < n; ++i) {
    struct state state = s->states[i];

    if (!optional && !(state.happened & BIT (slot)))
      continue;
    state.happened &= ~BIT (slot);
    add_state (s, state);
  }
  return s->nr_states > 0 || s->too_many;
}

static int
compare_events (const void *a, const void *b)
{
  const struct event *x = a, *y = b;

  return x->time < y->time ? -1 : x->time > y->time;
}

static int
print_act (char *buf, size_t length, const struct act *act)
{
  static const char *const outcomes[] = {
    [IN_FLIGHT] = "unknown",
    [DONE] = "done",
    [FAILED] = "failed",
    [REFUSED] = "refused",
  };
  const struct op *op = act->op;

  return snprintf (buf, length,
                   "\n  [%" PRIu64 "..%" PRId64 "] conn %u %s%s %" PRIu64
                   "+%" PRIu64 " %s: value %" PRId32,
                   op->start, (int64_t) op->end, op->connection,
                   kind_names[op->kind], op->fua ? " fua" : "", op->offset,
                   op->length, outcomes[op->outcome], (int32_t) act->value);
}

/* Tells of the requests that ended shortly before this one. */
static void
complain (struct history *h, size_t cell, const struct act *acts, size_t n,
          const struct act *culprit)
{
  size_t used, i, told = 0;

  used =
      snprintf (h->complaint, sizeof h->complaint,
                "no order explains what was seen at %" PRIu64 "+%" PRIu64 " by",
                h->cells[cell], h->cells[cell + 1] - h->cells[cell]);
  used += print_act (h->complaint + used, sizeof h->complaint - used, culprit);
  used += snprintf (h->complaint + used, sizeof h->complaint - used,
                    "\n among (value -1: trimmed)");
  for (i = n; i > 0 && used + 200 < sizeof h->complaint && told < 24; --i)
    if (acts[i - 1].op->start < culprit->op->end) {
      used += print_act (h->complaint + used, sizeof h->complaint - used,
                         &acts[i - 1]);
      ++told;
    }
}

/* The acts are in the order of their start. */
static bool
check_cell (struct history *h, size_t cell, const struct act *acts, size_t n,
            struct search *s, struct event *events, unsigned *slots)
{
  size_t nr_events = 0;

  for (size_t i = 0; i < n; ++i) {
    events[nr_events++] = (struct event){ acts[i].op->start, i, false };
    if (acts[i].op->end != NEVER)
      events[nr_events++] = (struct event){ acts[i].op->end, i, true };
  }
  qsort (events, nr_events, sizeof *events, compare_events);

  memset (s->slots, 0, sizeof s->slots);
  s->too_many = false;
  clear_states (s);
  add_state (s, (struct state){ .value = VALUE_ZERO });
  for (size_t i = 0; i < nr_events && !s->too_many; ++i) {
    const size_t act = events[i].act;

    if (!events[i].end)
      slots[act] = begin_act (s, &acts[act]);
    else if (!end_act (s, slots[act])) {
      complain (h, cell, acts, n, &acts[act]);
      return false;
    }
  }
  return true;
}

/* How a request changes one of its cells; false if it does not. */
static bool
act_of (const struct op *op, size_t index, struct act *act)
{
  act->op = op;
  if (op->outcome == REFUSED)
    return false;
  switch (op->kind) {
  case WRITE:
    act->value = op->version;
    return true;
  case ZERO:
    act->value = VALUE_ZERO;
    return true;
  case TRIM:
    act->value = TRIMMED;
    return true;
  case READ:
  case STATUS:
    if (op->values == NULL || op->outcome != DONE)
      return false;
    act->value = op->values[index];
    return act->value != VALUE_UNKNOWN;
  default:
    return false;
  }
}

bool
history_check (struct history *h)
{
  size_t *begin = zeroed (h->nr_cells + 1, sizeof *begin);
  struct act *acts, act;
  struct event *events;
  unsigned *slots;
  struct search *search = zeroed (1, sizeof *search);
  size_t longest = 0, i, c;
  bool good = true;

  search->h = h;

  /* Sort the acts by cell: count, sum up, put in place. */
  for (int pass = 0; pass < 2; ++pass) {
    for (i = 0; i < h->nr_ops; ++i) {
      const struct op *op = h->ops[i];
      size_t first = first_cell_of (h, op), end = end_cell_of (h, op);

      for (c = first; c < end; ++c)
        if (act_of (op, c - first, &act)) {
          if (pass == 0)
            ++begin[c + 1];
          else
            acts[begin[c]++] = act;
        }
    }
    if (pass == 0) {
      for (c = 0; c < h->nr_cells; ++c) {
        if (begin[c + 1] > longest)
          longest = begin[c + 1];
        begin[c + 1] += begin[c];
      }
      acts = grow (NULL, begin[h->nr_cells], sizeof *acts);
    }
  }

  /* Each beginning has moved on to the next one's. */
  events = grow (NULL, 2 * longest, sizeof *events);
  slots = grow (NULL, longest, sizeof *slots);
  for (c = 0; c < h->nr_cells && good; ++c) {
    size_t from = c == 0 ? 0 : begin[c - 1];

    good =
        check_cell (h, c, acts + from, begin[c] - from, search, events, slots);
  }
  free (search->states);
  free (search);
  free (slots);
  free (events);
  free (acts);
  free (begin);
  return good;
}

/* The values that a disk has to have. */

/* For each connection, and at the end for all, when the last flush began that
 * has succeeded.
 */
struct flushes {
  uint64_t *began;
  unsigned nr_connections;
};

static struct flushes
find_flushes (const struct history *h)
{
  struct flushes f = { NULL, 0 };

  for (size_t i = 0; i < h->nr_ops; ++i)
    if (h->ops[i]->connection >= f.nr_connections)
      f.nr_connections = h->ops[i]->connection + 1;
  f.began = zeroed (f.nr_connections + 1, sizeof *f.began);
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    const unsigned at = h->flushes_own ? op->connection : f.nr_connections;

    if (op->kind == FLUSH && op->outcome == DONE && op->start > f.began[at])
      f.began[at] = op->start;
  }
  return f;
}

/* By cell, the latest of the writes and zeroes that the disk has to have; null
 * where there is none.  Those that ended before TIME, or, if that is 0, those
 * that are durable.
 */
static const struct op **
find_required (const struct history *h, uint64_t time)
{
  const struct op **last = zeroed (h->nr_cells + 1, sizeof *last);
  struct flushes f = find_flushes (h);

  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];
    const unsigned at = h->flushes_own ? op->connection : f.nr_connections;

    if ((op->kind != WRITE && op->kind != ZERO) || op->outcome != DONE)
      continue;
    if (time ? op->end >= time : !op->fua && op->end >= f.began[at])
      continue;
    for (size_t c = first_cell_of (h, op); c < end_cell_of (h, op); ++c)
      if (last[c] == NULL || op->start > last[c]->start)
        last[c] = op;
  }
  free (f.began);
  return last;
}

static bool
leaves (const struct op *op, uint32_t value)
{
  return op->kind == TRIM || (op->kind == WRITE && op->version == value) ||
         (op->kind == ZERO && value == VALUE_ZERO);
}

/* Whether a read after a failure saw what LAST had put there before it: then
 * what failed has not happened, and the flush had to see to it.
 */
static bool
is_disproved (const struct history *h, size_t cell, const struct op *failed,
              const struct op *last)
{
  if (last->kind != WRITE || failed->start < last->end)
    return false;
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];

    if (op->kind == READ && op->outcome == DONE && op->values &&
        op->start > failed->end && covers (h, op, cell) &&
        op->values[cell - first_cell_of (h, op)] == last->version)
      return true;
  }
  return false;
}

/* Whether VALUE may be there though LAST has to be: some request that put
 * it there did not end before LAST began.  After a flush that succeeded, one
 * that failed before its end and is seen not to have happened does not count;
 * *SUSPECT: there was such a one, and it is not seen yet.
 */
static bool
may_follow (const struct history *h, size_t cell, uint32_t value,
            const struct op *last, const struct op *flush, bool *suspect)
{
  *suspect = false;
  if (value == (last->kind == ZERO ? VALUE_ZERO : last->version))
    return true;
  for (size_t i = 0; i < h->nr_ops; ++i) {
    const struct op *op = h->ops[i];

    if (op->outcome == REFUSED || op->end < last->start ||
        !covers (h, op, cell) || !leaves (op, value))
      continue;
    if (flush == NULL || op->outcome != FAILED || last->end >= flush->start ||
        op->end >= flush->end) {
      *suspect = false;
      return true;
    }
    *suspect |= !is_disproved (h, cell, op, last);
  }
  return *suspect;
}

static void
suspect (struct history *h, size_t cell, uint32_t value, const struct op *last,
         const struct op *flush)
{
  if ((h->nr_suspects & (h->nr_suspects - 1)) == 0)
    h->suspects =
        grow (h->suspects, 2 * h->nr_suspects + 1, sizeof *h->suspects);
  h->suspects[h->nr_suspects++] = (struct suspect){ cell, value, last, flush };
}

static bool
complain_of_disk (struct history *h, size_t cell, uint32_t value,
                  const struct op *last)
{
  snprintf (h->complaint, sizeof h->complaint,
            "at %" PRIu64 " is version %" PRIu32
            ", not the %s of version %" PRIu32 ", %" PRIu64 "+%" PRIu64
            " [%" PRIu64 "..%" PRIu64 "] of connection %u, fua=%d, nor a "
            "later one",
            h->cells[cell], value, kind_names[last->kind], last->version,
            last->offset, last->length, last->start, last->end,
            last->connection, last->fua);
  return false;
}

bool
history_check_suspects (struct history *h)
{
  bool again;

  for (size_t i = 0; i < h->nr_suspects; ++i) {
    const struct suspect *s = &h->suspects[i];

    if (!may_follow (h, s->cell, s->value, s->last, s->flush, &again))
      return complain_of_disk (h, s->cell, s->value, s->last);
  }
  return true;
}

static bool
check_required (struct history *h, const uint8_t *image, uint64_t time,
                const struct op *flush)
{
  uint32_t *values = grow (NULL, h->nr_cells, sizeof *values);
  const struct op **required = find_required (h, time);
  bool good = values_of (h, 0, h->nr_cells, image, values);

  for (size_t cell = 0; cell < h->nr_cells && good; ++cell) {
    const struct op *last = required[cell];
    bool again = false;

    if (last == NULL)
      continue;
    good = may_follow (h, cell, values[cell], last, flush, &again) ||
           complain_of_disk (h, cell, values[cell], last);
    if (good && again)
      suspect (h, cell, values[cell], last, flush);
  }
  free (required);
  free (values);
  return good;
}

bool
history_check_durable (struct history *h, const uint8_t *image,
                       const struct op *flush)
{
  return check_required (h, image, 0, flush);
}

bool
history_check_since (struct history *h, const uint8_t *image, uint64_t time)
{
  return time == 0 || check_required (h, image, time, NULL);
}
