/* SPDX-License-Identifier: BSD-3-Clause */

/* A world that moves: a server with the filter, the backend behind it, clients
 * that come and go, and what befalls them.  A seed draws all of it.
 *
 * The backend is the tests' disk, either in the server itself or in a second
 * server that the first one reaches by nbdkit's nbd plugin:
 *
 *   guests ──nbd──> wtcache ── disk                      (no remote)
 *   guests ──nbd──> wtcache ── nbd plugin ──> disk       (remote)
 *
 * A place is an export.  Its disk has a half that is well, and a zone in which
 * requests may hang or fail:
 *
 *   0 ........ well ........ size/2 .. gap .. 5/8 ... ill ... 7/8 .. gap .. end
 *
 * draw.c draws the world, guest.c has the clients, trouble.c what hangs, fails
 * and dies, and what that excuses, world.c the course of an episode, judge.c
 * the laws, and main.c the seeds.
 */

#ifndef WORLD_WORLD_H
#define WORLD_WORLD_H

#include "../model/client.h"

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)

#define PLACES_MAX   4
#define GUESTS_MAX   32
#define TROUBLES_MAX 400
#define ZOMBIES_MAX  400
#define WAITING_MAX  1024
#define MOMENTS      256

/* How much the guests of a place see of each other's writes. */
enum sharing {
  SHARED,   /* one cache */
  UNSHARED, /* a cache and a range each */
  MIXED,    /* some share, some do not; ranges overlap, reads are not judged */
};

struct moment {
  double time;
  uint64_t probes, clock;
};

struct place {
  char name[16];
  struct history history;
  uint64_t size;
  bool ill;               /* troubles come here */
  double last_trouble;    /* when the last one was over */
  const struct op *flush; /* the last that succeeded and was not looked at */
  double looked_at;
  /* The clock of the history at times past, a ring. */
  struct moment moments[MOMENTS];
  unsigned nr_moments;
  /* The requests of the steady guests, and when. */
  uint64_t steady_done;
  struct measure {
    double seconds;
    uint64_t done, probes;
  } calm;
};

/* The acts of guests whose backend has died: leave at once, go on, or stay
 * without asking for anything.
 */
enum after_death { LEAVE, GO_ON, FALL_SILENT, NR_AFTER };

enum state { AWAY, JOINING, HERE };
enum zone { ZONE_WELL, ZONE_ILL, ZONE_BOTH, ZONE_ALL };

/* The abilities of a guest's own connection to the disk. */
struct abilities {
  bool readonly, flush, zero, trim, multi_conn;
  const char *fua;
};

struct guest {
  struct connection c;
  struct world *world;
  struct place *place;
  enum state state;
  enum zone zone;
  bool steady; /* stays, asks for the same all the time, and is measured */
  bool stays;  /* does not go by itself */
  struct abilities abilities;
  unsigned weights[NR_KINDS];
  unsigned fua_percent, large_percent;
  bool sequential;
  uint64_t next; /* of a sequential one */
  double pause;  /* s between requests */
  double ready;  /* when the next request may be sent */
  unsigned life; /* of the remote, when it came */
  double since;  /* when it began to join, or has joined */
  uint64_t probes;
  uint64_t asked; /* data requests of this connection */
  bool stranger;  /* asks for an export that is not there */
};

enum trouble_kind { GATE, FAULT };

struct trouble {
  enum trouble_kind kind;
  bool active;
  struct place *place;
  const char *op; /* as the disk has it */
  uint64_t first, last;
  uint64_t count;     /* of a fault, 0: for ever */
  uint64_t from, to;  /* on the clock of the history */
  double began, ends; /* when a gate opens or a fault goes */
};

struct waiting {
  struct guest *guest;
  struct op *op;
  double since; /* when nothing excused it any more */
  uint64_t probes;
};

struct world {
  struct run run; /* the server with the filter */
  struct server remote;
  bool has_remote, remote_up;
  unsigned life;
  double returns; /* when a dead remote comes back */
  double lull;    /* when the remote dies, if nothing is asked until then */

