#include "audience/format_cache.h"

#include "base/alloc.h"

#include <stdlib.h>

/* Neither number is a stranger's choice. */
static size_t slot_of(uint64_t event, uint64_t key)
{
    uint64_t h = (event * UINT64_C(0x9e3779b97f4a7c15)) ^ (key * UINT64_C(0xc2b2ae3d27d4eb4f));
    return (size_t)(h >> 32) % FORMAT_CACHE_SLOTS;
}

void format_cache_reset(struct format_cache *m)
{
    for (size_t i = 0; m->entries && i < FORMAT_CACHE_SLOTS; i++) {
        if (m->slots[i].key) {
            frame_unref(m->slots[i].frame);
            m->slots[i] = (struct format_cache_entry){0};
            m->entries--;
        }
    }
    m->bytes = 0;
}

void format_cache_clear(struct format_cache *m)
{
    format_cache_reset(m);
    free(m->slots);
    m->slots = NULL;
}

const struct format_cache_entry *format_cache_find(const struct format_cache *m, uint64_t event,
                                                   const uint64_t *keys, size_t n)
{
    for (size_t k = 0; m->entries && k < n; k++) {
        size_t i = slot_of(event, keys[k]);
        for (; m->slots[i].key; i = (i + 1) % FORMAT_CACHE_SLOTS) { /* never full */
            if (m->slots[i].key == keys[k] && m->slots[i].event == event) {
                return &m->slots[i];
            }
        }
    }
    return NULL;
}

bool format_cache_has_room(const struct format_cache *m, size_t bytes)
{
    return m->entries < FORMAT_CACHE_ENTRIES_MAX && bytes <= FORMAT_CACHE_BYTES_MAX - m->bytes;
}

void format_cache_put(struct format_cache *m, uint64_t event, uint64_t key,
                      enum format_result result, struct frame *frame)
{
    size_t size = frame ? frame->len : 0;
    if (key == 0 || !format_cache_has_room(m, size)) {
        return;
    }
    if (!m->slots) {
        m->slots = xcalloc(FORMAT_CACHE_SLOTS, sizeof *m->slots);
    }
    size_t i = slot_of(event, key);
    while (m->slots[i].key) {
        i = (i + 1) % FORMAT_CACHE_SLOTS;
    }
    m->slots[i] = (struct format_cache_entry){event, key, frame ? frame_ref(frame) : NULL, result};
    m->entries++;
    m->bytes += size;
}
