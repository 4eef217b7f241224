/* SPDX-License-Identifier: BSD-3-Clause */

/* Which of two ways to make writes durable is cheaper: the FUA flag on each,
 * or plain writes and one flush that they share.
 *
 * It depends on the backend, how many writes come at once, and time; so it is
 * measured.  Now and then a trial gives each way a window of writes; the one
 * with the smaller mean latency is used until the next.  The flag is kept
 * unless the flush is clearly better, and for writes that come one by one.
 *
 * Policy alone: the caller serialises the calls and reads the clock.
 */

#include <config.h>

#include <string.h>

#include "choice.h"
#include "util.h"

#define WINDOW      16
#define INTERVAL_NS UINT64_C (1000000000)

static void
begin_window (struct choice *c, enum way way, uint64_t now)
{
  c->way = way;
  c->began = now;
  c->sum = 0;
  c->samples = 0;
}

enum way
choice_way (struct choice *c, unsigned in_flight, uint64_t now)
{
  if (in_flight < 2)
    return c->trials > 0 ? c->chosen : c->way;
  if (c->trials == 0 && now >= c->next) {
    c->trials = WAYS;
    begin_window (c, c->chosen, now);
  }
  return c->way;
}

void
choice_sample (struct choice *c, enum way way, uint64_t came, uint64_t now)
{
  if (c->trials == 0 || way != c->way || came < c->began)
    return;
  c->sum += now - came;
  if (++c->samples < WINDOW)
    return;

  c->mean[way] = c->sum / c->samples;
  if (--c->trials > 0) {
    begin_window (c, way == BY_FLAG ? BY_FLUSH : BY_FLAG, now);
    return;
  }
  c->chosen = c->mean[BY_FLUSH] < c->mean[BY_FLAG] / 5 * 4 ? BY_FLUSH : BY_FLAG;
  begin_window (c, c->chosen, now);
  c->next = now + INTERVAL_NS;
}
