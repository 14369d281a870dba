/* Fetches memory into the CPU caches before it is needed. Between two clients of a broadcast the
 * kernel runs and evicts their cache lines; waiting for the lines one by one costs more than the work
 * on them. */
#ifndef BASE_PREFETCH_H
#define BASE_PREFETCH_H

#include <stddef.h>

static inline void prefetch(const void *p, size_t bytes)
{
    enum { LINE = 64 };
    for (size_t at = 0; at < bytes; at += LINE) {
        __builtin_prefetch((const char *)p + at);
    }
    __builtin_prefetch((const char *)p + bytes - 1); /* it may begin in the middle of a line */
}

#endif
