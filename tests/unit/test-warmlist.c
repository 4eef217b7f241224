/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of the text of a warm list: what is written is read again, and a
 * text that breaks a rule is refused.
 */

#include <config.h>

#include <stdio.h>

#include "base/crc32c.h"
#include "request/warmlist.h"
#include "unit.h"

#define MAX_TEXT 4096

/* The text with its last line. */
static char *
with_sum (const char *lines)
{
  char *text = malloc (MAX_TEXT);

  must (text != NULL);
  snprintf (text, MAX_TEXT, "%send %08x\n", lines,
            crc32c (0, lines, strlen (lines)));
  return text;
}

/* Reads LEN bytes of a text, which are copied. */
static int
parse (struct warmlist *l, const char *text, size_t len, char *why, size_t size)
{
  char *copy = malloc (len + 1);

  must (copy != NULL);
  memcpy (copy, text, len);
  return warmlist_parse (l, copy, len, why, size);
}

static void
check_refused (const char *text, size_t len, const char *word)
{
  struct warmlist l;
  char why[200] = "";

  must (parse (&l, text, len, why, sizeof why) == -1);
  must (strstr (why, word) != NULL);
  must (l.text == NULL);
}

static const char example[] = "version 1\n"
                              "export plain 1073741824 4096 =disk\n"
                              "export tls 52428800 4096 =a%20name\n"
                              "4 0 16+8 2 100+4\n"
                              "4 1 0\n"
                              "3 0 7+9\n";

static void
test_checksum (void **state)
{
  assert_int_equal (crc32c (0, "123456789", 9), 0xe3069283);
  assert_int_equal (crc32c (crc32c (0, "1234", 4), "56789", 5), 0xe3069283);
}

static void
check_run (struct warmlist_walk *w, unsigned heat, uint64_t first,
           uint64_t count)
{
  struct warmlist_run run;

  must (warmlist_walk_next (w, &run));
  must (run.heat == heat && run.first == first && run.count == count);
}

static void
test_example (void **state)
{
  char *text = with_sum (example);
  struct warmlist_walk w;
  struct warmlist_run run;
  struct warmlist l;
  char why[200];

  must (warmlist_parse (&l, text, strlen (text), why, sizeof why) == 0);
  assert_int_equal (l.nr_exports, 2);
  assert_string_equal (l.exports[0].name, "disk");
  assert_false (l.exports[0].tls);
  assert_int_equal (l.exports[0].size, 1073741824);
  assert_int_equal (l.exports[0].pages, 8 + 1 + 4 + 9);
  assert_string_equal (l.exports[1].name, "a name");
  assert_true (l.exports[1].tls);
  assert_int_equal (l.exports[1].pages, 1);

  warmlist_walk_begin (&l, &w, 0);
  check_run (&w, 4, 16, 8);
  check_run (&w, 4, 26, 1);
  check_run (&w, 4, 127, 4);
  check_run (&w, 3, 7, 9);
  assert_false (warmlist_walk_next (&w, &run));
  warmlist_walk_begin (&l, &w, 1);
  check_run (&w, 4, 0, 1);
  assert_false (warmlist_walk_next (&w, &run));
  warmlist_free (&l);
}

/* Random pages of three exports, written, read, taken over, and read again. */
#define PAGES   3000
#define EXPORTS 3

static uint64_t pages[EXPORTS][WARMLIST_HEATS][PAGES];
static size_t counts[EXPORTS][WARMLIST_HEATS];
static const char *const names[EXPORTS] = { "", "a/b%c \xff\n", "plain" };

static void
draw_pages (struct random *r)
{
  unsigned e, h;
  uint64_t page;
  size_t i;

  for (e = 0; e < EXPORTS; ++e)
    for (h = 0; h < WARMLIST_HEATS; ++h) {
      counts[e][h] = random_below (r, PAGES);
      page = random_below (r, 1000000);
      for (i = 0; i < counts[e][h]; ++i) {
        pages[e][h][i] = page;
        page += random_chance (r, 60) ? 1 : 1 + random_below (r, 5000);
      }
    }
}

static void
check_pages (const struct warmlist *l, unsigned export)
{
  struct warmlist_walk w;
  struct warmlist_run run = { .count = 0 };
  size_t i;
  int h;

  warmlist_walk_begin (l, &w, export);
  for (h = WARMLIST_HEATS - 1; h >= 0; --h)
    for (i = 0; i < counts[export][h]; ++i) {
      if (run.count == 0)
        must (warmlist_walk_next (&w, &run));
      must (run.heat == (unsigned) h && run.first == pages[export][h][i]);
      run.first++;
      run.count--;
    }
  must (run.count == 0 && !warmlist_walk_next (&w, &run));
}

static void
write_pages (struct warmlist_text *t)
{
  unsigned e;
  int h;

  warmlist_text_begin (t);
  for (e = 0; e < EXPORTS; ++e)
    must (warmlist_text_export (t, names[e], e == 1, 1 << 30, 4096) == e);
  for (h = WARMLIST_HEATS - 1; h >= 0; --h)
    for (e = 0; e < EXPORTS; ++e)
      warmlist_text_pages (t, h, e, pages[e][h], counts[e][h]);
}

