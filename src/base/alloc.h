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
/* A part of the allocator's memory for threads that share it, and no others; 0: there is none such. */
unsigned alloc_new_arena(void);
/* From now on this thread allocates there. */
void alloc_use_arena(unsigned arena);
/* As free(), for what another thread has allocated: this one does not keep it for itself. NULL is fine. */
void alloc_free_to_arena(void *p);

#endif
