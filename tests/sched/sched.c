/* SPDX-License-Identifier: BSD-3-Clause */

/* Threads of which one runs at a time, in an order that a seed draws.
 *
 * All threads are fibres of one: each has a stack, and a switch costs less than
 * a system call.  A fibre gives way at points: before it takes a lock, before
 * an atomic access, where it waits or sleeps.  At most points it goes on.  The
 * seed draws after how many it is interrupted, which one runs next, and whether
 * the interrupted one also sleeps for a while, as a thread does that the
 * machine has taken the processor from.
 *
 * Time is a number.  It grows by a little at each point, and when all fibres
 * wait it jumps to the first that waits for a time.  So an hour takes no time,
 * and the same seed gives the same run.
 *
 * Not explored: what a processor may do beyond interleaving (weak memory), and
 * interruptions between two plain accesses.
 *
 * May not know the program under test.
 */

#include <config.h>

/* A jump from one stack to another is what it forbids. */
#undef _FORTIFY_SOURCE

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sched.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define STACK_SIZE (1024 * 1024)
#else
#define STACK_SIZE (256 * 1024)
#endif

#define FIBRES_MAX 1024
#define FIRST_NS   UINT64_C (1000000000000)

/* So many points without a jump in time are taken for an endless loop. */
#define SPIN_POINTS UINT64_C (30000000)

enum state { READY, WAITING, ENDED };

struct fibre {
  jmp_buf jump;
  ucontext_t context; /* until it begins */
  bool begun;
  char *stack;
  void *fake_stack; /* of the address sanitizer */

  unsigned number;
  char name[24];
  void *(*run) (void *);
  void *arg, *result;

  enum state state;
  const void *on; /* when waiting */
  const char *what;
  uint64_t until;
  bool woken;
  unsigned place;            /* in the list of those that are ready */
  struct fibre *prev, *next; /* in the list of those that wait */
  uint64_t rank;             /* the highest runs, with POLICY_PRIORITY */
  int error;
  struct held_locks held;
};

static struct {
  struct sched_options o;
  uint64_t random;
  jmp_buf home;
  struct fibre *current;
  struct fibre *all[FIBRES_MAX];
  unsigned nr_all;
  struct fibre *ready[FIBRES_MAX];
  unsigned nr_ready;
  struct fibre *first, *last; /* that wait, by when they began to */
  char *stacks[FIBRES_MAX];   /* of fibres that have ended */
  unsigned nr_stacks;
  struct fibre *over; /* its stack may be used once it is left */
  uint64_t now, next_until;
  uint64_t countdown, lowest;
  uint64_t interruptions, points, digest;
  void (*main) (void *);
} s;

/* SplitMix64 (Steele, Lea and Flood, 2014). */
static uint64_t
draw (uint64_t below)
{
  uint64_t z = s.random += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return (z ^ (z >> 31)) % below;
}

static void
note (uint64_t what)
{
  s.digest = (s.digest ^ what) * UINT64_C (0x100000001b3);
}

/* ---- the lists ---- */

static void
make_ready (struct fibre *f, bool woken)
{
  if (f->state == WAITING) {
    *(f->prev ? &f->prev->next : &s.first) = f->next;
    *(f->next ? &f->next->prev : &s.last) = f->prev;
  }
  f->state = READY;
  f->woken = woken;
  f->on = NULL;
  f->until = NEVER_NS;
  f->place = s.nr_ready;
  s.ready[s.nr_ready++] = f;
  if (s.o.policy == POLICY_PRIORITY && s.current && f->rank > s.current->rank)
    s.countdown = 1; /* it runs from the next point on */
}

static void
leave_ready (struct fibre *f)
{
  s.ready[f->place] = s.ready[--s.nr_ready];
  s.ready[f->place]->place = f->place;
}

static void
begin_to_wait (struct fibre *f)
{
  leave_ready (f);
  f->state = WAITING;
  f->next = NULL;
  f->prev = s.last;
  *(s.last ? &s.last->next : &s.first) = f;
  s.last = f;
  if (f->until < s.next_until)
    s.next_until = f->until;
}

