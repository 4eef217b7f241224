/* SPDX-License-Identifier: BSD-3-Clause */

/* wtcache-tier COMMAND PATH: makes a tier in a file or on a block device, and
 * shows and checks one that no server has open.
 *
 * Nothing else formats a tier, so nothing is overwritten that the user did not
 * name here.
 */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/util.h"
#include "base/value.h"
#include "die.h"
#include "tier.h"
#include "wtcache-tier-show.h"

#define MAX_REASON 300

const char program_name[] = "wtcache-tier";

static struct {
  uint64_t size; /* bytes; 0: all that there is */
  uint64_t page;
  bool force, upgrade, json, data;
} options = { .page = 4096 };

static const char *path;

/* ---- format ---- */

/* Says how the user can go on with a tier that is there. */
static void __attribute__ ((noreturn))
refuse_tier (const struct tier *t, enum tier_fault fault)
{
  if (fault == TIER_GOOD)
    die (EXIT_FAILED, "%s: is a tier already: --force empties it", path);
  if (fault == TIER_OTHER && t->super.version < SUPERBLOCK_VERSION)
    die (EXIT_FAILED,
         "%s: is a tier of version %" PRIu32
         " of the format: --upgrade empties it and makes one of version %d",
         path, t->super.version, SUPERBLOCK_VERSION);
  die (EXIT_FAILED, "%s: is not empty: --force overwrites it", path);
}

/* Whether what is there may be overwritten. */
static void
check_contents (struct device *d)
{
  char why[MAX_REASON];
  struct tier t;
  const enum tier_fault fault = tier_open (&t, &d->medium, why, sizeof why);
  bool empty;

  if (options.force)
    return;
  if (options.upgrade) {
    if (fault == TIER_OTHER && t.super.version < SUPERBLOCK_VERSION)
      return;
    die (
        EXIT_FAILED,
        "%s: is not a tier of an older version, so there is nothing to upgrade",
        path);
  }
  if (device_is_empty (d, &empty, why, sizeof why) == -1)
    die (EXIT_FAILED, "%s: %s", path, why);
  if (!empty)
    refuse_tier (&t, fault);
}

/* The size of the tier, of which THERE are so many bytes already, and where its
 * parts are.
 */
static void
plan (struct geometry *g, uint64_t there)
{
  const uint64_t size =
      options.size ? options.size : round_down (there, TIER_UNIT);

  if (size == 0)
    die (EXIT_FAILED,
         "%s: is an empty file: say how large the tier is to be, "
         "as in --size=10G",
         path);
  geometry_choose (g, size, options.page);
  if (!geometry_derive (g))
    die (
        EXIT_FAILED,
        "%s: %s is too small for a tier: with pages of %s it takes %s at least",
        path, value_size (size).s, value_size (options.page).s,
        value_size (geometry_min_size (g)).s);
}

/* Ends the program with that reason, and without a file that it has made. */
static void __attribute__ ((noreturn))
give_back (enum device_use use, const char *why)
{
  if (use == DEVICE_CREATE)
    unlink (path);
  die (EXIT_FAILED, "%s: %s", path, why);
}

static void
make_tier (struct device *d, const struct geometry *g, enum device_use use)
{
  uint8_t uuid[TIER_UUID_BYTES];
  char why[MAX_REASON];

  if (device_allocate (d, g->size, why, sizeof why) == -1)
    give_back (use, why);
  if (getrandom (uuid, sizeof uuid, 0) != sizeof uuid)
    give_back (use, strerror (errno));
  /* A device that cannot discard is as good. */
  d->medium.ops->discard (&d->medium, 0, g->size);
  if (tier_format (&d->medium, g, uuid) == -1)
    give_back (use, strerror (errno));
}

static void
open_or_die (struct device *d, enum device_use use)
{
  char why[MAX_REASON];

  if (device_open (d, path, use, why, sizeof why) == -1)
    die (EXIT_FAILED, "%s: %s", path, why);
}

