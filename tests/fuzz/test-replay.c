/* SPDX-License-Identifier: BSD-3-Clause */

/* Runs inputs of the fuzzer without it: each file given, or all files of the
 * corpus.  Prints TAP.  An input that breaks a law ends the program, after its
 * name was told.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The longest that one input may take, s: one that takes longer hangs. */
#define PATIENCE 60

/* The folder beside this that has the inputs. */
#ifndef FUZZ_CORPUS
#define FUZZ_CORPUS "corpus"
#endif

/* Larger files are no inputs of ours. */
#define MAX_BYTES 65536

extern int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t len);

static void
run (unsigned number, const char *path)
{
  uint8_t *bytes = malloc (MAX_BYTES);
  FILE *f = fopen (path, "rb");
  size_t len;

  if (bytes == NULL || f == NULL) {
    fprintf (stderr, "%s: %s\n", path, strerror (errno));
    exit (1);
  }
  len = fread (bytes, 1, MAX_BYTES, f);
  fclose (f);
  printf ("# %s\n", path);
  fflush (stdout);
  alarm (PATIENCE);
  LLVMFuzzerTestOneInput (bytes, len);
  alarm (0);
  printf ("ok %u - %s\n", number,
          strrchr (path, '/') ? strrchr (path, '/') + 1 : path);
  fflush (stdout);
  free (bytes);
}

static int
is_input (const struct dirent *entry)
{
  return entry->d_name[0] != '.';
}

static void
run_folder (const char *folder)
{
  struct dirent **entries;
  const int n = scandir (folder, &entries, is_input, alphasort);
  char path[8192];
  int i;

  if (n <= 0) {
    fprintf (stderr, "%s: no inputs\n", folder);
    exit (1);
  }
  printf ("1..%d\n", n);
  for (i = 0; i < n; ++i) {
    snprintf (path, sizeof path, "%s/%s", folder, entries[i]->d_name);
    run (i + 1, path);
    free (entries[i]);
  }
  free (entries);
}

int
main (int argc, char *argv[])
{
  const char *srcdir = getenv ("srcdir");
  char folder[4096];
  int i;

  if (argc > 1) {
    printf ("1..%d\n", argc - 1);
    for (i = 1; i < argc; ++i)
      run (i, argv[i]);
    return 0;
  }
  snprintf (folder, sizeof folder, "%s/tests/fuzz/" FUZZ_CORPUS,
            srcdir ? srcdir : ".");
  run_folder (folder);
  return 0;
}
