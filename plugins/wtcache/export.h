/* SPDX-License-Identifier: BSD-3-Clause */

/* A cached export: identity, size, connections, and who may be called.  See
 * export.c.
 */

#ifndef WTCACHE_EXPORT_H
#define WTCACHE_EXPORT_H

#include "base/stats.h"
#include "base/workers.h"
#include "pagecache.h"
#include "submit.h"

enum mode {
  MODE_WRITEBACK,
  MODE_THROUGH, /* at once, durable after a flush: the thread model's default */
  MODE_WRITETHROUGH,
  MODE_WRITEAROUND,
};

/* What each is called. */
extern const char *const mode_names[MODE_WRITEAROUND + 1];

/* What the administrator chose, for all exports.  The atomic ones can be
 * changed while it runs.  Relaxed: each is read by itself, and whoever reads
 * acts a moment longer by the old one.
 */
struct settings {
  _Atomic enum mode mode;
  _Atomic uint64_t dirty_max; /* bytes; 0: auto */
  _Atomic uint64_t dirty_age; /* ns */
  _Atomic unsigned depth;     /* 0: auto */
  _Atomic uint32_t readahead; /* bytes; 0: off */
  uint32_t page_size;         /* bytes */
  uint64_t drain;             /* ns */
  uint32_t fill;              /* bytes; 0: auto */
  bool keep;                  /* clean pages outlive the last connection */
  bool one_cache;             /* all names are one disk */
};

/* What write-back knows of an export.  See writeback.c. */
struct writeback {
  struct task task, drain_task;
  /* The task is under way; whoever sets it runs it.  Acquire and release pair
   * with each other: what one run saw, the next sees.
   */
  _Atomic bool running;
  _Atomic bool wanted;     /* asked for again while it ran */
  _Atomic bool refusing;   /* the backend refused write-back last */
  _Atomic uint64_t retry;  /* ns; when refusing: not before this */
  _Atomic unsigned passes; /* flushes under way: background work waits */
  _Atomic unsigned drains; /* tasks that drain it; it is not freed */

  /* For people alone: relaxed. */
  _Atomic int error;             /* when refusing: the last errno */
  _Atomic int64_t failing_since; /* … and since when, in the time of day, s */
  _Atomic uint64_t errors;       /* passes that failed */
};

struct export
{
  /* Constant. */
  const struct settings *settings;
  struct memory *memory;
  char *name;
  bool tls;
  bool shared; /* among connections */
  unsigned number;

  uint32_t preferred; /* bytes; changes only while it has no connection */

  struct pagecache pc;
  struct submit submit;
  struct writeback writeback;
  struct stats stats;

  /* Ordinary writes may stay dirty: no other cache may be over this disk.
   * Relaxed: it falls once, before the other cache can be written.
   */
  _Atomic bool holds;

  /* Guarded by the registry lock. */
  struct export *next;
  unsigned users, writers; /* connections */
  unsigned keepers;        /* commands that act on it: it is not freed */
  uint64_t last_used;      /* counts closes: the least was idle longest */

  struct lock lease_lock; /* RANK_LEASES */
  /* Guarded by lease_lock. */
  struct backend *attached;
  struct condition returned;
  uint64_t flushes; /* of all connections */
  /* A flush of one connection does not cover what others wrote. */
  bool flushes_each;
};

/* All exports, and what they share. */
struct registry {
  struct settings settings;
  struct memory memory;
  struct pools pools;
  bool parallel; /* threads of ours may call the backend */

  struct lock lock; /* RANK_REGISTRY */
  /* Guarded by lock. */
  struct export *first;
  uint64_t closes;
  uint64_t numbers[(MOST_CACHES + 64) / 64]; /* a bit for each in use */

  /* Relaxed: read by who decides how much may be dirty. */
  _Atomic unsigned holding; /* exports that writers use, or that hold data */
  _Atomic bool stopping;    /* the server was told to stop */
};

extern struct registry registry;

/* SIZE is the budget.  0 or an errno. */
extern int registry_init (const struct settings *settings, uint64_t size,
                          bool parallel);
/* See memory_after_fork. */
extern void registry_after_fork (void);
/* Frees all; what is dirty is lost, and was logged before. */
extern void registry_destroy (void);

/* With TLS and without. */
#define MAX_SIBLINGS 2

/* What export_open has to tell beside the export. */
struct open_result {
  struct export *export;
  /* Shared caches over the same disk that are in use or hold data: each is
   * there until it is let go.
   */
  struct export *siblings[MAX_SIBLINGS];
  unsigned nr_siblings;
  int64_t unsavable; /* bytes held past the end that it now has */
};

/* The cache for a connection, made if there is none.  SHARE: with the other
 * connections of that name; so does one that would not, if there is such a
 * cache in use and helpers can flush what each of its connections wrote.  It
 * joins whatever it can do.  ESTALE: the cache is in use with another size or
 * block size, or holds bytes that do not fit those; ENOMEM.
 */
extern int export_open (const char *name, bool tls, bool share,
                        const struct backend_traits *traits, bool writes,
                        struct open_result *result);
/* Whether the backend has not got all, or may yet forget some of it. */
extern bool export_holds_data (struct export *e);
/* Whether it may yet forget some of it. */
extern bool export_is_unstable (struct export *e);

/* For who has no connection: of the exports with this name (NULL: of all) that
 * with the least number above NUMBER; NULL: no more.  It is there until it is
 * let go.
 */
extern struct export *export_keep_next (unsigned number, const char *name);
extern void export_let_go (struct export *e);

/* A connection that writes ends; true: no other one writes. */
extern bool export_end_writer (struct export *e);
/* The connection no longer uses it; all leases of its backend are back. */
extern void export_close (struct export *e);

/* The backend of a connection may be called by helpers from its first data
 * request on, until it is withdrawn.  That stops the lending, waits for those
 * that borrowed it, flushes it if no later flush would cover what it wrote, and
 * only then lets flushes pass it over.
 */
extern void export_attach (struct export *e, struct backend *b);
extern void export_lend (struct export *e, struct backend *b);
extern void export_withdraw (struct export *e, struct backend *b);

/* A backend to call, NULL if no connection lends one that can do what is
 * needed.  To write, preferably one whose writes can be made durable.
 */
extern struct backend *export_borrow (struct export *e, enum need need);
extern void export_return (struct export *e, struct backend *b);

/* The caller's OWN backend, or if that cannot do what is needed, or the caller
 * has none (NULL), one that is borrowed for one act: a connection that ends
 * waits for no more than that.  NULL: there is none.
 */
extern struct backend *export_take (struct export *e, struct backend *own,
                                    enum need need);
extern void export_put (struct export *e, struct backend *own,
                        struct backend *b);

/* The held ranges of an export from byte FROM on, as text: " OFFSET+LENGTH …",
 * and " ..." where they do not fit in SIZE bytes.
 */
extern void export_format_held (struct export *e, uint64_t from, char *text,
                                size_t size);
/* The same for what was zeroed and is not durable. */
extern void export_format_zeroed (struct export *e, char *text, size_t size);

/* Calls F for every export, under the registry lock. */
extern void exports_for_each (void (*f) (struct export *e, void *opaque),
                              void *opaque);

/* What the miss ratio would be with another wtcache-size, over all exports:
 * they share it.
 */
extern void registry_curve (struct curve_estimate *estimate,
                            struct curve_counts *counts);

#endif /* WTCACHE_EXPORT_H */
