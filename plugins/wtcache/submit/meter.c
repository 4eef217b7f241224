/* SPDX-License-Identifier: BSD-3-Clause */

/* Calls to a backend, counted and timed.
 *
 * All calls that carry data, or make it durable, go by here: there is one
 * meter for each export, whichever connection's backend is called.
 *
 * May not know nbdkit, or what the calls are for.
 */

#include <config.h>

#include <errno.h>

#include "base/util.h"
#include "submit/meter.h"

/* A call that began at BEGAN has ended. */
static void
note (struct meter *m, enum backend_call which, uint64_t began, uint64_t bytes,
      int err)
{
  histogram_note (&m->calls[which].latency, &latency_scale, now_ns () - began);
  if (err == 0)
    atomic_fetch_add_explicit (&m->calls[which].bytes, bytes,
                               memory_order_relaxed);
  else
    atomic_fetch_add_explicit (&m->calls[which].errors, 1,
                               memory_order_relaxed);
}

int
meter_read (struct meter *m, struct backend *b, void *buf, uint32_t len,
            uint64_t offset)
{
  const uint64_t began = now_ns ();
  const int err = b->read (b, buf, len, offset);

  note (m, CALL_READ, began, len, err);
  return err;
}

int
meter_write (struct meter *m, struct backend *b, const void *buf, uint32_t len,
             uint64_t offset, bool fua)
{
  const uint64_t began = now_ns ();
  const int err = b->write (b, buf, len, offset, fua);

  note (m, CALL_WRITE, began, len, err);
  return err;
}

int
meter_zero (struct meter *m, struct backend *b, uint32_t len, uint64_t offset,
            unsigned flags)
{
  const uint64_t began = now_ns ();
  const int err = b->zero (b, len, offset, flags);

  /* That it would not be fast is an answer. */
  if (err == ENOTSUP && (flags & ZERO_FAST))
    note (m, CALL_ZERO, began, 0, 0);
  else
    note (m, CALL_ZERO, began, len, err);
  return err;
}

int
meter_trim (struct meter *m, struct backend *b, uint32_t len, uint64_t offset,
            bool fua)
{
  const uint64_t began = now_ns ();
  const int err = b->trim (b, len, offset, fua);

  note (m, CALL_TRIM, began, len, err);
  return err;
}

int
meter_flush (struct meter *m, struct backend *b)
{
  const uint64_t began = now_ns ();
  const int err = b->flush (b);

  note (m, CALL_FLUSH, began, 0, err);
  return err;
}
