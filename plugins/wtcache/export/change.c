/* SPDX-License-Identifier: BSD-3-Clause */

/* Parameters that change while the server runs.
 *
 * A change is tried in a copy of the settings: the value is parsed, the copy is
 * checked as at the start, and what can fail is done.  Then the one number that
 * changed goes to the live settings, and to the exports that keep a copy of it.
 * For example, "size=8M" is refused if a dirty-max of 5M was given, or if 6M
 * are dirty; otherwise pages leave the cache until it fits, and the size is
 * stored.
 *
 * May not know nbdkit, nor how a command comes.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/value.h"
#include "export/change.h"
#include "export/types.h"

/* Guards the origins, and lets one thread change a setting at a time. */
static struct lock lock; /* RANK_SETTINGS */

void
change_init (void)
{
  lock_init (&lock, RANK_SETTINGS);
}

struct settings
change_snapshot (void)
{
  LOCK_FOR_SCOPE (&lock);

  return settings;
}

/* Makes the cache smaller or larger.  False: *WHY says why that cannot be. */
static bool
resize (uint64_t size, struct why *why)
{
  const uint64_t min = pools_min (&registry.pools);
  struct export *e;
  uint64_t held = 0;

  if (size < min) {
    snprintf (why->s, sizeof why->s,
              "must be at least %s: buffers and tables that were made for the "
              "size at the start take most of that",
              value_size (round_up (min, KiB)).s);
    return false;
  }
  lock_take (&registry.lock);
  for (e = registry.first; e; e = e->next)
    held += pagecache_amounts (&e->pc).held;
  lock_drop (&registry.lock);
  if (held <= size - min)
    switch (pools_resize (&registry.pools, size)) {
    case 0:
      return true;
    case EFBIG:
      snprintf (why->s, sizeof why->s,
                "must be at most %s while the server runs, for which it made "
                "its tables",
                value_size (memory_max (&registry.memory)).s);
      return false;
    }
  snprintf (why->s, sizeof why->s,
            "what is held does not fit: %s are not yet durable on the "
            "backend; flush first",
            value_size (held).s);
  return false;
}

/* Those that are made from now on take it from the settings. */
static void
tell_exports (unsigned parameter)
{
  struct export *e;

  LOCK_FOR_SCOPE (&registry.lock);
  for (e = registry.first; e; e = e->next)
    if (parameter == PARAMETER_DEPTH)
      submit_set_depth (&e->submit, SETTING (depth));
    else
      atomic_store_explicit (&e->pc.around, SETTING (mode) == MODE_WRITEAROUND,
                             memory_order_relaxed);
}

/* Says that NAME cannot be changed, and which parameter may be meant. */
static void
refuse_name (const char *name, struct why *why)
{
  const struct parameter *meant = parameters_meant (name);
  unsigned i, left = 0, found = parameters_find (name);
  size_t len;

  for (i = 0; i < NR_PARAMETERS; ++i)
    left += parameters[i].change != CHANGE_NEVER;
  len = snprintf (why->s, sizeof why->s, "only ");
  for (i = 0; i < NR_PARAMETERS; ++i)
    if (parameters[i].change != CHANGE_NEVER)
      len += snprintf (why->s + len, sizeof why->s - len, "%s%s",
                       parameters[i].name,
                       --left > 1  ? ", "
                       : left == 1 ? " and "
                                   : "");
  len += snprintf (why->s + len, sizeof why->s - len,
                   " can be changed while the server runs");
  if (found == NR_PARAMETERS && meant)
    snprintf (why->s + len, sizeof why->s - len, "; is %s meant?", meant->name);
}

enum change_result
change_setting (const char *name, const char *value, struct why *why)
{
  const unsigned i = parameters_find (name);
  struct settings new;
  struct why ignored;

  if (i == NR_PARAMETERS || parameters[i].change == CHANGE_NEVER) {
    refuse_name (name, why);
    return CHANGE_INVALID;
  }
  LOCK_FOR_SCOPE (&lock);
  new = settings;
  if (!parameters_set (&new, i, value, why) || !parameters_agree (&new, why))
    return CHANGE_INVALID;
  if (parameters[i].parallel && !registry.parallel) {
    snprintf (why->s, sizeof why->s,
              "without effect, because the thread model is not parallel");
    return CHANGE_FAILED;
  }
  if (parameters[i].change == CHANGE_RESIZE && !resize (new.size, why))
    return CHANGE_FAILED;
  parameters_set (&settings, i, value, &ignored);
  settings.origins[i] = ORIGIN_SET;
  if (parameters[i].change == CHANGE_TELL)
    tell_exports (i);
  return CHANGE_DONE;
}
