/* SPDX-License-Identifier: BSD-3-Clause */

/* The answers of servers.  A line of an answer is a word and KEY=VALUE,
 * separated by spaces, where %XX stands for what is no plain character; as JSON
 * a key has "_" for "-", and numbers, yes and no are numbers and booleans.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/name.h"
#include "base/nearest.h"
#include "base/util.h"
#include "wtcachectl-say.h"
#include "wtcachectl-show.h"

/* ---- words ---- */

/* In place; the server encodes rightly. */
static void
decode (char *text)
{
  char *to = text;
  unsigned byte;

  for (; *text; ++text)
    if (*text == '%' && sscanf (text + 1, "%2x", &byte) == 1) {
      *to++ = byte;
      text += 2;
    }
    else
      *to++ = *text;
  *to = '\0';
}

/* ---- what status tells ---- */

/* The words of one line. */
#define MAX_WORDS 64

struct line {
  unsigned nr;
  struct {
    const char *key;
    char *value;
  } words[MAX_WORDS];
};

static void
parse_line (struct line *line, char *text)
{
  char *word, *equals;

  line->nr = 0;
  while ((word = strsep (&text, " ")) != NULL && line->nr < MAX_WORDS) {
    equals = strchr (word, '=');
    if (equals == NULL)
      continue;
    *equals = '\0';
    decode (equals + 1);
    line->words[line->nr].key = word;
    line->words[line->nr++].value = equals + 1;
  }
}

static const char *
text_of (const struct line *line, const char *key)
{
  unsigned i;

  for (i = 0; i < line->nr; ++i)
    if (strcmp (line->words[i].key, key) == 0)
      return line->words[i].value;
  return "";
}

static uint64_t
number_of (const struct line *line, const char *key)
{
  return strtoull (text_of (line, key), NULL, 10);
}

static bool
is_on_backend (const struct line *line)
{
  return number_of (line, "held") == 0 && number_of (line, "zeroed") == 0;
}

static void
print_bytes (uint64_t n)
{
  static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
  double size = n / 1024.0;
  unsigned i = 0;

  while (size >= 1024 && i + 1 < ARRAY_LEN (units)) {
    size /= 1024;
    i++;
  }
  if (n < 1024)
    printf ("%" PRIu64 " bytes", n);
  else
    printf (size < 10 ? "%.1f %s" : "%.0f %s", size, units[i]);
}

static void
print_time (uint64_t s)
{
  if (s < 120)
    printf ("%" PRIu64 " s", s);
  else if (s < 7200)
    printf ("%" PRIu64 " min", s / 60);
  else
    printf ("%" PRIu64 " h", s / 3600);
}

/* "4 KiB WHAT", after a comma if there was something before. */
static void
print_amount (const struct line *line, const char *key, const char *what,
              bool *any)
{
  const uint64_t n = number_of (line, key);

  if (n == 0)
    return;
  if (*any)
    printf (", ");
  *any = true;
  print_bytes (n);
  printf (" %s", what);
  if (strcmp (key, "dirty") == 0 && number_of (line, "dirty-ns") > 0) {
    printf (", oldest ");
    print_time (number_of (line, "dirty-ns") / 1000000000);
  }
}

/* How far the warm list has been fetched. */
static void
print_warm (const struct line *line)
{
  static const struct {
    const char *state, *text;
  } states[] = {
    { "waiting", "wait for a client" },
    { "loading", "are being fetched" },
    { "done", "were fetched" },
    { "full", "were fetched, until the cache was full" },
    { "failed", "were fetched, until the backend failed" },
  };
  const char *state = text_of (line, "warm");
  unsigned i;

  for (i = 0; i < ARRAY_LEN (states); ++i)
    if (strcmp (states[i].state, state) == 0) {
      printf ("  warm list: ");
      print_bytes (number_of (line, "warm-fetched"));
      printf (" of ");
      print_bytes (number_of (line, "warm-listed"));
      printf (" %s\n", states[i].text);
    }
}

static void
print_export (const struct line *line)
{
  const bool refused = number_of (line, "errno") != 0;
  const bool waits = number_of (line, "writers") == 0;
  bool any = false;

  printf ("export %s%s%s: ", name_quoted (text_of (line, "name")).text,
          strcmp (text_of (line, "tls"), "yes") == 0 ? " (TLS)" : "",
          strcmp (text_of (line, "shared"), "yes") == 0 ? ""
                                                        : " (one connection)");
  if (is_on_backend (line)) {
    printf ("all on the backend\n");
    print_warm (line);
    return;
  }
  print_amount (line, "dirty", "dirty", &any);
  print_amount (line, "writeback", "on the way", &any);
  print_amount (line, "unstable", "written, not yet flushed", &any);
  print_amount (line, "zeroed", "zeroed, not yet flushed", &any);
  printf ("\n");
  if (refused) {
    printf ("  the backend refuses writes: %s, for ",
            strerror (number_of (line, "errno")));
    print_time (time (NULL) - number_of (line, "refused-since"));
    printf ("\n");
  }
  if (waits)
    printf ("  it waits for a client that may write\n");
  /* The ranges that a user may want to discard; else they come and go by the
   * hundred.
   */
  if ((refused || waits) && text_of (line, "ranges")[0])
    printf ("  at offset+length: %s\n", text_of (line, "ranges"));
  print_warm (line);
}

