/* SPDX-License-Identifier: BSD-3-Clause */

/* Included before each source of the filter: every atomic access is a point
 * where another thread may run.  See sched.c.
 */

#ifndef SCHED_ATOMICS_H
#define SCHED_ATOMICS_H

#include <config.h> /* before any header of the system */

#include <stdatomic.h>

extern void sched_atomic (void);

#ifndef __clang__

#undef atomic_load_explicit
#define atomic_load_explicit(p, order)                                         \
  __extension__({                                                              \
    __auto_type sched_p = (p);                                                 \
    __typeof__ ((void) 0, *sched_p) sched_v;                                   \
    sched_atomic ();                                                           \
    __atomic_load (sched_p, &sched_v, order);                                  \
    sched_v;                                                                   \
  })

#undef atomic_store_explicit
#define atomic_store_explicit(p, v, order)                                     \
  __extension__({                                                              \
    __auto_type sched_p = (p);                                                 \
    __typeof__ ((void) 0, *sched_p) sched_v = (v);                             \
    sched_atomic ();                                                           \
    __atomic_store (sched_p, &sched_v, order);                                 \
  })

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(p, v, order)                                  \
  __extension__({                                                              \
    __auto_type sched_p = (p);                                                 \
    __typeof__ ((void) 0, *sched_p) sched_v = (v);                             \
    __typeof__ ((void) 0, *sched_p) sched_old;                                 \
    sched_atomic ();                                                           \
    __atomic_exchange (sched_p, &sched_v, &sched_old, order);                  \
    sched_old;                                                                 \
  })

#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(p, e, v, good, bad)            \
  __extension__({                                                              \
    __auto_type sched_p = (p);                                                 \
    __typeof__ ((void) 0, *sched_p) sched_v = (v);                             \
    sched_atomic ();                                                           \
    __atomic_compare_exchange (sched_p, (e), &sched_v, 0, good, bad);          \
  })

#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(p, v, order)                                 \
  (sched_atomic (), __atomic_fetch_add ((p), (v), order))
#undef atomic_fetch_sub_explicit
#define atomic_fetch_sub_explicit(p, v, order)                                 \
  (sched_atomic (), __atomic_fetch_sub ((p), (v), order))
#undef atomic_fetch_or_explicit
#define atomic_fetch_or_explicit(p, v, order)                                  \
  (sched_atomic (), __atomic_fetch_or ((p), (v), order))
#undef atomic_fetch_and_explicit
#define atomic_fetch_and_explicit(p, v, order)                                 \
  (sched_atomic (), __atomic_fetch_and ((p), (v), order))

#endif /* !__clang__ */

#endif /* SCHED_ATOMICS_H */
