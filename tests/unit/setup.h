/* SPDX-License-Identifier: BSD-3-Clause */

/* A cache and its submission over the backend in an array, without requests:
 * what tests of submit.h and of submit/ work on.
 */

#ifndef SETUP_H
#define SETUP_H

#include "array.h"
#include "submit.h"
#include "unit.h"

#define SETUP_SIZE (4 * MiB) /* of a backend of setup_new */

struct setup {
  struct cache *cache;
  struct array *array;
  struct submit submit;
};

extern struct setup *setup_traits (const struct backend_traits *traits,
                                   bool merge, unsigned depth);
/* A backend with all traits, and batches that merge neighbours. */
extern struct setup *setup_new (unsigned depth);
extern void setup_free (struct setup *s);

/* Claims blocks and writes bytes of one value.  0 or an errno. */
extern int setup_write (struct setup *s, uint64_t offset, uint32_t len,
                        int value, bool durable);
/* Whether the backend has one value in a range, as seen or durable. */
extern bool setup_has (struct setup *s, bool durable, uint64_t offset,
                       uint32_t len, int value);
extern struct amounts setup_amounts (struct setup *s);
/* How many writes wait for a place. */
extern unsigned setup_waiting (struct setup *s);

/* A range of claimed blocks that another thread writes. */
struct writer {
  struct setup *s;
  uint64_t offset;
  uint32_t len;
  int value;
  bool durable;

  struct thread thread;
  uint8_t *bytes;
  int error;
  unsigned ended;
};

extern void writer_start (struct writer *w, struct setup *s, uint64_t offset,
                          uint32_t len, bool durable);
/* Returns its error. */
extern int writer_join (struct writer *w);

/* Another thread that flushes. */
struct flusher {
  struct setup *s;
  struct thread thread;
  int error;
};

extern void flusher_start (struct flusher *f, struct setup *s);
extern int flusher_join (struct flusher *f);

#endif /* SETUP_H */
