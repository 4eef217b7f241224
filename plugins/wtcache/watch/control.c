/* SPDX-License-Identifier: BSD-3-Clause */

/* The control socket: a client sends one line, a command, and gets lines, the
 * last of which begins with "ok", "error" (it failed) or "usage" (it makes no
 * sense).  Lines before it begin with another word.
 *
 * One thread listens, and each conversation has a thread of its own, a few at
 * most: a command may take as long as the backend does.  None of them holds
 * anything while it waits for a client, and a client has a few seconds for each
 * thing that it has to do, so a client that hangs or is gone occupies one
 * thread for a while, and delays no other client.  One that leaves while its
 * command runs does not end it, unless the command asks control_is_over.
 *
 * The socket is for its owner alone, from its beginning.  Of several servers
 * that start with one path, one gets it: they hold a lock, SOCKET.lock, while
 * they look and bind.
 *
 * For example, the line "flush export=disk" is answered by "ok", or by a line
 * that begins with "error".
 *
 * May not know what a command does, or nbdkit.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/ownfile.h"
#include "base/thread.h"
#include "base/util.h"
#include "base/filewriter.h"
#include "watch/control.h"

#define MAX_CLIENTS  8
#define KEPT_CLIENTS 2          /* more, for commands that take no time */
#define LINE_BYTES   (16 * KiB) /* the longest command */
#define CLIENT_MS    10000      /* for each thing that a client has to do */
#define STEP_MS      100        /* the server may end meanwhile */
#define LOCK_TRIES   50

enum slot_state { SLOT_FREE, SLOT_RUNS, SLOT_ENDED };

struct conversation {
  int fd;
  bool gone; /* it did not take what was said: the thread's own */

  /* Guarded by control.lock. */
  enum slot_state state;
  pthread_t thread; /* to be joined, unless the slot is free */
};

static struct {
  char path[sizeof (((struct sockaddr_un *) 0)->sun_path)]; /* absolute */
  int fd;
  dev_t dev; /* the socket's file: another at this path is not ours */
  ino_t ino;

  void (*run) (struct conversation *c, char *line);
  bool (*is_quick) (const char *line);
  pthread_t listener;
  int wake[2]; /* a pipe: its end of file ends the listener */
  bool runs;   /* main thread only */
  /* Relaxed: polled. */
  _Atomic bool stopping;

  struct lock lock; /* RANK_CONTROL */
  /* The last KEPT_CLIENTS are for what is quick. */
  struct conversation slots[MAX_CLIENTS + KEPT_CLIENTS];
} control = {
  .fd = -1,
  .lock = { .mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_CONTROL },
};

/* ---- the socket's file ---- */

static int
control_fail (char *why, size_t size, const char *what, int err)
{
  if (err != 0)
    snprintf (why, size, "%s: %s", what, strerror (err));
  else
    snprintf (why, size, "%s", what);
  return -1;
}

/* Of several servers that start with one path one goes on at a time.  Their
 * lock is a file that only they can open: other users can open the folder.
 */
static int
lock_path (struct ownfile *lock, char *why, size_t size)
{
  const struct timespec pause = { .tv_nsec = 100000000 };
  int r, i;

  for (i = 0; (r = ownfile_lock (lock, why, size)) == 1 && i < LOCK_TRIES; ++i)
    nanosleep (&pause, NULL);
  return r == 0 ? 0 : -1;
}

/* Whether the path is free; what a dead server left is removed. */
static int
make_way (const struct sockaddr_un *addr, char *why, size_t size)
{
  struct stat st;
  int fd, r, err;

  if (lstat (addr->sun_path, &st) != 0)
    return errno == ENOENT ? 0
                           : control_fail (why, size, "cannot be used", errno);
  if (!S_ISSOCK (st.st_mode))
    return control_fail (why, size, "exists and is no socket", 0);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1)
    return control_fail (why, size, "no socket can be had", errno);
  r = connect (fd, (const struct sockaddr *) addr, sizeof *addr);
  err = r == 0 ? 0 : errno;
  close (fd);
  if (err == 0 || err == EAGAIN)
    return control_fail (why, size, "another server listens there", 0);
  if (err != ECONNREFUSED)
    return control_fail (why, size, "exists, and whose it is cannot be told",
                         err);
  if (unlink (addr->sun_path) != 0)
    return control_fail (why, size, "is left over and cannot be removed",
                         errno);
  return 0;
}

