/* SPDX-License-Identifier: BSD-3-Clause */

/* wtcachectl SOCKET COMMAND: asks a running server with the wtcache filter, by
 * its control socket, what is where, and has it do something.
 *
 * It sends one line and reads lines until one says how the command ended: the
 * protocol stands in control.c and commands.c of the filter.  What is wrong
 * with the command line is told in one line here if it can be known, by the
 * server otherwise.
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
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "util.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_ALL = 3 };

static bool json, yes;

static void __attribute__ ((noreturn, format (printf, 2, 3)))
die (int status, const char *format, ...)
{
  va_list args;

  fflush (stdout);
  fputs ("wtcachectl: ", stderr);
  va_start (args, format);
  vfprintf (stderr, format, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (status);
}

static void *
checked (void *p)
{
  if (p == NULL)
    die (EXIT_FAILED, "no memory");
  return p;
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
  static const char suffixes[] = "bkmgtpe";
  const char *suffix = NULL;
  unsigned long long n = 0;
  char *rest = NULL;
  unsigned shift = 0;

  errno = 0;
  if (isdigit ((unsigned char) *text))
    n = strtoull (text, &rest, 10);
  if (rest && *rest && rest[1] == '\0')
    suffix = strchr (suffixes, *rest | 0x20);
  if (suffix)
    shift = 10 * (suffix - suffixes);
  if (rest == NULL || errno != 0 || (*rest && suffix == NULL) ||
      n > (unsigned long long) INT64_MAX >> shift)
    die (EXIT_USAGE, "%s: %s must be a number of bytes, such as 4096 or 1M",
         text, key);
  fprintf (f, " %s=%llu", key, n << shift);
}

/* ---- what status tells ---- */

/* The words of one line. */
#define MOST_WORDS 64

struct line {
  unsigned nr;
  struct {
    const char *key;
    char *value;
  } words[MOST_WORDS];
};

