/* SPDX-License-Identifier: BSD-3-Clause */

/* The whole filter but for nbdkit, over the backend in an array. */

#ifndef STACK_H
#define STACK_H

#include "array.h"
#include "export/writeback.h"
#include "request.h"
#include "unit.h"

#define MAX_CLIENTS 8

struct stack_options {
  struct backend_traits traits;
  struct settings settings;
  uint64_t memory; /* bytes */
  bool serial;     /* no thread of the filter calls the backend */
  unsigned clients;
};

struct stack {
  struct array *array;
  struct export *export;
  unsigned nr_clients;
  struct backend backends[MAX_CLIENTS]; /* of the array */
  struct connection connections[MAX_CLIENTS];
  struct client clients[MAX_CLIENTS];
  struct client *client; /* the first */
};

/* Everything is allowed, mode writeback, one client, 4 MiB of memory; ordinary
 * writes stay dirty until they are flushed or the bound comes near.
 */
extern struct stack_options stack_options (uint64_t size);
extern struct stack *stack_new (const struct stack_options *o);
/* With the options as stack_options sets them. */
extern struct stack *stack_sized (uint64_t size);
/* Nothing is flushed: what is dirty is forgotten. */
extern void stack_free (struct stack *s);

/* Client I leaves its export, without a drain; it comes again, to the same one.
 */
extern void stack_leave (struct stack *s, unsigned i);
extern void stack_come (struct stack *s, unsigned i);

/* Waits until nothing is done in the background. */
extern void stack_wait_idle (struct stack *s);

/* Bytes of one value.  0 or an errno. */
extern int stack_client_write (struct client *c, uint64_t offset, uint32_t len,
                               int value, bool durable);
/* The same with the first client. */
extern int stack_write (struct stack *s, uint64_t offset, uint32_t len,
                        int value, bool durable);
/* The value of all bytes of a range; less than 0: the errno, negated. */
extern int stack_read (struct stack *s, uint64_t offset, uint32_t len);
extern struct amounts stack_amounts (struct stack *s);

/* Whether the backend has one value in a range, as seen or durable. */
extern bool stack_sees (struct stack *s, uint64_t offset, uint32_t len,
                        int value);
extern bool stack_keeps (struct stack *s, uint64_t offset, uint32_t len,
                         int value);
extern bool stack_array_keeps (struct array *a, uint64_t offset, uint32_t len,
                               int value);
/* The backend's bytes of a range become one value, as if written before. */
extern void stack_set_backend (struct stack *s, uint64_t offset, uint32_t len,
                               int value);
/* Calls of the backend so far, and the bytes of all. */
extern unsigned stack_calls (struct stack *s, enum array_op op);
extern uint64_t stack_bytes (struct stack *s, enum array_op op);

/* Whether a thread sleeps until a page changes, waits for the next flush, or
 * for operations that are open.
 */
extern bool stack_page_waits (struct stack *s, uint64_t offset);
extern bool stack_flush_waits (struct stack *s);
extern bool stack_waits_for_open (struct stack *s);
/* Writes that wait for a place in flight. */
extern unsigned stack_waiting (struct stack *s);

/* A request of another thread, on bytes of one value. */
struct request {
  struct stack *s;
  struct client *client;
  enum { DO_READ, DO_WRITE, DO_FUA, DO_FLUSH, DO_ZERO, DO_TRIM } what;
  uint64_t offset;
  uint32_t len;
  int value; /* to write, or as read */

  int error;
  _Atomic bool ended;
  struct thread thread;
};

extern void request_start (struct request *r);
extern int request_join (struct request *r);

#endif /* STACK_H */
