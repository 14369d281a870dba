#include "net/frame.h"

#include <stdlib.h>

/* `before`: so many bytes of the allocation come before it. */
static struct frame *frame_make(size_t before, size_t len)
{
    if (len > UINT32_MAX - sizeof(struct frame)) {
        return NULL;
    }
    char *p = malloc(before + sizeof(struct frame) + len);
    struct frame *f = p ? (struct frame *)(void *)(p + before) : NULL;
    if (f) {
        f->refs = 1;
        f->counted = before > 0;
        f->len = (uint32_t)len;
    }
    return f;
}

static uint64_t **frame_account(struct frame *f)
{
    return (uint64_t **)(void *)f - 1;
}

struct frame *frame_new(size_t len)
{
    return frame_make(0, len);
}

static struct frame *frame_fill(struct frame *f, struct slice bytes)
{
    if (f && bytes.n) {
        memcpy(f->bytes, bytes.p, bytes.n);
    }
    return f;
}

struct frame *frame_copy(struct slice bytes)
{
    return frame_fill(frame_make(0, bytes.n), bytes);
}

struct frame *frame_copy_counted(struct slice bytes, uint64_t *account)
{
    struct frame *f = frame_fill(frame_make(sizeof account, bytes.n), bytes);
    if (f) {
        *frame_account(f) = account;
        *account += f->len;
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
    if (!f || --f->refs) {
        return;
    }
    if (f->counted) {
        **frame_account(f) -= f->len;
        free(frame_account(f));
    } else {
        free(f);
    }
}
