/* SPDX-License-Identifier: BSD-3-Clause */

/* The whole filter but for nbdkit, over the backend in an array.  See stack.h.
 *
 * The filter's threads are begun once: they end with the program.
 */

#include <config.h>

#include "stack.h"

#define MAX_THREADS 16

static pthread_once_t threads_once = PTHREAD_ONCE_INIT;

static void
begin_threads (void)
{
  workers_start (MAX_THREADS);
}

struct stack_options
stack_options (uint64_t size)
{
  return (struct stack_options){
    .traits = array_traits (size),
    .settings = { .mode = MODE_WRITEBACK,
                  .page_size = 4096,
                  .dirty_age = UINT64_C (1000000000000),
                  .drain = UINT64_C (20000000000),
                  .keep = true },
    .memory = 4 * MiB,
    .clients = 1,
  };
}

struct stack *
stack_new (const struct stack_options *o)
{
  struct stack *s = calloc (1, sizeof *s);
  struct open_result result;
  unsigned i;

  must (s != NULL);
  if (!o->serial)
    pthread_once (&threads_once, begin_threads);
  s->array = array_new (&o->traits);
  settings = o->settings;
  settings.size = o->memory;
  must (export_registry_init (!o->serial) == 0);
  s->nr_clients = o->clients;
  for (i = 0; i < o->clients; ++i) {
    array_connect (s->array, &s->backends[i]);
    must (export_open ("export", false, true, &o->traits, o->traits.can_write,
                       &result) == 0);
    must (s->export == NULL || s->export == result.export);
    s->export = result.export;
    stack_come (s, i);
  }
  s->client = &s->clients[0];
  return s;
}

struct stack *
stack_sized (uint64_t size)
{
  const struct stack_options o = stack_options (size);

  return stack_new (&o);
}

void
stack_leave (struct stack *s, unsigned i)
{
  connections_leave (&s->connections[i]);
}

void
stack_come (struct stack *s, unsigned i)
{
  connections_join (&s->connections[i], s->export, &s->backends[i]);
  connections_lend (&s->connections[i]);
  s->clients[i].export = s->export;
  s->clients[i].own = &s->connections[i].backend;
}

void
stack_wait_idle (struct stack *s)
{
  wait_until (!atomic_load (&s->export->writeback.running) &&
              atomic_load (&s->export->writeback.drains) == 0 &&
              !curve_runs (s->export->pc.pool->curve));
}

void
stack_free (struct stack *s)
{
  unsigned i;

  stack_wait_idle (s);
  for (i = 0; i < s->nr_clients; ++i) {
    if (s->backends[i].traits.can_write)
      export_end_writer (s->export);
    stack_leave (s, i);
  }
  must (stack_amounts (s).writeback == 0);
  pagecache_clear (&s->export->pc, 0, UINT64_C (1) << 62, CLEAR_UNKNOWN);
  for (i = 0; i < s->nr_clients; ++i)
    export_close (s->export);
  export_registry_destroy ();
  array_free (s->array);
  free (s);
}

int
stack_client_write (struct client *c, uint64_t offset, uint32_t len, int value,
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
stack_write (struct stack *s, uint64_t offset, uint32_t len, int value,
             bool durable)
{
  return stack_client_write (s->client, offset, len, value, durable);
}

static int
read_value (struct client *c, uint64_t offset, uint32_t len)
{
  uint8_t *bytes = malloc (len);
  int err, value;
  uint32_t i;

  must (bytes != NULL);
  err = request_read (c, bytes, len, offset);
  value = bytes[0];
  for (i = 0; err == 0 && i < len; ++i)
    must (bytes[i] == value);
  free (bytes);
  return err ? -err : value;
}

int
stack_read (struct stack *s, uint64_t offset, uint32_t len)
{
  return read_value (s->client, offset, len);
}

struct amounts
stack_amounts (struct stack *s)
{
  return pagecache_amounts (&s->export->pc);
}

/* Whether a look at the array finds one value in a range. */
static bool
finds (bool (*look) (struct array *a, uint64_t offset, const void *bytes,
                     uint64_t len),
       struct array *a, uint64_t offset, uint32_t len, int value)
{
  uint8_t *bytes = malloc (len);
  bool found;

  must (bytes != NULL);
  memset (bytes, value, len);
  found = look (a, offset, bytes, len);
  free (bytes);
  return found;
}

bool
stack_sees (struct stack *s, uint64_t offset, uint32_t len, int value)
{
  return finds (array_sees, s->array, offset, len, value);
}

bool
stack_array_keeps (struct array *a, uint64_t offset, uint32_t len, int value)
{
  return finds (array_keeps, a, offset, len, value);
}

bool
stack_keeps (struct stack *s, uint64_t offset, uint32_t len, int value)
{
  return stack_array_keeps (s->array, offset, len, value);
}

void
stack_set_backend (struct stack *s, uint64_t offset, uint32_t len, int value)
{
  memset (s->array->seen + offset, value, len);
  memset (s->array->durable + offset, value, len);
}

unsigned
stack_calls (struct stack *s, enum array_op op)
{
  return array_calls (s->array, op);
}

uint64_t
stack_bytes (struct stack *s, enum array_op op)
{
  return array_bytes (s->array, op);
}

bool
stack_page_waits (struct stack *s, uint64_t offset)
{
  struct pagecache *pc = &s->export->pc;
  struct page *p =
      pool_lock_page (pc->pool, pc->key_base | offset >> pc->page_shift);
  bool waits;

  if (p == NULL)
    return false;
  waits = p->flags & PAGE_WAITERS;
  word_lock_drop (&p->lock);
  return waits;
}

bool
stack_flush_waits (struct stack *s)
{
  LOCK_FOR_SCOPE (&s->export->submit.lock);

  return s->export->submit.waiters != NULL;
}

bool
stack_waits_for_open (struct stack *s)
{
  LOCK_FOR_SCOPE (&s->export->pc.open_lock);

  return s->export->pc.open_waiters > 0;
}

unsigned
stack_waiting (struct stack *s)
{
  LOCK_FOR_SCOPE (&s->export->submit.lock);

  return s->export->submit.policy.waiting;
}

static void
run_request (void *arg)
{
  struct request *r = arg;
  struct client *c = r->client ? r->client : r->s->client;

  switch (r->what) {
  case DO_READ:
    r->value = read_value (c, r->offset, r->len);
    r->error = r->value < 0 ? -r->value : 0;
    break;
  case DO_WRITE:
  case DO_FUA:
    r->error =
        stack_client_write (c, r->offset, r->len, r->value, r->what == DO_FUA);
    break;
  case DO_FLUSH:
    r->error = request_flush (c);
    break;
  case DO_ZERO:
    r->error = request_zero (c, r->len, r->offset, 0);
    break;
  case DO_TRIM:
    r->error = request_trim (c, r->len, r->offset, false);
    break;
  }
  r->ended = true;
}

void
request_start (struct request *r)
{
  r->ended = false;
  thread_start (&r->thread, run_request, r);
}

int
request_join (struct request *r)
{
  thread_join (&r->thread);
  return r->error;
}
