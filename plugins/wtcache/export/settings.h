/* SPDX-License-Identifier: BSD-3-Clause */

/* The administrator's choices, for all exports, as they are now. */

#ifndef WTCACHE_SETTINGS_H
#define WTCACHE_SETTINGS_H

#include <stdatomic.h>
#include <stdint.h>

/* How ordinary writes reach the backend. */
enum mode {
  MODE_WRITEBACK, /* They stay dirty, and are written later. */
  /* They are written at once and are durable after a flush: the default where
   * the thread model is not parallel.
   */
  MODE_PROMPT,
  MODE_WRITETHROUGH, /* They are durable at once, as if they had FUA. */
  MODE_WRITEAROUND,  /* The same, and their blocks leave the cache. */
  NR_MODES,
};

/* The name of each mode, as people read it. */
extern const char *const mode_names[NR_MODES];

enum share { SHARE_AUTO, SHARE_ALWAYS, SHARE_NEVER };

/* The parameters, in the order of the table in parameters.c. */
enum {
  PARAMETER_SIZE,
  PARAMETER_MODE,
  PARAMETER_PAGE_SIZE,
  PARAMETER_DIRTY_MAX,
  PARAMETER_DIRTY_AGE,
  PARAMETER_DRAIN,
  PARAMETER_DEPTH,
  PARAMETER_FILL,
  PARAMETER_READAHEAD,
  PARAMETER_SHARE,
  PARAMETER_KEY,
  PARAMETER_KEEP,
  PARAMETER_STATS,
  PARAMETER_WARM,
  PARAMETER_CONTROL,
  PARAMETER_NAME,
  NR_PARAMETERS
};

/* Where the value of a parameter came from. */
enum origin { ORIGIN_DEFAULT, ORIGIN_START, ORIGIN_SET };

/* The numbers are read and changed relaxed: each is read by itself, and a
 * request that began before a change may still act by the old value.
 */
struct settings {
  _Atomic uint64_t size; /* bytes */
  _Atomic uint64_t mode; /* enum mode */
  _Atomic uint64_t page_size;
  _Atomic uint64_t dirty_max; /* bytes, or SETTINGS_PERCENT | N; 0: auto */
  _Atomic uint64_t dirty_age; /* ns */
  _Atomic uint64_t drain;     /* ns */
  _Atomic uint64_t depth;     /* 0: auto */
  _Atomic uint64_t fill;      /* bytes; 0: auto */
  _Atomic uint64_t readahead; /* bytes; 0: off */
  _Atomic uint64_t share;     /* enum share */
  _Atomic uint64_t one_cache; /* all names are one disk */
  _Atomic uint64_t keep;      /* clean pages outlive the last connection */

  /* Constant once the server runs; NULL: not given. */
  char *stats, *control, *warm; /* absolute paths */
  char *name;                   /* of the server, in its statistics */

  enum origin origins[NR_PARAMETERS]; /* the lock of changes guards them */
};

extern struct settings settings;

/* The value of a number now, such as SETTING (depth). */
#define SETTING(number)                                                        \
  atomic_load_explicit (&settings.number, memory_order_relaxed)

#define SETTINGS_PERCENT (UINT64_C (1) << 63)

/* The bytes that a number means which is a size or a percentage of WHOLE. */
static inline uint64_t
settings_bytes (uint64_t number, uint64_t whole)
{
  const uint64_t percent = number & ~SETTINGS_PERCENT;

  if (!(number & SETTINGS_PERCENT))
    return number;
  return whole / 100 * percent + whole % 100 * percent / 100;
}

#endif /* WTCACHE_SETTINGS_H */
