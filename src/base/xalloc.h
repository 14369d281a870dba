/* Allocation of small objects of fixed size: never returns NULL, aborts when memory is exhausted. Use
 * strbuf (limited, checked) for everything whose size the network or an operator chooses. */
#ifndef BASE_XALLOC_H
#define BASE_XALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
/* A NUL-terminated copy of `len` bytes. */
char *xstrndup(const char *text, size_t len);

/* An invariant without which the process cannot be trusted. If `x` is false: logs file and line, then
 * aborts. Always compiled in. */
#define REQUIRE(x) ((x) ? (void)0 : require_failed(#x, __FILE__, __LINE__))
_Noreturn void require_failed(const char *what, const char *file, int line);

/* Owner of an embedded member: the way from a uv request or list node back to its struct. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
