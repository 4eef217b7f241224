/* SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket that only look: status and get.
 *
 * Status waits for no backend, so that it is answered when nothing else is.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "request.h"
#include "watch/status.h"

#define RANGES_BYTES 2048 /* of status, an export */

static const char *
yes_no (bool yes)
{
  return yes ? "yes" : "no";
}

static const char *const warm_names[] = {
  [WARM_NONE] = "none", [WARM_WAITING] = "waiting", [WARM_LOADING] = "loading",
  [WARM_DONE] = "done", [WARM_FULL] = "full",       [WARM_FAILED] = "failed",
};

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

/* The ranges are sent as in the log: OFFSET+LENGTH, with commas between. */
static void
say_export (struct conversation *c, struct export *e, const char *name)
{
  const struct amounts a = pagecache_amounts (&e->pc);
  const bool refused = dirty_is_refused (e);
  const struct warm_progress warm = warm_progress (e->name, e->tls);
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
      " warm=%s warm-listed=%" PRIu64 " warm-fetched=%" PRIu64 " ranges=%s",
      name, yes_no (e->tls), yes_no (e->shared), users, writers, e->pc.size,
      block_size (&e->pc), a.dirty, a.writeback, a.unstable,
      zeroes_bytes (&e->pc.zeroes), a.held, dirty_bound (e), dirty_age (e),
      depth,
      refused ? atomic_load_explicit (&e->writeback.error, memory_order_relaxed)
              : 0,
      refused ? atomic_load_explicit (&e->writeback.failing_since,
                                      memory_order_relaxed)
              : 0,
      warm_names[warm.state], warm.listed, warm.fetched,
      ranges[0] ? ranges + 1 : "");
}

void
status_run (struct command *cmd)
{
  struct outcome_of_all o = { .c = cmd->c };
  char *name;

  say_server (cmd->c);
  FOR_EACH_EXPORT (e, &o, NULL) {
    name = command_encode (e->name);
    if (name)
      say_export (cmd->c, e, name);
    else
      command_failed (&o, e, "no memory");
    free (name);
  }
  if (!command_answer_failure (&o, NULL))
    control_say (cmd->c, "ok");
}

/* ---- options ---- */

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
  encoded = command_encode (value);
  control_say (c, "option name=%s value=%s from=%s changes=%s",
               parameters[i].name, encoded ? encoded : "",
               origins[s->origins[i]],
               yes_no (parameters[i].change != CHANGE_NEVER));
  free (encoded);
}

void
status_run_get (struct command *cmd)
{
  const struct settings now = change_snapshot ();
  unsigned i;

  for (i = 0; i < NR_PARAMETERS; ++i)
    say_option (cmd->c, &now, i);
  control_say (cmd->c, "ok");
}
