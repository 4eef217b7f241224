/* SPDX-License-Identifier: BSD-3-Clause */

/* The table of the parameters: what holds for each row. */

#include <config.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "base/value.h"
#include "export/parameters.h"
#include "unit.h"

static struct settings s;
static struct why why;

static bool
set (const char *name, const char *value)
{
  return parameters_set (&s, parameters_find (name), value, &why);
}

static const char *
text_of (const char *name)
{
  static char text[200];

  parameters_format (&s, parameters_find (name), text, sizeof text);
  return text;
}

static void
test_defaults (void **state)
{
  parameters_reset (&s);
  assert_string_equal (text_of ("size"), "256M");
  assert_string_equal (text_of ("mode"), "writeback");
  assert_string_equal (text_of ("dirty-max"), "auto");
  assert_string_equal (text_of ("dirty-age"), "30s");
  assert_string_equal (text_of ("readahead"), "2M");
  assert_string_equal (text_of ("keep"), "yes");
  assert_string_equal (text_of ("stats"), "");
  assert_true (parameters_agree (&s, &why));
}

/* The value that is printed means the same when it is given. */
static void
test_defaults_can_be_given (void **state)
{
  char text[200];
  unsigned i;

  parameters_reset (&s);
  for (i = 0; i < NR_PARAMETERS; ++i) {
    assert_int_equal (parameters_find (parameters[i].name), i);
    if (parameters[i].initially == NULL)
      continue;
    parameters_format (&s, i, text, sizeof text);
    assert_true (parameters_set (&s, i, text, &why));
    assert_true (parameters_set (&s, i, parameters[i].initially, &why));
  }
}

static void
put_number (const struct parameter *p, uint64_t n, char *text, size_t size)
{
  snprintf (text, size, "%llu", (unsigned long long) n);
  if (p->kind == VALUE_NAME) {
    memset (text, 'x', n);
    text[n] = '\0';
  }
}

/* Each limit is valid, and the next number is not. */
static void
test_limits (void **state)
{
  const struct parameter *p;
  char text[200];
  unsigned i, limits = 0;

  parameters_reset (&s);
  for (i = 0; i < NR_PARAMETERS; ++i) {
    p = &parameters[i];
    if (p->max == 0)
      continue;
    limits++;
    put_number (p, p->min, text, sizeof text);
    assert_true (parameters_set (&s, i, text, &why));
    put_number (p, p->max, text, sizeof text);
    assert_true (parameters_set (&s, i, text, &why));
    put_number (p, p->min - 1, text, sizeof text);
    assert_false (parameters_set (&s, i, text, &why));
    put_number (p, p->max + 1, text, sizeof text);
    assert_false (parameters_set (&s, i, text, &why));
    if (p->power_of_2) {
      put_number (p, p->max - p->min, text, sizeof text);
      assert_false (parameters_set (&s, i, text, &why));
    }
  }
  assert_true (limits >= 7);
  parameters_free (&s);
}

static void
test_portions (void **state)
{
  parameters_reset (&s);
  assert_true (set ("dirty-max", "20%"));
  assert_string_equal (text_of ("dirty-max"), "20%");
  assert_int_equal (settings_bytes (s.dirty_max, 1000), 200);
  assert_int_equal (settings_bytes (s.dirty_max, 99), 19);
  assert_true (set ("dirty-max", "50%"));
  assert_true (parameters_agree (&s, &why));
  assert_false (set ("dirty-max", "0%"));
  assert_false (set ("dirty-max", "51%"));
  assert_string_equal (text_of ("dirty-max"), "50%");
  assert_false (set ("size", "20%"));
  assert_true (set ("dirty-max", "129M"));
  assert_false (parameters_agree (&s, &why));
  assert_non_null (strstr (why.s, "that is 128M"));
}

/* A value that only the filter chooses is printed, and cannot be given. */
static void
test_hidden_choice (void **state)
{
  parameters_reset (&s);
  s.mode = MODE_PROMPT;
  assert_string_equal (text_of ("mode"), "through");
  assert_false (set ("mode", "through"));
  assert_string_equal (why.s, "must be writeback, writethrough or writearound");
}