static int
bind_here (const struct sockaddr_un *addr, char *why, size_t size)
{
  struct stat st;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd == -1)
    return control_fail (why, size, "no socket can be had", errno);
  /* Linux makes the file with the mode of the socket, less the umask: there is
   * no moment at which others could connect.
   */
  if (fchmod (fd, 0600) != 0 ||
      bind (fd, (const struct sockaddr *) addr, sizeof *addr) != 0) {
    control_fail (why, size, "cannot be made", errno);
    close (fd);
    return -1;
  }
  if (lstat (addr->sun_path, &st) != 0 || (st.st_mode & 077) != 0 ||
      listen (fd, 2 * MAX_CLIENTS) != 0) {
    control_fail (why, size, "cannot be for its owner alone", errno);
    unlink (addr->sun_path);
    close (fd);
    return -1;
  }
  control.dev = st.st_dev;
  control.ino = st.st_ino;
  return fd;
}

int
control_bind (const char *path, char *why, size_t size)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  struct ownfile lock = { .path = path, .lock = -1 };

  if (strlen (path) >= sizeof addr.sun_path)
    return control_fail (why, size,
                         "is longer than the path of a socket can be", 0);
  strcpy (addr.sun_path, path);
  if (lock_path (&lock, why, size) == -1)
    return -1;
  if (make_way (&addr, why, size) == 0)
    control.fd = bind_here (&addr, why, size);
  ownfile_unlock (&lock);
  if (control.fd == -1)
    return -1;
  strcpy (control.path, path);
  return 0;
}

/* After a change of user it may not be ours to remove; the next server that
 * wants the path does it then.
 */
static void
run_unbind (char *text)
{
  struct stat st;

  free (text);
  if (lstat (control.path, &st) == 0 && st.st_dev == control.dev &&
      st.st_ino == control.ino)
    unlink (control.path);
  close (control.fd);
  control.fd = -1;
}

static struct writing unbinding = { .run = run_unbind };

void
control_unbind (void)
{
  if (control.fd != -1)
    filewriter_give (&folder_writer, &unbinding, NULL);
}

/* ---- conversations ---- */

static bool
is_stopping (void)
{
  return atomic_load_explicit (&control.stopping, memory_order_relaxed);
}

/* Waits until the client has something, or takes something; false: it does not,
 * or the server ends.
 */
static bool
wait_for (struct conversation *c, short what)
{
  struct pollfd p = { .fd = c->fd, .events = what };
  int waited;

  for (waited = 0; waited < CLIENT_MS && !is_stopping (); waited += STEP_MS)
    if (poll (&p, 1, STEP_MS) > 0)
      return p.revents & what;
  return false;
}

bool
control_is_over (struct conversation *c)
{
  struct pollfd p = { .fd = c->fd };

  return c->gone || is_stopping () ||
         (poll (&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)));
}

static void
conversation_put (struct conversation *c, const char *text, size_t len)
{
  ssize_t n;

  while (len > 0 && !c->gone) {
    n = send (c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      text += n;
      len -= n;
    }
    else if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
             !wait_for (c, POLLOUT))
      c->gone = true;
  }
}

void
control_say (struct conversation *c, const char *format, ...)
{
  va_list args;
  char *text, *p;
  int n;

  va_start (args, format);
  n = vasprintf (&text, format, args);
  va_end (args);
  if (n == -1) {
    c->gone = true; /* without an answer, which is how it knows */
    return;
  }
  for (p = text; *p; ++p) /* one line: a name may have anything in it */
    if ((unsigned char) *p < ' ')
      *p = '?';
  *p = '\n'; /* in the place of the end */
  conversation_put (c, text, n + 1);
  free (text);
}

