/* SPDX-License-Identifier: BSD-3-Clause */

/* The view in a terminal: which lines are in sight, colours, keys.
 *
 * ncurses is told the whole picture each time and sends what has changed.  The
 * files are looked at a few times a second: they are small, and opened only to
 * see whether they are others than before.
 */

#include <config.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <curses.h>

#include "base/util.h"
#include "wtcache-top-lines.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-view.h"

/* How often the files are looked at, milliseconds. */
#define LOOK_MS 250

static const char keys[] =
    " q quit   h help   b brief   up, down, PgUp, PgDn, Home, End ";

/* The text of the help screen. */
static const char *const help[] = {
  "Keys",
  "  q, Esc, F10          quit",
  "  h, ?                 this help, and back",
  "  b                    a line for each export, or a block",
  "  up, down, k, j       a line up or down",
  "  PgUp, PgDn, space    a page up or down",
  "  Home, End, g, G      the beginning, the end",
  "",
  "The block of an export",
  "  read, write          what clients ask, and how many reads the cache",
  "                       answered alone",
  "  FUA, flush           writes that must be durable at once, and flushes",
  "  a hit takes ...      how long half (p50) and 99 of 100 (p99) of these",
  "                       requests took, as clients see it",
  "  backend ...          what is asked of the backend, and how long half",
  "                       (p50) and 99 of 100 (p99) of its calls took",
  "  not durable yet      acknowledged, and lost if the machine fails now",
  "  depth, in flight     writes that may be, and are, at the backend at once",
  "",
  "The state behind the name of an export",
  "  all on the backend   nothing would be lost",
  "  dirty                the backend has not got it; on its way: it is being",
  "                       written; not flushed: the backend may lose it yet",
  "  backend refuses      write-back failed and is tried again",
  "  last known at ...    the server has ended, or hangs",
};

struct view {
  struct followed *files;
  size_t nr_files;
  size_t first; /* the first line in sight */
  bool brief;
  bool helps; /* the help is shown */
  int attributes[NR_STYLES];
};

static void
end_view (void)
{
  endwin ();
}

/* ncurses leaves out attributes that the terminal does not have. */
static void
choose_attributes (struct view *v)
{
  static const struct {
    short colour;
    int attributes;
  } styles[NR_STYLES] = {
    [PLAIN] = { -1, A_NORMAL },    [TITLE] = { -1, A_BOLD },
    [GOOD] = { COLOR_GREEN, 0 },   [BUSY] = { COLOR_YELLOW, 0 },
    [BAD] = { COLOR_RED, A_BOLD }, [FAINT] = { -1, A_DIM },
    [DRAWING] = { COLOR_CYAN, 0 },
  };
  /* By custom, a user that sets NO_COLOR wants none. */
  const char *none = getenv ("NO_COLOR");
  const bool coloured =
      has_colors () && (none == NULL || *none == '\0') && start_color () == OK;
  size_t i;

  if (coloured)
    use_default_colors ();
  for (i = 0; i < NR_STYLES; ++i) {
    v->attributes[i] = styles[i].attributes;
    if (coloured && styles[i].colour != -1 &&
        init_pair (i + 1, styles[i].colour, -1) == OK)
      v->attributes[i] |= COLOR_PAIR (i + 1);
  }
}

static void
begin_view (struct view *v)
{
  if (!isatty (STDOUT_FILENO) || !isatty (STDIN_FILENO))
    say_failure ("this is not a terminal; --once and --json need none");
  /* initscr would end the program by itself. */
  if (newterm (NULL, stdout, stdin) == NULL)
    say_failure ("the terminal is unknown: TERM is %s",
                 getenv ("TERM") ? getenv ("TERM") : "not set");
  atexit (end_view);
  cbreak ();
  noecho ();
  keypad (stdscr, TRUE);
  set_escdelay (50);
  timeout (LOOK_MS);
  curs_set (0);
  choose_attributes (v);
}

