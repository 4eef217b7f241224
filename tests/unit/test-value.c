/* SPDX-License-Identifier: BSD-3-Clause */

/* Values as people write them. */

#include <config.h>

#include <string.h>

#include "base/util.h"
#include "base/value.h"
#include "unit.h"

#define UNTOUCHED 12345

static void
expect_size (const char *text, uint64_t wanted)
{
  uint64_t n = UNTOUCHED;

  assert_true (value_parse_size (text, &n));
  assert_int_equal (n, wanted);
}

static void
test_sizes (void **state)
{
  static const char *const wrong[] = {
    "",     "x",
    "-1",   "+1",
    "1Q",   "1M2",
    "1.5M", "M",
    " 1",   "1 ",
    "0x10", "1MiB",
    "8E",   "9223372036854775808",
    "1\n",  "8192P",
    "1 M",  "99999999999999999999",
  };
  uint64_t n = UNTOUCHED;
  size_t i;

  expect_size ("0", 0);
  expect_size ("512", 512);
  expect_size ("7b", 7);
  expect_size ("4k", 4 * KiB);
  expect_size ("4K", 4 * KiB);
  expect_size ("3M", 3 * MiB);
  expect_size ("2g", 2 * GiB);
  expect_size ("1T", 1024 * GiB);
  expect_size ("7E", UINT64_C (7) << 60);
  expect_size ("9223372036854775807", INT64_MAX);
  for (i = 0; i < ARRAY_LEN (wrong); ++i)
    assert_false (value_parse_size (wrong[i], &n));
  assert_int_equal (n, UNTOUCHED);
}

static void
test_printed_sizes (void **state)
{
  assert_string_equal (value_size (0).s, "0");
  assert_string_equal (value_size (1000).s, "1000");
  assert_string_equal (value_size (1024).s, "1K");
  assert_string_equal (value_size (1536).s, "1536");
  assert_string_equal (value_size (256 * MiB).s, "256M");
  assert_string_equal (value_size (UINT64_C (7) << 60).s, "7E");
  assert_string_equal (value_size (UINT64_MAX).s, "18446744073709551615");
}

static void
test_meant_sizes (void **state)
{
  struct value_text size;

  assert_true (value_meant_size ("1GiB", &size));
  assert_string_equal (size.s, "1G");
  assert_true (value_meant_size ("512kb", &size));
  assert_string_equal (size.s, "512K");
  assert_false (value_meant_size ("1G", &size));
  assert_false (value_meant_size ("GiB", &size));
  assert_false (value_meant_size ("1GiBs", &size));
  assert_false (value_meant_size ("1B", &size));
  assert_false (value_meant_size ("123456789012345678901234567890GiB", &size));
}

static void
test_numbers_and_percents (void **state)
{
  uint64_t n = UNTOUCHED;

  assert_false (value_parse_number ("", &n));
  assert_false (value_parse_number ("1K", &n));
  assert_false (value_parse_number ("-1", &n));
  assert_false (value_parse_percent ("20", &n));
  assert_false (value_parse_percent ("%", &n));
  assert_false (value_parse_percent ("20%%", &n));
  assert_int_equal (n, UNTOUCHED);
  assert_true (value_parse_number ("64", &n));
  assert_int_equal (n, 64);
  assert_true (value_parse_percent ("20%", &n));
  assert_int_equal (n, 20);
}

static void
test_times (void **state)
{
  static const struct {
    const char *text;
    uint64_t ns;
    const char *printed;
  } right[] = {
    { "30", UINT64_C (30000000000), "30s" },
    { "30s", UINT64_C (30000000000), "30s" },
    { "90s", UINT64_C (90000000000), "90s" },
    { "120", UINT64_C (120000000000), "2m" },
    { "1h", UINT64_C (3600000000000), "1h" },
    { "500ms", UINT64_C (500000000), "500ms" },
    { "1500ms", UINT64_C (1500000000), "1500ms" },
    { "7us", 7000, "7us" },
    { "876000h", UINT64_C (876000) * 3600 * 1000000000, "876000h" },
  };
  static const char *const wrong[] = {
    "", "x", "5d", "ms", "1.5", "-1", "30x", "876001h", "18446744073709551615"
  };
  uint64_t ns;
  size_t i;

  for (i = 0; i < ARRAY_LEN (right); ++i) {
    assert_true (value_parse_time (right[i].text, &ns));
    assert_int_equal (ns, right[i].ns);
    assert_string_equal (value_time (ns).s, right[i].printed);
  }
  ns = UNTOUCHED;
  for (i = 0; i < ARRAY_LEN (wrong); ++i)
    assert_false (value_parse_time (wrong[i], &ns));
  assert_int_equal (ns, UNTOUCHED);
}

static void
test_booleans (void **state)
{
  static const char *const words[] = { "no",  "false", "0", "off",
                                       "yes", "true",  "1", "on" };
  bool yes;
  size_t i;

  for (i = 0; i < ARRAY_LEN (words); ++i) {
    yes = i < 4;
    assert_true (value_parse_bool (words[i], &yes));
    assert_int_equal (yes, i >= 4);
  }
  assert_true (value_parse_bool ("YES", &yes) && yes);
  assert_false (value_parse_bool ("", &yes));
  assert_false (value_parse_bool ("maybe", &yes));
  assert_false (value_parse_bool ("2", &yes));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_sizes),
    cmocka_unit_test (test_printed_sizes),
    cmocka_unit_test (test_meant_sizes),
    cmocka_unit_test (test_numbers_and_percents),
    cmocka_unit_test (test_times),
    cmocka_unit_test (test_booleans),
  };

  return cmocka_run_group_tests_name ("value", tests, NULL, NULL);
}
