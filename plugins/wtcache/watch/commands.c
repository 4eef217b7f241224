/* SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket.  Each calls, in a few lines, the part of
 * the filter that does it, and sends the result.
 *
 * A command is a word and arguments KEY=VALUE, separated by spaces; in a value,
 * each byte that is no plain character is %XX.
 *
 *   status
 *   flush [export=NAME]
 *   drop [export=NAME]
 *   discard export=NAME offset=BYTES length=BYTES
 *   prefetch export=NAME offset=BYTES length=BYTES
 *   set KEY=VALUE
 *   get
 *   trace file=PATH seconds=N [export=NAME]
 *
 * A name means all caches of that name: with TLS and without, and those that
 * connections have for themselves.  The backend is called only as helpers do,
 * by the loan of a connection's: for one act, and not at all where the thread
 * model is not parallel.
 *
 * May not know nbdkit or sockets.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/name.h"
#include "base/value.h"
#include "export.h"
#include "request.h"
#include "watch/commands.h"
#include "watch/trace.h"

#define MAX_ARGUMENTS 4
#define PREFETCH_STEP (1 * MiB) /* by one loan */
#define RANGES_BYTES  2048      /* of status, an export */
#define MAX_SECONDS   86400

struct command {
  struct conversation *c;
  const char *name;
  struct argument {
    const char *key;
    char *value;
  } arguments[MAX_ARGUMENTS];
  unsigned nr;
};

static void (*log_text) (const char *text);

void
commands_init (void (*log) (const char *text))
{
  log_text = log;
}

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

/* To be freed; NULL: ENOMEM. */
static char *
encode (const char *text)
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

static const char *
argument (const struct command *cmd, const char *key)
{
  unsigned i;

  for (i = 0; i < cmd->nr; ++i)
    if (strcmp (cmd->arguments[i].key, key) == 0)
      return cmd->arguments[i].value;
  return NULL;
}

/* A number of digits alone, at most MOST. */
static bool
number (const struct command *cmd, const char *key, uint64_t most, uint64_t *n)
{
  const char *text = argument (cmd, key);
  char *rest;

  if (text == NULL || !isdigit ((unsigned char) *text))
    return false;
  errno = 0;
  *n = strtoull (text, &rest, 10);
  return errno == 0 && *rest == '\0' && *n <= most;
}

/* ---- answers ---- */

/* How a command that goes over several exports ends: the last failure is its
 * answer, those before it are sent as notes.
 */
struct outcome_of_all {
  struct conversation *c;
  unsigned nr; /* exports */
  char *failure;
};

static void failed (struct outcome_of_all *o, const struct export *e,
                    const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));

static void
failed (struct outcome_of_all *o, const struct export *e, const char *format,
        ...)
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

/* NAME: what the command was given; there was none of that name if there was
 * none at all.
 */
static bool
answer_failure (struct outcome_of_all *o, const char *name)
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

#define FOR_EACH_EXPORT(e, o, name)                                            \
  for (struct export *e = export_keep_next (0, name); e != NULL;               \
       e = next_export (e, name, o))

static struct export *
next_export (struct export *e, const char *name, struct outcome_of_all *o)
{
  const unsigned number = e->number;

  export_let_go (e);
  o->nr++;
  return export_keep_next (number, name);
}

/* ---- status ---- */

static const char *
yes_no (bool yes)
{
  return yes ? "yes" : "no";
}

static void
say_server (struct conversation *c)
{
  const uint64_t size = memory_limit (&registry.memory);

  control_say (
      c,
      "server version=%s pid=%ld parallel=%s stopping=%s mode=%s size=%" PRIu64
      " used=%" PRIu64 " dirty-max=%" PRIu64 " dirty-age-ns=%" PRIu64
      " depth=%" PRIu64 " readahead=%" PRIu64,
      PACKAGE_VERSION, (long) getpid (), yes_no (registry.parallel),
      yes_no (atomic_load_explicit (&registry.stopping, memory_order_relaxed)),
      mode_names[SETTING (mode)], size, memory_used (&registry.memory),
      settings_bytes (SETTING (dirty_max), size), SETTING (dirty_age),
      SETTING (depth), SETTING (readahead));
}

/* How long ago the oldest dirty block became so; 0: none is. */
static uint64_t
dirty_age (struct export *e)
{
  const uint64_t since =
      atomic_load_explicit (&e->pc.dirty_since, memory_order_relaxed);
  const uint64_t now = now_ns ();

  if (pagecache_amounts (&e->pc).dirty == 0 || since == 0 || since > now)
    return 0;
  return now - since;
}

