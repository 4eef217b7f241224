/* SPDX-License-Identifier: BSD-3-Clause */

/* The face of the parts that people and monitors see. */

#include <config.h>

#include "watch.h"
#include "watch/commands.h"
#include "watch/control.h"
#include "watch/metrics.h"

int
watch_bind (const char *path, void (*log) (const char *text), char *why,
            size_t size)
{
  commands_init (log);
  return control_bind (path, why, size);
}

int
watch_start (void)
{
  return control_start (command_run, command_is_quick);
}

void
watch_stop (void)
{
  control_stop ();
}

void
watch_unbind (void)
{
  control_unbind ();
}

int
watch_text (char **text, size_t *len)
{
  return metrics_text (text, len);
}

void
watch_name (const char *name)
{
  metrics_name (name);
}

void
watch_end (uint64_t lost)
{
  metrics_end (lost);
}
