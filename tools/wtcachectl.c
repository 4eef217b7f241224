/* SPDX-License-Identifier: BSD-3-Clause */

/* wtcachectl [SERVER] COMMAND: asks a running server with the wtcache filter,
 * by its control socket, what is where, and has it do something.  This is its
 * command line.
 *
 * An error in it is reported in one line, here if it can be seen here, else by
 * the server: the protocol stands in control.c and commands.c of the filter.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/util.h"
#include "base/value.h"
#include "export/parameters.h"
#include "wtcachectl-help.h"
#include "wtcachectl-metrics.h"
#include "wtcachectl-say.h"
#include "wtcachectl-show.h"
#include "wtcachectl-talk.h"

/* How long a command that the server answers at once is waited for, seconds. */
#define SHORT_TIMEOUT 5
#define MAX_TIMEOUT   86400

const char program_name[] = "wtcachectl";

static bool json, yes, timeout_given;
static unsigned timeout;

char *
formatted (const char *format, ...)
{
  va_list args;
  char *text;
  int n;

  va_start (args, format);
  n = vasprintf (&text, format, args);
  va_end (args);
  return checked (n == -1 ? NULL : text);
}

/* ---- words on their way ---- */

static void
put_encoded (FILE *f, const char *text)
{
  for (; *text; ++text)
    if (isalnum ((unsigned char) *text) || strchr ("-._~/:", *text))
      fputc (*text, f);
    else
      fprintf (f, "%%%02X", (unsigned char) *text);
}

static void
put_argument (FILE *f, const char *key, const char *value)
{
  fprintf (f, " %s=", key);
  put_encoded (f, value);
}

/* Bytes, with a suffix as nbdkit's sizes have it. */
static void
put_bytes (FILE *f, const char *key, const char *text)
{
  struct value_text meant;
  uint64_t n;

  if (!value_parse_size (text, &n) && value_meant_size (text, &meant))
    die (EXIT_USAGE, "%s: %s must be a number of bytes: write %s", text, key,
         meant.s);
  if (!value_parse_size (text, &n))
    die (EXIT_USAGE, "%s: %s must be a number of bytes, such as 4096 or 1M",
         text, key);
  fprintf (f, " %s=%" PRIu64, key, n);
}

/* ---- the commands ---- */

static void
build_export (FILE *f, char **args, int nr)
{
  if (nr > 0)
    put_argument (f, "export", args[0]);
}

static void
build_nothing (FILE *f, char **args, int nr)
{
  (void) f;
  (void) args;
  (void) nr;
}

static void
build_range (FILE *f, char **args, int nr)
{
  (void) nr;
  put_argument (f, "export", args[0]);
  put_bytes (f, "offset", args[1]);
  put_bytes (f, "length", args[2]);
}

static void
build_discard (FILE *f, char **args, int nr)
{
  build_range (f, args, nr);
  if (!yes)
    die (EXIT_USAGE, "discard loses data for good that clients believe "
                     "written: add --yes if that is meant");
}

/* The server knows which names and values are right. */
static void
build_set (FILE *f, char **args, int nr)
{
  (void) nr;
  if (args[0][0] == '\0' || strpbrk (args[0], " =\n%"))
    die (EXIT_USAGE,
         "set %s: there is no such option that can be changed: see wtcachectl "
         "help set",
         args[0]);
  put_argument (f, args[0], args[1]);
}

/* The file is the server's, but its name counts from our folder. */
static void
build_trace (FILE *f, char **args, int nr)
{
  char *folder, *path;

  if (args[1][0] == '\0' || args[1][strspn (args[1], "0123456789")] != '\0')
    die (EXIT_USAGE, "trace: %s: must be a number of seconds, 1 to 86400",
         args[1]);
  if (args[0][0] == '/')
    put_argument (f, "file", args[0]);
  else {
    folder = getcwd (NULL, 0);
    if (folder == NULL)
      die (EXIT_FAILED, "the current folder: %s", strerror (errno));
    path = formatted ("%s/%s", folder, args[0]);
    put_argument (f, "file", path);
    free (path);
    free (folder);
  }
  put_argument (f, "seconds", args[1]);
  if (nr > 2)
    put_argument (f, "export", args[2]);
}

