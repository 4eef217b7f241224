/* SPDX-License-Identifier: BSD-3-Clause */

/* The control socket: a line is a command, its answer a line that begins with
 * "ok" or "error".
 *
 *   fault NAME op=OP errno=E [fua=0|1] [fast=0|1] [first=N last=N] [export=E]
 *              [skip=N] [count=M] [partial=BYTES]
 *   unfault NAME | all
 *   hits NAME [COUNT]        how often the fault struck, once that is COUNT
 *   gate NAME op=OP [fua=] [fast=] [first= last=] [export=] [when=before|after]
 *   gated NAME [COUNT]       how many stand at it, once that is COUNT (1)
 *   open NAME | all
 *   latency op=OP TIME
 *   serve N
 *   size [export=E] SIZE     what a new connection will find
 *   offer KEY=VALUE...       what the next connections can do, as parameters
 *   copy [export=E] [volatile=0|1] FILE     the image as it is now
 *   probe op=OP              waits as a request does, unless at a gate
 *   die keep=0|1             ends the process, having made all durable or not
 *   stats | stats-reset | sync | crash
 *
 * OP is read, write, zero, trim, flush, extents or any.  A connection has a
 * thread of its own, since "gated" and "hits" wait.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "control.h"
#include "fault.h"
#include "image.h"
#include "log.h"
#include "options.h"
#include "parse.h"

#define MAX_WORDS  32
#define MAX_ANSWER 2048

/* Set by control_listen before any thread runs. */
static struct export *exports;
static size_t nr_exports;
static int listening = -1;
static pthread_t listener;
static bool started;

/* Guards the list of connections and what is in it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *connections;

struct connection {
  struct connection *next;
  pthread_t thread;
  int fd;
  bool ended; /* the thread takes the lock no more: it can be joined */
};

struct command {
  char *words[MAX_WORDS]; /* the command itself is the first */
  size_t nr_words;
  char answer[MAX_ANSWER];
};

static struct export *
find_export (const char *name)
{
  for (size_t i = 0; i < nr_exports; i++)
    if (strcmp (exports[i].name, name) == 0)
      return &exports[i];
  return NULL;
}

/* Answers. */

static void __attribute__ ((format (printf, 2, 3)))
answer (struct command *c, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (c->answer, sizeof c->answer, format, args);
  va_end (args);
}

static void
answer_errno (struct command *c, int err)
{
  if (err)
    answer (c, "error %s", name_of_errno (err));
  else
    answer (c, "ok");
}

/* A match and, for faults, the rest.  Returns false when the answer says what
 * is wrong.
 */

static bool
parse_match_word (const char *key, const char *value, struct match *m)
{
  uint64_t n;

  if (strcmp (key, "op") == 0)
    return parse_op (value, &m->op) == 0;
  if (strcmp (key, "export") == 0) {
    if (find_export (value) == NULL || strlen (value) >= sizeof m->export)
      return false;
    strcpy (m->export, value);
    return true;
  }
  if (parse_number (value, &n) == -1)
    return false;
  if (strcmp (key, "first") == 0) {
    m->ranged = true;
    m->first = n;
    return true;
  }
  if (strcmp (key, "last") == 0) {
    m->ranged = true;
    m->last = n;
    return true;
  }
  if (n > 1)
    return false;
  if (strcmp (key, "fua") == 0)
    m->fua = n;
  else if (strcmp (key, "fast") == 0)
    m->fast = n;
  else
    return false;
  return true;
}

static bool
parse_fault_word (const char *key, const char *value, struct fault *f)
{
  if (strcmp (key, "errno") == 0) {
    f->error = parse_errno (value);
    return f->error != -1;
  }
  if (strcmp (key, "skip") == 0)
    return parse_number (value, &f->skip) == 0;
  if (strcmp (key, "count") == 0)
    return parse_number (value, &f->count) == 0;
  if (strcmp (key, "partial") == 0)
    return parse_number (value, &f->partial) == 0;
  return parse_match_word (key, value, &f->match);
}

/* Parses the words after the name.  Either WHEN or the rest of the fault may
 * be there, as the command is "gate" or "fault".
 */
static bool
parse_fault (struct command *c, bool is_gate, struct fault *f, bool *after)
{
  bool have_op = false;

  *f = (struct fault){
    .match = { .op = OP_ANY, .fua = -1, .fast = -1, .last = UINT64_MAX },
    .count = FOR_EVER,
  };
  *after = false;
  for (size_t i = 2; i < c->nr_words; i++) {
    char *key = c->words[i];
    char *value = strchr (key, '=');
    bool good = value != NULL;

    if (good) {
      *value++ = '\0';
      have_op |= strcmp (key, "op") == 0;
      if (is_gate && strcmp (key, "when") == 0) {
        *after = strcmp (value, "after") == 0;
        good = *after || strcmp (value, "before") == 0;
      }
      else if (is_gate)
        good = parse_match_word (key, value, &f->match);
      else
        good = parse_fault_word (key, value, f);
    }
    if (!good) {
      answer (c, "error bad word: %s%s%s", key, value ? "=" : "",
              value ? value : "");
      return false;
    }
  }
  if (c->nr_words < 2 || !have_op || (!is_gate && f->error == 0)) {
    answer (c, "error %s needs a name%s", c->words[0],
            is_gate ? " and op=" : ", op= and errno=");
    return false;
  }
  return true;
}