static void
test_messages (void **state)
{
  parameters_reset (&s);
  assert_false (set ("depth", "65"));
  assert_string_equal (why.s, "must be auto or a number from 1 to 64");
  assert_false (set ("fill", "3K"));
  assert_string_equal (why.s, "must be auto or a power of two from 512 to 1M");
  assert_false (set ("size", "1GiB"));
  assert_string_equal (why.s, "must be a size from 1M to 64T: write 1G");
  assert_false (set ("drain", "1d"));
  assert_string_equal (
      why.s, "must be a time above 0 and at most 100 years, such as 60, 500ms "
             "or 2m, with the unit us, ms, s, m or h (s if there is none)");
  assert_false (set ("keep", "maybe"));
  assert_string_equal (why.s, "must be yes or no");
}

static void
test_texts (void **state)
{
  char *here = getcwd (NULL, 0), wanted[4200];

  parameters_reset (&s);
  assert_true (set ("stats", "/a/b"));
  assert_string_equal (s.stats, "/a/b");
  assert_true (set ("stats", "c"));
  snprintf (wanted, sizeof wanted, "%s/c", here);
  assert_string_equal (s.stats, wanted);
  assert_false (set ("stats", ""));
  assert_string_equal (s.stats, wanted);
  assert_true (set ("name", "a.b-c_1"));
  assert_false (set ("name", "a b"));
  assert_string_equal (s.name, "a.b-c_1");
  parameters_free (&s);
  assert_null (s.stats);
  assert_null (s.name);
  free (here);
}

static void
test_names (void **state)
{
  assert_int_equal (parameters_find ("wtcache-depth"), PARAMETER_DEPTH);
  assert_int_equal (parameters_find ("wtcache-"), NR_PARAMETERS);
  assert_int_equal (parameters_find (""), NR_PARAMETERS);
  assert_ptr_equal (parameters_meant ("wtcache-dirtymax"),
                    &parameters[PARAMETER_DIRTY_MAX]);
  assert_ptr_equal (parameters_meant ("sizs"), &parameters[PARAMETER_SIZE]);
  assert_null (parameters_meant ("unrelated"));
}

/* It is whole, and no line is longer than a terminal's. */
static void
test_help (void **state)
{
  char text[400], forms[PARAMETERS_FORMS_BYTES], *line, *rest, *help;
  char whole[PARAMETERS_HELP_BYTES];
  unsigned i, found = 0;

  parameters_help (whole, sizeof whole, PARAMETERS_PREFIX, false);
  assert_true (strlen (whole) < sizeof whole - 1);
  rest = help = strdup (whole);
  while ((line = strsep (&rest, "\n")) != NULL) {
    assert_true (strlen (line) < 80);
    assert_true (line[0] && line[strlen (line) - 1] != ' ');
    if (found < NR_PARAMETERS && line[0] != ' ') {
      parameters_forms (found, forms, sizeof forms);
      assert_true (strlen (forms) < sizeof forms - 1);
      snprintf (text, sizeof text, "wtcache-%s=%s", parameters[found].name,
                forms);
      assert_memory_equal (line, text, strlen (text));
      found++;
    }
  }
  assert_int_equal (found, NR_PARAMETERS);
  free (help);
  for (i = 0; i < NR_PARAMETERS; ++i) {
    parameters_explain (i, text, sizeof text);
    assert_true (text[strlen (text) - 1] == ')');
  }
  parameters_help (whole, sizeof whole, "  ", true);
  assert_memory_equal (whole, "  size=SIZE  ", 13);
  assert_non_null (strstr (whole, "\n  depth=N|auto  "));
  assert_null (strstr (whole, "page-size="));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_defaults),
    cmocka_unit_test (test_defaults_can_be_given),
    cmocka_unit_test (test_limits),
    cmocka_unit_test (test_portions),
    cmocka_unit_test (test_hidden_choice),
    cmocka_unit_test (test_messages),
    cmocka_unit_test (test_texts),
    cmocka_unit_test (test_names),
    cmocka_unit_test (test_help),
  };

  return cmocka_run_group_tests_name ("parameters", tests, NULL, NULL);
}
