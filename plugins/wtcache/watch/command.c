/* SPDX-License-Identifier: BSD-3-Clause */

/* One command of the control socket: its words, and its answer.
 *
 * A command is a word and arguments KEY=VALUE, separated by spaces; in a value,
 * each byte that is no plain character is %XX:
 *
 *   flush export=my%20disk
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "watch/command.h"

/* ---- words ---- */

static int
hex_digit (char c)
{
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                : -1;
}

/* In place; false: it is not right, or has a zero byte in it. */
static bool
decode (char *text)
{
  char *to = text;
  int high, low;

  for (; *text; ++text) {
    if (*text != '%') {
      *to++ = *text;
      continue;
    }
    high = hex_digit (text[1]);
    low = high == -1 ? -1 : hex_digit (text[2]);
    if (low == -1 || (high == 0 && low == 0))
      return false;
    *to++ = high * 16 + low;
    text += 2;
  }
  *to = '\0';
  return true;
}

char *
command_encode (const char *text)
{
  char *encoded = malloc (3 * strlen (text) + 1), *to = encoded;

  for (; encoded && *text; ++text)
    if (isalnum ((unsigned char) *text) || strchr ("-._~/:", *text))
      *to++ = *text;
    else
      to += sprintf (to, "%%%02X", (unsigned char) *text);
  if (encoded)
    *to = '\0';
  return encoded;
}

const char *
command_argument (const struct command *cmd, const char *key)
{
  unsigned i;

  for (i = 0; i < cmd->nr; ++i)
    if (strcmp (cmd->arguments[i].key, key) == 0)
      return cmd->arguments[i].value;
  return NULL;
}

bool
command_number (const struct command *cmd, const char *key, uint64_t max,
                uint64_t *n)
{
  const char *text = command_argument (cmd, key);
  char *rest;

  if (text == NULL || !isdigit ((unsigned char) *text))
    return false;
  errno = 0;
  *n = strtoull (text, &rest, 10);
  return errno == 0 && *rest == '\0' && *n <= max;
}

static bool
is_key (const char *keys, const char *key)
{
  const size_t len = strlen (key);
  const char *at = keys;

  if (strcmp (keys, "*") == 0)
    return true;
  while ((at = strstr (at, key)) != NULL) {
    if (at > keys && at[-1] == ' ' && (at[len] == ' ' || at[len] == '\0'))
      return true;
    at++;
  }
  return false;
}

bool
command_parse (struct command *cmd, const char *keys, char *rest)
{
  char *word, *equals;

  while ((word = strsep (&rest, " ")) != NULL) {
    equals = strchr (word, '=');
    if (equals == NULL || equals == word || cmd->nr == MAX_ARGUMENTS)
      return false;
    *equals = '\0';
    if (!is_key (keys, word) || command_argument (cmd, word) ||
        !decode (equals + 1))
      return false;
    cmd->arguments[cmd->nr++] =
        (struct argument){ .key = word, .value = equals + 1 };
  }
  return true;
}

/* ---- answers ---- */

void
command_failed (struct outcome_of_all *o, const struct export *e,
                const char *format, ...)
{
  char text[512];
  va_list args;

  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  if (o->failure) {
    control_say (o->c, "note %s", o->failure);
    free (o->failure);
  }
  if (asprintf (&o->failure, "export %s%s: %s", name_quoted (e->name).text,
                e->tls ? " (TLS)" : "", text) == -1)
    o->failure = NULL;
}

bool
command_answer_failure (struct outcome_of_all *o, const char *name)
{
  if (o->failure)
    control_say (o->c, "error %s", o->failure);
  else if (o->nr == 0 && name)
    control_say (o->c, "error no client has opened an export %s yet",
                 name_quoted (name).text);
  else
    return false;
  free (o->failure);
  return true;
}

struct export *
command_next_export (struct export *e, const char *name,
                     struct outcome_of_all *o)
{
  const unsigned number = e->number;

  export_let_go (e);
  o->nr++;
  return export_keep_next (number, name);
}
