/* SPDX-License-Identifier: BSD-3-Clause */

/* Where servers listen, and one conversation with one of them: a line goes
 * there, lines come back, the last of which begins with "ok", "error" or
 * "usage".
 *
 * A server that is stopped (SIGSTOP) or hangs takes connections until its queue
 * is full and answers none, so everything that waits for it can have a limit.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wtcachectl-say.h"
#include "wtcachectl-talk.h"

#define SUFFIX ".ctl"

void
add_text (struct texts *t, const char *text)
{
  t->at = checked (realloc (t->at, (t->nr + 1) * sizeof *t->at));
  t->at[t->nr++] = checked (strdup (text));
}

void
free_texts (struct texts *t)
{
  while (t->nr > 0)
    free (t->at[--t->nr]);
  free (t->at);
  t->at = NULL;
}

void
free_answer (struct answer *a)
{
  free (a->text);
  free_texts (&a->lines);
  free_texts (&a->notes);
}

/* ---- the conversation ---- */

/* A socket whose calls take at most so many seconds; -1: with errno. */
static int
dial (const char *path, unsigned seconds)
{
  const struct timeval limit = { .tv_sec = seconds };
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd, err;

  if (strlen (path) >= sizeof addr.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (addr.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return -1;
  if (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
      connect (fd, (const struct sockaddr *) &addr, sizeof addr) != 0) {
    err = errno;
    close (fd);
    errno = err;
    return -1;
  }
  return fd;
}

/* 0 or an errno. */
static int
send_line (int fd, const char *line)
{
  size_t len = strlen (line);
  ssize_t n;

  while (len > 0) {
    n = send (fd, line, len, MSG_NOSIGNAL);
    if (n == -1 && errno != EINTR)
      /* A server that has too many clients says so, and listens to none. */
      return errno == EPIPE || errno == ECONNRESET ? 0 : errno;
    if (n > 0) {
      line += n;
      len -= n;
    }
  }
  return 0;
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

/* Whether this line is the last of the answer. */
static bool
take_last (struct answer *a, const char *line)
{
  static const struct {
    const char *word;
    enum outcome outcome;
  } words[] = { { "ok", ANSWER_OK },
                { "error", ANSWER_ERROR },
                { "usage", ANSWER_USAGE } };
  const char *rest;
  size_t i;

  for (i = 0; i < sizeof words / sizeof words[0]; ++i)
    if (begins (line, words[i].word, &rest)) {
      a->outcome = words[i].outcome;
      a->text = checked (strdup (rest));
      return true;
    }
  return false;
}

static void
listen_to_answer (FILE *from, struct answer *a, void (*begun) (void))
{
  char *line = NULL;
  size_t size = 0;
  const char *rest;

  while (errno = 0, getline (&line, &size, from) > 0) {
    line[strcspn (line, "\n")] = '\0';
    if (take_last (a, line))
      break;
    if (begins (line, "note", &rest))
      add_text (&a->notes, rest);
    else if (begins (line, "begun", &rest))
      begun ();
    else
      add_text (&a->lines, line);
  }
  free (line);
}

static char *
why_missing (const char *path, unsigned seconds, int err)
{
  if (err == EAGAIN || err == EWOULDBLOCK || err == EINPROGRESS)
    return formatted ("%s: no answer in %u s: the server is stopped, or hangs; "
                      "--timeout=SECONDS waits longer",
                      path, seconds);
  if (err == ENAMETOOLONG)
    return formatted ("%s: longer than the path of a socket can be", path);
  if (err == 0 || err == ECONNRESET)
    return formatted ("%s: the server ended the connection without an answer",
                      path);
  return formatted ("%s: cannot connect: %s", path, strerror (err));
}

struct answer
ask (const char *path, const char *line, unsigned seconds, void (*begun) (void))
{
  struct answer a = { .outcome = ANSWER_MISSING };
  const int fd = dial (path, seconds);
  FILE *from;
  int err = fd == -1 ? errno : 0;

  if (err == 0) {
    from = checked (fdopen (fd, "r"));
    err = send_line (fd, line);
    if (err == 0) {
      listen_to_answer (from, &a, begun);
      err = errno;
    }
    fclose (from);
  }
  if (a.outcome == ANSWER_MISSING)
    a.text = why_missing (path, seconds, err);
  return a;
}

/* ---- where servers are ---- */

const char *
usual_folder (void)
{
  const char *folder = getenv ("WTCACHE_RUN");

  return folder && *folder ? folder : "/run/wtcache";
}

static char *
usual_socket (const char *name)
{
  return formatted ("%s/%s" SUFFIX, usual_folder (), name);
}

char *
socket_of (const char *word)
{
  if (strchr (word, '/') || access (word, F_OK) == 0)
    return checked (strdup (word));
  return usual_socket (word);
}

static int
by_text (const void *a, const void *b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

struct texts
usual_sockets (void)
{
  struct texts names = { 0 };
  DIR *folder = opendir (usual_folder ());
  struct dirent *entry;
  size_t len;

  while (folder && (entry = readdir (folder)) != NULL) {
    len = strlen (entry->d_name);
    if (len <= strlen (SUFFIX) ||
        strcmp (entry->d_name + len - strlen (SUFFIX), SUFFIX) != 0)
      continue;
    entry->d_name[len - strlen (SUFFIX)] = '\0';
    add_text (&names, entry->d_name);
  }
  if (folder)
    closedir (folder);
  if (names.nr > 0)
    qsort (names.at, names.nr, sizeof *names.at, by_text);
  return names;
}

/* Whether a server is there, which one that has died is not. */
static bool
is_alive (const char *path)
{
  const int fd = dial (path, 1);

  if (fd == -1)
    return errno != ECONNREFUSED && errno != ENOENT;
  close (fd);
  return true;
}

char *
only_socket (void)
{
  struct texts names = usual_sockets ();
  char *path = NULL, *all = checked (strdup ("")), *one;
  size_t i, nr = 0;

  for (i = 0; i < names.nr; ++i) {
    one = usual_socket (names.at[i]);
    if (is_alive (one)) {
      char *longer = formatted ("%s%s%s", all, nr > 0 ? ", " : "", names.at[i]);

      free (all);
      all = longer;
      free (path);
      path = one;
      nr++;
    }
    else
      free (one);
  }
  if (nr == 0)
    die (EXIT_USAGE, "there is no server in %s: name its socket",
         usual_folder ());
  if (nr > 1)
    die (EXIT_USAGE, "there are several servers in %s: name one of %s",
         usual_folder (), all);
  free (all);
  free_texts (&names);
  return path;
}