/* The ranges are sent as in the log: OFFSET+LENGTH, with commas between. */
static void
say_export (struct conversation *c, struct export *e, const char *name)
{
  const struct amounts a = pagecache_amounts (&e->pc);
  const bool refused = dirty_is_refused (e);
  char ranges[RANGES_BYTES], *p;
  unsigned depth, users, writers;

  export_format_held (e, 0, ranges, sizeof ranges);
  for (p = ranges; *p; ++p)
    *p = *p == ' ' ? ',' : *p;
  lock_take (&e->submit.lock);
  depth = depth_limit (&e->submit.policy.depth);
  lock_drop (&e->submit.lock);
  lock_take (&registry.lock);
  users = e->users;
  writers = e->writers;
  lock_drop (&registry.lock);
  control_say (
      c,
      "export name=%s tls=%s shared=%s connections=%u writers=%u size=%" PRIu64
      " block=%" PRIu32 " dirty=%" PRId64 " writeback=%" PRId64
      " unstable=%" PRId64 " zeroed=%" PRIu64 " held=%" PRId64 " bound=%" PRIu64
      " dirty-ns=%" PRIu64 " depth=%u errno=%d refused-since=%" PRId64
      " ranges=%s",
      name, yes_no (e->tls), yes_no (e->shared), users, writers, e->pc.size,
      block_size (&e->pc), a.dirty, a.writeback, a.unstable,
      zeroes_bytes (&e->pc.zeroes), a.held, dirty_bound (e), dirty_age (e),
      depth,
      refused ? atomic_load_explicit (&e->writeback.error, memory_order_relaxed)
              : 0,
      refused ? atomic_load_explicit (&e->writeback.failing_since,
                                      memory_order_relaxed)
              : 0,
      ranges[0] ? ranges + 1 : "");
}

static void
run_status (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  char *name;

  say_server (cmd->c);
  FOR_EACH_EXPORT (e, &o, NULL)
  {
    name = encode (e->name);
    if (name)
      say_export (cmd->c, e, name);
    else
      failed (&o, e, "no memory");
    free (name);
  }
  if (!answer_failure (&o, NULL))
    control_say (cmd->c, "ok");
}

/* ---- flush, drop, discard, prefetch ---- */

/* Reports why no worker can call the backend of this export. */
static void
failed_without_backend (struct outcome_of_all *o, const struct export *e,
                        const char *instead)
{
  if (!registry.parallel)
    failed (o, e,
            "the thread model is not parallel, so only a client's own request "
            "may call the plugin: %s",
            instead);
  else
    failed (o, e,
            "no connection that can be used: a client has to open it and send "
            "a request first");
}

/* Writes all held bytes to the backend, and makes them durable. */
static void
flush_all (struct outcome_of_all *o, const char *name)
{
  int err;

  FOR_EACH_EXPORT (e, o, name)
  {
    if (!dirty_is_held (e))
      continue;
    err = registry.parallel ? writeback_flush (e, NULL) : ENOTCONN;
    if (err == ENOTCONN)
      failed_without_backend (o, e, "let a client send a flush");
    else if (err != 0)
      failed (o, e, "%" PRId64 " bytes are not on the backend: %s",
              pagecache_amounts (&e->pc).held, strerror (err));
  }
}

static void
run_flush (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = argument (cmd, "export");

  flush_all (&o, name);
  if (!answer_failure (&o, name))
    control_say (cmd->c, "ok");
}

static void
run_drop (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = argument (cmd, "export");
  uint64_t bytes = 0;

  FOR_EACH_EXPORT (e, &o, name)
  {
    bytes += pagecache_drop (&e->pc);
  }
  if (!answer_failure (&o, name))
    control_say (cmd->c, "ok bytes=%" PRIu64, bytes);
}

/* The range of a command; false after it sent an error. */
static bool
parse_range (const struct command *cmd, uint64_t *offset, uint64_t *len)
{
  if (argument (cmd, "export") && number (cmd, "offset", INT64_MAX, offset) &&
      number (cmd, "length", INT64_MAX, len) && *len > 0 &&
      *len <= INT64_MAX - *offset)
    return true;
  control_say (cmd->c,
               "usage %s needs an export, an offset and a length of at "
               "least 1",
               cmd->name);
  return false;
}

/* A range has to end at a block's end, or at the end of the export: a block
 * that was discarded in part would have neither the client's bytes nor the
 * backend's.
 */