/* The commands. */

static void
do_fault (struct command *c)
{
  struct fault fault;
  bool after;

  if (parse_fault (c, false, &fault, &after))
    answer_errno (c, fault_set (c->words[1], &fault));
}

static void
do_gate (struct command *c)
{
  struct fault fault;
  bool after;

  if (parse_fault (c, true, &fault, &after))
    answer_errno (c, gate_close (c->words[1], &fault.match, after));
}

static void
do_unfault (struct command *c)
{
  answer_errno (c, fault_remove (c->words[1]));
}

static void
do_open (struct command *c)
{
  answer_errno (c, gate_open (c->words[1]));
}

static void
wait_for (struct command *c, uint64_t count,
          int (*wait) (const char *, uint64_t, uint64_t *))
{
  uint64_t n;
  int err;

  if (c->nr_words > 2 && parse_number (c->words[2], &count) == -1) {
    answer (c, "error bad count: %s", c->words[2]);
    return;
  }
  err = wait (c->words[1], count, &n);
  if (err)
    answer_errno (c, err);
  else
    answer (c, "ok %" PRIu64, n);
}

static void
do_hits (struct command *c)
{
  wait_for (c, 0, fault_wait_hits);
}

static void
do_gated (struct command *c)
{
  wait_for (c, 1, gate_wait_standing);
}

static void
do_latency (struct command *c)
{
  enum op op;
  uint64_t ns;

  if (strncmp (c->words[1], "op=", 3) != 0 ||
      parse_op (c->words[1] + 3, &op) == -1 ||
      parse_time (c->words[2], &ns) == -1) {
    answer (c, "error latency needs op=OP TIME");
    return;
  }
  latency_set (op, ns);
  answer (c, "ok");
}

static void
do_serve (struct command *c)
{
  uint64_t n;

  if (parse_number (c->words[1], &n) == -1 || n > 1 << 20) {
    answer (c, "error bad number: %s", c->words[1]);
    return;
  }
  serve_set (n);
  answer (c, "ok");
}

static void
do_size (struct command *c)
{
  const char *text = c->words[c->nr_words - 1];
  const struct export *export = &exports[0];
  int64_t size = nbdkit_parse_size (text);

  if (c->nr_words == 3)
    export = strncmp (c->words[1], "export=", 7) == 0
                 ? find_export (c->words[1] + 7)
                 : NULL;
  if (size == -1 || export == NULL) {
    answer (c, "error size needs [export=E] SIZE");
    return;
  }
  answer_errno (c, image_resize (export->image, size));
}

static void
do_stats (struct command *c)
{
  char line[MAX_ANSWER - 64];

  log_stats (line, sizeof line);
  answer (c, "ok %s max_serving=%u", line, serve_max_seen ());
}

static void
do_stats_reset (struct command *c)
{
  log_stats_reset ();
  serve_reset_max_seen ();
  answer (c, "ok");
}

static void
do_sync (struct command *c)
{
  answer_errno (c, log_sync () == -1 ? EIO : 0);
}

static void
do_offer (struct command *c)
{
  for (size_t i = 1; i < c->nr_words; i++) {
    char *value = strchr (c->words[i], '=');

    if (value)
      *value++ = '\0';
    if (value == NULL || offer_set (c->words[i], value) == -1) {
      answer (c, "error bad word: %s", c->words[i]);
      return;
    }
  }
  answer (c, "ok");
}

static void
do_copy (struct command *c)
{
  const struct export *export = &exports[0];
  bool volatiles = false;

  for (size_t i = 1; i + 1 < c->nr_words; i++)
    if (strncmp (c->words[i], "export=", 7) == 0)
      export = find_export (c->words[i] + 7);
    else
      volatiles = strcmp (c->words[i], "volatile=1") == 0;
  if (export == NULL)
    answer (c, "error no such export");
  else
    answer_errno (
        c, image_copy (export->image, c->words[c->nr_words - 1], volatiles));
}

static void
do_probe (struct command *c)
{
  enum op op;

  if (strncmp (c->words[1], "op=", 3) != 0 ||
      parse_op (c->words[1] + 3, &op) == -1 || op == OP_ANY) {
    answer (c, "error probe needs op=OP");
    return;
  }
  serve_as (op);
  answer (c, "ok");
}

/* No request acts once its image is frozen, and none is answered after that:
 * what was acknowledged is kept.
 */
static void
do_die (struct command *c)
{
  if (strcmp (c->words[1], "keep=1") == 0)
    for (size_t i = 0; i < nr_exports; i++)
      image_freeze (exports[i].image);
  _exit (EXIT_SUCCESS);
}

static void
do_crash (struct command *c)
{
  log_crash ();
  for (size_t i = 0; i < nr_exports; i++)
    image_forget (exports[i].image);
  answer (c, "ok");
}

