/* SPDX-License-Identifier: BSD-3-Clause */

/* Sockets of servers, and what they answer.  See wtcachectl-talk.c. */

#ifndef WTCACHECTL_TALK_H
#define WTCACHECTL_TALK_H

#include <stdbool.h>
#include <stddef.h>

enum outcome {
  ANSWER_OK,
  ANSWER_ERROR,  /* the command failed */
  ANSWER_USAGE,  /* the server finds no sense in it */
  ANSWER_MISSING /* there is no server, or it does not answer */
};

struct texts {
  char **at;
  size_t nr;
};

struct answer {
  enum outcome outcome;
  char *text; /* what follows "ok", "error" or "usage"; or why there is none */
  struct texts lines, notes;
};

/* Sends LINE to the server with the socket PATH and waits for its answer, at
 * most so many SECONDS for each line of it; 0: for ever.  BEGUN is called if
 * the server says that it has begun, and each note as it comes.
 */
extern struct answer ask (const char *path, const char *line, unsigned seconds,
                          void (*begun) (void));
extern void free_answer (struct answer *a);

/* Where servers have their sockets if they are named by a word: /run/wtcache,
 * or the environment's WTCACHE_RUN.
 */
extern const char *usual_folder (void);
/* The socket that WORD names: a path, or NAME.ctl in the usual folder.  To be
 * freed.
 */
extern char *socket_of (const char *word);
/* The names of the sockets in the usual folder, sorted. */
extern struct texts usual_sockets (void);
/* The socket of the only server in the usual folder; else this ends the
 * program with what to do.  To be freed.
 */
extern char *only_socket (void);

extern void add_text (struct texts *t, const char *text);
extern void free_texts (struct texts *t);

#endif /* WTCACHECTL_TALK_H */
