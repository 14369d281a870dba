/* Allocation of small, fixed-size things: never returns NULL, aborts when memory is exhausted.
 * Anything whose size the network or an operator chooses goes through strbuf (capped, checked). */
#ifndef BASE_XALLOC_H
#define BASE_XALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
/* A NUL-terminated copy of `len` bytes. */
char *xstrndup(const char *text, size_t len);

/* An invariant that must hold for the process to be trusted: logs file and line, then aborts.
 * Always compiled in. */
#define REQUIRE(x) ((x) ? (void)0 : require_failed(#x, __FILE__, __LINE__))
_Noreturn void require_failed(const char *what, const char *file, int line);

/* Owner of an embedded member: the way from a uv request or list node back to its struct. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