static void
parse_line (struct line *line, char *text)
{
  char *word, *equals;

  line->nr = 0;
  while ((word = strsep (&text, " ")) != NULL && line->nr < MOST_WORDS) {
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

static void
print_export (const struct line *line)
{
  const bool refused = number_of (line, "errno") != 0;
  const bool waits = number_of (line, "writers") == 0;
  bool any = false;

  printf ("export \"%s\"%s%s: ", text_of (line, "name"),
          strcmp (text_of (line, "tls"), "yes") == 0 ? " (TLS)" : "",
          strcmp (text_of (line, "shared"), "yes") == 0 ? ""
                                                        : " (one connection)");
  if (is_on_backend (line)) {
    printf ("all on the backend\n");
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
  /* What discard may be wanted for; else they come and go by the hundred. */
  if ((refused || waits) && text_of (line, "ranges")[0])
    printf ("  at offset+length: %s\n", text_of (line, "ranges"));
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

/* All lines are there, the server's first. */
static int
print_status (char **lines, size_t nr)
{
  json_t *top = NULL, *exports = NULL, *export;
  struct line *parsed = checked (calloc (nr > 0 ? nr : 1, sizeof *parsed));
  bool all = true;
  size_t i;

  for (i = 0; i < nr; ++i)
    parse_line (&parsed[i], lines[i]);
  for (i = 1; i < nr; ++i)
    all = all && is_on_backend (&parsed[i]);
  if (json) {
    exports = checked (json_array ());
    for (i = 1; i < nr; ++i) {
      export = line_json (&parsed[i]);
      json_object_set_new (export, "all_on_backend",
                           json_boolean (is_on_backend (&parsed[i])));
      json_array_append_new (exports, export);
    }
    top =
        checked (json_pack ("{s:b, s:o, s:o}", "all_on_backend", all, "server",
                            line_json (&parsed[0]), "exports", exports));
    json_dumpf (top, stdout, JSON_INDENT (2));
    printf ("\n");
    json_decref (top);
  }
  else {
    print_server (&parsed[0], all);
    for (i = 1; i < nr; ++i)
      print_export (&parsed[i]);
  }
  free (parsed);
  return all ? EXIT_SUCCESS : EXIT_NOT_ALL;
}

/* ---- the conversation ---- */

static FILE *
dial (const char *path)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  FILE *f = NULL;
  int fd;

  if (strlen (path) >= sizeof addr.sun_path)
    die (EXIT_USAGE, "%s: longer than the path of a socket can be", path);
  strcpy (addr.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1 ||
      connect (fd, (const struct sockaddr *) &addr, sizeof addr) != 0)
    die (EXIT_FAILED, "%s: cannot connect: %s", path, strerror (errno));
  f = fdopen (fd, "r");
  return checked (f);
}

static void
send_line (FILE *to, const char *path, const char *line)
{
  size_t len = strlen (line);
  ssize_t n;

  while (len > 0) {
    n = send (fileno (to), line, len, MSG_NOSIGNAL);
    if (n == -1 && errno != EINTR) {
      /* A server that has too many clients says so, and listens to none. */
      if (errno == EPIPE || errno == ECONNRESET)
        return;
      die (EXIT_FAILED, "%s: %s", path, strerror (errno));
    }
    if (n > 0) {
      line += n;
      len -= n;
    }
  }
}

static bool
begins (const char *line, const char *word, const char **rest)
{
  const size_t len = strlen (word);

  if (strncmp (line, word, len) != 0 || (line[len] != ' ' && line[len] != '\0'))
    return false;
  *rest = line[len] ? line + len + 1 : "";
  return true;
}

/* What a command that went well has to say. */
static int
succeed (const char *command, const char *rest, char **lines, size_t nr)
{
  unsigned long long n;

  if (strcmp (command, "status") == 0)
    return print_status (lines, nr);
  if (sscanf (rest, "bytes=%llu", &n) == 1)
    printf ("%llu bytes %s\n", n,
            strcmp (command, "drop") == 0 ? "dropped" : "given up");
  else if (sscanf (rest, "requests=%llu", &n) == 1)
    printf ("%llu requests recorded\n", n);
  return EXIT_SUCCESS;
}

/* A line of the answer: whether it is the last, and if that said "ok" what
 * follows it in *REST; else it ends this program.
 */
static bool
is_last (const char *line, const char *command, const char **rest)
{
  if (begins (line, "error", rest))
    die (EXIT_FAILED, "%s: %s", command, *rest);
  if (begins (line, "usage", rest))
    die (EXIT_USAGE, "%s: %s", command, *rest);
  return begins (line, "ok", rest);
}

static int
listen_to_answer (FILE *from, const char *path, const char *command)
{
  char *line = NULL, **lines = NULL;
  size_t size = 0, nr = 0;
  const char *rest;
  int status = -1;

  while (status == -1 && getline (&line, &size, from) > 0) {
    line[strcspn (line, "\n")] = '\0';
    if (is_last (line, command, &rest))
      status = succeed (command, rest, lines, nr);
    else if (begins (line, "note", &rest))
      fprintf (stderr, "wtcachectl: %s: %s\n", command, rest);
    else if (begins (line, "begun", &rest))
      fprintf (stderr, "wtcachectl: recording\n");
    else {
      lines = checked (realloc (lines, (nr + 1) * sizeof *lines));
      lines[nr++] = checked (strdup (line));
    }
  }
  if (status == -1)
    die (EXIT_FAILED, "%s: the server ended the connection without an answer",
         path);
  while (nr > 0)
    free (lines[--nr]);
  free (lines);
  free (line);
  return status;
}

/* ---- the command line ---- */

static const char help[] =
    "wtcachectl SOCKET status [--json]   What is where; exit status 3 if not\n"
    "                                    everything is on the backend.\n"
    "wtcachectl SOCKET flush [EXPORT]    Write and flush everything.\n"
    "wtcachectl SOCKET drop [EXPORT]     Forget what is clean.\n"
    "wtcachectl SOCKET discard EXPORT OFFSET LENGTH --yes\n"
    "                                    Give up what the backend refuses.\n"
    "wtcachectl SOCKET prefetch EXPORT OFFSET LENGTH\n"
    "                                    Read into the cache.\n"
    "wtcachectl SOCKET set NAME VALUE    Change size, dirty-max, dirty-age,\n"
    "                                    depth, readahead or mode.\n"
    "wtcachectl SOCKET trace FILE SECONDS [EXPORT]\n"
    "                                    Record reads and writes.\n"
    "wtcachectl --help | --version\n"
    "\n"
    "SOCKET is the server's wtcache-control=SOCKET.\n";

static void
build_export (FILE *f, char **args, int nr)
{
  if (nr > 0)
    put_argument (f, "export", args[0]);
}

static void
build_status (FILE *f, char **args, int nr)
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

static void
build_set (FILE *f, char **args, int nr)
{
  static const char *const names[] = { "size",  "dirty-max", "dirty-age",
                                       "depth", "readahead", "mode" };
  size_t i;

  (void) nr;
  for (i = 0; i < ARRAY_LEN (names) && strcmp (names[i], args[0]) != 0; ++i)
    ;
  if (i == ARRAY_LEN (names))
    die (EXIT_USAGE,
         "set %s: only size, dirty-max, dirty-age, depth, "
         "readahead and mode can be changed",
         args[0]);
  put_argument (f, args[0], args[1]);
}

/* The file is the server's, but its name counts from our folder. */
static void
build_trace (FILE *f, char **args, int nr)
{
  char *folder, *path = NULL;

  if (args[1][0] == '\0' || args[1][strspn (args[1], "0123456789")] != '\0')
    die (EXIT_USAGE, "trace: %s: must be a number of seconds", args[1]);
  if (args[0][0] == '/')
    put_argument (f, "file", args[0]);
  else {
    folder = getcwd (NULL, 0);
    if (folder == NULL)
      die (EXIT_FAILED, "the current folder: %s", strerror (errno));
    if (asprintf (&path, "%s/%s", folder, args[0]) == -1)
      die (EXIT_FAILED, "no memory");
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
  int least, most; /* arguments */
  void (*build) (FILE *f, char **args, int nr);
} commands[] = {
  { "status", "", 0, 0, build_status },
  { "flush", " [EXPORT]", 0, 1, build_export },
  { "drop", " [EXPORT]", 0, 1, build_export },
  { "discard", " EXPORT OFFSET LENGTH --yes", 3, 3, build_discard },
  { "prefetch", " EXPORT OFFSET LENGTH", 3, 3, build_range },
  { "set", " NAME VALUE", 2, 2, build_set },
  { "trace", " FILE SECONDS [EXPORT]", 2, 3, build_trace },
};

static const struct command *
find_command (const char *name)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (commands); ++i)
    if (strcmp (commands[i].name, name) == 0)
      return &commands[i];
  die (EXIT_USAGE, "there is no command %s: see wtcachectl --help", name);
}

static void
parse_options (int argc, char **argv)
{
  static const struct option options[] = {
    { "json", no_argument, NULL, 'j' },
    { "yes", no_argument, NULL, 'y' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
  };
  int option;

  opterr = 0;
  while ((option = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (option) {
    case 'j':
      json = true;
      break;
    case 'y':
      yes = true;
      break;
    case 'h':
      fputs (help, stdout);
      exit (fflush (stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED);
    case 'V':
      printf ("wtcachectl %s\n", PACKAGE_VERSION);
      exit (fflush (stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED);
    default:
      die (EXIT_USAGE, "%s: there is no such option: see wtcachectl --help",
           argv[optind - 1]);
    }
}

int
main (int argc, char **argv)
{
  const struct command *command;
  char *line = NULL;
  size_t size;
  FILE *text, *server;
  int nr, status;

  parse_options (argc, argv);
  nr = argc - optind - 2;
  if (nr < 0)
    die (EXIT_USAGE, "a socket and a command are needed: see wtcachectl "
                     "--help");
  argv += optind;
  command = find_command (argv[1]);
  if (nr < command->least || nr > command->most)
    die (EXIT_USAGE, "usage: wtcachectl SOCKET %s%s", command->name,
         command->arguments);
  if (json && command->build != build_status)
    die (EXIT_USAGE, "--json is for status alone");
  if (yes && command->build != build_discard)
    die (EXIT_USAGE, "--yes is for discard alone");

  text = checked (open_memstream (&line, &size));
  fputs (command->name, text);
  command->build (text, argv + 2, nr);
  fputc ('\n', text);
  if (fclose (text) != 0)
    die (EXIT_FAILED, "no memory");
  server = dial (argv[0]);
  send_line (server, argv[0], line);
  free (line);
  status = listen_to_answer (server, argv[0], command->name);
  fclose (server);
  if (fflush (stdout) != 0 || ferror (stdout))
    die (EXIT_FAILED, "cannot write the answer: %s", strerror (errno));
  return status;
}
