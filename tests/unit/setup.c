/* SPDX-License-Identifier: BSD-3-Clause */

/* A cache and its submission over the backend in an array.  See setup.h. */

#include <config.h>

#include "setup.h"

#define MEMORY (16 * MiB)

struct setup *
setup_traits (const struct backend_traits *traits, bool merge, unsigned depth)
{
  struct setup *s = calloc (1, sizeof *s);

  must (s != NULL);
  s->cache = cache_new (MEMORY, 4096, traits->block, traits->size);
  s->array = array_new (traits);
  submit_init (&s->submit, &s->cache->pc, &s->cache->memory, merge, depth);
  /* Batches last for days: none at a gate is taken to hang. */
  s->submit.policy.usual[0].latency = s->submit.policy.usual[1].latency =
      UINT64_C (1000000000000000);
  return s;
}

struct setup *
setup_new (unsigned depth)
{
  const struct backend_traits traits = array_traits (SETUP_SIZE);

  return setup_traits (&traits, true, depth);
}

void
setup_free (struct setup *s)
{
  submit_destroy (&s->submit);
  cache_free (s->cache);
  array_free (s->array);
  free (s);
}

static void
claim (struct writer *w)
{
  struct pagecache *pc = &w->s->cache->pc;
  uint64_t offset = w->offset, len = w->len;
  struct open_write open = { 0 };
  struct part part;
  struct page *p;

  w->bytes = malloc (w->len);
  must (w->bytes != NULL);
  memset (w->bytes, w->value, w->len);
  while (next_part (pc, &offset, &len, &part)) {
    p = page_pin (pc, part.index, ADMIT_WRITE);
    must (p != NULL);
    must (page_claim (pc, p, &part) == 0);
    page_write_claimed (pc, p, &part, w->bytes, &open);
    page_unpin (pc, p);
  }
  open_end (pc, &open);
}

static void
run_writer (void *arg)
{
  struct writer *w = arg;
  struct write write;

  claim (w);
  memset (&write, 0xa5, sizeof write); /* nothing has to be set before */
  write.offset = w->offset;
  write.len = w->len;
  write.bytes = w->bytes;
  write.durable = w->durable;
  write.by_flush = write.keeps = false;
  w->error = submit_write (&w->s->submit, &w->s->array->backend, &write);
  must (++w->ended == 1);
  free (w->bytes);
}

int
setup_write (struct setup *s, uint64_t offset, uint32_t len, int value,
             bool durable)
{
  struct writer w = { s, offset, len, value, durable, .error = 0 };

  run_writer (&w);
  return w.error;
}

void
writer_start (struct writer *w, struct setup *s, uint64_t offset, uint32_t len,
              bool durable)
{
  *w = (struct writer){
    s, offset, len, offset / 512 % 250, durable, .error = 0
  };
  thread_start (&w->thread, run_writer, w);
}

int
writer_join (struct writer *w)
{
  thread_join (&w->thread);
  must (w->ended == 1);
  return w->error;
}

unsigned
setup_waiting (struct setup *s)
{
  LOCK_FOR_SCOPE (&s->submit.lock);

  return s->submit.policy.waiting;
}

bool
setup_has (struct setup *s, bool durable, uint64_t offset, uint32_t len,
           int value)
{
  uint8_t *bytes = malloc (len);
  bool has;

  must (bytes != NULL);
  memset (bytes, value, len);
  has = durable ? array_keeps (s->array, offset, bytes, len)
                : array_sees (s->array, offset, bytes, len);
  free (bytes);
  return has;
}

struct amounts
setup_amounts (struct setup *s)
{
  return pagecache_amounts (&s->cache->pc);
}

static void
run_flusher (void *arg)
{
  struct flusher *f = arg;

  f->error = durable_flush (&f->s->submit, &f->s->array->backend);
}

void
flusher_start (struct flusher *f, struct setup *s)
{
  f->s = s;
  thread_start (&f->thread, run_flusher, f);
}

int
flusher_join (struct flusher *f)
{
  thread_join (&f->thread);
  return f->error;
}
