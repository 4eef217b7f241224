/* SPDX-License-Identifier: BSD-3-Clause */

/* The server of a run, as tests/lib/wt.py starts it for tests in Python; the
 * variables of the environment are the same.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

double
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec + ts.tv_nsec / 1e9;
}

double
time_scale (void)
{
  const char *text = getenv ("WT_SCALE");
  double scale = text ? strtod (text, NULL) : 1;

  return scale > 0 ? scale : 1;
}

static bool __attribute__ ((format (printf, 2, 3)))
wrong (struct server *s, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (s->complaint, sizeof s->complaint, format, args);
  va_end (args);
  return false;
}

/* The command. */

void
server_word (struct server *s, const char *format, ...)
{
  va_list args;

  if (s->nr_words == MAX_WORDS)
    abort ();
  va_start (args, format);
  if (vasprintf (&s->words[s->nr_words++], format, args) == -1)
    abort ();
  va_end (args);
}

/* The words of a variable, apart at spaces. */
static void
add_variable (struct server *s, const char *name, const char *otherwise)
{
  const char *value = getenv (name);
  char *copy = strdup (value ? value : otherwise), *rest;

  if (copy == NULL)
    abort ();
  for (char *word = strtok_r (copy, " ", &rest); word;
       word = strtok_r (NULL, " ", &rest))
    server_word (s, "%s", word);
  free (copy);
}

/* A built module: by its variable, else in the built tree. */
static const char *
module (const char *variable, const char *path)
{
  const char *value = getenv (variable);

  return value ? value : path;
}

void
server_init (struct server *s, unsigned threads)
{
  memset (s, 0, sizeof *s);
  s->channel = -1;
  snprintf (s->folder, sizeof s->folder, "/tmp/wt-model-XXXXXX");
  if (mkdtemp (s->folder) == NULL) {
    perror (s->folder);
    exit (EXIT_FAILURE);
  }
  snprintf (s->socket, sizeof s->socket, "%s/nbd", s->folder);
  snprintf (s->control, sizeof s->control, "%s/control", s->folder);
  snprintf (s->durable, sizeof s->durable, "%s/durable", s->folder);
  snprintf (s->log, sizeof s->log, "%s/log", s->folder);

  add_variable (s, "WT_NBDKIT_WRAPPER", "");
  add_variable (s, "WT_NBDKIT", "nbdkit");
  server_word (s, "-f");
  server_word (s, "--exit-with-parent");
  server_word (s, "-U");
  server_word (s, "%s", s->socket);
  server_word (s, "-P");
  server_word (s, "%s/pid", s->folder);
  if (threads > 0) {
    server_word (s, "-t");
    server_word (s, "%u", threads);
  }
}

void
server_filter (struct server *s)
{
  server_word (s, "--filter=%s",
               module ("WTCACHE_FILTER",
                       "plugins/wtcache/.libs/nbdkit-wtcache-filter.so"));
}

void
server_disk (struct server *s)
{
  server_word (
      s, "%s",
      module ("WTDISK_PLUGIN", "tests/disk/.libs/nbdkit-wtdisk-plugin.so"));
  server_word (s, "durable=%s", s->durable);
  server_word (s, "control=%s", s->control);
  server_word (s, "log=%s", s->log);
}

/* The process. */

static void __attribute__ ((noreturn)) become_server (struct server *s)
{
  const char *preload = getenv ("WT_LD_PRELOAD");
  char path[128];
  int fd;

  if (preload && *preload)
    setenv ("LD_PRELOAD", preload, 1);
  snprintf (path, sizeof path, "%s/stderr", s->folder);
  fd = open (path, O_WRONLY | O_CREAT | O_APPEND, 0666);
  dup2 (fd, STDOUT_FILENO);
  dup2 (fd, STDERR_FILENO);
  s->words[s->nr_words] = NULL;
  execvp (s->words[0], s->words);
  perror (s->words[0]);
  _exit (127);
}

static bool
has_text (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 && st.st_size > 0;
}

/* Waits a moment; false once so many seconds have passed. */
static bool
still_time (double since, double seconds)
{
  static const struct timespec moment = { .tv_nsec = 2000000 };

  nanosleep (&moment, NULL);
  return now () - since < seconds * time_scale ();
}

