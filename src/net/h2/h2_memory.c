#include "net/h2/h2_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE_BYTES = 16 * 1024 };

void h2_memory_forget(void *block, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t before = (page - (uintptr_t)block % page) % page; /* of a page that others share */
    size_t whole = n > before ? (n - before) / page * page : 0;
    if (whole) {
        /* an error leaves them as they are: only the memory is not saved */
        (void)madvise((char *)block + before, whole, MADV_DONTNEED);
    }
}

static void *h2_memory_malloc(size_t n, void *user)
{
    void *p = malloc(n);
    (void)user;
    if (p && n >= LARGE_BYTES) {
        h2_memory_forget(p, n); /* it may be memory that others used before */
    }
    return p;
}

static void h2_memory_free(void *p, void *user)
{
    (void)user;
    free(p);
}

static void *h2_memory_calloc(size_t count, size_t n, void *user)
{
    (void)user;
    return calloc(count, n);
}

static void *h2_memory_realloc(void *p, size_t n, void *user)
{
    return p ? realloc(p, n) : h2_memory_malloc(n, user); /* which is how nghttp2 begins */
}

nghttp2_mem h2_memory(void)
{
    return (nghttp2_mem){NULL, h2_memory_malloc, h2_memory_free, h2_memory_calloc,
                         h2_memory_realloc};
}