static void
test_written_is_read (void **state)
{
  struct warmlist_text t, again;
  struct warmlist l, copy;
  struct random r;
  char why[200], *text;
  unsigned seed, e;

  for (seed = 1; seed <= 20; ++seed) {
    random_seed (&r, seed);
    draw_pages (&r);
    write_pages (&t);
    text = warmlist_text_end (&t);
    must (text != NULL);
    must (warmlist_parse (&l, text, strlen (text), why, sizeof why) == 0);
    must (l.nr_exports == EXPORTS);
    warmlist_text_begin (&again);
    for (e = 0; e < EXPORTS; ++e) {
      must (strcmp (l.exports[e].name, names[e]) == 0);
      check_pages (&l, e);
      warmlist_text_export (&again, names[e], l.exports[e].tls, 1 << 30, 4096);
    }
    for (e = 0; e < EXPORTS; ++e)
      warmlist_text_copy (&again, e, &l, e);
    text = warmlist_text_end (&again);
    must (warmlist_parse (&copy, text, strlen (text), why, sizeof why) == 0);
    for (e = 0; e < EXPORTS; ++e)
      check_pages (&copy, e);
    warmlist_free (&copy);
    warmlist_free (&l);
  }
}

/* At most four bytes for each page, of pages that lie apart. */
static void
test_few_bytes (void **state)
{
  struct warmlist_text t;
  size_t i;
  char *text;

  for (i = 0; i < PAGES; ++i)
    pages[0][0][i] = 40000000 + i * 77;
  warmlist_text_begin (&t);
  warmlist_text_export (&t, "disk", false, INT64_MAX, 4096);
  warmlist_text_pages (&t, 0, 0, pages[0][0], PAGES);
  text = warmlist_text_end (&t);
  assert_true (strlen (text) < 4 * PAGES);
  free (text);
}

static void
test_damage (void **state)
{
  char *text = with_sum (example);
  const size_t len = strlen (text);
  size_t i;

  for (i = 0; i < len; ++i) {
    check_refused (text, i, "damaged");
    text[i] ^= 1;
    check_refused (text, len, i < 10 ? "version" : "damaged");
    text[i] ^= 1;
  }
  free (text);
}

/* Each has the right checksum. */
static void
test_broken_rules (void **state)
{
  static const char *const bodies[] = {
    "export plain 1 4096 =x",      /* no end of line */
    "export plan 1 4096 =x\n",     /* neither TLS nor plain */
    "export plain 1 4095 =x\n",    /* no power of two */
    "export plain 1 0 =x\n",       /* the same */
    "export plain 1 2097152 =x\n", /* larger than any page */
    "export plain 9223372036854775808 4096 =x\n",
    "export plain 01 4096 =x\n",                      /* a leading zero */
    "export plain 1 4096 =%4\n",                      /* half a byte */
    "export plain 1 4096 =%00\n",                     /* the byte zero */
    "export plain 1 4096 =%g0\n",                     /* no digit */
    "export plain 1 4096 =a b\n",                     /* not written as %20 */
    "4 0 1\n",                                        /* no such export */
    "export plain 1 4096 =x\n4 1 1\n",                /* the same */
    "export plain 1 4096 =x\n5 0 1\n",                /* no such heat */
    "export plain 1 4096 =x\n4 0\n",                  /* no page */
    "export plain 1 4096 =x\n4 0 \n",                 /* the same */
    "export plain 1 4096 =x\n4 0 1+0\n",              /* a run of no page */
    "export plain 1 4096 =x\n4 0 1+\n",               /* the same */
    "export plain 1 4096 =x\n4 0 1  2\n",             /* two spaces */
    "export plain 1 4096 =x\n4 0 1",                  /* no end of line */
    "export plain 1 4096 =x\n3 0 1\n4 0 2\n",         /* colder ones first */
    "export plain 1 4096 =x\n4 0 2251799813685248\n", /* past any disk */
    "export plain 1 4096 =x\n4 0 1+2251799813685247\n",
    "export plain 1 4096 =x\n4 0 1 2251799813685246\n",
    "export plain 1 4096 =x\n4 0 18446744073709551617\n",
    "export plain 1 4096 =x\n4 0 1\nexport plain 1 4096 =y\n",
    "\n",
  };
  char lines[MAX_TEXT], *text;
  unsigned i;

  for (i = 0; i < ARRAY_LEN (bodies); ++i) {
    snprintf (lines, sizeof lines, "version 1\n%s", bodies[i]);
    text = with_sum (lines);
    check_refused (text, strlen (text), "damaged at byte");
    free (text);
  }
}

/* Random changes of bytes, with the right checksum: either refused, or a list
 * of which each run lies inside of any disk.
 */
static void
test_random_changes (void **state)
{
  struct warmlist_walk w;
  struct warmlist_run run;
  struct warmlist l;
  struct random r;
  char lines[sizeof example], why[200], *text;
  unsigned i, n, good = 0;

  random_seed (&r, 1);
  for (i = 0; i < 20000; ++i) {
    memcpy (lines, example, sizeof lines);
    for (n = 1 + random_below (&r, 3); n > 0; --n)
      lines[10 + random_below (&r, sizeof lines - 11)] =
          "0123456789 +=%\nexporttls"[random_below (&r, 24)];
    text = with_sum (lines);
    if (warmlist_parse (&l, text, strlen (text), why, sizeof why) == -1)
      continue;
    good++;
    for (n = 0; n < l.nr_exports; ++n) {
      warmlist_walk_begin (&l, &w, n);
      while (warmlist_walk_next (&w, &run))
        must (run.count > 0 && run.heat < WARMLIST_HEATS &&
              run.first + run.count <= INT64_MAX / l.exports[n].page_size);
    }
    warmlist_free (&l);
  }
  must (good > 100 && good < 19900);
}

static void
test_other_version (void **state)
{
  check_refused ("version 2\nanything\n", 19, "version 2, not 1");
  check_refused ("", 0, "no version");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_checksum),
    cmocka_unit_test (test_example),
    cmocka_unit_test (test_written_is_read),
    cmocka_unit_test (test_few_bytes),
    cmocka_unit_test (test_damage),
    cmocka_unit_test (test_broken_rules),
    cmocka_unit_test (test_random_changes),
    cmocka_unit_test (test_other_version),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
