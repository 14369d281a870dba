/* Immutable bytes ready for a socket, shared by reference count. Loop thread only. */
#ifndef NET_FRAME_H
#define NET_FRAME_H

#include "base/slice.h"

#include <stdint.h>

struct frame {
    uint32_t refs : 31;
    uint32_t counted : 1; /* a pointer to its account is before it */
    uint32_t len;
    char bytes[];
};

/* Returns a new reference to an uninitialised frame of `len` bytes; NULL when memory is short. */
struct frame *frame_new(size_t len);
/* Returns a new reference to a copy of `bytes`; NULL when memory is short. */
struct frame *frame_copy(struct slice bytes);
/* The same, and *account, which outlives it, has its length for as long as it lives. */
struct frame *frame_copy_counted(struct slice bytes, uint64_t *account);
struct frame *frame_ref(struct frame *f);
void frame_unref(struct frame *f); /* NULL is fine */

#endif
