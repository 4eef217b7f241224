/* SPDX-License-Identifier: BSD-3-Clause */

/* Whether there is an order of all requests that explains what each read saw.
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
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history-inside.h"

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
  at = rng_mix (state.happened ^ rng_mix (state.value)) % TABLE;
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
    s->states = history_grow (s->states, s->allocated, sizeof *s->states);
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
  size_t *begin = history_zeroed (h->nr_cells + 1, sizeof *begin);
  struct act *acts = NULL, act;
  struct event *events;
  unsigned *slots;
  struct search *search = history_zeroed (1, sizeof *search);
  size_t longest = 0, i, c;
  bool good = true;

  search->h = h;

  /* Sort the acts by cell: count, sum up, put in place. */
  for (int pass = 0; pass < 2; ++pass) {
    for (i = 0; i < h->nr_ops; ++i) {
      const struct op *op = h->ops[i];
      size_t first = history_first_cell (h, op), end = history_end_cell (h, op);

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
      acts = history_grow (NULL, begin[h->nr_cells], sizeof *acts);
    }
  }

  /* Each beginning has moved on to the next one's. */
  events = history_grow (NULL, 2 * longest, sizeof *events);
  slots = history_grow (NULL, longest, sizeof *slots);
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
