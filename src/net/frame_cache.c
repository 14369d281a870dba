#include "net/frame_cache.h"

void frame_cache_init(struct frame_cache *c)
{
    *c = (struct frame_cache){.next = 0};
    hash_key_init(&c->key);
}

void frame_cache_clear(struct frame_cache *c)
{
    for (unsigned i = 0; i < FRAME_CACHE_MAX; i++) {
        frame_unref(c->v[i].frame);
        c->v[i].frame = NULL;
    }
}

struct frame *frame_cache_get(struct frame_cache *c, struct slice bytes, bool *shared)
{
    uint64_t hash = hash_bytes(&c->key, bytes.p, bytes.n);
    for (unsigned i = 0; i < FRAME_CACHE_MAX; i++) {
        struct frame *f = c->v[i].frame;
        *shared = f && c->v[i].hash == hash && slice_eq(slice_of(f->bytes, f->len), bytes);
        if (*shared) {
            return frame_ref(f);
        }
    }
    struct frame *made = frame_copy(bytes);
    if (made) {
        unsigned at = c->next++ % FRAME_CACHE_MAX;
        frame_unref(c->v[at].frame);
        c->v[at].hash = hash;
        c->v[at].frame = frame_ref(made);
    }
    return made;
}

void frame_cache_sweep(struct frame_cache *c)
{
    for (unsigned i = 0; i < FRAME_CACHE_MAX; i++) {
        if (c->v[i].frame && c->v[i].frame->refs == 1) {
            frame_unref(c->v[i].frame);
            c->v[i].frame = NULL;
        }
    }
}