bool
server_start (struct server *s)
{
  const double began = now ();
  char pidfile[128];

  snprintf (pidfile, sizeof pidfile, "%s/pid", s->folder);
  unlink (s->socket);
  unlink (s->control);
  unlink (pidfile);
  fflush (NULL);
  s->pid = fork ();
  if (s->pid == 0)
    become_server (s);
  while (!has_text (pidfile)) {
    if (!server_lives (s))
      return false;
    if (!still_time (began, 60))
      return wrong (s, "the server does not start");
  }
  return true;
}

static bool
status_is_good (struct server *s, int status)
{
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return true;
  if (WIFSIGNALED (status))
    return wrong (s, "the server was ended by signal %d", WTERMSIG (status));
  return wrong (s, "the server ended with status %d", WEXITSTATUS (status));
}

bool
server_lives (struct server *s)
{
  int status;

  if (s->pid == 0)
    return wrong (s, "there is no server");
  if (waitpid (s->pid, &status, WNOHANG) == 0)
    return true;
  s->pid = 0;
  if (status_is_good (s, status))
    wrong (s, "the server ended by itself");
  return false;
}

bool
server_ends (struct server *s)
{
  const double began = now ();

  while (server_lives (s))
    if (!still_time (began, 2))
      return false;
  return true;
}

void
server_forget_channel (struct server *s)
{
  if (s->channel != -1)
    close (s->channel);
  s->channel = -1;
}

bool
server_stop (struct server *s)
{
  const double began = now ();
  int status;

  server_forget_channel (s);
  kill (s->pid, SIGTERM);
  while (waitpid (s->pid, &status, WNOHANG) == 0)
    if (!still_time (began, 60)) {
      server_stacks (s);
      server_kill (s);
      return wrong (s, "the server does not end");
    }
  s->pid = 0;
  return status_is_good (s, status);
}

void
server_kill (struct server *s)
{
  server_forget_channel (s);
  if (s->pid == 0)
    return;
  kill (s->pid, SIGKILL);
  waitpid (s->pid, NULL, 0);
  s->pid = 0;
}

/* The disk. */

