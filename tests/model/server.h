/* SPDX-License-Identifier: BSD-3-Clause */

/* The server of a run: nbdkit with the filter over the tests' disk, in a
 * folder of its own, and the disk's control socket.
 */

#ifndef MODEL_SERVER_H
#define MODEL_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_WORDS 64

struct server {
  char folder[64];
  char socket[96], control[96], durable[96], log[96];
  char *words[MAX_WORDS + 1]; /* the command */
  unsigned nr_words;
  pid_t pid; /* 0: does not run */
  int channel;
  char complaint[512];
};

/* Makes the folder.  THREADS of each connection; 0: as many as nbdkit has by
 * itself.  Words are added to the command before it starts: first those for
 * the filter, if it is to have it, and for the disk, if that is its plugin.
 */
extern void server_init (struct server *s, unsigned threads);
extern void server_filter (struct server *s);
extern void server_disk (struct server *s);
extern void server_word (struct server *s, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

/* Those that return bool say what is wrong in s->complaint. */
extern bool server_start (struct server *s);
extern bool server_lives (struct server *s);
extern bool server_ends (struct server *s); /* by itself, soon */
extern bool
server_stop (struct server *s); /* asks it, and checks how it ends */
extern void server_kill (struct server *s);
extern bool server_control (struct server *s, const char *command);
/* A connection to the disk's control socket; -1: there is none. */
extern int server_dial_control (struct server *s);
extern void server_forget_channel (struct server *s);
/* One of the disk's counters. */
extern bool server_counter (struct server *s, const char *name,
                            uint64_t *value);

/* Reads the durable image. */
extern bool server_durable (struct server *s, uint8_t *buf, uint64_t size);

/* No log is kept, for a run that is long. */
extern void server_forget_log (struct server *s);

/* Whether the disk's log has no write over a block that another write in
 * flight is over, and no request that breaks the block sizes.
 */
extern bool server_check_log (struct server *s);

/* Whether no sanitizer and no assertion has spoken. */
extern bool server_check_stderr (struct server *s);

/* Prints the command and what the server said, as comments. */
extern void server_report (const struct server *s);
extern void server_stacks (const struct server *s);

/* Ends it, and removes its folder unless it is to be kept. */
extern void server_free (struct server *s, bool keep);

/* How much slower than usual all may be. */
extern double time_scale (void);
extern double now (void); /* s */

#endif /* MODEL_SERVER_H */