static void
print_server (const struct line *line, bool all)
{
  printf ("%s\n", all ? "Everything is on the backend."
                      : "Not everything is on the backend.");
  printf ("server %s, mode %s, ", text_of (line, "pid"),
          text_of (line, "mode"));
  print_bytes (number_of (line, "used"));
  printf (" of ");
  print_bytes (number_of (line, "size"));
  printf (" in use%s%s\n",
          strcmp (text_of (line, "parallel"), "yes") == 0
              ? ""
              : ", no threads of its own at the plugin",
          strcmp (text_of (line, "stopping"), "yes") == 0 ? ", stopping" : "");
}

/* "0+512,4096+1024,..." as an array of objects. */
static json_t *
ranges_json (const char *text, bool *all)
{
  json_t *array = checked (json_array ());
  unsigned long long offset, len;
  int n;

  *all = true;
  while (sscanf (text, "%llu+%llu%n", &offset, &len, &n) == 2) {
    json_array_append_new (
        array, checked (json_pack ("{s:I, s:I}", "offset", (json_int_t) offset,
                                   "length", (json_int_t) len)));
    text += n;
    text += *text == ',';
  }
  if (*text)
    *all = false;
  return array;
}

static void
add_word (json_t *object, const char *key, const char *value)
{
  char *name = checked (strdup (key)), *p;
  const bool number = value[0] && !value[strspn (value, "0123456789")] &&
                      strcmp (key, "name") != 0;
  json_t *j;

  for (p = name; *p; ++p)
    *p = *p == '-' ? '_' : *p;
  if (strcmp (key, "name") == 0 || strcmp (key, "version") == 0)
    /* A name is whatever bytes the client has sent. */
    j = (j = json_string (value)) ? j : json_string ("?");
  else if (number)
    j = json_integer (strtoll (value, NULL, 10));
  else if (strcmp (value, "yes") == 0 || strcmp (value, "no") == 0)
    j = json_boolean (value[0] == 'y');
  else
    j = json_string (value);
  json_object_set_new (object, name, checked (j));
  free (name);
}

static json_t *
line_json (const struct line *line)
{
  json_t *object = checked (json_object ());
  bool all;
  unsigned i;

  for (i = 0; i < line->nr; ++i)
    if (strcmp (line->words[i].key, "ranges") != 0)
      add_word (object, line->words[i].key, line->words[i].value);
    else {
      json_object_set_new (object, "ranges",
                           ranges_json (line->words[i].value, &all));
      json_object_set_new (object, "ranges_complete", json_boolean (all));
    }
  return object;
}

/* ---- status ---- */

/* The lines of a status, the server's first. */
struct status {
  struct line *lines;
  size_t nr;
  bool all; /* everything is on the backend */
};

static struct status
parse_status (const struct answer *a)
{
  struct status s = { .nr = a->lines.nr, .all = true };
  size_t i;

  if (s.nr == 0)
    die (EXIT_FAILED, "the server's answer has nothing in it");
  s.lines = checked (calloc (s.nr, sizeof *s.lines));
  for (i = 0; i < s.nr; ++i)
    parse_line (&s.lines[i], a->lines.at[i]);
  for (i = 1; i < s.nr; ++i)
    s.all = s.all && is_on_backend (&s.lines[i]);
  return s;
}

void
print_object (json_t *object)
{
  json_dumpf (checked (object), stdout, JSON_INDENT (2));
  printf ("\n");
  json_decref (object);
}

static json_t *
status_json (const struct status *s)
{
  json_t *exports = checked (json_array ()), *export;
  size_t i;

  for (i = 1; i < s->nr; ++i) {
    export = line_json (&s->lines[i]);
    json_object_set_new (export, "all_on_backend",
                         json_boolean (is_on_backend (&s->lines[i])));
    json_array_append_new (exports, export);
  }
  return json_pack ("{s:b, s:o, s:o}", "all_on_backend", s->all, "server",
                    line_json (&s->lines[0]), "exports", exports);
}

int
show_status (const struct answer *a, bool json)
{
  struct status s = parse_status (a);
  size_t i;

  if (json)
    print_object (status_json (&s));
  else {
    print_server (&s.lines[0], s.all);
    for (i = 1; i < s.nr; ++i)
      print_export (&s.lines[i]);
  }
  free (s.lines);
  return s.all ? EXIT_SUCCESS : EXIT_NOT_ALL;
}

/* ---- list ---- */

static json_t *
server_json (const char *name, const struct answer *a)
{
  json_t *object;
  struct status s;

  if (a->outcome != ANSWER_OK)
    object = json_pack ("{s:b, s:s}", "answers", 0, "error", a->text);
  else {
    s = parse_status (a);
    object = checked (status_json (&s));
    json_object_set_new (object, "answers", json_true ());
    free (s.lines);
  }
  json_object_set_new (checked (object), "name", checked (json_string (name)));
  return object;
}

