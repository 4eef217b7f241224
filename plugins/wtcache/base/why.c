/* SPDX-License-Identifier: BSD-3-Clause */

/* Why something failed, as a line for people.
 *
 * Parts that do not know nbdkit's log return -1 and the reason as a text, for
 * their caller to log with what was tried.
 */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>

#include "base/why.h"

int
why_refuse (char *why, size_t size, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (why, size, format, args);
  va_end (args);
  return -1;
}