/* Those whose time has come. */
static void
wake_due (void)
{
  struct fibre *f, *next;

  if (s.now < s.next_until)
    return;
  s.next_until = NEVER_NS;
  for (f = s.first; f; f = next) {
    next = f->next;
    if (f->until <= s.now)
      make_ready (f, false);
    else if (f->until < s.next_until)
      s.next_until = f->until;
  }
}

void
sched_describe (char *text, size_t size)
{
  size_t used = 0;
  unsigned i;
  int n;

  text[0] = '\0';
  for (i = 0; i < s.nr_all && used + 120 < size; ++i) {
    const struct fibre *f = s.all[i];

    if (f->state == ENDED)
      continue;
    n = snprintf (text + used, size - used, "\n  %s: ", f->name);
    used += n;
    if (f->state == READY)
      n = snprintf (text + used, size - used, "can run");
    else if (f->until == NEVER_NS)
      n = snprintf (text + used, size - used, "waits for %s", f->what);
    else
      n = snprintf (text + used, size - used, "waits for %s, at most %.6f s",
                    f->what, (f->until - s.now) / 1e9);
    used += n;
  }
}

static void
stuck (const char *why)
{
  static char text[16384];
  const size_t n = snprintf (text, sizeof text, "%s:", why);

  sched_describe (text + n, sizeof text - n);
  s.o.stuck (text);
  abort ();
}

static void
draw_countdown (void)
{
  s.countdown = s.interruptions >= s.o.interruptions
                    ? UINT64_MAX
                    : 1 + draw (2 * (uint64_t) s.o.run);
}

static struct fibre *
highest (void)
{
  struct fibre *best = s.ready[0];
  unsigned i;

  for (i = 1; i < s.nr_ready; ++i)
    if (s.ready[i]->rank > best->rank)
      best = s.ready[i];
  return best;
}

/* The fibre that runs next; time passes until there is one. */
static struct fibre *
choose (void)
{
  wake_due ();
  while (s.nr_ready == 0) { /* it may have been woken before */
    if (s.next_until == NEVER_NS)
      stuck ("all threads wait for each other");
    s.now = s.next_until;
    s.points = 0;
    wake_due ();
  }
  return s.o.policy == POLICY_PRIORITY ? highest ()
                                       : s.ready[draw (s.nr_ready)];
}

/* ---- switches ---- */

static void
arrive (void)
{
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber (s.current->fake_stack, NULL, NULL);
#endif
  if (s.over) {
    s.stacks[s.nr_stacks++] = s.over->stack;
    s.over = NULL;
  }
}

static void
enter (struct fibre *f)
{
  s.current = f;
  note (f->number);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber (NULL, f->stack, STACK_SIZE);
#endif
  if (f->begun)
    _longjmp (f->jump, 1);
  f->begun = true;
  setcontext (&f->context);
}

static void
switch_to (struct fibre *f)
{
  struct fibre *me = s.current;

  if (f == me)
    return;
  me->error = errno;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber (&me->fake_stack, f->stack, STACK_SIZE);
#endif
  s.current = f;
  note (f->number);
  if (_setjmp (me->jump) == 0) {
    if (f->begun)
      _longjmp (f->jump, 1);
    f->begun = true;
    setcontext (&f->context);
  }
  arrive ();
  errno = s.current->error;
}

static void
begin_fibre (void)
{
  struct fibre *f = s.current;

  arrive ();
  f->result = f->run (f->arg);
  f = s.current;
  f->state = ENDED;
  leave_ready (f);
  sched_wake (f);
  s.over = f;
  enter (choose ());
}

static char *
new_stack (void)
{
  char *stack;

  if (s.nr_stacks > 0)
    return s.stacks[--s.nr_stacks];
  stack = mmap (NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED || mprotect (stack, 4096, PROT_NONE) == -1)
    abort ();
  return stack;
}

