/* SPDX-License-Identifier: BSD-3-Clause */

/* A world in one process: the filter, disks in arrays below it, clients above,
 * and what befalls them.  A seed draws all of it before it begins; another
 * draws which thread runs when.
 *
 *   guests ── the filter's callbacks ── host (tests/fuzz) ── array (tests/unit)
 *
 * draw.c draws the world, guest.c has the clients, trouble.c what hangs, fails
 * and dies and what that excuses, course.c the course of an episode, main.c the
 * seeds and the search for a smaller world that fails alike.
 *
 * Each session, request and trouble is an item and has a number.  The draws do
 * not depend on which items take part, so any set of them is a world.
 */

#ifndef SCHED_WORLD_H
#define SCHED_WORLD_H

#include <nbdkit-filter.h>

#include "../fuzz/host.h"
#include "../model/history.h"
#include "say.h"
#include "sched.h"

#define PLACES_MAX   3
#define GUESTS_MAX   10
#define SESSIONS_MAX 4
#define LANES_MAX    4
#define ASKS_MAX     400 /* of a lane */
#define RULES_MAX    12
#define EVENTS_MAX   8
#define LINKS_MAX    128
#define ITEMS_MAX    8192
#define LAW_DEADLOCK 90
#define LAW_OTHER    91

#define must(condition)                                                        \
  ((condition) ? (void) 0 : must_fail (#condition, __FILE__, __LINE__))
extern _Noreturn void must_fail (const char *what, const char *file, int line);

#define US UINT64_C (1000)
#define MS (1000 * US)
#define S  (1000 * MS)

/* A request as it is drawn. */
struct ask {
  unsigned item;
  enum kind kind;
  bool fua, may_trim, fast, one;
  uint64_t offset, length;
  uint64_t pause; /* ns before it */
};

/* One connection, and the threads that serve its requests. */
struct session {
  unsigned item;
  struct backend_traits says;
  bool readonly, tls, finalizes, leaves_dead;
  uint64_t delay;
  unsigned nr_lanes;
  struct lane {
    struct guest *guest;
    unsigned nr_asks;
    struct ask *asks;
    struct link *link;
  } lanes[LANES_MAX];
};

struct guest {
  struct world *world;
  struct place *place;
  unsigned number;
  uint64_t first, end; /* the bytes that it uses */
  unsigned nr_sessions;
  struct session sessions[SESSIONS_MAX];
  struct fibre *fibre;
};

/* Calls to the disk that hang or fail. */
enum rule_kind { RULE_HANG, RULE_REFUSE, RULE_SPOIL };
struct rule {
  unsigned item;
  enum rule_kind kind; /* SPOIL: it is done, and fails all the same */
  struct place *place;
  unsigned ops; /* bits of enum array_op */
  uint64_t offset, end;
  unsigned skip, count;
  uint64_t from; /* ns */
  uint64_t lasts;
  int error;
};

enum event_kind { EVENT_DIE, EVENT_DIE_LOSING, EVENT_SET, EVENT_STOP };
struct event {
  unsigned item;
  enum event_kind kind;
  struct place *place;
  uint64_t at, lasts;
  char command[64];
};

/* An export and its disk. */
struct place {
  struct world *world;
  char name[16];
  unsigned number;
  uint64_t size;
  struct host_disk disk;
  struct history history;
  bool shared;   /* all its connections have one cache */
  bool one_kind; /* none has TLS: the next inherits what one leaves */
  bool apart;    /* troubles in the upper half, and only some guests there */
  bool reverts;  /* what is not durable may be lost */
  bool resident; /* one connection is there all the time */
  bool up;
  uint64_t latency[ARRAY_OPS];
  struct link *stays;
};

/* A connection. */
struct link {
  struct host_next next;
  void *handle;
  struct place *place;
  unsigned number;
  bool dead;
};

struct world {
  uint64_t seed;
  struct rng rng;
  const struct nbdkit_filter *filter;
  char description[400];

  /* Drawn. */
  bool parallel;
  uint64_t drain, age;
  const char *mode;
  bool writes_back, hangs, stops;
  uint32_t page;
  char config[20][80];
  unsigned nr_config;
  unsigned nr_places, nr_guests, nr_rules, nr_events, nr_items;
  struct place places[PLACES_MAX];
  struct guest guests[GUESTS_MAX];
  struct rule rules[RULES_MAX];
  struct event events[EVENTS_MAX];
  struct sched_options sched;

  /* While it goes on. */
  struct rng moving; /* latencies */
  struct link *links[LINKS_MAX];
  unsigned nr_links;
  uint64_t began;
  bool over;    /* the load is */
  bool stopped; /* the server was told to stop */
  bool busy;    /* of a model that is not parallel: with a request */
};

/* The result of an episode; its process shares it with the one that began it.
 */
struct result {
  int law; /* 0: all is well */
  char complaint[8192];
  char description[400];
  uint64_t digest, interruptions, virtual_ns;
  unsigned requests;
  unsigned nr_items;
  uint8_t used[ITEMS_MAX];
};

struct episode {
  uint64_t seed, schedule;
  uint64_t interruptions; /* at most */
  const uint8_t *without; /* a byte for each item, or NULL */
  bool tell;
};

extern struct result *the_result;
extern const struct episode *the_episode;
extern struct world *the_world;

/* Whether an item takes part; it counts as used then. */
extern bool world_has (unsigned item);
extern uint64_t world_now (void); /* ns since it began */

/* draw.c */
extern void draw_world (struct world *w, uint64_t seed);

/* guest.c */
/* All connections of a place are dead from now on. */
extern void link_kill (struct place *p);
extern struct link *link_open (struct world *w, struct place *p,
                               const struct backend_traits *says, bool readonly,
                               bool tls);
extern void link_close (struct link *l, bool finalize);
extern bool guest_ask (struct link *l, const struct ask *a);
extern void *guest_run (void *guest);

/* trouble.c */
struct asked;
extern void trouble_begin (struct world *w);
extern void trouble_end (struct world *w); /* all is well from now on */
extern int trouble_watch (struct array *a, struct array_watched *c, bool ended,
                          int error);
extern struct asked *asked_begin (struct link *l, struct place *p,
                                  const char *what, const struct op *op);
extern void asked_end (struct asked *r);
/* Whether a failure below explains that it failed. */
extern bool asked_may_fail (const struct asked *r);

/* course.c */
extern void course_run (const struct episode *e, struct result *r);
extern void course_set (struct world *w, const char *command);

#endif /* SCHED_WORLD_H */
