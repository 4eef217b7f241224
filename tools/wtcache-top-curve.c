/* SPDX-License-Identifier: BSD-3-Clause */

/* Miss-ratio curves as a picture: which part of reads would have to ask the
 * backend, by the size of the cache.
 *
 * It is written as SVG by hand: a few lines and words need no library, and its
 * reader needs none either.  Sizes go by factors of two, so the axis is
 * logarithmic.  Colours are those of Okabe and Ito, which people with any
 * colour vision tell apart; where there are several curves, each is named at
 * its end.
 */

#include <config.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ownfile.h"
#include "base/util.h"
#include "wtcache-top-curve.h"
#include "wtcache-top-say.h"
#include "wtcache-top-text.h"
#include "wtcache-top-units.h"

/* The picture, and the part of it between the axes, which leaves room for names
 * where there are several curves.
 */
#define WIDTH  800.0
#define HEIGHT 460.0
#define LEFT   76.0
#define TOP    96.0
#define BOTTOM 384.0

/* From the axis to the first point, whose label is as wide to its left. */
#define INSET 30.0

/* The least distance of two names at the ends of curves. */
#define NAME_STEP 17.0

/* How many characters of a name there is room for. */
#define NAME_COLUMNS 24
#define NAME_WIDTH   170.0

static const char *const colours[] = { "#0072b2", "#d55e00", "#009e73",
                                       "#cc79a7", "#56b4e9", "#e69f00" };

/* The first line: a picture is replaced, another file is not. */
#define MARK                                                                   \
  "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- Drawn by wtcache-top, "      \
  "which "                                                                     \
  "replaces this file -->\n"

struct picture {
  FILE *f;
  const struct named_curve *curves;
  size_t nr_curves;
  double min, max; /* sizes, bytes */
  double top;      /* the ratio at the upper end */
  double right;    /* where the axis ends */
};

static double
x_of (const struct picture *p, double bytes)
{
  const double first = LEFT + INSET;

  if (p->max <= p->min)
    return (LEFT + p->right) / 2;
  return first +
         (p->right - first) * log2 (bytes / p->min) / log2 (p->max / p->min);
}

static double
y_of (const struct picture *p, double ratio)
{
  return BOTTOM - (BOTTOM - TOP) * ratio / p->top;
}

/* Text between tags; what a name has that XML does not allow is left out. */
static void
put_text (FILE *f, const char *text)
{
  for (; *text; ++text)
    switch (*text) {
    case '&':
      fputs ("&amp;", f);
      break;
    case '<':
      fputs ("&lt;", f);
      break;
    case '>':
      fputs ("&gt;", f);
      break;
    default:
      if ((unsigned char) *text >= ' ')
        fputc (*text, f);
    }
}

/* The distance of the lines that are drawn across, at most five of them. */
static double
step_of (double top)
{
  static const double steps[] = { 0.001, 0.002, 0.005, 0.01,
                                  0.02,  0.05,  0.1,   0.2 };
  size_t i;

  for (i = 0; i + 1 < ARRAY_LEN (steps) && top / steps[i] > 5; ++i)
    ;
  return steps[i];
}

/* The range of sizes and ratios that the picture has to show. */
static void
find_bounds (struct picture *p)
{
  double highest = 0.001;
  size_t i, j;

  p->right = WIDTH - (p->nr_curves == 1 ? 40 : NAME_WIDTH + 26);
  p->min = INFINITY;
  p->max = 0;
  for (i = 0; i < p->nr_curves; ++i)
    for (j = 0; j < p->curves[i].curve.nr_points; ++j) {
      const struct curve_point *at = &p->curves[i].curve.points[j];

      p->min = fmin (p->min, at->bytes);
      p->max = fmax (p->max, at->bytes);
      highest = fmax (highest, fmin (at->ratio, 1));
    }
  p->top = ceil (highest / step_of (highest) - 1e-9) * step_of (highest);
}

static void
put_head (FILE *f)
{
  fprintf (f,
           "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\""
           " height=\"%g\" viewBox=\"0 0 %g %g\" role=\"img\""
           " font-family=\"DejaVu Sans, Verdana, Helvetica, sans-serif\""
           " font-size=\"12\" fill=\"#444\">\n"
           "<title>Miss ratio by the size of the cache</title>\n"
           "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
           "<text x=\"%g\" y=\"34\" font-size=\"19\" fill=\"#111\">"
           "Miss ratio by the size of the cache</text>\n",
           WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT - 52);
}