struct fibre *
sched_begin (const char *name, void *(*run) (void *), void *arg)
{
  struct fibre *f = calloc (1, sizeof *f);

  if (f == NULL || s.nr_all == FIBRES_MAX)
    abort ();
  f->number = s.nr_all;
  snprintf (f->name, sizeof f->name, "%s", name);
  f->run = run;
  f->arg = arg;
  f->stack = new_stack ();
  f->rank = (UINT64_C (1) << 32) + draw (UINT64_C (1) << 32);
  getcontext (&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK_SIZE;
  makecontext (&f->context, begin_fibre, 0);
  s.all[s.nr_all++] = f;
  make_ready (f, false);
  return f;
}

void *
sched_join (struct fibre *f)
{
  while (f->state != ENDED)
    sched_wait (f, f->name, NEVER_NS);
  return f->result;
}

struct fibre *
sched_self (void)
{
  return s.current;
}

const char *
sched_name (void)
{
  return s.current ? s.current->name : "";
}

struct held_locks *
sched_held (void)
{
  static struct held_locks none;

  return s.current ? &s.current->held : &none;
}

/* ---- points ---- */

/* The fibre that runs is interrupted. */
static void
interrupt (void)
{
  const bool may = s.interruptions < s.o.interruptions;

  draw_countdown ();
  if (s.o.policy == POLICY_PRIORITY && highest () != s.current) {
    switch_to (highest ()); /* one has come that is before it */
    return;
  }
  if (!may)
    return;
  s.interruptions++;
  if (draw (100) < s.o.stalls) {
    sched_wait (s.current, "its turn",
                s.now + 1 + draw (1 + draw (s.o.stall_ns)));
    return;
  }
  if (s.o.policy == POLICY_PRIORITY) {
    s.current->rank = --s.lowest;
    switch_to (highest ());
  }
  else
    switch_to (s.ready[draw (s.nr_ready)]);
}

static void
pass (uint64_t ns)
{
  s.now += ns;
  wake_due ();
  if (++s.points > SPIN_POINTS)
    stuck ("threads run on without an end");
  if (--s.countdown == 0)
    interrupt ();
}

void
sched_point (void)
{
  if (s.current)
    pass (s.o.step_ns);
}

void
sched_atomic (void)
{
  if (s.current && s.o.atomics)
    pass (s.o.step_ns / 8);
}

bool
sched_wait (const void *on, const char *what, uint64_t until)
{
  struct fibre *me = s.current;

  if (until <= s.now) {
    sched_point ();
    return false;
  }
  me->on = on;
  me->what = what;
  me->until = until;
  begin_to_wait (me);
  switch_to (choose ());
  return me->woken;
}

void
sched_wake (const void *on)
{
  struct fibre *f, *next;

  for (f = s.first; f; f = next) {
    next = f->next;
    if (f->on == on)
      make_ready (f, true);
  }
}

void
sched_wake_one (const void *on)
{
  struct fibre *f, *found = NULL;
  unsigned n = 0;

  for (f = s.first; f; f = f->next)
    if (f->on == on && draw (++n) == 0)
      found = f;
  if (found)
    make_ready (found, true);
}

void
sched_sleep (uint64_t ns)
{
  sched_wait (s.current, "a time", s.now + ns);
}

uint64_t
sched_now (void)
{
  return s.now;
}

uint64_t
sched_digest (void)
{
  return s.digest;
}

uint64_t
sched_interruptions (void)
{
  return s.interruptions;
}

static void *
run_main (void *arg)
{
  s.main (arg);
  s.current = NULL;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber (NULL, NULL, 0);
#endif
  _longjmp (s.home, 1);
}

void
sched_run (const struct sched_options *o, void (*main) (void *), void *arg)
{
  memset (&s, 0, sizeof s);
  s.o = *o;
  s.random = o->seed;
  s.now = FIRST_NS;
  s.next_until = NEVER_NS;
  s.lowest = UINT64_C (1) << 31;
  s.main = main;
  draw_countdown ();
  sched_begin ("main", run_main, arg);
  if (_setjmp (s.home) == 0)
    enter (s.all[0]);
}
