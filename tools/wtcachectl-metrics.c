/* SPDX-License-Identifier: BSD-3-Clause */

/* The statistics of a server: each line of its answer is "metric" and a line
 * of Prometheus's text format, which is printed as it is, or as JSON:
 *
 *   {"name": "wtcache_depth", "labels": {"export": ""}, "value": 16.0}
 */

#include <config.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "wtcache-top-parse.h"
#include "wtcachectl-metrics.h"
#include "wtcachectl-say.h"
#include "wtcachectl-show.h"

/* NULL: the server has sent something else. */
static const char *
metric_of (const char *line)
{
  static const char word[] = "metric ";
  const size_t len = sizeof word - 1;

  return strncmp (line, word, len) == 0 ? line + len : NULL;
}

/* The lines together, to be freed. */
static char *
text_of_metrics (const struct answer *a)
{
  char *text = NULL;
  size_t size, i;
  FILE *f = checked (open_memstream (&text, &size));
  const char *metric;

  for (i = 0; i < a->lines.nr; ++i)
    if ((metric = metric_of (a->lines.at[i])) != NULL)
      fprintf (f, "%s\n", metric);
  if (fclose (f) != 0)
    die (EXIT_FAILED, "no memory");
  return text;
}

static int
add_sample (const struct sample *s, void *opaque)
{
  json_t *labels = checked (json_object ()), *value;
  size_t i;

  for (i = 0; i < s->nr_labels; ++i)
    json_object_set_new (labels, s->labels[i].name,
                         checked (json_string (s->labels[i].value)));
  /* JSON has no NaN. */
  value = checked (isfinite (s->value) ? json_real (s->value) : json_null ());
  json_array_append_new (
      opaque, checked (json_pack ("{s:s, s:o, s:o}", "name", s->name, "labels",
                                  labels, "value", value)));
  return 0;
}

int
show_metrics (const struct answer *a, bool json)
{
  char *text = text_of_metrics (a);
  struct parse_error error;
  json_t *array;

  if (!json)
    fputs (text, stdout);
  else {
    array = checked (json_array ());
    if (parse_exposition (text, &error, add_sample, array) != 0)
      die (EXIT_FAILED, "metrics: line %u of the answer: %s", error.line,
           error.what);
    print_object (json_pack ("{s:o}", "metrics", array));
  }
  free (text);
  return EXIT_SUCCESS;
}
