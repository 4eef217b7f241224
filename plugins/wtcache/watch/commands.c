/* SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket.  Each calls, in a few lines, the part of
 * the filter that does it, and sends the result.
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

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "base/value.h"
#include "request.h"
#include "watch/commands.h"
#include "watch/metrics.h"
#include "watch/status.h"
#include "watch/trace.h"

#define PREFETCH_STEP (1 * MiB) /* by one loan */
#define MAX_SECONDS   86400

static void (*log_text) (const char *text);

void
commands_init (void (*log) (const char *text))
{
  log_text = log;
}

/* ---- flush, drop, discard, prefetch ---- */

/* Reports why no worker can call the backend of this export. */
static void
failed_without_backend (struct outcome_of_all *o, const struct export *e,
                        const char *instead)
{
  if (!registry.parallel)
    command_failed (
        o, e,
        "the thread model is not parallel, so only a client's own request "
        "may call the plugin: %s",
        instead);
  else
    command_failed (
        o, e,
        "no connection that can be used: a client has to open it and send "
        "a request first");
}

/* Writes all held bytes to the backend, and makes them durable. */
static void
flush_all (struct outcome_of_all *o, const char *name)
{
  int err;

  FOR_EACH_EXPORT (e, o, name) {
    if (!dirty_is_held (e))
      continue;
    err = registry.parallel ? writeback_flush (e, NULL) : ENOTCONN;
    if (err == ENOTCONN)
      failed_without_backend (o, e, "let a client send a flush");
    else if (err != 0)
      command_failed (o, e, "%" PRId64 " bytes are not on the backend: %s",
                      pagecache_amounts (&e->pc).held, strerror (err));
  }
}

static void
run_flush (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = command_argument (cmd, "export");

  flush_all (&o, name);
  if (!command_answer_failure (&o, name))
    control_say (cmd->c, "ok");
}

static void
run_drop (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = command_argument (cmd, "export");
  uint64_t bytes = 0;

  FOR_EACH_EXPORT (e, &o, name) {
    bytes += pagecache_drop (&e->pc);
  }
  if (!command_answer_failure (&o, name))
    control_say (cmd->c, "ok bytes=%" PRIu64, bytes);
}

/* The range of a command; false after it sent an error. */
static bool
parse_range (const struct command *cmd, uint64_t *offset, uint64_t *len)
{
  if (command_argument (cmd, "export") &&
      command_number (cmd, "offset", INT64_MAX, offset) &&
      command_number (cmd, "length", INT64_MAX, len) && *len > 0 &&
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
    command_failed (o, e, "offset and length must be multiples of %" PRIu32,
                    block);
    return;
  }
  if (clear_discard (&e->submit, offset, len, &held, &zeroed) != 0) {
    command_failed (
        o, e,
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
  const char *name = command_argument (cmd, "export");
  uint64_t offset, len, bytes = 0;

  if (!parse_range (cmd, &offset, &len))
    return;
  FOR_EACH_EXPORT (e, &o, name) {
    discard (&o, e, offset, len, &bytes);
  }
  if (!command_answer_failure (&o, name))
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
  const uint64_t max = memory_limit (&registry.memory) / 2;
  uint64_t n;
  int err = 0;

  if (end > e->pc.size)
    err = ERANGE;
  else if (len > max)
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
    command_failed (o, e, "the range ends after the export, at %s",
                    value_size (e->pc.size).s);
  else if (err == EFBIG)
    command_failed (o, e,
                    "more than half of the cache, %s, would push itself out",
                    value_size (max).s);
  else if (err == ENOTCONN)
    failed_without_backend (o, e, "let a client send a cache request");
  else if (err != 0)
    command_failed (o, e, "reading at %s failed: %s", value_size (offset - n).s,
                    strerror (err));
}

static void
run_prefetch (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *name = command_argument (cmd, "export");
  uint64_t offset, len;

  if (!parse_range (cmd, &offset, &len))
    return;
  FOR_EACH_EXPORT (e, &o, name) {
    prefetch (&o, e, offset, len);
  }
  if (!command_answer_failure (&o, name))
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
  if (!command_answer_failure (&o, NULL))
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

  FOR_EACH_EXPORT (e, o, NULL) {
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
  FOR_EACH_EXPORT (e, o, name) {
  }
  return o->nr > 0;
}

static void
run_trace (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  const char *file = command_argument (cmd, "file"),
             *name = command_argument (cmd, "export");
  struct trace_result r;
  uint64_t seconds;
  char *only = NULL;
  int err;

  if (file == NULL || file[0] != '/' ||
      !command_number (cmd, "seconds", MAX_SECONDS, &seconds) || seconds == 0) {
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
    command_answer_failure (&o, name);
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

/* ---- metrics ---- */

static void
run_metrics (struct command *cmd)
{
  char *text, *rest, *line;
  size_t len;

  if (metrics_text (&text, &len) != 0) {
    control_say (cmd->c, "error no memory");
    return;
  }
  rest = text;
  while ((line = strsep (&rest, "\n")) != NULL)
    if (*line)
      control_say (cmd->c, "metric %s", line);
  free (text);
  control_say (cmd->c, "ok");
}

/* ---- */

static const struct {
  const char *name;
  void (*run) (struct command *cmd);
  const char *keys; /* of its arguments, each after a space; "*": any */
} commands[] = {
  { "status", status_run, "" },
  { "flush", run_flush, " export" },
  { "drop", run_drop, " export" },
  { "discard", run_discard, " export offset length" },
  { "prefetch", run_prefetch, " export offset length" },
  { "set", run_set, "*" },
  { "get", status_run_get, "" },
  { "metrics", run_metrics, "" },
  { "trace", run_trace, " file seconds export" },
};

void
command_run (struct conversation *c, char *line)
{
  struct command cmd = { .c = c };
  size_t i;

  cmd.name = strsep (&line, " ");
  for (i = 0; i < ARRAY_LEN (commands); ++i)
    if (strcmp (commands[i].name, cmd.name) == 0) {
      if (command_parse (&cmd, commands[i].keys, line))
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
  return strcmp (line, "status") == 0 || strcmp (line, "metrics") == 0;
}