/* The one line that a client sends, without its newline; NULL: none came. */
static char *
hear (struct conversation *c)
{
  char *line = malloc (LINE_BYTES), *end;
  size_t len = 0;
  ssize_t n;

  while (line && len < LINE_BYTES && wait_for (c, POLLIN)) {
    n = recv (c->fd, line + len, LINE_BYTES - len, 0);
    if (n <= 0)
      break;
    end = memchr (line + len, '\n', n);
    len += n;
    if (end) {
      *end = '\0';
      return line;
    }
  }
  if (len == LINE_BYTES)
    control_say (c, "usage the command is too long");
  free (line);
  return NULL;
}

#define BUSY "too many clients at once: try again"

/* In a place that is kept, only what takes no time. */
static bool
may_run (const struct conversation *c, const char *line)
{
  return c < control.slots + MAX_CLIENTS || control.is_quick (line);
}

static void *
converse (void *arg)
{
  struct conversation *c = arg;
  char *line = hear (c);

  if (line && may_run (c, line))
    control.run (c, line);
  else if (line)
    control_say (c, "error " BUSY);
  free (line);
  LOCK_FOR_SCOPE (&control.lock);
  close (c->fd);
  c->state = SLOT_ENDED;
  return NULL;
}

/* A slot of which the thread has ended is free after it was joined, which then
 * takes no time.
 */
static struct conversation *
free_slot (void)
{
  struct conversation *c;

  assert_held (&control.lock);
  for (c = control.slots; c < control.slots + ARRAY_LEN (control.slots); ++c)
    if (c->state != SLOT_RUNS)
      return c;
  return NULL;
}

static void
begin_conversation (int fd)
{
  static const char busy[] = "error " BUSY "\n";
  struct conversation *c;

  LOCK_FOR_SCOPE (&control.lock);
  c = free_slot ();
  if (c) {
    if (c->state == SLOT_ENDED)
      pthread_join (c->thread, NULL);
    *c = (struct conversation){ .fd = fd, .state = SLOT_RUNS };
    if (thread_begin (&c->thread, converse, c) == 0)
      return;
    c->state = SLOT_FREE;
  }
  send (fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  close (fd);
}

static void *
listen_to_clients (void *arg)
{
  struct pollfd p[2] = { { .fd = control.fd, .events = POLLIN },
                         { .fd = control.wake[0], .events = POLLIN } };
  const struct timespec pause = { .tv_nsec = 100000000 };
  int fd;

  while (!is_stopping ()) {
    if (poll (p, ARRAY_LEN (p), -1) <= 0 || !(p[0].revents & POLLIN))
      continue;
    fd = accept4 (control.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
      begin_conversation (fd);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
             errno == ENOBUFS)
      nanosleep (&pause, NULL); /* others may close some */
  }
  return arg;
}

int
control_start (void (*run) (struct conversation *c, char *line),
               bool (*is_quick) (const char *line))
{
  int err;

  if (control.fd == -1)
    return 0;
  /* Not blocking: a client may have gone again between poll and accept. */
  if (fcntl (control.fd, F_SETFL, O_NONBLOCK) != 0 ||
      pipe2 (control.wake, O_CLOEXEC) != 0)
    return errno;
  control.run = run;
  control.is_quick = is_quick;
  err = thread_begin (&control.listener, listen_to_clients, NULL);
  control.runs = err == 0;
  return err;
}

void
control_stop (void)
{
  struct conversation *c;
  bool began;

  if (!control.runs)
    return;
  control.runs = false;
  atomic_store_explicit (&control.stopping, true, memory_order_relaxed);
  close (control.wake[1]);
  pthread_join (control.listener, NULL);
  close (control.wake[0]);
  /* The listener has ended, so no conversation begins. */
  for (c = control.slots; c < control.slots + ARRAY_LEN (control.slots); ++c) {
    lock_take (&control.lock);
    began = c->state != SLOT_FREE;
    lock_drop (&control.lock);
    if (began)
      pthread_join (c->thread, NULL);
  }
}
