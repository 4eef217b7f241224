/* SPDX-License-Identifier: BSD-3-Clause */

/* The function that a preloaded one takes the place of. */

#ifndef NEXT_H
#define NEXT_H

#include <dlfcn.h>
#include <stddef.h>

#define NEXT(name)                                                             \
  ({                                                                           \
    static __typeof__ (&name) next;                                            \
    if (next == NULL)                                                          \
      next = (__typeof__ (&name)) dlsym (RTLD_NEXT, #name);                    \
    next;                                                                      \
  })

#endif /* NEXT_H */
