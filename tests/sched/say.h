/* SPDX-License-Identifier: BSD-3-Clause */

/* The messages of an episode. */

#ifndef SCHED_SAY_H
#define SCHED_SAY_H

#include <stdbool.h>

extern bool say_all; /* --tell */
extern void say_line (const char *format, ...)
    __attribute__ ((format (printf, 1, 2)));

#define tell(...)                                                              \
  do {                                                                         \
    if (say_all)                                                               \
      say_line (__VA_ARGS__);                                                  \
  } while (0)

/* A law is broken: the episode ends. */
extern _Noreturn void world_broken (int law, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

/* The filter's inside, for inside.c alone. */
extern void inside_begin (void);
extern void inside_set (char *command);
extern void inside_check (void);

#endif /* SCHED_SAY_H */
