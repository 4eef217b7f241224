/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of the filter that may call the backend.
 *
 * A plugin may rely on the threads that nbdkit calls it in: those have the
 * default stack, 8 MiB on most systems, and block no signal.  For example, a
 * plugin may have a buffer of 512 KiB on its stack, and a command that the sh
 * plugin runs inherits the mask, so that timeout(1) works.  So these threads
 * have the same, and at least MIN_STACK.
 *
 * A stack costs memory only where it was used, except where all memory is
 * locked ("nbdkit --swap"), and addresses, of which a 32-bit process has few.
 * There the threads have MIN_STACK, and are as many as fit into MAX_STACKS.
 */

#include <config.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/thread.h"
#include "base/util.h"

#define MIN_STACK  (1 * MiB)
#define MAX_STACKS (32 * MiB)

/* Whether the process has locked its memory (mlockall): then the system also
 * populates new mappings at once.
 */
static bool
is_memory_locked (void)
{
  FILE *f = fopen ("/proc/self/status", "re");
  unsigned long locked = 0; /* KiB */
  char line[128];

  if (f == NULL)
    return false;
  while (fgets (line, sizeof line, f))
    if (sscanf (line, "VmLck: %lu", &locked) == 1)
      break;
  fclose (f);
  return locked > 0;
}

static bool
are_stacks_dear (void)
{
  return sizeof (void *) < 8 || is_memory_locked ();
}

int
thread_begin (pthread_t *thread, void *(*run) (void *), void *arg)
{
  pthread_attr_t attr;
  size_t stack;
  int err = pthread_attr_init (&attr);

  if (err != 0)
    return err;
  err = pthread_attr_getstacksize (&attr, &stack);
  if (err == 0 && (stack < MIN_STACK || are_stacks_dear ()))
    err = pthread_attr_setstacksize (&attr, MIN_STACK);
  if (err == 0)
    err = pthread_create (thread, &attr, run, arg);
  pthread_attr_destroy (&attr);
  return err;
}

unsigned
thread_limit (unsigned max)
{
  return are_stacks_dear () ? min_u64 (max, MAX_STACKS / MIN_STACK) : max;
}