  uint64_t seed;
  struct rng draws, events;
  double began;
  struct place places[PLACES_MAX];
  unsigned nr_places;
  struct guest guests[GUESTS_MAX];
  unsigned nr_guests, next_number;

  /* The drawn parameters. */
  enum sharing sharing;
  const char *share;
  struct abilities abilities;
  bool differing, hangs, faults, deaths, churn, limits, forgets, steady;
  enum after_death after_death;
  bool lulls;          /* the remote dies when nothing was asked for a while */
  bool flushes_rarely; /* only the checks flush */
  bool durable_rarely; /* likewise, no FUA */
  bool apart;          /* guests of ill places stay in the ill zone */
  bool swarm;          /* many ask for what hangs, few for what is well */
  const char *focus;   /* what most troubles befall, or NULL */
  unsigned theme;      /* what all guests do, if they do the same */
  bool lasting;        /* what hangs does so to the end of the load */
  double duration;     /* s of load */
  double latency;      /* s, the longest of the disk */
  bool writes_back;
  double dirty_age;
  uint64_t page_size, block_min;
  unsigned operations; /* at most */
  unsigned sent;
  char description[300];

  struct trouble troubles[TROUBLES_MAX];
  unsigned nr_troubles;
  struct waiting waiting[WAITING_MAX];
  unsigned nr_waiting;
  int zombies[ZOMBIES_MAX]; /* connections that were cut, until they end */
  unsigned nr_zombies;

  int prober;
  bool probing;
  uint64_t probes;
  double probed, longest_probe;

  /* The steady guests are measured in calm, and once things hang and have
   * settled.
   */
  enum { BEFORE, CALM, SETTLING, HANGING } phase;
  double measured; /* when the measurement began, or will */
  struct measure begun[PLACES_MAX];

  pid_t children[32]; /* that change limits */
  unsigned nr_children;
};

/* All that return bool: false, and why in run.complaint. */

extern void draw_world (struct world *w);
extern void draw_abilities (struct world *w, struct guest *g);

extern struct server *world_disk (struct world *w);
extern bool world_tell_disk (struct world *w, const char *command);
/* A law is broken. */
extern bool world_broken (struct world *w, unsigned law, const char *format,
                          ...) __attribute__ ((format (printf, 3, 4)));

/* An episode, from the start of its servers to their end. */
extern bool world_run (struct world *w);

/* judge.c */
/* For each request that ends. */
extern void judge_request (struct connection *c, struct op *op, int error);
/* The durable image of a place has what is durable; FLUSH: the last flush that
 * succeeded, or NULL.
 */
extern bool judge_durable (struct world *w, struct place *p,
                           const struct op *flush);
/* After flushes, and now and then for FUA alone. */
extern bool judge_images (struct world *w);
extern bool judge_ages (struct world *w);
/* Measures calm from 0.5 s on to the first trouble, and from 0.7 s after that.
 */
extern bool judge_rates (struct world *w);
extern bool judge_compare_rates (struct world *w);

/* guest.c */
extern bool guest_dial (struct guest *g);
extern bool guest_leave (struct guest *g); /* with a word */
extern bool guest_cut (struct guest *g);   /* without */
extern bool guest_ask (struct guest *g);
extern bool guest_is_well (const struct guest *g);
extern bool guests_serve (struct world *w, int ms);
extern bool guest_wait_here (struct guest *g);
extern void guests_close (struct world *w);

/* trouble.c */
extern bool trouble_happens (struct world *w);
extern bool trouble_ends (struct world *w);     /* those whose time has come */
extern bool trouble_ends_all (struct world *w); /* and the remote is back */
extern bool trouble_excuses_error (struct guest *g, const struct op *op);
extern bool trouble_look_for_hangs (struct world *w);
extern bool trouble_in (const struct world *w, const struct place *p);
extern void trouble_waits (struct guest *g, struct op *op);
extern void trouble_waits_no_more (struct world *w, const struct op *op);
extern void probe_serve (struct world *w);
extern bool probe_start (struct world *w);
extern bool world_is_late (struct world *w, double since, uint64_t probes,
                           double more);

#endif /* WORLD_WORLD_H */
