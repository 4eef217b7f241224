/* SPDX-License-Identifier: BSD-3-Clause */

/* The values that each byte of a disk may hold: two small sets of values, of
 * those that reads may return and of those that the disk may keep if the power
 * is cut.
 *
 * A change that ended well leaves one value to read; it is one more that may
 * be kept, and the only one if the change was durable.  One that failed adds
 * its value to both.  A flush that succeeds makes the second set the first.
 * The second therefore always holds the first.  A set that grows too large
 * becomes the set of all values.
 *
 * Pages of sets are made when they are first changed or read.  May not know the
 * program under test.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shadow.h"

#define PAGE       4096
#define MAX_VALUES 3
#define ANY        63

struct set {
  uint8_t n : 6;       /* values, or ANY */
  uint8_t trimmed : 1; /* a byte that was read may change again */
  uint8_t failed : 1;  /* the last change did: it need not be durable */
  uint8_t values[MAX_VALUES];
};

struct shadow_page {
  struct set seen[PAGE], kept[PAGE];
};

struct shadow {
  uint64_t pages;
  uint8_t salt;
  struct shadow_page *page[];
};

struct shadow *
shadow_new (uint64_t max, uint8_t salt)
{
  const uint64_t pages = (max + PAGE - 1) / PAGE;
  struct shadow *s = calloc (1, sizeof *s + pages * sizeof s->page[0]);

  if (s == NULL)
    abort ();
  s->pages = pages;
  s->salt = salt;
  return s;
}

void
shadow_free (struct shadow *s)
{
  uint64_t i;

  for (i = 0; i < s->pages; ++i)
    free (s->page[i]);
  free (s);
}

uint8_t
shadow_first (uint64_t offset, uint8_t salt)
{
  return ((offset / 512 * 7 + offset) % 251) ^ salt;
}

static struct shadow_page *
page_of (struct shadow *s, uint64_t offset)
{
  struct shadow_page **link = &s->page[offset / PAGE];
  const uint64_t start = offset - offset % PAGE;
  struct set first = { .n = 1 };
  unsigned i;

  if (*link == NULL) {
    *link = malloc (sizeof **link);
    if (*link == NULL)
      abort ();
    for (i = 0; i < PAGE; ++i) {
      first.values[0] = shadow_first (start + i, s->salt);
      (*link)->seen[i] = (*link)->kept[i] = first;
    }
  }
  return *link;
}

/* Whether a byte is what it was at first, in a page that was never changed. */
static bool
is_first (const struct shadow *s, uint64_t offset, uint8_t value)
{
  return s->page[offset / PAGE] == NULL &&
         value == shadow_first (offset, s->salt);
}

static bool
has (const struct set *set, uint8_t value)
{
  unsigned i;

  if (set->n == ANY)
    return true;
  for (i = 0; i < set->n; ++i)
    if (set->values[i] == value)
      return true;
  return false;
}

static void
add (struct set *set, uint8_t value)
{
  if (has (set, value))
    return;
  if (set->n == MAX_VALUES)
    set->n = ANY;
  else
    set->values[set->n++] = value;
}

static void
add_all (struct set *set, const struct set *other)
{
  unsigned i;

  if (other->n == ANY)
    set->n = ANY;
  else
    for (i = 0; i < other->n; ++i)
      add (set, other->values[i]);
}

void
shadow_change (struct shadow *s, uint64_t offset, uint64_t len,
               const uint8_t *bytes, uint8_t value, enum fate fate)
{
  struct shadow_page *page;
  uint64_t at;

  for (at = offset; at < offset + len; ++at) {
    const struct set only = {
      .n = 1, .values = { bytes ? bytes[at - offset] : value }
    };

    page = page_of (s, at);
    if (fate == FATE_TRIMMED) {
      add_all (&page->seen[at % PAGE], &page->kept[at % PAGE]);
      page->seen[at % PAGE].trimmed = page->kept[at % PAGE].trimmed = true;
    }
    if (fate == FATE_UNKNOWN)
      page->seen[at % PAGE].failed = true;
    if (fate == FATE_UNKNOWN || fate == FATE_TRIMMED)
      add (&page->seen[at % PAGE], only.values[0]);
    else
      page->seen[at % PAGE] = only;
    if (fate == FATE_DURABLE)
      page->kept[at % PAGE] = only;
    else
      add (&page->kept[at % PAGE], only.values[0]);
  }
}

void
shadow_flushed (struct shadow *s, bool all)
{
  struct shadow_page *page;
  uint64_t i;

  for (i = 0; i < s->pages; ++i)
    if ((page = s->page[i]) != NULL)
      for (unsigned j = 0; j < PAGE; ++j)
        if (all || !page->seen[j].failed) {
          page->seen[j].failed = false;
          page->kept[j] = page->seen[j];
        }
}

void
shadow_cut (struct shadow *s, uint64_t offset)
{
  struct shadow_page *page;
  uint64_t i;

  for (i = offset / PAGE; i < s->pages; ++i)
    if ((page = s->page[i]) != NULL)
      for (unsigned j = 0; j < PAGE; ++j)
        if (i * PAGE + j >= offset)
          add_all (&page->seen[j], &page->kept[j]);
}

static bool
wrong (const char *what, uint64_t offset, uint8_t value, const struct set *set)
{
  unsigned i;

  fprintf (stderr, "%s: byte %llu is 0x%02x instead of", what,
           (unsigned long long) offset, value);
  for (i = 0; i < set->n; ++i)
    fprintf (stderr, " 0x%02x", set->values[i]);
  fprintf (stderr, "\n");
  return false;
}

bool
shadow_reads (struct shadow *s, uint64_t offset, uint64_t len,
              const uint8_t *bytes, bool learn)
{
  struct set *set;
  uint64_t i;

  for (i = 0; i < len; ++i) {
    if (is_first (s, offset + i, bytes[i]))
      continue;
    set = &page_of (s, offset + i)->seen[(offset + i) % PAGE];
    if (!has (set, bytes[i]))
      return wrong ("read", offset + i, bytes[i], set);
    if (learn && !set->trimmed)
      *set =
          (struct set){ .n = 1, .failed = set->failed, .values = { bytes[i] } };
  }
  return true;
}

bool
shadow_keeps (struct shadow *s, uint64_t offset, uint64_t len,
              const uint8_t *bytes)
{
  struct set *set;
  uint64_t i;

  for (i = 0; i < len; ++i) {
    if (is_first (s, offset + i, bytes[i]))
      continue;
    set = &page_of (s, offset + i)->kept[(offset + i) % PAGE];
    if (!has (set, bytes[i]))
      return wrong ("durable", offset + i, bytes[i], set);
  }
  return true;
}

bool
shadow_may_be_zero (struct shadow *s, uint64_t offset, uint64_t len)
{
  struct set *set;
  uint64_t i;

  for (i = 0; i < len; ++i) {
    set = &page_of (s, offset + i)->seen[(offset + i) % PAGE];
    if (!has (set, 0))
      return wrong ("block status", offset + i, 0, set);
  }
  return true;
}
