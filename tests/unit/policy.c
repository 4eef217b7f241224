/* SPDX-License-Identifier: BSD-3-Clause */

/* The eviction policy over an array of entries.  See policy.h. */

#include <config.h>

#include "policy.h"

struct policy *
policy_new_max (size_t capacity, size_t max)
{
  struct policy *c = calloc (1, sizeof *c);

  assert_non_null (c);
  c->frames = calloc (max, sizeof *c->frames);
  assert_non_null (c->frames);
  c->capacity = capacity;
  c->max = max;
  c->random = 1;
  c->ev = evict_new (capacity, max, &c->frames[0].entry, sizeof *c->frames);
  assert_non_null (c->ev);
  return c;
}

struct policy *
policy_new (size_t capacity)
{
  return policy_new_max (capacity, capacity);
}

void
policy_free (struct policy *c)
{
  evict_free (c->ev);
  free (c->frames);
  free (c);
}

uint32_t
policy_any (struct policy *c, uint32_t below)
{
  c->random = c->random * 1664525 + 1013904223;
  return (uint32_t) (((uint64_t) c->random * below) >> 32);
}

static struct frame *
frame_of (struct evict_entry *entry)
{
  return (struct frame *) ((char *) entry - offsetof (struct frame, entry));
}

bool
policy_may_go (struct evict_entry *entry, void *opaque)
{
  struct policy *c = opaque;

  c->questions++;
  frame_of (entry)->asked = true;
  return !frame_of (entry)->stays;
}

struct frame *
policy_victim (struct policy *c)
{
  struct evict_entry *entry = evict_victim (c->ev, policy_may_go, c);

  if (entry == NULL)
    return NULL;
  assert_int_equal (entry->queue, EVICT_NONE);
  assert_ptr_equal (c->index[entry->key], frame_of (entry));
  c->index[entry->key] = NULL;
  return frame_of (entry);
}

struct frame *
policy_admit (struct policy *c, uint64_t key, enum admission why)
{
  struct frame *frame;

  assert_null (c->index[key]);
  frame = c->used < c->capacity ? &c->frames[c->used++] : policy_victim (c);
  assert_non_null (frame);
  frame->entry.key = key;
  frame->stays = false;
  c->index[key] = frame;
  evict_admit (c->ev, &frame->entry, why);
  assert_int_not_equal (frame->entry.queue, EVICT_NONE);
  return frame;
}

bool
policy_use (struct policy *c, uint64_t key, enum admission why)
{
  if (c->index[key] != NULL) {
    evict_hit (c->ev, &c->index[key]->entry);
    return true;
  }
  policy_admit (c, key, why);
  return false;
}

size_t
policy_count (const struct policy *c, uint64_t first, uint64_t end)
{
  size_t n = 0;

  for (uint64_t key = first; key < end; ++key)
    n += c->index[key] != NULL;
  return n;
}
