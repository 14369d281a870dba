#include "net/frame.h"

#include <stdlib.h>

struct frame *frame_new(size_t len)
{
    if (len > UINT32_MAX - sizeof(struct frame)) {
        return NULL;
    }
    struct frame *f = malloc(sizeof *f + len);
    if (f) {
        f->refs = 1;
        f->len = (uint32_t)len;
    }
    return f;
}

struct frame *frame_copy(struct slice bytes)
{
    struct frame *f = frame_new(bytes.n);
    if (f && bytes.n) {
        memcpy(f->bytes, bytes.p, bytes.n);
    }
    return f;
}

struct frame *frame_ref(struct frame *f)
{
    f->refs++;
    return f;
}

void frame_unref(struct frame *f)
{
    if (f && --f->refs == 0) {
        free(f);
    }
}