static void
print_server_line (const char *name, const struct answer *a)
{
  struct status s;

  if (a->outcome != ANSWER_OK) {
    printf ("%-20s %s\n", name, a->text);
    return;
  }
  s = parse_status (a);
  printf ("%-20s %s, %zu export%s, ", name,
          s.all ? "all on the backend" : "not all on the backend", s.nr - 1,
          s.nr == 2 ? "" : "s");
  print_bytes (number_of (&s.lines[0], "used"));
  printf (" of ");
  print_bytes (number_of (&s.lines[0], "size"));
  printf (" in use, process %s\n", text_of (&s.lines[0], "pid"));
  free (s.lines);
}

int
show_servers (const struct texts *names, const struct answer *answers,
              bool json)
{
  json_t *array = json ? checked (json_array ()) : NULL;
  size_t i;

  for (i = 0; i < names->nr; ++i)
    if (json)
      json_array_append_new (array, server_json (names->at[i], &answers[i]));
    else
      print_server_line (names->at[i], &answers[i]);
  if (json)
    print_object (json_pack ("{s:o}", "servers", array));
  else if (names->nr == 0)
    printf ("There is no server in %s.\n", usual_folder ());
  return EXIT_SUCCESS;
}

/* ---- get ---- */

static const char *
origin_words (const char *from)
{
  if (strcmp (from, "start") == 0)
    return "given at the start";
  if (strcmp (from, "set") == 0)
    return "changed by wtcachectl";
  return "the default";
}

static json_t *
option_json (const struct line *line)
{
  return checked (json_pack (
      "{s:s, s:s, s:s, s:b}", "name", text_of (line, "name"), "value",
      text_of (line, "value"), "from", text_of (line, "from"), "can_change",
      strcmp (text_of (line, "changes"), "yes") == 0));
}

static void __attribute__ ((noreturn))
die_without_option (const char *name, const struct line *lines, size_t nr)
{
  const char **names = checked (calloc (nr + 1, sizeof *names)), *meant;
  size_t i;

  for (i = 0; i < nr; ++i)
    names[i] = text_of (&lines[i], "name");
  meant = nearest_name (name, names, nr);
  if (meant)
    die (EXIT_USAGE, "get: there is no option %s: is %s meant?", name, meant);
  die (EXIT_USAGE, "get: there is no option %s", name);
}

static const char *
option_value (const struct line *line)
{
  const char *value = text_of (line, "value");

  return value[0] ? value : "none";
}

int
show_options (const struct answer *a, const char *name, bool json)
{
  const size_t nr = a->lines.nr;
  struct line *lines = checked (calloc (nr + 1, sizeof *lines));
  json_t *array = checked (json_array ());
  size_t i, shown = 0;
  int width = 0;

  for (i = 0; i < nr; ++i) {
    parse_line (&lines[i], a->lines.at[i]);
    width = (int) max_u64 (width, strlen (option_value (&lines[i])));
  }
  for (i = 0; i < nr; ++i) {
    if (name && strcmp (name, text_of (&lines[i], "name")) != 0)
      continue;
    shown++;
    if (json)
      json_array_append_new (array, option_json (&lines[i]));
    else
      printf ("%-12s %-*s  %s\n", text_of (&lines[i], "name"), name ? 0 : width,
              option_value (&lines[i]),
              origin_words (text_of (&lines[i], "from")));
  }
  if (name && shown == 0)
    die_without_option (name, lines, nr);
  if (json)
    print_object (json_pack ("{s:O}", "options", array));
  json_decref (array);
  free (lines);
  return EXIT_SUCCESS;
}

/* ---- other commands ---- */

static json_t *
notes_json (const struct answer *a)
{
  json_t *array = checked (json_array ());
  size_t i;

  for (i = 0; i < a->notes.nr; ++i)
    json_array_append_new (array, checked (json_string (a->notes.at[i])));
  return array;
}

static json_t *
end_json (const struct answer *a, const char *command)
{
  return checked (json_pack ("{s:s, s:b, s:o}", "command", command, "ok",
                             a->outcome == ANSWER_OK, "notes", notes_json (a)));
}

int
show_end (const struct answer *a, const char *command, bool json)
{
  json_t *object = json ? end_json (a, command) : NULL;
  const char *key = NULL, *done = NULL;
  unsigned long long n;

  if (sscanf (a->text, "bytes=%llu", &n) == 1) {
    key = "bytes";
    done = strcmp (command, "drop") == 0 ? "bytes dropped" : "bytes given up";
  }
  else if (sscanf (a->text, "requests=%llu", &n) == 1) {
    key = "requests";
    done = "requests recorded";
  }
  if (key && json)
    json_object_set_new (object, key, checked (json_integer (n)));
  else if (key)
    printf ("%llu %s\n", n, done);
  if (json)
    print_object (object);
  return EXIT_SUCCESS;
}

void
show_failure (const struct answer *a, const char *command)
{
  json_t *object = end_json (a, command), *error = json_string (a->text);

  /* An export's name may be no UTF-8. */
  json_object_set_new (object, "error",
                       error ? error : checked (json_string ("?")));
  print_object (object);
}
