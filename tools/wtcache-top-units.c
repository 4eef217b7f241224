/* SPDX-License-Identifier: BSD-3-Clause */

/* Numbers as people read them: two or three digits and a unit.  A value that is
 * not known is NaN, and shown as a dash.
 */

#include <config.h>

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/util.h"
#include "wtcache-top-units.h"

bool use_unicode;

static const struct text unknown = { "-" };

/* VALUE with one digit after the point if it is small and not whole. */
static struct text
with_unit (double value, const char *unit)
{
  const bool whole = value >= 99.95 || fabs (value - rint (value)) < 0.05;
  struct text t;

  snprintf (t.s, sizeof t.s, "%.*f%s", whole ? 0 : 1, value, unit);
  return t;
}

/* VALUE in the largest of the units, each STEP times the one before it, in
 * which it is at least 1.
 */
static struct text
scaled (double value, double step, const char *const *units, size_t nr_units)
{
  size_t i;

  for (i = 0; i + 1 < nr_units && value >= step * 0.9995; ++i)
    value /= step;
  return with_unit (value, units[i]);
}

struct text
bytes_text (double bytes)
{
  static const char *const units[] = { " B",   " KiB", " MiB", " GiB",
                                       " TiB", " PiB", " EiB" };

  if (isnan (bytes))
    return unknown;
  return scaled (bytes, 1024, units, ARRAY_LEN (units));
}

struct text
count_text (double count)
{
  static const char *const units[] = { "", "k", "M", "G", "T", "P" };

  if (isnan (count))
    return unknown;
  return scaled (count, 1000, units, ARRAY_LEN (units));
}

struct text
percent_text (double part)
{
  if (isnan (part))
    return unknown;
  if (part > 0 && part < 0.001)
    return (struct text){ "<0.1 %" };
  if (part < 1 && part > 0.999)
    return (struct text){ ">99.9 %" };
  return with_unit (part * 100, " %");
}

struct text
duration_text (double seconds)
{
  if (isnan (seconds))
    return unknown;
  if (seconds < 0.9995e-3)
    return with_unit (seconds * 1e6, use_unicode ? " \302\265s" : " us");
  if (seconds < 0.9995)
    return with_unit (seconds * 1e3, " ms");
  return with_unit (seconds, " s");
}

struct text
age_text (double seconds)
{
  struct text t;
  long s, m;

  if (isnan (seconds))
    return unknown;
  s = seconds < 0 ? 0 : lrint (fmin (seconds, 1e9));
  m = s / 60;
  if (s < 120)
    snprintf (t.s, sizeof t.s, "%ld s", s);
  else if (m < 60)
    snprintf (t.s, sizeof t.s, "%ld min", m);
  else if (m < 48 * 60)
    snprintf (t.s, sizeof t.s, "%ld h %ld min", m / 60, m % 60);
  else
    snprintf (t.s, sizeof t.s, "%ld days", m / (24 * 60));
  return t;
}

struct text
time_text (double unix_time)
{
  const time_t when = (time_t) unix_time, now = time (NULL);
  struct tm then, today;
  struct text t;
  bool same;

  if (isnan (unix_time) || localtime_r (&when, &then) == NULL ||
      localtime_r (&now, &today) == NULL)
    return unknown;
  same = then.tm_year == today.tm_year && then.tm_yday == today.tm_yday;
  strftime (t.s, sizeof t.s, same ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &then);
  return t;
}
