/* Frames by their bytes: many streams that are sent the same at about the same time share them. Weak:
 * what nobody else holds any more goes with the next sweep. */
#ifndef NET_FRAME_CACHE_H
#define NET_FRAME_CACHE_H

#include "base/hash.h"
#include "net/frame.h"

enum { FRAME_CACHE_MAX = 16 };

struct frame_cache {
    struct hash_key key;
    struct {
        uint64_t hash;
        struct frame *frame; /* a reference; NULL: free */
    } v[FRAME_CACHE_MAX];
    unsigned next; /* to be replaced */
};

void frame_cache_init(struct frame_cache *c);
void frame_cache_clear(struct frame_cache *c);
/* Returns a new reference to a frame of these bytes; *shared: it was there. NULL: no memory. */
struct frame *frame_cache_get(struct frame_cache *c, struct slice bytes, bool *shared);
/* Now and then: lets go of what nobody else holds. */
void frame_cache_sweep(struct frame_cache *c);

#endif
