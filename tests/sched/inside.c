/* SPDX-License-Identifier: BSD-3-Clause */

/* All that the worlds know of the filter's inside: its commands, and how much
 * memory it has.
 */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>

#include "export.h"
#include "watch/commands.h"
#include "say.h"

extern void __wrap_control_say (struct conversation *c, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));
extern bool __wrap_control_is_over (struct conversation *c);

/* The answers to commands. */
void
__wrap_control_say (struct conversation *c, const char *format, ...)
{
  va_list args;
  char text[400];

  (void) c;
  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  tell ("answer: %s", text);
}

bool
__wrap_control_is_over (struct conversation *c)
{
  (void) c;
  return false;
}

static void
log_discard (const char *text)
{
  world_broken (3, "a command discards: %s", text);
}

void
inside_begin (void)
{
  memory_may_grow (&registry.memory, 4 * memory_limit (&registry.memory));
  commands_init (log_discard);
}

void
inside_set (char *command)
{
  command_run (NULL, command);
}

void
inside_check (void)
{
  const uint64_t used = memory_used (&registry.memory);

  if (used > memory_limit (&registry.memory))
    world_broken (15, "%llu bytes of memory are used, of %llu",
                  (unsigned long long) used,
                  (unsigned long long) memory_limit (&registry.memory));
}
