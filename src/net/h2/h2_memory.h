/* The memory of HTTP/2 sessions. A session begins with a frame buffer of 16 KB, of which the broker's few small frames ever
 * touch one page: its data does not pass through it. */
#ifndef NET_H2_H2_MEMORY_H
#define NET_H2_H2_MEMORY_H

#include <nghttp2/nghttp2.h>

/* malloc() and the like, but for large blocks: none of their whole pages is resident until it is used. */
nghttp2_mem h2_memory(void);
/* Gives the pages that lie in a block as a whole back to the system: they are zero when they are used again. */
void h2_memory_forget(void *block, size_t n);

#endif
