/* SPDX-License-Identifier: BSD-3-Clause */

/* The words of commands and parameters: times, numbers, errors, operations.
 * Nothing else is known here.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

int
parse_time (const char *text, uint64_t *ns)
{
  static const struct {
    const char *name;
    double ns;
  } units[] = {
    { "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 }
  };
  char *end;
  double value = strtod (text, &end);

  if (end == text || !(value >= 0 && value <= 1e6))
    return -1;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
    if (strcmp (end, units[i].name) == 0) {
      *ns = (uint64_t) (value * units[i].ns + 0.5);
      return 0;
    }
  return -1;
}

int
parse_number (const char *text, uint64_t *n)
{
  char *end;

  errno = 0;
  *n = strtoull (text, &end, 10);
  return *text < '0' || *text > '9' || *end || errno ? -1 : 0;
}

#define NAMED(error)                                                           \
  {                                                                            \
#error, error                                                              \
  }

/* The errors that a fault may be, and those of the commands themselves. */
static const struct {
  const char *name;
  int error;
} errors[] = {
  NAMED (EPERM),     NAMED (EIO),    NAMED (ENOMEM),     NAMED (EINVAL),
  NAMED (ENOSPC),    NAMED (EFBIG),  NAMED (EOVERFLOW),  NAMED (ENOTSUP),
  NAMED (ESHUTDOWN), NAMED (EROFS),  NAMED (EOPNOTSUPP), NAMED (EAGAIN),
  NAMED (EBUSY),     NAMED (EDQUOT), NAMED (ETIMEDOUT),  NAMED (ECONNRESET),
  NAMED (ENOENT),    NAMED (EEXIST),
};

#define NR_ERRORS (sizeof errors / sizeof errors[0])

int
parse_errno (const char *text)
{
  uint64_t n;

  for (size_t i = 0; i < NR_ERRORS; i++)
    if (strcmp (text, errors[i].name) == 0)
      return errors[i].error;
  return parse_number (text, &n) == 0 && n > 0 && n < 4096 ? (int) n : -1;
}

/* Not strerror, whose locks are glibc's own and confuse the thread sanitizer
 * at exit.
 */
const char *
name_of_errno (int error)
{
  for (size_t i = 0; i < NR_ERRORS; i++)
    if (errors[i].error == error)
      return errors[i].name;
  return "EIO";
}

int
parse_op (const char *text, enum op *op)
{
  if (strcmp (text, "any") == 0) {
    *op = OP_ANY;
    return 0;
  }
  for (*op = 0; *op < NR_OPS; (*op)++)
    if (strcmp (text, op_names[*op]) == 0)
      return 0;
  return -1;
}
