/* SPDX-License-Identifier: BSD-3-Clause */

/* The clients of a run.  See client.c. */

#ifndef MODEL_CLIENT_H
#define MODEL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include <libnbd.h>

#include "history.h"
#include "server.h"

#define MAX_CONNECTIONS 256

struct connection {
  struct run *run;
  struct history *history;
  unsigned number;
  struct nbd_handle *nbd;
  struct rng rng;
  unsigned depth, in_flight;
};

/* A server, its clients, and what became of it. */
struct run {
  struct server server;
  struct history history;
  struct connection *connections;
  unsigned nr_connections;
  bool faults; /* requests may fail */
  /* If not null: called for each request that ends, and judges its error. */
  void (*judge) (struct connection *c, struct op *op, int error);
  double progress; /* when something ended last */
  bool killed;     /* what is in flight ends no more */
  bool failed;
  char complaint[5000];
};

/* All that return bool: false, and the first time why in the complaint. */
extern bool run_fail (struct run *run, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));
/* A step of the server's; what it says is why the run fails. */
extern bool run_step (struct run *run, bool good);

extern bool client_dial (struct connection *c);
extern bool client_hang_up (struct connection *c);
/* Without a word, and without looking at the replies; dials again. */
extern bool client_cut_off (struct connection *c);
/* Connects and says LENGTH bytes, too few or wrong ones, then goes away. */
extern bool client_knock (struct run *run, const char *words, size_t length);
extern bool client_start (struct connection *c, enum kind kind, uint64_t offset,
                          uint64_t length, uint32_t flags);
/* A kind by its weight; what the server cannot do becomes a read. */
extern enum kind client_choose (struct connection *c, const unsigned *weights);

/* Lets the connections go on until something comes or MS have passed. */
extern bool clients_serve (struct run *run, int ms);
/* The same, and fails if nothing has ended for long. */
extern bool clients_serve_in_time (struct run *run);
extern bool clients_finish (struct run *run);

#endif /* MODEL_CLIENT_H */
