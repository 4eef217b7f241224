/* SPDX-License-Identifier: BSD-3-Clause */

/* Unit tests of a file as a tier's medium: what it refuses, that it has one
 * owner, and file systems that cannot do all.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "tier.h"
#include "unit.h"

#define BYTES (256 * KiB)

static char folder[] = "/tmp/test-tier-device-XXXXXX";
static char path[sizeof folder + 10];
static char why[300];

/* ---- a file system that can do less ---- */

static bool no_allocation, no_direct;
static unsigned refused;

/* These come before those of the C library, which have other names where files
 * are as large on all targets.
 */
int
fallocate (int fd, int mode, off_t offset, off_t len)
{
  int (*real) (int, int, off_t, off_t) = dlsym (RTLD_NEXT, "fallocate64");

  if (!no_allocation)
    return real (fd, mode, offset, len);
  refused++;
  errno = EOPNOTSUPP;
  return -1;
}

int
fcntl (int fd, int command, ...)
{
  int (*real) (int, int, void *) = dlsym (RTLD_NEXT, "fcntl64");
  va_list args;
  void *arg;

  va_start (args, command);
  arg = va_arg (args, void *);
  va_end (args);
  if (!no_direct || command != F_SETFL || !((intptr_t) arg & O_DIRECT))
    return real (fd, command, arg);
  refused++;
  errno = EINVAL;
  return -1;
}

/* ---- the tests ---- */

static int
begin (void **state)
{
  no_allocation = no_direct = false;
  refused = 0;
  strcpy (folder + sizeof folder - 7, "XXXXXX");
  must (mkdtemp (folder) != NULL);
  snprintf (path, sizeof path, "%s/tier", folder);
  return 0;
}

static int
end (void **state)
{
  unlink (path);
  must (rmdir (folder) == 0);
  return 0;
}

static void
make_file (off_t size)
{
  const int fd = open (path, O_RDWR | O_CREAT, 0600);

  must (fd != -1 && ftruncate (fd, size) == 0);
  close (fd);
}

static void
open_device (struct device *d, enum device_use use)
{
  must (device_open (d, path, use, why, sizeof why) == 0);
}

static void
close_device (struct device *d)
{
  d->medium.ops->close (&d->medium);
}

static void
check_refused (enum device_use use, int error, const char *word)
{
  struct device d;

  must (device_open (&d, path, use, why, sizeof why) == -1);
  assert_int_equal (errno, error);
  assert_non_null (strstr (why, word));
}

static void
check_written_is_read (struct device *d)
{
  struct medium *m = &d->medium;
  uint8_t *a = aligned_alloc (TIER_UNIT, 3 * TIER_UNIT);
  uint8_t *b = aligned_alloc (TIER_UNIT, 3 * TIER_UNIT);

  must (a != NULL && b != NULL);
  memset (a, 0x5a, 3 * TIER_UNIT);
  must (m->ops->write (m, a, 3 * TIER_UNIT, 2 * TIER_UNIT) == 0);
  must (m->ops->sync (m) == 0);
  must (m->ops->discard (m, 64 * KiB, 64 * KiB) == 0);
  memset (b, 0, 3 * TIER_UNIT);
  must (m->ops->read (m, b, 3 * TIER_UNIT, 2 * TIER_UNIT) == 0);
  must (memcmp (a, b, 3 * TIER_UNIT) == 0);
  /* Past the end there is nothing. */
  must (m->ops->read (m, b, 2 * TIER_UNIT, BYTES - TIER_UNIT) == -1);
  assert_int_equal (errno, EIO);
  free (a);
  free (b);
}

static void
test_file (void **state)
{
  struct device d;
  struct stat st;

  open_device (&d, DEVICE_CREATE);
  must (fstat (d.fd, &st) == 0);
  assert_int_equal (st.st_mode & 07777, 0600);
  must (device_allocate (&d, BYTES, why, sizeof why) == 0);
  assert_int_equal (d.medium.size, BYTES);
  must (fstat (d.fd, &st) == 0 && st.st_size == BYTES);
  assert_true ((uint64_t) st.st_blocks * 512 >= BYTES);
  check_written_is_read (&d);
  close_device (&d);
  check_refused (DEVICE_CREATE, EEXIST, "a link to nothing");
  open_device (&d, DEVICE_READ);
  assert_int_equal (d.medium.size, BYTES);
  close_device (&d);
}

