/* SPDX-License-Identifier: BSD-3-Clause */

/* More connections to the array of a stack.  See guest.h. */

#include <config.h>

#include <errno.h>

#include "guest.h"

void
guest_come (struct guest *g, struct export *e)
{
  connections_join (&g->connection, e, &g->backend);
  connections_lend (&g->connection);
  g->client = (struct client){ .export = e, .own = &g->connection.backend };
}

int
guest_open (struct guest *g, struct stack *s,
            const struct backend_traits *traits, bool share,
            struct open_result *result)
{
  const int err =
      export_open ("export", false, share, traits, traits->can_write, result);

  if (err != 0)
    return err;
  array_connect (s->array, &g->backend);
  g->backend.traits = *traits;
  guest_come (g, result->export);
  return 0;
}

void
guest_join (struct guest *g, struct stack *s,
            const struct backend_traits *traits)
{
  struct open_result result;

  must (guest_open (g, s, traits, true, &result) == 0);
  must (result.export == s->export);
}

void
guest_leave (struct guest *g)
{
  if (g->backend.traits.can_write)
    export_end_writer (g->client.export);
  connections_leave (&g->connection);
  export_close (g->client.export);
}

static int
dead_read (struct backend *b, void *buf, uint32_t len, uint64_t offset)
{
  (void) b;
  (void) buf;
  (void) len;
  (void) offset;
  return ESHUTDOWN;
}

static int
dead_write (struct backend *b, const void *buf, uint32_t len, uint64_t offset,
            bool fua)
{
  (void) b;
  (void) buf;
  (void) len;
  (void) offset;
  (void) fua;
  return ESHUTDOWN;
}

static int
dead_zero (struct backend *b, uint32_t len, uint64_t offset, unsigned flags)
{
  (void) b;
  (void) len;
  (void) offset;
  (void) flags;
  return ESHUTDOWN;
}

static int
dead_trim (struct backend *b, uint32_t len, uint64_t offset, bool fua)
{
  (void) b;
  (void) len;
  (void) offset;
  (void) fua;
  return ESHUTDOWN;
}

static int
dead_flush (struct backend *b)
{
  (void) b;
  return ESHUTDOWN;
}

void
guest_die (struct backend *b)
{
  b->read = dead_read;
  b->write = dead_write;
  b->zero = dead_zero;
  b->trim = dead_trim;
  b->flush = dead_flush;
}

int
guest_put (struct client *c, uint64_t offset, uint32_t len, int value,
           bool durable)
{
  uint8_t *bytes = malloc (len);
  int err;

  must (bytes != NULL);
  memset (bytes, value, len);
  err = request_write (c, bytes, len, offset, durable);
  free (bytes);
  return err;
}

int
guest_get (struct client *c, uint64_t offset)
{
  uint8_t byte;

  must (request_read (c, &byte, 1, offset) == 0);
  return byte;
}
