/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of the filter, and what their stacks cost.
 *
 * A plugin may rely on the threads that nbdkit calls it in: those have the
 * default stack, 8 MiB on most systems, and block no signal.  For example, a
 * plugin may have a buffer of 512 KiB on its stack, and a command that the sh
 * plugin runs inherits the mask, so that timeout(1) works.  So threads that
 * call the backend have the same, and at least MIN_STACK.
 *
 * A stack costs memory only where it was used, except where all memory is
 * locked ("nbdkit --swap"), and addresses, of which a 32-bit process has few.
 * There those threads have MIN_STACK, and are as many as fit into MAX_STACKS.
 */

#include <config.h>

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/util.h"

#define MIN_STACK  (1 * MiB)
#define MAX_STACKS (24 * MiB) /* 32 MiB are for all that is not counted */
#define OWN_STACK  (256 * KiB)

bool
thread_memory_is_locked (void)
{
  const size_t bytes = sysconf (_SC_PAGESIZE);
  unsigned char there = 0;
  void *p = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED)
    return false;
  if (mincore (p, bytes, &there) != 0)
    there = 0;
  munmap (p, bytes);
  return there & 1;
}

static bool
are_stacks_dear (void)
{
  return sizeof (void *) < 8 || thread_memory_is_locked ();
}

/* STACK 0: the default. */
static int
create (pthread_t *thread, size_t stack, void *(*run) (void *), void *arg)
{
  pthread_attr_t attr;
  int err = pthread_attr_init (&attr);

  if (err != 0)
    return err;
  if (stack != 0)
    err = pthread_attr_setstacksize (&attr, stack);
  if (err == 0)
    err = pthread_create (thread, &attr, run, arg);
  pthread_attr_destroy (&attr);
  return err;
}

static size_t
default_stack (void)
{
  pthread_attr_t attr;
  size_t stack = 0;

  if (pthread_attr_init (&attr) != 0)
    return 0;
  pthread_attr_getstacksize (&attr, &stack);
  pthread_attr_destroy (&attr);
  return stack;
}

int
thread_begin (pthread_t *thread, void *(*run) (void *), void *arg)
{
  const bool is_small = default_stack () < MIN_STACK || are_stacks_dear ();

  return create (thread, is_small ? MIN_STACK : 0, run, arg);
}

int
thread_begin_own (pthread_t *thread, void *(*run) (void *), void *arg)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = create (thread, OWN_STACK, run, arg);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

unsigned
thread_limit (unsigned max)
{
  return are_stacks_dear () ? min_u64 (max, MAX_STACKS / MIN_STACK) : max;
}
