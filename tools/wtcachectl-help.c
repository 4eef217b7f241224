/* SPDX-License-Identifier: BSD-3-Clause */

/* The help of wtcachectl.  That of get and set lists the parameters, from the
 * filter's own table; completion in shells reads it.
 */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "export/parameters.h"
#include "wtcachectl-help.h"
#include "wtcachectl-say.h"
#include "wtcachectl-show.h"

static const char help[] =
    "Usage: wtcachectl [SERVER] COMMAND [ARGUMENT...]\n"
    "Ask and control a running nbdkit server with the wtcache filter.\n"
    "\n"
    "  status                Show what is where; exit status 3 if not\n"
    "                        everything is on the backend.\n"
    "  flush [EXPORT]        Write and flush everything.\n"
    "  drop [EXPORT]         Forget what is clean.\n"
    "  discard EXPORT OFFSET LENGTH --yes\n"
    "                        Give up what the backend refuses.\n"
    "  prefetch EXPORT OFFSET LENGTH\n"
    "                        Read into the cache.\n"
    "  get [NAME]            Show options as they are now.\n"
    "  set NAME VALUE        Change an option; help set lists them.\n"
    "  metrics               Print the statistics for Prometheus.\n"
    "  trace FILE SECONDS [EXPORT]\n"
    "                        Record reads and writes.\n"
    "  list                  Show the servers in /run/wtcache.\n"
    "  help [COMMAND]        Show this, or the help of a command.\n"
    "\n"
    "  -j, --json            Print the answer as JSON.\n"
    "  -t, --timeout=SECONDS\n"
    "                        Wait so long for an answer (status, get, list\n"
    "                        and metrics 5 s, other commands until they end).\n"
    "  -h, --help            Print this.\n"
    "  -V, --version         Print the version.\n"
    "\n"
    "SERVER is the path of the server's wtcache-control=SOCKET, or NAME for\n"
    "/run/wtcache/NAME.ctl; it can be left out where there is one only.\n";

void
show_help (void)
{
  fputs (help, stdout);
}

static json_t *
parameters_json (bool changeable)
{
  json_t *array = checked (json_array ());
  char forms[PARAMETERS_FORMS_BYTES], text[400];
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; ++i) {
    if (changeable && parameters[i].change == CHANGE_NEVER)
      continue;
    parameters_forms (i, forms, sizeof forms);
    parameters_explain (i, text, sizeof text);
    json_array_append_new (
        array,
        checked (json_pack ("{s:s, s:s, s:s}", "name", parameters[i].name,
                            "value", forms, "help", text)));
  }
  return array;
}

json_t *
help_json (const char *command, const char *arguments)
{
  return checked (json_pack ("{s:s, s:s}", "command", command, "arguments",
                             arguments + (*arguments == ' ')));
}

void
show_help_of (const char *command, const char *arguments, bool json)
{
  const bool set = strcmp (command, "set") == 0;
  const bool lists = set || strcmp (command, "get") == 0;
  char text[PARAMETERS_HELP_BYTES];
  json_t *object;

  if (json) {
    object = help_json (command, arguments);
    if (lists)
      json_object_set_new (object, "options", parameters_json (set));
    print_object (object);
    return;
  }
  printf ("Usage: wtcachectl [SERVER] %s%s\n", command, arguments);
  if (lists) {
    parameters_help (text, sizeof text, "  ", set);
    printf ("\n%s\n", text);
  }
}