/* Neither fallocate nor O_DIRECT: its room is taken all the same. */
static void
test_poor_file_system (void **state)
{
  struct device d;
  struct stat st;

  no_allocation = no_direct = true;
  open_device (&d, DEVICE_CREATE);
  assert_false (d.direct);
  must (device_allocate (&d, BYTES, why, sizeof why) == 0);
  must (refused >= 2);
  must (fstat (d.fd, &st) == 0 && st.st_size == BYTES);
  must (d.medium.ops->sync (&d.medium) == 0);
  must (fstat (d.fd, &st) == 0);
  assert_true ((uint64_t) st.st_blocks * 512 >= BYTES);
  check_written_is_read (&d);
  close_device (&d);
}

static void
test_no_room (void **state)
{
  struct device d;

  open_device (&d, DEVICE_CREATE);
  must (device_allocate (&d, UINT64_C (1) << 60, why, sizeof why) == -1);
  assert_non_null (strstr (why, "cannot get"));
  close_device (&d);
}

static void
test_wrong_paths (void **state)
{
  check_refused (DEVICE_READ, ENOENT, "No such file");
  must (mkfifo (path, 0600) == 0);
  check_refused (DEVICE_WRITE, EINVAL, "neither a file nor a block device");
  unlink (path);
  must (symlink ("/nowhere/at-all", path) == 0);
  check_refused (DEVICE_CREATE, EEXIST, "a link to nothing");
  check_refused (DEVICE_WRITE, ENOENT, "No such file");
}

/* Whether a child process, which opens it anew, may. */
static bool
another_may (enum device_use use)
{
  struct device d;
  int status;
  pid_t pid;

  pid = fork ();
  must (pid != -1);
  if (pid == 0)
    _exit (device_open (&d, path, use, why, sizeof why) == 0 ? 0 : errno);
  must (waitpid (pid, &status, 0) == pid && WIFEXITED (status));
  must (WEXITSTATUS (status) == 0 || WEXITSTATUS (status) == EBUSY);
  return WEXITSTATUS (status) == 0;
}

/* Nothing else opens what is being written; several may read. */
static void
test_one_owner (void **state)
{
  struct device d;

  make_file (BYTES);
  open_device (&d, DEVICE_WRITE);
  assert_false (another_may (DEVICE_WRITE));
  assert_false (another_may (DEVICE_READ));
  check_refused (DEVICE_WRITE, EBUSY, "is in use by another process");
  close_device (&d);
  open_device (&d, DEVICE_READ);
  assert_true (another_may (DEVICE_READ));
  assert_false (another_may (DEVICE_WRITE));
  close_device (&d);
  assert_true (another_may (DEVICE_WRITE));
}

/* A server goes to the background: its parent ends, the lock stays. */
static void
test_lock_survives_fork (void **state)
{
  int go[2], status;
  struct device d;
  pid_t pid;
  char c;

  make_file (BYTES);
  must (pipe (go) == 0);
  open_device (&d, DEVICE_WRITE);
  pid = fork ();
  must (pid != -1);
  if (pid == 0) {
    close (go[1]);
    _exit (read (go[0], &c, 1) == 0 ? 0 : 1);
  }
  close_device (&d);
  assert_false (another_may (DEVICE_WRITE));
  close (go[1]);
  must (waitpid (pid, &status, 0) == pid && status == 0);
  assert_true (another_may (DEVICE_WRITE));
  close (go[0]);
}

static void
put_byte (off_t at, char byte)
{
  const int fd = open (path, O_RDWR);

  must (fd != -1 && pwrite (fd, &byte, 1, at) == 1);
  close (fd);
}

static bool
is_empty (void)
{
  struct device d;
  bool empty;

  open_device (&d, DEVICE_READ);
  must (device_is_empty (&d, &empty, why, sizeof why) == 0);
  close_device (&d);
  return empty;
}

/* Any byte anywhere, also after holes and in a last part of a unit. */
static void
test_emptiness (void **state)
{
  static const off_t places[] = { 0, 1, 4095, 4096, 3 * MiB + 5, 5 * MiB + 99 };
  size_t i;

  make_file (0);
  assert_true (is_empty ());
  make_file (5 * MiB + 100);
  assert_true (is_empty ());
  for (i = 0; i < ARRAY_LEN (places); ++i) {
    put_byte (places[i], 'x');
    assert_false (is_empty ());
    put_byte (places[i], 0);
    assert_true (is_empty ());
  }
}

int
main (void)
{
#define TEST(name) cmocka_unit_test_setup_teardown (name, begin, end)
  const struct CMUnitTest tests[] = {
    TEST (test_file),      TEST (test_poor_file_system),
    TEST (test_no_room),   TEST (test_wrong_paths),
    TEST (test_one_owner), TEST (test_lock_survives_fork),
    TEST (test_emptiness),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
