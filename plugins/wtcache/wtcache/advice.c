/* SPDX-License-Identifier: BSD-3-Clause */

/* Lines at the start about the server that the filter runs in.
 *
 * A filter that makes the whole stack serial: nbdkit tells the filter the
 * thread model, and not why.  But the names of the modules in the process tell
 * which other filters are there.  For example, over a parallel plugin "retry"
 * allows one request at a time, and "retry-request" does not.
 *
 * A version of nbdkit that aborts: from 1.32.4 and 1.33.3 on, raw_send_socket
 * in server/connections.c asserts that the socket is open, which it is not when
 * a client is gone while several of its replies are outstanding.  1.33.10 and
 * 1.34.0 mended it, and a 1.32 after 1.32.6 may have.  A filter is loaded only
 * by the version that it was built with, so the version is known here.  It
 * takes a parallel stack: else a client has one request at a time.
 */

#include <config.h>

#include <link.h>
#include <stdio.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "base/util.h"
#include "export.h"
#include "wtcache/advice.h"

#define ABORTS                                                                 \
  (NBDKIT_VERSION_MAJOR == 1 &&                                                \
   ((NBDKIT_VERSION_MINOR == 32 && NBDKIT_VERSION_MICRO >= 4 &&                \
     NBDKIT_VERSION_MICRO <= 6) ||                                             \
    (NBDKIT_VERSION_MINOR == 33 && NBDKIT_VERSION_MICRO >= 3 &&                \
     NBDKIT_VERSION_MICRO <= 9)))

/* Filters of nbdkit that are never parallel, or only where they are told. */
static const char *const serial_filters[] = {
  "retry", "noparallel", "ext2", "lzip", "xz", "openonce"
};

/* Whether a module is a filter of nbdkit of some name. */
static bool
is_filter (const char *path, const char *name)
{
  const char *slash = strrchr (path, '/');
  char file[64];

  snprintf (file, sizeof file, "nbdkit-%s-filter.so", name);
  return strcmp (slash ? slash + 1 : path, file) == 0;
}

/* For dl_iterate_phdr: the name of the first serial filter. */
static int
find_serial (struct dl_phdr_info *module, size_t size, void *opaque)
{
  const char **found = opaque;
  size_t i;

  (void) size;
  for (i = 0; i < ARRAY_LEN (serial_filters); ++i)
    if (is_filter (module->dlpi_name, serial_filters[i])) {
      *found = serial_filters[i];
      return 1;
    }
  return 0;
}

void
advice_log (bool parallel)
{
  const char *serial = NULL;

  if (!parallel)
    dl_iterate_phdr (find_serial, &serial);
  if (serial)
    nbdkit_error ("wtcache: filter %s makes the whole stack serial: a "
                  "connection has one request at a time, and ordinary writes "
                  "go through at once unless wtcache-mode says else%s",
                  serial,
                  strcmp (serial, "retry") == 0 ? "; retry-request does not"
                                                : "");
  if (ABORTS && parallel && SETTING (mode) == MODE_WRITEBACK)
    nbdkit_error ("wtcache: nbdkit %s aborts when a client without TLS goes "
                  "while several replies to it are outstanding; writes that "
                  "no client has flushed are lost then: use "
                  "wtcache-mode=writethrough, nbdkit -t 1 or nbdkit 1.34",
                  NBDKIT_VERSION_STRING);
}