/* Describes the first curve in a sentence. */
static void
put_sentence (const struct picture *p)
{
  const double saved = curve_saving (&p->curves[0].curve, 2);

  fprintf (p->f, "<text x=\"%g\" y=\"57\" font-size=\"13\">", LEFT - 52);
  if (p->nr_curves == 1 && !isnan (saved)) {
    fputs ("Doubling the cache would save ", p->f);
    put_text (p->f, percent_text (saved).s);
    fputs (" of backend reads.", p->f);
  }
  else
    fputs ("The part of reads that ask the backend.", p->f);
  fputs ("</text>\n", p->f);
}

static void
put_ratios (const struct picture *p)
{
  const double step = step_of (p->top);
  double ratio;

  for (ratio = 0; ratio <= p->top + step / 2; ratio += step) {
    const double y = y_of (p, ratio);

    fprintf (p->f,
             "<path d=\"M%.1f %.1fH%.1f\" stroke=\"%s\"/>\n"
             "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g%%</text>\n",
             LEFT, y, p->right, ratio == 0 ? "#888" : "#e4e4e4", LEFT - 10,
             y + 4, rint (ratio * 1000) / 10);
  }
}

static void
put_size (const struct picture *p, double bytes)
{
  const double x = x_of (p, bytes);

  fprintf (p->f,
           "<path d=\"M%.1f %.1fv5\" stroke=\"#888\"/>\n"
           "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
           x, BOTTOM, x, BOTTOM + 22, bytes_text (bytes).s);
}

/* The factor of a point: "1/4", "2". */
static void
put_factor (const struct picture *p, double bytes, double factor)
{
  const double x = x_of (p, bytes);

  if (factor == 1) {
    fprintf (p->f,
             "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#999\""
             " stroke-dasharray=\"4 4\"/>\n"
             "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\""
             " fill=\"#111\" font-weight=\"bold\">now</text>\n",
             x, BOTTOM, TOP - 8, x, BOTTOM + 39);
    return;
  }
  fprintf (p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x,
           BOTTOM + 39);
  if (factor < 1)
    fprintf (p->f, "\303\227 1/%g</text>\n", 1 / factor);
  else
    fprintf (p->f, "\303\227 %g</text>\n", factor);
}

/* Curves of one size have its factors on the axis; else powers of two. */
static void
put_sizes (const struct picture *p)
{
  const struct curve *first = &p->curves[0].curve;
  bool one_size = true;
  double bytes, step;
  size_t i;

  for (i = 1; i < p->nr_curves; ++i)
    if (p->curves[i].curve.size != first->size)
      one_size = false;
  if (one_size)
    for (i = 0; i < first->nr_points; ++i) {
      put_size (p, first->points[i].bytes);
      put_factor (p, first->points[i].bytes,
                  first->points[i].bytes / first->size);
    }
  else {
    step = log2 (p->max / p->min) > 8 ? 4 : 2;
    for (bytes = exp2 (ceil (log2 (p->min))); bytes <= p->max; bytes *= step)
      put_size (p, bytes);
  }
  fprintf (p->f,
           "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\""
           " font-size=\"13\">memory for the cache (wtcache-size)</text>\n",
           (LEFT + p->right) / 2, HEIGHT - 16);
}

static void
put_points (const struct picture *p, const struct curve *c, const char *colour)
{
  size_t i;

  for (i = 0; i < c->nr_points; ++i) {
    const struct curve_point *at = &c->points[i];
    const double x = x_of (p, at->bytes), y = y_of (p, fmin (at->ratio, 1));

    fprintf (p->f,
             "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" fill=\"%s\""
             " stroke=\"#fff\" stroke-width=\"1.5\"><title>%s: ",
             x, y, colour, bytes_text (at->bytes).s);
    put_text (p->f, percent_text (at->ratio).s);
    fputs ("</title></circle>\n", p->f);
    if (p->nr_curves > 1)
      continue;
    fprintf (p->f,
             "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\""
             " fill=\"#111\" stroke=\"#fff\" stroke-width=\"3\""
             " paint-order=\"stroke\">",
             x, y - 11);
    put_text (p->f, percent_text (at->ratio).s);
    fputs ("</text>\n", p->f);
  }
}