static int
show_tier (struct device *d, int (*show) (const struct show *))
{
  char why[MAX_REASON];
  struct tier t;
  const enum tier_fault fault = tier_open (&t, &d->medium, why, sizeof why);
  int status;

  if (fault == TIER_NONE)
    die (EXIT_FAILED, "%s: %s: `wtcache-tier format` makes one", path, why);
  if (fault == TIER_DAMAGED)
    die (EXIT_FAILED, "%s: %s: `wtcache-tier format --force` makes a new one",
         path, why);
  if (fault == TIER_OTHER && t.super.version < SUPERBLOCK_VERSION)
    die (EXIT_FAILED, "%s: %s: `wtcache-tier format --upgrade` empties it",
         path, why);
  if (fault != TIER_GOOD)
    die (EXIT_FAILED, "%s: %s", path, why);
  status = show (&(struct show){
      .path = path, .tier = &t, .json = options.json, .data = options.data });
  tier_close (&t);
  return status;
}

static int
run_format (void)
{
  const enum device_use use =
      access (path, F_OK) == 0 ? DEVICE_WRITE : DEVICE_CREATE;
  struct geometry g;
  struct device d;
  int status;

  if (use == DEVICE_CREATE && options.size == 0)
    die (EXIT_FAILED,
         "%s: there is no such file: --size makes one, as in "
         "--size=10G",
         path);
  /* Before a file is made for nothing. */
  if (use == DEVICE_CREATE)
    plan (&g, 0);
  open_or_die (&d, use);
  if (use == DEVICE_WRITE) {
    check_contents (&d);
    plan (&g, d.medium.size);
  }
  make_tier (&d, &g, use);
  status = show_tier (&d, show_info);
  d.medium.ops->close (&d.medium);
  return status;
}

/* ---- the others ---- */

static int
run_show (int (*show) (const struct show *))
{
  struct device d;
  int status;

  open_or_die (&d, DEVICE_READ);
  status = show_tier (&d, show);
  d.medium.ops->close (&d.medium);
  return status;
}

static int
run_info (void)
{
  return run_show (show_info);
}

static int
run_check (void)
{
  return run_show (show_check);
}

static int
run_dump (void)
{
  return run_show (show_dump);
}

/* ---- the command line ---- */

static const struct {
  const char *name;
  int (*run) (void);
} commands[] = {
  { "format", run_format },
  { "info", run_info },
  { "check", run_check },
  { "dump", run_dump },
};

static const char help[] =
    "Usage: wtcache-tier COMMAND [OPTION...] PATH\n"
    "Make, show and check a tier in a file or on a block device.\n"
    "\n"
    "  format                Make an empty tier; refuses what is not empty.\n"
    "  info                  Show what it is.\n"
    "  check                 Check all structures; status 1 if any is "
    "damaged.\n"
    "  dump                  Print all that it says.\n"
    "\n"
    "  -s, --size=SIZE       format: bytes of it, as in 10G (all that there "
    "is).\n"
    "  -p, --page=SIZE       format: bytes of a page (4K).\n"
    "  -f, --force           format: overwrite whatever is there.\n"
    "  -u, --upgrade         format: empty a tier of an older version.\n"
    "  -d, --data            check: read all pages, too.\n"
    "  -j, --json            Print as JSON.\n"
    "  -h, --help            Print this.\n"
    "  -V, --version         Print the version.\n";

static const struct option long_options[] = {
  { "size", required_argument, NULL, 's' },
  { "page", required_argument, NULL, 'p' },
  { "force", no_argument, NULL, 'f' },
  { "upgrade", no_argument, NULL, 'u' },
  { "data", no_argument, NULL, 'd' },
  { "json", no_argument, NULL, 'j' },
  { "help", no_argument, NULL, 'h' },
  { "version", no_argument, NULL, 'V' },
  { NULL, 0, NULL, 0 },
};

