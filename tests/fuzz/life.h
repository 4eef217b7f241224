/* SPDX-License-Identifier: BSD-3-Clause */

/* Shared by the parts of a life: the input that decides, disks, connections.
 *
 * fuzz.c chooses the options and the disks, begins and ends a life; steps.c
 * has the steps between.
 */

#ifndef FUZZ_LIFE_H
#define FUZZ_LIFE_H

#include <stdio.h>
#include <stdlib.h>

#include "host.h"
#include "shadow.h"
#include "unit.h"

#define CONNECTIONS 3
#define DISKS       2

struct input {
  const uint8_t *at, *end;
};

struct disk {
  struct host_disk host;
  struct shadow *shadow;
  uint64_t max;  /* bytes it ever has */
  uint64_t last; /* size at the last open that was not refused */
  unsigned open, writers;
  unsigned faults;
};

struct connection {
  struct host_next next;
  void *handle; /* NULL: closed */
  struct disk *disk;
};

/* All of one input. */
struct life {
  struct nbdkit_filter *filter;
  struct input in;
  struct disk disks[DISKS];
  unsigned nr_disks;
  struct connection connections[CONNECTIONS];
  bool shared;  /* connections see each other's writes */
  bool threads; /* a fault may strike between requests */
  bool stopped;
  bool learns;     /* what was read once will be read again */
  unsigned writes; /* so far: no two write the same bytes */
};

/* The next one or two bytes of the input; 0 at its end. */
extern uint8_t input_take (struct input *in);
extern unsigned input_take_16 (struct input *in);

#define CHOOSE(in, list) ((list)[input_take (in) % ARRAY_LEN (list)])

/* With FUZZ_TELL in the environment each step is told. */
#define tell(...)                                                              \
  do {                                                                         \
    if (getenv ("FUZZ_TELL"))                                                  \
      fprintf (stderr, __VA_ARGS__);                                           \
  } while (0)

extern uint64_t disk_size (const struct disk *d);
/* A size from nothing to more than the cache holds, at most MAX. */
extern uint64_t disk_choose_size (struct input *in, uint64_t max,
                                  uint32_t block);
/* How many calls of all disks have failed. */
extern unsigned disk_failures (struct life *l);
extern void disk_heal (struct disk *d);
/* Checks that the durable image has all that was acknowledged as durable. */
extern void disk_check_durable (struct disk *d, uint64_t offset, uint64_t len);
/* FAILED_TOO: half of what failed as well, if this backend flushes for all. */
extern void disk_check_all_durable (struct disk *d, bool failed_too);

/* Opens a connection, as nbdkit does for a client, or closes it. */
extern void steps_open (struct life *l, struct connection *c, struct disk *d,
                        bool readonly);
extern void steps_close (struct life *l, struct connection *c, bool finalize);
extern uint8_t *steps_buffer (uint64_t len);
/* One step, as the input has it. */
extern void steps_run (struct life *l);

#endif /* FUZZ_LIFE_H */
