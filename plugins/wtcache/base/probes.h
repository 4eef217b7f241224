/* SPDX-License-Identifier: BSD-3-Clause */

/* Static probes (USDT), for bpftrace, perf and gdb.
 *
 * A probe is one nop and a note in the file that says where its arguments are
 * at that place.  They cost what it takes to have them in a register or on
 * the stack; where they are there anyway, nothing.  docs/nbdkit-wtcache-
 * filter.pod documents each; a test compares the two.
 *
 * An argument has no side effect: without sys/sdt.h it is not evaluated.
 */

#ifndef WTCACHE_PROBES_H
#define WTCACHE_PROBES_H

#ifdef ENABLE_PROBES

#include <sys/sdt.h>

#define PROBE2(name, a, b)          DTRACE_PROBE2 (wtcache, name, a, b)
#define PROBE3(name, a, b, c)       DTRACE_PROBE3 (wtcache, name, a, b, c)
#define PROBE4(name, a, b, c, d)    DTRACE_PROBE4 (wtcache, name, a, b, c, d)
#define PROBE5(name, a, b, c, d, e) DTRACE_PROBE5 (wtcache, name, a, b, c, d, e)

#else

/* The compiler checks the arguments, and generates no code. */
#define UNUSED(x)                   ((void) sizeof (x))
#define PROBE2(name, a, b)          (UNUSED (a), UNUSED (b))
#define PROBE3(name, a, b, c)       (PROBE2 (name, a, b), UNUSED (c))
#define PROBE4(name, a, b, c, d)    (PROBE3 (name, a, b, c), UNUSED (d))
#define PROBE5(name, a, b, c, d, e) (PROBE4 (name, a, b, c, d), UNUSED (e))

#endif

/* The kind of a request.  The values are part of the interface, as are the
 * names of the probes.
 */
enum request_kind {
  KIND_READ = 1,
  KIND_WRITE,
  KIND_FUA_WRITE,
  KIND_FLUSH,
  KIND_ZERO,
  KIND_TRIM,
  KIND_BLOCK_STATUS,
  KIND_CACHE,
  REQUEST_KINDS
};

/* The reason of a wait; part of the interface, too. */
enum wait_kind {
  WAIT_IN_FLIGHT = 1, /* blocks that another request is writing */
  WAIT_ACKNOWLEDGED,  /* operations that took acknowledged bytes */
  WAIT_FLUSH,         /* a flush of the backend, one's own or another's */
};

#endif /* WTCACHE_PROBES_H */