static const struct command {
  const char *name, *arguments;
  int min, max; /* arguments */
  void (*build) (FILE *f, char **args, int nr);
  bool quick; /* the server answers at once */
} commands[] = {
  { "status", "", 0, 0, build_nothing, true },
  { "flush", " [EXPORT]", 0, 1, build_export, false },
  { "drop", " [EXPORT]", 0, 1, build_export, false },
  { "discard", " EXPORT OFFSET LENGTH --yes", 3, 3, build_discard, false },
  { "prefetch", " EXPORT OFFSET LENGTH", 3, 3, build_range, false },
  { "get", " [NAME]", 0, 1, build_nothing, true },
  { "set", " NAME VALUE", 2, 2, build_set, false },
  { "metrics", "", 0, 0, build_nothing, true },
  { "trace", " FILE SECONDS [EXPORT]", 2, 3, build_trace, false },
  { "list", "", 0, 0, NULL, true },
  { "help", " [COMMAND]", 0, 1, NULL, true },
};

/* NULL: there is none of that name. */
static const struct command *
find_command (const char *name)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (commands); ++i)
    if (strcmp (commands[i].name, name) == 0)
      return &commands[i];
  return NULL;
}

static void __attribute__ ((noreturn)) die_without_command (const char *name)
{
  const char *names[ARRAY_LEN (commands)], *meant;
  size_t i;

  for (i = 0; i < ARRAY_LEN (commands); ++i)
    names[i] = commands[i].name;
  meant = nearest_name (name, names, ARRAY_LEN (names));
  if (meant)
    die (EXIT_USAGE, "there is no command %s: is %s meant?", name, meant);
  die (EXIT_USAGE, "there is no command %s: see wtcachectl --help", name);
}

static void
show_commands (void)
{
  json_t *array = checked (json_array ());
  size_t i;

  for (i = 0; i < ARRAY_LEN (commands); ++i)
    json_array_append_new (array,
                           help_json (commands[i].name, commands[i].arguments));
  print_object (checked (json_pack ("{s:o}", "commands", array)));
}

static int
run_help (char **args, int nr)
{
  const struct command *command = nr > 0 ? find_command (args[0]) : NULL;

  if (nr == 0 && json)
    show_commands ();
  else if (nr == 0)
    show_help ();
  else if (command)
    show_help_of (command->name, command->arguments, json);
  else
    die_without_command (args[0]);
  return EXIT_SUCCESS;
}

static void
tell_begun (void)
{
  fprintf (stderr, "wtcachectl: recording\n");
}

static unsigned
timeout_of (const struct command *command)
{
  return timeout_given ? timeout : command->quick ? SHORT_TIMEOUT : 0;
}

static int
show (const struct command *command, const struct answer *a, char **args,
      int nr)
{
  static const char prefix[] = PARAMETERS_PREFIX;
  const char *name = nr > 0 ? args[0] : NULL;

  if (strcmp (command->name, "status") == 0)
    return show_status (a, json);
  if (strcmp (command->name, "metrics") == 0)
    return show_metrics (a, json);
  if (strcmp (command->name, "get") == 0) {
    if (name && strncmp (name, prefix, strlen (prefix)) == 0)
      name += strlen (prefix);
    return show_options (a, name, json);
  }
  return show_end (a, command->name, json);
}

static int
run (const char *path, const struct command *command, char **args, int nr)
{
  struct answer a;
  char *line = NULL;
  size_t size, i;
  FILE *text = checked (open_memstream (&line, &size));
  int status;

  fputs (command->name, text);
  command->build (text, args, nr);
  fputc ('\n', text);
  if (fclose (text) != 0)
    die (EXIT_FAILED, "no memory");
  a = ask (path, line, timeout_of (command), tell_begun);
  free (line);
  for (i = 0; i < a.notes.nr; ++i)
    fprintf (stderr, "wtcachectl: %s: %s\n", command->name, a.notes.at[i]);
  if (a.outcome != ANSWER_OK && json)
    show_failure (&a, command->name);
  if (a.outcome == ANSWER_MISSING)
    die (strlen (path) < 108 ? EXIT_FAILED : EXIT_USAGE, "%s", a.text);
  if (a.outcome != ANSWER_OK)
    die (a.outcome == ANSWER_USAGE ? EXIT_USAGE : EXIT_FAILED, "%s: %s",
         command->name, a.text);
  status = show (command, &a, args, nr);
  free_answer (&a);
  return status;
}

