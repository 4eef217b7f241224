/* SPDX-License-Identifier: BSD-3-Clause */

/* The text format of Prometheus, version 0.0.4: one line a sample,
 *
 *   name{label="value",...} value [timestamp]
 *
 * Comments, HELP and TYPE lines among them, are passed over.  The text is cut
 * up in place, so that no sample needs memory of its own.  It does not know the
 * meaning of the metrics.
 */

#include <config.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "wtcache-top-parse.h"

const char *
sample_label (const struct sample *s, const char *name)
{
  size_t i;

  for (i = 0; i < s->nr_labels; ++i)
    if (strcmp (s->labels[i].name, name) == 0)
      return s->labels[i].value;
  return NULL;
}

static void
skip_space (char **at)
{
  *at += strspn (*at, " \t");
}

static bool
begins_name (char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == ':';
}

static bool
in_name (char c)
{
  return begins_name (c) || (c >= '0' && c <= '9');
}

/* Moves past a name, which must be ended with a zero byte once what follows it
 * has been looked at.  NULL if there is none.
 */
static char *
take_name (char **at)
{
  char *name = *at;

  if (!begins_name (*name))
    return NULL;
  while (in_name (**at))
    ++*at;
  return name;
}

/* Takes a value in quotes, and puts what is escaped in its place. */
static char *
take_value (char **at)
{
  char *value, *to;

  if (**at != '"')
    return NULL;
  value = to = ++*at;
  for (; **at != '"'; ++*at) {
    if (**at == '\0')
      return NULL;
    if (**at == '\\') {
      ++*at;
      if (**at == 'n')
        *to++ = '\n';
      else if (**at == '\\' || **at == '"')
        *to++ = **at;
      else
        return NULL;
    }
    else
      *to++ = **at;
  }
  ++*at;
  *to = '\0';
  return value;
}

/* Parses the text between the braces, the first of which has been passed. */
static const char *
take_labels (struct sample *s, char **at)
{
  struct label *label;
  char *name, *end;

  for (;;) {
    skip_space (at);
    if (**at == '}')
      break;
    if (s->nr_labels == MAX_LABELS)
      return "too many labels";
    label = &s->labels[s->nr_labels++];
    name = take_name (at);
    if (name == NULL)
      return "the name of a label is expected";
    end = *at;
    skip_space (at);
    if (**at != '=')
      return "'=' is expected after the name of a label";
    ++*at;
    *end = '\0';
    skip_space (at);
    label->name = name;
    label->value = take_value (at);
    if (label->value == NULL)
      return "the value of a label is not quoted or not ended";
    skip_space (at);
    if (**at == ',')
      ++*at;
    else if (**at != '}')
      return "',' or '}' is expected after a label";
  }
  ++*at;
  return NULL;
}

/* strtod takes more than the format has, such as hexadecimal. */
static const char *
take_number (double *number, char **at)
{
  const size_t length = strcspn (*at, " \t");
  char *end;

  if (length == 0 || strspn (*at, "+-.0123456789eEINFAinfatyTY") < length)
    return "a number is expected";
  *number = strtod (*at, &end);
  if (end != *at + length)
    return "a number is expected";
  *at = end;
  return NULL;
}

/* Reads one line, from its name on. */
static const char *
parse_line (struct sample *s, char *at)
{
  const char *what;
  char *end;
  double timestamp;

  s->nr_labels = 0;
  s->name = take_name (&at);
  if (s->name == NULL)
    return "the name of a metric is expected";
  end = at;
  skip_space (&at);
  if (*at == '{') {
    ++at;
    what = take_labels (s, &at);
    if (what)
      return what;
  }
  else if (at == end)
    return "a number is expected";
  skip_space (&at);
  what = take_number (&s->value, &at);
  if (what)
    return what;
  skip_space (&at);
  if (*at != '\0') {
    what = take_number (&timestamp, &at);
    if (what)
      return what;
    skip_space (&at);
  }
  *end = '\0';
  return *at == '\0' ? NULL : "the line does not end after its number";
}

int
parse_exposition (char *text, struct parse_error *error,
                  int (*fn) (const struct sample *s, void *opaque),
                  void *opaque)
{
  struct sample sample;
  char *line, *next;
  int r;

  error->line = 0;
  for (line = text; line; line = next) {
    error->line++;
    next = strchr (line, '\n');
    if (next)
      *next++ = '\0';
    skip_space (&line);
    if (*line == '\0' || *line == '#')
      continue;
    error->what = parse_line (&sample, line);
    if (error->what)
      return -1;
    r = fn (&sample, opaque);
    if (r != 0)
      return r;
  }
  return 0;
}