static uint64_t
parse_size (const char *option, const char *text)
{
  struct value_text meant;
  uint64_t bytes;

  if (value_parse_size (text, &bytes) && bytes > 0)
    return bytes;
  if (value_meant_size (text, &meant))
    die (EXIT_USAGE, "--%s=%s: must be a size, such as 10G: write %s", option,
         text, meant.s);
  die (EXIT_USAGE, "--%s=%s: must be a size, such as 10G", option, text);
}

static uint64_t
parse_page (const char *text)
{
  const uint64_t page = parse_size ("page", text);

  if (!is_power_of_2 (page) || page < TIER_MIN_PAGE || page > TIER_MAX_PAGE)
    die (EXIT_USAGE, "--page=%s: must be a power of two from %s to %s", text,
         value_size (TIER_MIN_PAGE).s, value_size (TIER_MAX_PAGE).s);
  return page;
}

/* Which options are given, as bits of the letters. */
static uint32_t
parse_options (int argc, char **argv)
{
  uint32_t given = 0;
  int option;

  opterr = 0;
  while ((option = getopt_long (argc, argv, ":s:p:fudjhV", long_options,
                                NULL)) != -1) {
    switch (option) {
    case 's':
      options.size = round_down (parse_size ("size", optarg), TIER_UNIT);
      break;
    case 'p':
      options.page = parse_page (optarg);
      break;
    case 'f':
      options.force = true;
      break;
    case 'u':
      options.upgrade = true;
      break;
    case 'd':
      options.data = true;
      break;
    case 'j':
      options.json = true;
      break;
    case 'h':
      print_and_exit (help);
    case 'V':
      print_and_exit ("wtcache-tier " PACKAGE_VERSION "\n");
    case ':':
      die (EXIT_USAGE, "%s: a size is missing", argv[optind - 1]);
    default:
      die_of_option (argv[optind - 1], long_options);
    }
    given |= UINT32_C (1) << (option - 'a');
  }
  return given;
}

static int (*find_command (const char *word)) (void)
{
  const char *names[ARRAY_LEN (commands)], *meant;
  size_t i;

  for (i = 0; i < ARRAY_LEN (commands); ++i) {
    if (strcmp (word, commands[i].name) == 0)
      return commands[i].run;
    names[i] = commands[i].name;
  }
  meant = nearest_name (word, names, ARRAY_LEN (commands));
  if (meant)
    die (EXIT_USAGE, "%s: there is no such command: is %s meant?", word, meant);
  die (EXIT_USAGE, "%s: there is no such command: see wtcache-tier --help",
       word);
}

/* An option that does nothing here is a mistake. */
static void
check_options (uint32_t given, int (*run) (void))
{
  static const struct {
    char letter;
    int (*run) (void);
    const char *text;
  } only[] = {
    { 's', run_format, "--size is for format alone" },
    { 'p', run_format, "--page is for format alone" },
    { 'f', run_format, "--force is for format alone" },
    { 'u', run_format, "--upgrade is for format alone" },
    { 'd', run_check, "--data is for check alone" },
  };
  size_t i;

  for (i = 0; i < ARRAY_LEN (only); ++i)
    if (given & UINT32_C (1) << (only[i].letter - 'a') && only[i].run != run)
      die (EXIT_USAGE, "%s", only[i].text);
}

int
main (int argc, char **argv)
{
  const uint32_t given = parse_options (argc, argv);
  int (*run) (void);
  int status;

  if (optind == argc)
    die (EXIT_USAGE, "a command is missing: see wtcache-tier --help");
  run = find_command (argv[optind]);
  if (argc - optind != 2)
    die (EXIT_USAGE, "usage: wtcache-tier %s [OPTION...] PATH", argv[optind]);
  check_options (given, run);
  path = argv[optind + 1];
  status = run ();
  if (fflush (stdout) != 0 || ferror (stdout))
    die (EXIT_FAILED, "cannot write the result: %s", strerror (errno));
  return status;
}
