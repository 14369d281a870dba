/* Fetches memory into the caches before it is needed. Where much else runs in between, as the
 * kernel does between two clients of a broadcast, each one's lines are cold, and waiting for them
 * one by one costs more than what is done with them. */
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