static void
discard (struct outcome_of_all *o, struct export *e, uint64_t offset,
         uint64_t len, uint64_t *bytes)
{
  const uint32_t block = block_size (&e->pc);
  uint64_t held, zeroed;
  char *text;

  if (offset % block != 0 ||
      ((offset + len) % block != 0 && offset + len != e->pc.size)) {
    failed (o, e, "offset and length must be multiples of %" PRIu32, block);
    return;
  }
  if (clear_discard (&e->submit, offset, len, &held, &zeroed) != 0) {
    failed (o, e,
            "too many zeroed ranges are remembered to give up a part of one: "
            "discard more at once");
    return;
  }
  *bytes += held + zeroed;
  if (held + zeroed > 0 &&
      asprintf (&text,
                "wtcache: export %s%s: %" PRIu64 " bytes written and "
                "%" PRIu64 " zeroed in %" PRIu64 "+%" PRIu64
                " were acknowledged and are given up by a discard command",
                name_quoted (e->name).text, e->tls ? " (TLS)" : "", held,
                zeroed, offset, len) != -1) {
    log_text (text);
    free (text);
  }
}

static void
run_discard (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = argument (cmd, "export");
  uint64_t offset, len, bytes = 0;

  if (!parse_range (cmd, &offset, &len))
    return;
  FOR_EACH_EXPORT (e, &o, name)
  {
    discard (&o, e, offset, len, &bytes);
  }
  if (!answer_failure (&o, name))
    control_say (cmd->c, "ok bytes=%" PRIu64, bytes);
}

/* One loan: the size of an export does not change meanwhile. */
static int
prefetch_step (struct export *e, uint64_t offset, uint64_t len)
{
  struct loan loan;
  struct backend *b = loans_borrow (&loan, e, NEED_READ);
  int err;

  if (b == NULL)
    return ENOTCONN;
  if (offset >= e->pc.size || len > e->pc.size - offset)
    err = ERANGE;
  else
    err = fetch_range (e, b, offset, len, ADMIT_READ);
  loans_return (&loan);
  return err;
}

static void
prefetch (struct outcome_of_all *o, struct export *e, uint64_t offset,
          uint64_t len)
{
  const uint64_t end = offset + len;
  const uint64_t most = memory_limit (&registry.memory) / 2;
  uint64_t n;
  int err = 0;

  if (end > e->pc.size)
    err = ERANGE;
  else if (len > most)
    err = EFBIG;
  else if (!registry.parallel)
    err = ENOTCONN;
  for (; err == 0 && offset < end; offset += n) {
    if (control_is_over (o->c))
      return;
    n = min_u64 (end - offset, PREFETCH_STEP);
    err = prefetch_step (e, offset, n);
  }
  if (err == ERANGE)
    failed (o, e, "the range ends after the export, at %s",
            value_size (e->pc.size).s);
  else if (err == EFBIG)
    failed (o, e, "more than half of the cache, %s, would push itself out",
            value_size (most).s);
  else if (err == ENOTCONN)
    failed_without_backend (o, e, "let a client send a cache request");
  else if (err != 0)
    failed (o, e, "reading at %s failed: %s", value_size (offset - n).s,
            strerror (err));
}

static void
run_prefetch (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = argument (cmd, "export");
  uint64_t offset, len;

  if (!parse_range (cmd, &offset, &len))
    return;
  FOR_EACH_EXPORT (e, &o, name)
  {
    prefetch (&o, e, offset, len);
  }
  if (!answer_failure (&o, name))
    control_say (cmd->c, "ok");
}

/* ---- set ---- */

/* Writes back the blocks that the mode writeback held.  Over a serial stack the
 * next request of a client writes it.
 */
static void
leave_writeback (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };

  if (registry.parallel)
    flush_all (&o, NULL);
  if (!answer_failure (&o, NULL))
    control_say (cmd->c, "ok");
}

static void
run_set (struct command *cmd)
{
  const char *name = cmd->arguments[0].key, *value = cmd->arguments[0].value;
  struct why why;

  if (cmd->nr != 1) {
    control_say (cmd->c, "usage set needs one name and one value");
    return;
  }
  switch (change_setting (name, value, &why)) {
  case CHANGE_INVALID:
    control_say (cmd->c, "usage %s=%s: %s", name, value, why.s);
    break;
  case CHANGE_FAILED:
    control_say (cmd->c, "error %s=%s: %s", name, value, why.s);
    break;
  case CHANGE_DONE:
    if (parameters_find (name) == PARAMETER_MODE &&
        SETTING (mode) != MODE_WRITEBACK)
      leave_writeback (cmd);
    else
      control_say (cmd->c, "ok");
    break;
  }
}

/* ---- get ---- */

static void
say_option (struct conversation *c, const struct settings *s, unsigned i)
{
  static const char *const origins[] = {
    [ORIGIN_DEFAULT] = "default",
    [ORIGIN_START] = "start",
    [ORIGIN_SET] = "set",
  };
  char value[4096], *encoded;

  parameters_format (s, i, value, sizeof value);
  encoded = encode (value);
  control_say (c, "option name=%s value=%s from=%s changes=%s",
               parameters[i].name, encoded ? encoded : "",
               origins[s->origins[i]],
               yes_no (parameters[i].change != CHANGE_NEVER));
  free (encoded);
}

