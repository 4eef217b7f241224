/* SPDX-License-Identifier: BSD-3-Clause */

/* Names as they are printed. */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "base/name.h"
#include "unit.h"

static void
expect_same (const char *name)
{
  char wanted[NAME_QUOTED_BYTES];

  snprintf (wanted, sizeof wanted, "\"%s\"", name);
  assert_string_equal (name_quoted (name).text, wanted);
}

/* The name is printed as KEPT and a hash. */
static void
expect_cut (const char *name, const char *kept)
{
  const struct name_quoted q = name_quoted (name);
  const size_t len = strlen (kept);

  assert_int_equal (strlen (q.text), len + 1 + 17 + 1);
  assert_memory_equal (q.text + 1, kept, len);
  assert_int_equal (q.text[len + 1], '#');
  assert_int_equal (strspn (q.text + len + 2, "0123456789abcdef"), 16);
  assert_int_equal (q.text[len + 18], '"');
}

static void
test_good_names_stay (void **state)
{
  char name[65];

  expect_same ("");
  expect_same ("a b");
  expect_same ("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf");
  memset (name, 'x', 64);
  name[64] = '\0';
  expect_same (name);
}

static void
test_quotes (void **state)
{
  assert_string_equal (name_quoted ("q\"u\\").text, "\"q\\\"u\\\\\"");
}

static void
test_controls_are_cut_off (void **state)
{
  expect_cut ("\x1b[2J", "");
  expect_cut ("line\nend", "line");
  expect_cut ("a\x7f", "a");
  expect_cut ("a\xc2\x85", "a"); /* C1: next line */
  expect_cut ("a\x01", "a");
}

static void
test_bytes_that_are_not_utf_8_are_cut_off (void **state)
{
  expect_cut ("a\xff", "a");
  expect_cut ("a\x80", "a");
  expect_cut ("a\xc3", "a"); /* the end comes too soon */
  expect_cut ("a\xe2\x82", "a");
  expect_cut ("a\xf0\x9f\x98", "a");
  expect_cut ("a\xc0\xaf", "a"); /* too long a form */
  expect_cut ("a\xe0\x80\xaf", "a");
  expect_cut ("a\xf0\x80\x80\xaf", "a");
  expect_cut ("a\xed\xa0\x80", "a");     /* a surrogate */
  expect_cut ("a\xf4\x90\x80\x80", "a"); /* above the last */
  expect_cut ("a\xf8\x88\x80\x80\x80", "a");
}

static void
test_long_names_are_cut_at_a_character (void **state)
{
  char name[5000], kept[65] = "";
  unsigned i;

  memset (name, 'x', sizeof name);
  name[65] = '\0';
  memset (kept, 'x', 47);
  expect_cut (name, kept);
  name[65] = 'x';
  name[4096] = '\0';
  expect_cut (name, kept);
  for (i = 0; i < 100; ++i) /* 23 of 2 bytes end at 47 at the latest */
    memcpy (name + 2 * i, "\xc3\xa9", 3);
  kept[0] = '\0';
  for (i = 0; i < 23; ++i)
    strcat (kept, "\xc3\xa9");
  expect_cut (name, kept);
  memset (name, '"', 64);
  name[64] = '\0';
  assert_int_equal (strlen (name_quoted (name).text), NAME_QUOTED_BYTES - 1);
}

static void
test_names_that_begin_alike_differ (void **state)
{
  assert_string_not_equal (name_quoted ("a\n1").text,
                           name_quoted ("a\n2").text);
  assert_string_not_equal (name_quoted ("a\n").text, name_quoted ("a").text);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_good_names_stay),
    cmocka_unit_test (test_quotes),
    cmocka_unit_test (test_controls_are_cut_off),
    cmocka_unit_test (test_bytes_that_are_not_utf_8_are_cut_off),
    cmocka_unit_test (test_long_names_are_cut_at_a_character),
    cmocka_unit_test (test_names_that_begin_alike_differ),
  };

  return cmocka_run_group_tests_name ("name", tests, NULL, NULL);
}
