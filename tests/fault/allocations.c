/* SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit: lets allocations of the filter fail, and counts what
 * it has taken and not given back.
 *
 * It is the caller that tells whose an allocation is: only those that come
 * from the module of the filter count, threads and mappings among them.  The
 * test and the server share a page, the file of WT_ALLOCATIONS, by which the
 * test says which are to fail and learns what has happened.
 *
 * The allocator itself is called by names that glibc has for it, since dlsym
 * allocates.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* With it, libc defines in its headers what is defined here. */
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "next.h"

/* As the test has it: fault/test-allocations.py. */
struct page {
  uint64_t first, count;    /* number FIRST and COUNT - 1 more are to fail */
  _Atomic uint64_t calls;   /* so far */
  _Atomic uint64_t refused; /* of these */
  _Atomic int64_t live;     /* not given back */
};

static struct page *page;

extern void *__libc_malloc (size_t n);
extern void *__libc_calloc (size_t n, size_t size);
extern void *__libc_memalign (size_t align, size_t n);
extern void __libc_free (void *p);

/* Whose an allocation is. */

static _Atomic uintptr_t module_begin, module_end;

static int
look_at_module (struct dl_phdr_info *info, size_t size, void *opaque)
{
  const ElfW (Phdr) * segment;
  uintptr_t end = 0;

  (void) size;
  (void) opaque;
  if (strstr (info->dlpi_name, "wtcache-filter.so") == NULL)
    return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    segment = &info->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD && segment->p_vaddr + segment->p_memsz > end)
      end = segment->p_vaddr + segment->p_memsz;
  }
  /* A thread that sees the beginning sees the end. */
  atomic_store (&module_end, info->dlpi_addr + end);
  atomic_store (&module_begin, info->dlpi_addr);
  return 1;
}

static bool
is_of_filter (const void *caller)
{
  if (page == NULL)
    return false;
  if (atomic_load (&module_begin) == 0)
    dl_iterate_phdr (look_at_module, NULL);
  return (uintptr_t) caller >= atomic_load (&module_begin) &&
         (uintptr_t) caller < atomic_load (&module_end);
}

static bool
refuse (void)
{
  const uint64_t n = atomic_fetch_add (&page->calls, 1);

  if (n < page->first || n - page->first >= page->count)
    return false;
  atomic_fetch_add (&page->refused, 1);
  errno = ENOMEM;
  return true;
}

/* The blocks that the filter has allocated, by whatever code they are freed. */

#define SLOTS 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const void *taken[SLOTS]; /* guarded by lock; by hash */
static const char gone;          /* was taken: the search goes on */

static size_t
slot_of (const void *p)
{
  return ((uintptr_t) p >> 4) * UINT64_C (0x9e3779b97f4a7c15) >> 48;
}

static void *
take (void *p)
{
  size_t i = slot_of (p);

  pthread_mutex_lock (&lock);
  while (taken[i] && taken[i] != &gone)
    i = (i + 1) % SLOTS;
  taken[i] = p;
  pthread_mutex_unlock (&lock);
  atomic_fetch_add (&page->live, 1);
  return p;
}

static void
give (const void *p)
{
  size_t i = slot_of (p), n = 0;

  if (page == NULL || p == NULL || atomic_load (&page->live) == 0)
    return;
  pthread_mutex_lock (&lock);
  while (taken[i] && taken[i] != p && ++n < SLOTS)
    i = (i + 1) % SLOTS;
  if (taken[i] == p) {
    taken[i] = taken[(i + 1) % SLOTS] ? &gone : NULL;
    atomic_fetch_sub (&page->live, 1);
  }
  pthread_mutex_unlock (&lock);
}

/* The functions that the filter calls. */

#define CALLER __builtin_return_address (0)

/* Of a call that returns a pointer. */
#define ALLOCATE(call, failure)                                                \
  void *p;                                                                     \
                                                                               \
  if (!is_of_filter (CALLER))                                                  \
    return call;                                                               \
  if (refuse ())                                                               \
    return failure;                                                            \
  p = call;                                                                    \
  return p == failure ? p : take (p)

void *
malloc (size_t n)
{
  ALLOCATE (__libc_malloc (n), NULL);
}

void *
calloc (size_t n, size_t size)
{
  ALLOCATE (__libc_calloc (n, size), NULL);
}

void *
aligned_alloc (size_t align, size_t n)
{
  ALLOCATE (__libc_memalign (align, n), NULL);
}

static char *
copy (const char *s, size_t n)
{
  char *new = __libc_malloc (n + 1);

  if (new == NULL)
    return NULL;
  new[n] = '\0';
  return memcpy (new, s, n);
}

char *
strdup (const char *s)
{
  ALLOCATE (copy (s, strlen (s)), NULL);
}

char *
strndup (const char *s, size_t n)
{
  ALLOCATE (copy (s, strnlen (s, n)), NULL);
}

void
free (void *p)
{
  give (p);
  __libc_free (p);
}

/* The rest is called by what dlsym finds. */

static __attribute__ ((format (printf, 3, 0))) int
print (const void *caller, char **p, const char *format, va_list args)
{
  const bool counts = is_of_filter (caller);
  int r;

  if (counts && refuse ())
    return -1;
  r = NEXT (vasprintf) (p, format, args);
  if (counts && r != -1)
    take (*p);
  return r;
}

__attribute__ ((format (printf, 2, 0))) int
vasprintf (char **p, const char *format, va_list args)
{
  return print (CALLER, p, format, args);
}

__attribute__ ((format (printf, 2, 3))) int
asprintf (char **p, const char *format, ...)
{
  va_list args;
  int r;

  va_start (args, format);
  r = print (CALLER, p, format, args);
  va_end (args);
  return r;
}

/* The same in a build that has libc check formats. */
extern __attribute__ ((format (printf, 3, 4))) int
__asprintf_chk (char **p, int flag, const char *format, ...);
extern __attribute__ ((format (printf, 3, 0))) int
__vasprintf_chk (char **p, int flag, const char *format, va_list args);

int
__vasprintf_chk (char **p, int flag, const char *format, va_list args)
{
  (void) flag;
  return print (CALLER, p, format, args);
}

int
__asprintf_chk (char **p, int flag, const char *format, ...)
{
  va_list args;
  int r;

  (void) flag;
  va_start (args, format);
  r = print (CALLER, p, format, args);
  va_end (args);
  return r;
}

void *
mmap64 (void *at, size_t n, int prot, int flags, int fd, off64_t offset)
{
  ALLOCATE (NEXT (mmap64) (at, n, prot, flags, fd, offset), MAP_FAILED);
}

int
munmap (void *p, size_t n)
{
  give (p);
  return NEXT (munmap) (p, n);
}

FILE *
fopen64 (const char *path, const char *mode)
{
  if (is_of_filter (CALLER) && refuse ())
    return NULL;
  return NEXT (fopen64) (path, mode);
}

int
pthread_create (pthread_t *id, const pthread_attr_t *attr,
                void *(*run) (void *), void *arg)
{
  if (is_of_filter (CALLER) && refuse ())
    return EAGAIN;
  return NEXT (pthread_create) (id, attr, run, arg);
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *file = getenv ("WT_ALLOCATIONS");
  const int fd = file ? open (file, O_RDWR | O_CLOEXEC) : -1;
  void *p;

  if (fd == -1)
    return;
  p = NEXT (mmap64) (NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     0);
  close (fd);
  if (p != MAP_FAILED)
    page = p;
}