static void
run_get (struct command *cmd)
{
  const struct settings now = change_snapshot ();
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; ++i)
    say_option (cmd->c, &now, i);
  control_say (cmd->c, "ok");
}

/* ---- trace ---- */

static void
tell_begun (void *opaque)
{
  control_say (opaque, "begun");
}

static bool
is_over (void *opaque)
{
  return control_is_over (opaque);
}

/* The name of the only export there is, to be freed; NULL: there is another
 * number of them.
 */
static char *
only_export (struct outcome_of_all *o)
{
  char *name = NULL;
  bool more = false;

  FOR_EACH_EXPORT (e, o, NULL)
  {
    if (o->nr == 0)
      name = strdup (e->name);
    else
      more = more || name == NULL || strcmp (name, e->name) != 0;
  }
  if (!more)
    return name;
  free (name);
  return NULL;
}

/* Whether clients have opened an export of that name. */
static bool
is_known (struct outcome_of_all *o, const char *name)
{
  o->nr = 0;
  FOR_EACH_EXPORT (e, o, name)
  {
  }
  return o->nr > 0;
}

static void
run_trace (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *file = argument (cmd, "file"), *name = argument (cmd, "export");
  struct trace_result r;
  uint64_t seconds;
  char *only = NULL;
  int err;

  if (file == NULL || file[0] != '/' ||
      !number (cmd, "seconds", MAX_SECONDS, &seconds) || seconds == 0) {
    control_say (cmd->c,
                 "usage trace needs an absolute path and 1 to %d seconds",
                 MAX_SECONDS);
    return;
  }
  if (name == NULL && (name = only = only_export (&o)) == NULL) {
    control_say (cmd->c, "%s",
                 o.nr == 0 ? "error no client has opened an export yet"
                           : "usage there are several exports: name one");
    return;
  }
  if (!only && !is_known (&o, name)) {
    answer_failure (&o, name);
    return;
  }
  err = trace_record (&registry.pools, name, file, seconds, tell_begun, is_over,
                      cmd->c, &r);
  free (only);
  if (err == EBUSY)
    control_say (cmd->c, "error a trace is being recorded already");
  else if (err != 0)
    control_say (cmd->c, "error %s: after %" PRIu64 " requests: %s", file,
                 r.recorded, strerror (err));
  else if (r.missed > 0)
    control_say (cmd->c,
                 "error %s: %" PRIu64 " requests are recorded, %" PRIu64
                 " more came too fast to be written down",
                 file, r.recorded, r.missed);
  else
    control_say (cmd->c, "ok requests=%" PRIu64, r.recorded);
}

/* ---- */

static const struct {
  const char *name;
  void (*run) (struct command *cmd);
  const char *keys; /* of its arguments, each after a space; "*": any */
} commands[] = {
  { "status", run_status, "" },
  { "flush", run_flush, " export" },
  { "drop", run_drop, " export" },
  { "discard", run_discard, " export offset length" },
  { "prefetch", run_prefetch, " export offset length" },
  { "set", run_set, "*" },
  { "get", run_get, "" },
  { "trace", run_trace, " file seconds export" },
};

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

/* The arguments; false: they are not right. */
static bool
parse_arguments (struct command *cmd, const char *keys, char *rest)
{
  char *word, *equals;

  while ((word = strsep (&rest, " ")) != NULL) {
    equals = strchr (word, '=');
    if (equals == NULL || equals == word || cmd->nr == MAX_ARGUMENTS)
      return false;
    *equals = '\0';
    if (!is_key (keys, word) || argument (cmd, word) || !decode (equals + 1))
      return false;
    cmd->arguments[cmd->nr++] =
        (struct argument){ .key = word, .value = equals + 1 };
  }
  return true;
}

void
command_run (struct conversation *c, char *line)
{
  struct command cmd = { .c = c };
  size_t i;

  cmd.name = strsep (&line, " ");
  for (i = 0; i < ARRAY_LEN (commands); ++i)
    if (strcmp (commands[i].name, cmd.name) == 0) {
      if (parse_arguments (&cmd, commands[i].keys, line))
        commands[i].run (&cmd);
      else
        control_say (c, "usage %s: wrong arguments", cmd.name);
      return;
    }
  control_say (c, "usage there is no command %s", cmd.name);
}

bool
command_is_quick (const char *line)
{
  return strcmp (line, "status") == 0;
}