static int
run_list (void)
{
  struct texts names = usual_sockets ();
  struct answer *answers = checked (calloc (names.nr + 1, sizeof *answers));
  char *path;
  int status;
  size_t i;

  for (i = 0; i < names.nr; ++i) {
    path = formatted ("%s/%s.ctl", usual_folder (), names.at[i]);
    answers[i] = ask (path, "status\n", timeout_given ? timeout : SHORT_TIMEOUT,
                      tell_begun);
    free (path);
  }
  status = show_servers (&names, answers, json);
  for (i = 0; i < names.nr; ++i)
    free_answer (&answers[i]);
  free (answers);
  free_texts (&names);
  return status;
}

/* ---- the command line ---- */

static const struct option options[] = {
  { "json", no_argument, NULL, 'j' },
  { "yes", no_argument, NULL, 'y' },
  { "timeout", required_argument, NULL, 't' },
  { "help", no_argument, NULL, 'h' },
  { "version", no_argument, NULL, 'V' },
  { NULL, 0, NULL, 0 },
};

static void
parse_timeout (const char *text)
{
  char *end;

  errno = 0;
  timeout = strtoul (text, &end, 10);
  if (!isdigit ((unsigned char) *text) || *end || errno != 0 || timeout < 1 ||
      timeout > MAX_TIMEOUT)
    die (EXIT_USAGE, "--timeout=%s: must be a number of seconds, 1 to %d", text,
         MAX_TIMEOUT);
  timeout_given = true;
}

static void
parse_options (int argc, char **argv)
{
  int option;

  opterr = 0;
  while ((option = getopt_long (argc, argv, ":jyt:hV", options, NULL)) != -1)
    switch (option) {
    case 'j':
      json = true;
      break;
    case 'y':
      yes = true;
      break;
    case 't':
      parse_timeout (optarg);
      break;
    case 'h':
      show_help ();
      exit (fflush (stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED);
    case 'V':
      print_and_exit ("wtcachectl " PACKAGE_VERSION "\n");
    case ':':
      die (EXIT_USAGE, "%s: a number of seconds is missing", argv[optind - 1]);
    default:
      die_of_option (argv[optind - 1], options);
    }
}

/* Which command it is; *SERVER is the word before it, or NULL, and *NR how many
 * arguments follow.
 */
static const struct command *
parse_words (char **words, int *nr, const char **server)
{
  const struct command *command;

  if (*nr == 0)
    die (EXIT_USAGE, "a command is missing: see wtcachectl --help");
  *server = NULL;
  command = find_command (words[0]);
  if (command) {
    *nr -= 1;
    return command;
  }
  if (*nr == 1 && (strchr (words[0], '/') || access (words[0], F_OK) == 0))
    die (EXIT_USAGE, "a command is missing after %s: see wtcachectl --help",
         words[0]);
  if (*nr == 1)
    die_without_command (words[0]);
  command = find_command (words[1]);
  if (command == NULL)
    die_without_command (words[1]);
  *server = words[0];
  *nr -= 2;
  return command;
}

int
main (int argc, char **argv)
{
  const struct command *command;
  const char *server;
  char *path, **args;
  int nr, status;

  parse_options (argc, argv);
  nr = argc - optind;
  command = parse_words (argv + optind, &nr, &server);
  args = argv + argc - nr;
  if (nr < command->min || nr > command->max)
    die (EXIT_USAGE, "usage: wtcachectl [SERVER] %s%s", command->name,
         command->arguments);
  if (yes && command->build != build_discard)
    die (EXIT_USAGE, "--yes is for discard alone");
  if (strcmp (command->name, "help") == 0)
    status = run_help (args, nr);
  else if (command->build == NULL)
    status = run_list ();
  else {
    path = server ? socket_of (server) : only_socket ();
    status = run (path, command, args, nr);
    free (path);
  }
  if (fflush (stdout) != 0 || ferror (stdout))
    die (EXIT_FAILED, "cannot write the answer: %s", strerror (errno));
  return status;
}
