/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit beside a sanitizer, or under valgrind.
 *
 * An nbdkit that links no sanitizer gets one by LD_PRELOAD.  Two functions of
 * libc are in the way then:
 *
 * freelocale.  When the server ends after it has printed why it fails, it never
 * ends: a destructor of libp11-kit (of GnuTLS) frees a locale, and glibc's lock
 * of the locale is not free under the sanitizer.  At the end of a process
 * nothing needs to be freed.
 *
 * dlclose.  nbdkit closes its modules before it ends, and what the sanitizer
 * reports at the end would name no function of them.  nbdkit's own way to be
 * run under valgrind does the same, and its suppressions need it.
 *
 * This is compiled without the sanitizer and knows nothing of the filter.
 */

#include <dlfcn.h>
#include <locale.h>

void
freelocale (locale_t locale)
{
  (void) locale;
}

int
dlclose (void *module)
{
  (void) module;
  return 0;
}
