/* SPDX-License-Identifier: BSD-3-Clause */

/* The state of an export in words: the one thing that must be understood at
 * once is whether everything is on the backend, and if not, why.
 */

#include <config.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-units.h"
#include "wtcache-top-words.h"

const char *
condition_name (enum condition c)
{
  switch (c) {
  case CONDITION_CLEAN:
    return "clean";
  case CONDITION_HELD:
    return "held";
  case CONDITION_REFUSING:
    return "refusing";
  case CONDITION_UNKNOWN:
    break;
  }
  return "unknown";
}

/* The condition that the file tells, however old it is. */
static enum condition
told_condition (const struct export *e)
{
  const double held = model_held (e);

  if (e->now.v[REFUSING] > 0)
    return CONDITION_REFUSING;
  if (isnan (held))
    return CONDITION_UNKNOWN;
  return held > 0 ? CONDITION_HELD : CONDITION_CLEAN;
}

/* The condition in an old file is not that of now, unless the server had
 * nothing left when it ended.
 */
enum condition
words_condition (const struct source *s, const struct export *e)
{
  const enum condition told = told_condition (e);

  if (s->past && !(s->ended > 0 && told == CONDITION_CLEAN))
    return CONDITION_UNKNOWN;
  return told;
}

/* Adds an amount to what is said already, if it is not nothing. */
static void
add_amount (char **words, double bytes, const char *what)
{
  char *longer;

  if (!(bytes > 0))
    return;
  longer = must_format ("%s%s%s %s", *words, **words ? ", " : "",
                        bytes_text (bytes).s, what);
  free (*words);
  *words = longer;
}

/* "12 MiB dirty, oldest 3 s, 1 MiB on its way, 2 MiB not flushed". */
static char *
held_words (const struct export *e)
{
  const double oldest = e->now.v[OLDEST_DIRTY];
  char *words = must_copy (""), *dirty;

  if (e->now.v[DIRTY] > 0 && !isnan (oldest)) {
    dirty = must_format ("dirty, oldest %s", age_text (oldest).s);
    add_amount (&words, e->now.v[DIRTY], dirty);
    free (dirty);
  }
  else
    add_amount (&words, e->now.v[DIRTY], "dirty");
  add_amount (&words, e->now.v[WRITEBACK], "on its way");
  add_amount (&words, e->now.v[UNSTABLE], "not flushed");
  return words;
}

static char *
refusing_words (const struct export *e)
{
  const double since = e->now.v[FAILING_SINCE];
  char *held = held_words (e), *error = text_printable (e->now.error), *words;

  words = must_format ("backend refuses writes%s%s%s%s; %s", *error ? ": " : "",
                       error, since > 0 ? " since " : "",
                       since > 0 ? time_text (since).s : "",
                       *held ? held : "nothing is dirty");
  free (held);
  free (error);
  return words;
}

static char *
told_state (const struct export *e)
{
  switch (told_condition (e)) {
  case CONDITION_CLEAN:
    return must_copy ("all on the backend");
  case CONDITION_HELD:
    return held_words (e);
  case CONDITION_REFUSING:
    return refusing_words (e);
  case CONDITION_UNKNOWN:
    break;
  }
  return must_copy ("the file does not tell what is dirty");
}

char *
words_state (const struct source *s, const struct export *e)
{
  char *told = told_state (e), *words;

  if (!s->past)
    return told;
  words = must_format ("last known at %s: %s", time_text (s->written).s, told);
  free (told);
  return words;
}

char *
words_saving (const struct source *s)
{
  const double saved = curve_saving (&s->curve, 2);

  if (s->sampled_reads < CURVE_READS)
    return must_format ("what another size of the cache would save: not enough "
                        "reads yet (%.0f of %d in the sample)",
                        s->sampled_reads, CURVE_READS);
  if (isnan (saved))
    return NULL;
  return must_format ("doubling the cache would save %s of backend reads",
                      percent_text (saved).s);
}

char *
words_stale (const struct followed *f)
{
  if (f->trouble)
    return text_printable (f->trouble);
  if (follow_has_ended (f) && f->source.lost > 0)
    return must_format ("the server ended at %s and LOST %s that it could not "
                        "make durable",
                        time_text (f->source.written).s,
                        bytes_text (f->source.lost).s);
  if (follow_has_ended (f))
    return must_format ("the server ended at %s, with all on the backend",
                        time_text (f->source.written).s);
  if (!follow_is_stale (f))
    return NULL;
  return must_format ("not written for %s: the server has ended, or hangs",
                      age_text (follow_age (f)).s);
}

char *
words_name (const struct export *e)
{
  char *name = text_printable (e->name), *number = text_printable (e->number),
       *words;
  const bool tls = strcmp (e->tls, "yes") == 0;

  words = must_format ("%s%s%s%s", *name ? name : "default export",
                       tls ? " (TLS)" : "", e->alike ? " #" : "",
                       e->alike ? number : "");
  free (name);
  free (number);
  return words;
}