/* The area under a curve that stands alone is filled lightly. */
static void
put_line (const struct picture *p, const struct curve *c, const char *colour)
{
  const double first = x_of (p, c->points[0].bytes),
               last = x_of (p, c->points[c->nr_points - 1].bytes);
  int filled;
  size_t i;

  for (filled = p->nr_curves == 1; filled >= 0; --filled) {
    fputs ("<path d=\"", p->f);
    for (i = 0; i < c->nr_points; ++i)
      fprintf (p->f, "%c%.1f %.1f", i == 0 ? 'M' : 'L',
               x_of (p, c->points[i].bytes),
               y_of (p, fmin (c->points[i].ratio, 1)));
    if (filled)
      fprintf (p->f,
               "L%.1f %.1fL%.1f %.1fZ\" fill=\"%s\" fill-opacity=\"0.1\"/>\n",
               last, BOTTOM, first, BOTTOM, colour);
    else
      fprintf (p->f,
               "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\""
               " stroke-linejoin=\"round\"/>\n",
               colour);
  }
}

/* Long names would go beyond the picture. */
static void
put_name (FILE *f, const char *name)
{
  const size_t fitting = text_fitting (name, NAME_COLUMNS);
  char *start = must_format ("%.*s", (int) fitting, name);

  put_text (f, start);
  free (start);
  if (name[fitting] != '\0')
    fputs ("...", f);
}

static int
by_end (const void *a, const void *b)
{
  const struct named_curve *one = *(const struct named_curve *const *) a,
                           *other = *(const struct named_curve *const *) b;
  const double x = one->curve.points[one->curve.nr_points - 1].ratio,
               y = other->curve.points[other->curve.nr_points - 1].ratio;

  return (x < y) - (x > y);
}

/* Each curve's name beside its end, from the top down, moved apart where ends
 * lie together, and all moved up if they would go below the axis.
 */
static void
put_names (const struct picture *p)
{
  const size_t n = p->nr_curves;
  const struct named_curve **sorted = must_resize (NULL, n, sizeof *sorted);
  double below = 0, y;
  size_t i;

  for (i = 0; i < n; ++i)
    sorted[i] = &p->curves[i];
  qsort (sorted, n, sizeof *sorted, by_end);
  for (i = 0; i < n; ++i) {
    const struct named_curve *c = sorted[i];
    const struct curve_point *end = &c->curve.points[c->curve.nr_points - 1];

    y = fmax (y_of (p, fmin (end->ratio, 1)), below);
    y = fmin (y, BOTTOM - (n - 1 - i) * NAME_STEP);
    below = y + NAME_STEP;
    fprintf (p->f, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">",
             x_of (p, end->bytes) + 12, y + 4,
             colours[(c - p->curves) % ARRAY_LEN (colours)]);
    put_name (p->f, c->name);
    fputs ("</text>\n", p->f);
  }
  free (sorted);
}

static int
put_picture (struct picture *p)
{
  size_t i;

  find_bounds (p);
  put_head (p->f);
  put_sentence (p);
  put_ratios (p);
  put_sizes (p);
  for (i = 0; i < p->nr_curves; ++i) {
    const char *colour = colours[i % ARRAY_LEN (colours)];

    put_line (p, &p->curves[i].curve, colour);
    put_points (p, &p->curves[i].curve, colour);
  }
  if (p->nr_curves > 1)
    put_names (p);
  fputs ("</svg>\n", p->f);
  errno = 0;
  return fflush (p->f) == 0 && !ferror (p->f) ? 0 : errno ? errno : EIO;
}

int
curve_draw (const char *path, const struct named_curve *curves,
            size_t nr_curves, char *why, size_t size)
{
  const struct ownfile file = { .path = path, .mark = MARK, .lock = -1 };
  struct picture p = { .curves = curves, .nr_curves = nr_curves };
  char *text = NULL;
  size_t len;
  int r;

  p.f = open_memstream (&text, &len);
  if (p.f == NULL || put_picture (&p) != 0 || fclose (p.f) != 0)
    say_failure ("out of memory");
  r = ownfile_check (&file, why, size);
  if (r == 0)
    r = ownfile_replace (&file, text, len, why, size);
  free (text);
  return r;
}
