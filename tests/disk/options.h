/* SPDX-License-Identifier: BSD-3-Clause */

/* The parameters of the tests' disk. */

#ifndef WTDISK_OPTIONS_H
#define WTDISK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* The abilities of a connection. */
struct offer {
  int can_fua; /* as nbdkit's constant */
  bool can_flush, can_zero, can_fast_zero, can_trim, can_multi_conn;
  bool is_readonly;
};

struct options {
  struct offer offer; /* at the start, see offer_now */
  int64_t size;       /* -1: that of the durable image */
  char *durable_path, *log_path, *control_path, *export_list; /* or null */
  int model;                                                  /* nbdkit's */
  bool can_extents, is_rotational;
  bool forgets, trim_keeps, log_data, flushes_own;
  uint64_t extents_max; /* bytes that an answer covers; 0: all */
  uint64_t block_min, block_preferred, block_max; /* 0: not given */
};

extern struct options options;

/* The abilities of the next connections; they change while the disk runs: KEY
 * and VALUE are those of the parameters. -1: there is no such word.
 */
extern struct offer offer_now (void);
extern int offer_set (const char *key, const char *value);

extern int options_config (const char *key, const char *value);
extern int options_complete (void);
extern void options_free (void);

#define OPTIONS_HELP                                                           \
  "size=SIZE           Size of the disk (that of the durable image).\n"        \
  "durable=FILE        Durable image, created if missing (in memory).\n"       \
  "exports=A,B,..      Names, each with a disk of its own in FILE.NAME.\n"     \
  "log=FILE            Log of all requests.\n"                                 \
  "log-data=yes        Put what is written into FILE.data.\n"                  \
  "control=SOCKET      Listen for commands.\n"                                 \
  "read-latency=TIME (also write-, flush-, zero-, trim-)\n"                    \
  "serve=N             Requests served at once (no bound).\n"                  \
  "fua=native|emulate|none\n"                                                  \
  "thread-model=MODEL  parallel, serialize-requests, ...\n"                    \
  "flush, zero, fast-zero, trim, extents, multi-conn=yes|no (yes)\n"           \
  "rotational, readonly, trim-keeps=yes|no (no)\n"                             \
  "flush-own=yes|no    Without multi-conn a flush covers what was written "    \
  "by\n"                                                                       \
  "                    its own connection only (no).\n"                        \
  "extents-max=SIZE    Bytes that one answer to block status covers.\n"        \
  "forget=yes|no       Failed flush or FUA loses what is not durable (no).\n"  \
  "block-min, block-preferred, block-max=SIZE"

#endif /* WTDISK_OPTIONS_H */