int
server_dial_control (struct server *s)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  strcpy (address.sun_path, s->control);
  if (connect (fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  close (fd);
  return -1;
}

/* Sends a command; the answer is in ANSWER, of LENGTH. */
static bool
ask (struct server *s, const char *command, char *answer, size_t length)
{
  size_t n = 0;
  ssize_t r;

  if (s->channel == -1)
    s->channel = server_dial_control (s);
  if (s->channel == -1)
    return wrong (s, "%s: %s", s->control, strerror (errno));
  if (dprintf (s->channel, "%s\n", command) < 0)
    return wrong (s, "%s: not sent", command);
  do {
    r = read (s->channel, answer + n, length - 1 - n);
    if (r <= 0)
      return wrong (s, "%s: no answer", command);
    n += r;
  } while (answer[n - 1] != '\n');
  answer[n - 1] = '\0';
  return strncmp (answer, "ok", 2) == 0 || wrong (s, "%s: %s", command, answer);
}

bool
server_control (struct server *s, const char *command)
{
  char answer[2048];

  return ask (s, command, answer, sizeof answer);
}

bool
server_counter (struct server *s, const char *name, uint64_t *value)
{
  char answer[2048], key[64];
  const char *found;

  snprintf (key, sizeof key, " %s=", name);
  if (!ask (s, "stats", answer, sizeof answer))
    return false;
  found = strstr (answer, key);
  if (found == NULL)
    return wrong (s, "no counter %s: %s", name, answer);
  *value = strtoull (found + strlen (key), NULL, 10);
  return true;
}

bool
server_durable (struct server *s, uint8_t *buf, uint64_t size)
{
  int fd = open (s->durable, O_RDONLY | O_CLOEXEC);
  uint64_t n = 0;
  ssize_t r;

  if (fd == -1)
    return wrong (s, "%s: %s", s->durable, strerror (errno));
  memset (buf, 0, size);
  while ((r = pread (fd, buf + n, size - n, n)) > 0)
    n += r;
  close (fd);
  return r == 0 || wrong (s, "%s: %s", s->durable, strerror (errno));
}

/* The files that the server leaves. */

#define MAX_IN_FLIGHT 512

struct writing {
  uint64_t id, offset, length;
};

/* Looks at one line; the writes in flight are those of before. */
static bool
check_line (struct server *s, const char *line, struct writing *writing,
            size_t *nr_writing)
{
  uint64_t event, id, offset, length;
  char op[16];

  if (sscanf (line, "%" SCNu64 " violation %" SCNu64, &event, &id) == 2)
    return wrong (s, "a request breaks the block sizes: %s", line);
  if (sscanf (line, "%" SCNu64 " end %" SCNu64, &event, &id) == 2) {
    for (size_t i = 0; i < *nr_writing; ++i)
      if (writing[i].id == id) {
        writing[i] = writing[--*nr_writing];
        break;
      }
    return true;
  }
  if (sscanf (line,
              "%" SCNu64 " start %" SCNu64 " %*s %*u %15s %" SCNu64 " %" SCNu64,
              &event, &id, op, &offset, &length) != 5)
    return true;
  if (strcmp (op, "write") != 0 && strcmp (op, "zero") != 0 &&
      strcmp (op, "trim") != 0)
    return true;
  for (size_t i = 0; i < *nr_writing; ++i)
    if (offset < writing[i].offset + writing[i].length &&
        writing[i].offset < offset + length)
      return wrong (s, "two at once over a block: request %" PRIu64 " and %s",
                    writing[i].id, line);
  if (*nr_writing == MAX_IN_FLIGHT)
    return wrong (s, "too many writes in flight: %s", line);
  writing[(*nr_writing)++] = (struct writing){ id, offset, length };
  return true;
}

void
server_forget_log (struct server *s)
{
  strcpy (s->log, "/dev/null");
  server_word (s, "log=%s", s->log);
}

bool
server_check_log (struct server *s)
{
  struct writing writing[MAX_IN_FLIGHT];
  size_t nr_writing = 0;
  FILE *f = fopen (s->log, "re");
  char line[512];
  bool good = true;

  if (f == NULL)
    return wrong (s, "%s: %s", s->log, strerror (errno));
  /* A line that a kill has cut off has no end and is none. */
  while (good && fgets (line, sizeof line, f) && strchr (line, '\n'))
    good = check_line (s, line, writing, &nr_writing);
  fclose (f);
  return good;
}

static FILE *
open_stderr (const struct server *s)
{
  char path[128];

  snprintf (path, sizeof path, "%s/stderr", s->folder);
  return fopen (path, "re");
}

bool
server_check_stderr (struct server *s)
{
  static const char *const bad[] = { "Sanitizer", "runtime error:", "Assertion",
                                     "unsavable" };
  FILE *f = open_stderr (s);
  char line[400];
  bool good = true;

  while (f && good && fgets (line, sizeof line, f))
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] && good; ++i)
      if (strstr (line, bad[i]))
        good = wrong (s, "the server says: %s", line);
  if (f)
    fclose (f);
  return good;
}

void
server_report (const struct server *s)
{
  FILE *f = open_stderr (s);
  char line[400];
  unsigned lines = 0;

  printf ("#");
  for (unsigned i = 0; i < s->nr_words; ++i)
    printf (" %s", s->words[i]);
  printf ("\n");
  while (f && fgets (line, sizeof line, f) && ++lines <= 150)
    printf ("# %s%s", line, strchr (line, '\n') ? "" : "\n");
  if (f)
    fclose (f);
}

void
server_stacks (const struct server *s)
{
  char command[200];

  snprintf (command, sizeof command,
            "gdb -nx -batch -p %d -ex 'thread apply all bt' </dev/null "
            "2>/dev/null | sed 's/^/# /'",
            (int) s->pid);
  fflush (NULL);
  if (system (command) != 0)
    printf ("# no gdb to look into process %d\n", (int) s->pid);
}

/* Removes what a run has left there; a folder in it is none of ours. */
static void
remove_folder (const struct server *s)
{
  DIR *dir = opendir (s->folder);
  const struct dirent *entry;

  while (dir && (entry = readdir (dir)) != NULL)
    unlinkat (dirfd (dir), entry->d_name, 0);
  if (dir)
    closedir (dir);
  rmdir (s->folder);
}

void
server_free (struct server *s, bool keep)
{
  server_kill (s);
  if (!keep)
    remove_folder (s);
  for (unsigned i = 0; i < s->nr_words; ++i)
    free (s->words[i]);
}