static const struct {
  const char *name;
  size_t min, max; /* words after the name */
  void (*run) (struct command *);
} commands[] = {
  { "fault", 1, MAX_WORDS, do_fault },
  { "unfault", 1, 1, do_unfault },
  { "hits", 1, 2, do_hits },
  { "gate", 1, MAX_WORDS, do_gate },
  { "gated", 1, 2, do_gated },
  { "open", 1, 1, do_open },
  { "latency", 2, 2, do_latency },
  { "serve", 1, 1, do_serve },
  { "size", 1, 2, do_size },
  { "offer", 1, MAX_WORDS, do_offer },
  { "copy", 1, 3, do_copy },
  { "probe", 1, 1, do_probe },
  { "die", 1, 1, do_die },
  { "stats", 0, 0, do_stats },
  { "stats-reset", 0, 0, do_stats_reset },
  { "sync", 0, 0, do_sync },
  { "crash", 0, 0, do_crash },
};

static void
run_command (struct command *c, char *line)
{
  const char *separators = " \t\r\n";
  char *saved, *word;

  c->nr_words = 0;
  for (word = strtok_r (line, separators, &saved);
       word && c->nr_words < MAX_WORDS;
       word = strtok_r (NULL, separators, &saved))
    c->words[c->nr_words++] = word;
  if (c->nr_words == 0) {
    answer (c, "error no command");
    return;
  }
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp (c->words[0], commands[i].name) == 0) {
      if (c->nr_words - 1 < commands[i].min ||
          c->nr_words - 1 > commands[i].max)
        answer (c, "error wrong number of words for %s", c->words[0]);
      else
        commands[i].run (c);
      return;
    }
  answer (c, "error unknown command: %s", c->words[0]);
}

/* Connections. */

static void
serve_lines (int fd)
{
  FILE *in = fdopen (dup (fd), "r");
  char *line = NULL;
  size_t allocated = 0;
  struct command command;
  bool good = in != NULL;

  while (good && getline (&line, &allocated, in) != -1) {
    run_command (&command, line);
    good = send (fd, command.answer, strlen (command.answer), MSG_NOSIGNAL) !=
               -1 &&
           send (fd, "\n", 1, MSG_NOSIGNAL) != -1;
  }
  free (line);
  if (in)
    fclose (in);
}

static void *
connection_thread (void *arg)
{
  struct connection *connection = arg;

  serve_lines (connection->fd);

  pthread_mutex_lock (&lock);
  close (connection->fd);
  connection->ended = true;
  pthread_mutex_unlock (&lock);
  return NULL;
}

/* Joins the threads that have ended.  Called with the lock held. */
static void
reap_connections (void)
{
  struct connection **p = &connections, *connection;

  while ((connection = *p) != NULL) {
    if (connection->ended) {
      *p = connection->next;
      pthread_join (connection->thread, NULL);
      free (connection);
    }
    else
      p = &connection->next;
  }
}

static void
add_connection (int fd)
{
  struct connection *connection = calloc (1, sizeof *connection);
  bool good;

  pthread_mutex_lock (&lock);
  reap_connections ();
  good = connection != NULL;
  if (good) {
    connection->fd = fd;
    connection->next = connections;
    good = pthread_create (&connection->thread, NULL, connection_thread,
                           connection) == 0;
  }
  if (good)
    connections = connection;
  pthread_mutex_unlock (&lock);
  if (!good) {
    free (connection);
    close (fd);
  }
}

/* Ends when control_stop shuts the socket down. */
static void *
listener_thread (void *arg)
{
  int fd;

  (void) arg;
  for (;;) {
    fd = accept4 (listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd != -1)
      add_connection (fd);
    else if (errno != EINTR && errno != ECONNABORTED)
      return NULL;
  }
}

int
control_listen (const char *path, struct export *e, size_t n)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  exports = e;
  nr_exports = n;
  if (strlen (path) >= sizeof addr.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (addr.sun_path, path);
  listening = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening == -1)
    return -1;
  if (bind (listening, (struct sockaddr *) &addr, sizeof addr) == -1)
    return -1;
  return listen (listening, 64);
}

/* Signals are for the threads of the server.  One that came to ours would
 * wait, under ThreadSanitizer, until the read there ends.
 */
int
control_start (void)
{
  sigset_t all, old;
  int err;

  if (listening == -1)
    return 0;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&listener, NULL, listener_thread, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (err) {
    errno = err;
    return -1;
  }
  started = true;
  return 0;
}

void
control_stop (void)
{
  if (listening != -1)
    shutdown (listening, SHUT_RDWR);
  if (started)
    pthread_join (listener, NULL);
  if (listening != -1)
    close (listening);
  listening = -1;
  started = false;

  /* Without the listener no other thread changes the list. */
  pthread_mutex_lock (&lock);
  for (struct connection *c = connections; c; c = c->next)
    if (!c->ended)
      shutdown (c->fd, SHUT_RDWR);
  pthread_mutex_unlock (&lock);
  while (connections) {
    struct connection *next = connections->next;

    pthread_join (connections->thread, NULL);
    free (connections);
    connections = next;
  }
}
