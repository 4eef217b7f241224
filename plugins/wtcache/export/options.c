/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters as nbdkit passes them at the start: the live settings get
 * their values, or the log gets one line, such as
 *
 *   wtcache-size=5x: must be a size from 1M to 64T
 */

#include <config.h>

#include <string.h>

#include <nbdkit-filter.h>

#include "base/util.h"
#include "export/options.h"
#include "export/parameters.h"

int
options_parse (const char *key, const char *value)
{
  const struct parameter *meant;
  unsigned i;
  struct why why;

  /* A misspelt parameter of wtcache is not passed to the plugin, which could
   * not explain it.
   */
  if (strncmp (key, PARAMETERS_PREFIX, strlen (PARAMETERS_PREFIX)) != 0)
    return 0;
  i = parameters_find (key);
  if (i < NR_PARAMETERS) {
    if (parameters_set (&settings, i, value, &why)) {
      settings.origins[i] = ORIGIN_START;
      return 1;
    }
    nbdkit_error ("%s=%s: %s", key, value, why.s);
    return -1;
  }
  meant = parameters_meant (key);
  if (meant)
    nbdkit_error ("%s=%s: there is no such option of wtcache: is "
                  "%s%s meant?",
                  key, value, PARAMETERS_PREFIX, meant->name);
  else
    nbdkit_error ("%s=%s: there is no such option of wtcache", key, value);
  return -1;
}

/* Names the server by a file, if it has no name: "disk" by
 * /run/wtcache/disk.prom.
 */
static int
name_by (const char *path, const char *suffix)
{
  const size_t longest = parameters[PARAMETER_NAME].max;
  const char *base = strrchr (path, '/') + 1;
  size_t len = strlen (base), i;

  if (len > strlen (suffix) &&
      strcmp (base + len - strlen (suffix), suffix) == 0)
    len -= strlen (suffix);
  settings.name = strndup (base, min_u64 (len, longest));
  if (settings.name == NULL) {
    nbdkit_error ("wtcache: %m");
    return -1;
  }
  for (i = 0; settings.name[i]; ++i)
    if (!parameters_names_with (settings.name[i]))
      settings.name[i] = '_';
  return 0;
}

int
options_check (void)
{
  struct why why;

  if (!parameters_agree (&settings, &why)) {
    nbdkit_error ("%s", why.s);
    return -1;
  }
  if (settings.name)
    return 0;
  if (settings.stats)
    return name_by (settings.stats, ".prom");
  if (settings.control)
    return name_by (settings.control, ".ctl");
  return 0;
}

static bool
is_given (unsigned parameter)
{
  return settings.origins[parameter] == ORIGIN_START;
}

void
options_without_threads (void)
{
  const bool depth = is_given (PARAMETER_DEPTH),
             readahead = is_given (PARAMETER_READAHEAD) && SETTING (readahead),
             age = is_given (PARAMETER_DIRTY_AGE),
             share = SETTING (share) == SHARE_ALWAYS, warm = settings.warm;

  nbdkit_debug ("wtcache: the thread model is not parallel: no readahead in "
                "the background, no merging across requests, and dirty data "
                "is looked after at the next request");
  if (depth || readahead || age || share || warm)
    nbdkit_error ("wtcache: the thread model is not parallel, so without "
                  "effect:%s%s%s%s%s",
                  depth ? " wtcache-depth" : "",
                  readahead ? " wtcache-readahead" : "",
                  age ? " wtcache-dirty-age (but at a request)" : "",
                  share ? " wtcache-share=always (but if multi-conn)" : "",
                  warm ? " wtcache-warm" : "");
  if (!is_given (PARAMETER_MODE))
    settings.mode = MODE_PROMPT;
}