/* Puts as much of a text as fits where the cursor is. */
static void
put (const char *text, int attributes)
{
  const int columns = COLS - getcurx (stdscr);

  attrset (attributes);
  addnstr (text, (int) text_fitting (text, columns > 0 ? columns : 0));
}

static void
put_line (const struct view *v, int row, const struct line *line)
{
  move (row, 0);
  put (line->text, v->attributes[line->style]);
  /* A text that fills its row has taken the cursor to the next. */
  if (line->tail && getcury (stdscr) == row)
    put (line->tail, v->attributes[line->tail_style]);
}

/* The last row tells the keys, and where in the lines this is. */
static void
put_keys (const struct view *v, size_t nr_lines, size_t rows)
{
  char where[64] = "";

  if (nr_lines > rows)
    snprintf (where, sizeof where, "%zu-%zu of %zu ", v->first + 1,
              (size_t) min_u64 (v->first + rows, nr_lines), nr_lines);
  move (LINES - 1, 0);
  attrset (A_REVERSE);
  hline (' ' | A_REVERSE, COLS);
  put (keys, A_REVERSE);
  if (strlen (keys) + strlen (where) < (size_t) COLS)
    mvaddstr (LINES - 1, COLS - (int) strlen (where) - 1, where);
  attrset (A_NORMAL);
}

static void
add_help (struct lines *l)
{
  size_t i;

  for (i = 0; i < ARRAY_LEN (help); ++i)
    lines_add_text (l, help[i][0] && help[i][0] != ' ' ? TITLE : PLAIN,
                    help[i]);
}

static void
draw (struct view *v)
{
  struct lines l = { .width = COLS, .drawn = true };
  const size_t rows = LINES > 1 ? LINES - 1 : 1;
  size_t i;

  if (v->helps)
    add_help (&l);
  for (i = 0; i < v->nr_files && !v->helps; ++i)
    lines_add (&l, &v->files[i], v->brief);
  v->first = min_u64 (v->first, l.nr_lines > rows ? l.nr_lines - rows : 0);
  erase ();
  for (i = 0; i < rows && v->first + i < l.nr_lines; ++i)
    put_line (v, (int) i, &l.lines[v->first + i]);
  if (LINES > 1)
    put_keys (v, l.nr_lines, rows);
  refresh ();
  lines_free (&l);
}

static void
move_by (struct view *v, long by)
{
  if (by < 0 && v->first < (size_t) -by)
    v->first = 0;
  else
    v->first += by;
}

/* Does what a key says; whether to go on. */
static bool
obey (struct view *v, int key)
{
  const int rows = LINES > 2 ? LINES - 2 : 1;

  switch (key) {
  case 'q':
  case 'Q':
  case 27: /* Escape */
  case KEY_F (10):
    return false;
  case KEY_UP:
  case 'k':
    move_by (v, -1);
    break;
  case KEY_DOWN:
  case 'j':
    move_by (v, 1);
    break;
  case KEY_PPAGE:
    move_by (v, -rows);
    break;
  case KEY_NPAGE:
  case ' ':
    move_by (v, rows);
    break;
  case KEY_HOME:
  case 'g':
    v->first = 0;
    break;
  case KEY_END:
  case 'G':
    /* Drawing finds the last. */
    v->first = SIZE_MAX / 2;
    break;
  case 'b':
    v->brief = !v->brief;
    v->first = 0;
    break;
  case 'h':
  case '?':
    v->helps = !v->helps;
    v->first = 0;
    break;
  }
  return true;
}

void
view_run (struct followed *files, size_t nr_files)
{
  struct view v = { .files = files, .nr_files = nr_files };
  size_t i;
  int key;

  begin_view (&v);
  do {
    draw (&v);
    key = getch ();
    for (i = 0; i < nr_files; ++i)
      follow_again (&files[i]);
  } while (key == ERR || obey (&v, key));
}
