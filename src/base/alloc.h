/* Allocation of small objects of fixed size: never returns NULL, aborts when memory is exhausted. Use
 * strbuf (limited, checked) for everything whose size the network or an operator chooses. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
/* A NUL-terminated copy of `len` bytes. */
char *xstrndup(const char *text, size_t len);
/* Gives pages that nothing uses back to the system, and before that what the allocator caches for this thread. Takes
 * a millisecond: for threads that nobody waits for. */
void alloc_trim(void);

#endif
