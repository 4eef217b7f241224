/* SPDX-License-Identifier: BSD-3-Clause */

/* The log's lines about a file that an option names: why it is refused at the
 * start, and when writing it begins to fail and succeeds again.  An error that
 * repeats is logged once, then counted.
 */

#include <config.h>

#include <inttypes.h>

#include <nbdkit-filter.h>

#include "base/util.h"
#include "wtcache/optionfile.h"

void
optionfile_note (struct optionfile *f, const char *path, bool failed,
                 const char *why)
{
  switch (repeat_note (&f->repeat, failed, now_ns ())) {
  case REPEAT_BEGAN:
    nbdkit_error ("wtcache-%s=%s: %s; it is tried again every few %s",
                  f->option, path, why, f->often);
    break;
  case REPEAT_GOES_ON:
    nbdkit_error ("wtcache-%s=%s: %s; failed %" PRIu64 " times so far",
                  f->option, path, why, f->repeat.count);
    break;
  case REPEAT_ENDED:
    nbdkit_error ("wtcache-%s=%s: written again, after %" PRIu64 " failures",
                  f->option, path, f->repeat.count);
    break;
  case REPEAT_SILENT:
    break;
  }
}

int
optionfile_refuse (const struct optionfile *f, const char *path,
                   const char *why)
{
  nbdkit_error ("wtcache-%s=%s: %s", f->option, path, why);
  return -1;
}
