#include "base/container/slots.h"

#include "base/alloc.h"
#include "base/require.h"

#include <stdlib.h>

#define NO_SLOT UINT32_MAX

struct slot {
    void *thing; /* NULL: free */
    uint32_t generation, next_free;
};

void slots_init(struct slots *s)
{
    *s = (struct slots){.free_head = NO_SLOT};
}

void slots_clear(struct slots *s)
{
    free(s->all);
    slots_init(s);
}

static void slots_grow(struct slots *s)
{
    uint32_t cap = s->cap ? s->cap * 2 : 64;
    REQUIRE(cap > s->cap);
    s->all = xrealloc(s->all, cap * sizeof *s->all);
    for (uint32_t i = cap; i-- > s->cap;) {
        s->all[i] = (struct slot){.generation = 1, .next_free = s->free_head};
        s->free_head = i;
    }
    s->cap = cap;
}

uint64_t slots_add(struct slots *s, void *thing)
{
    if (s->free_head == NO_SLOT) {
        slots_grow(s);
    }
    uint32_t i = s->free_head;
    struct slot *slot = &s->all[i];
    s->free_head = slot->next_free;
    slot->thing = thing;
    s->used++;
    return (uint64_t)slot->generation << 32 | i;
}

static struct slot *slots_find(const struct slots *s, uint64_t id)
{
    uint32_t i = (uint32_t)id;
    if (i >= s->cap || s->all[i].generation != (uint32_t)(id >> 32) || !s->all[i].thing) {
        return NULL;
    }
    return &s->all[i];
}

void *slots_get(const struct slots *s, uint64_t id)
{
    struct slot *slot = slots_find(s, id);
    return slot ? slot->thing : NULL;
}

void slots_del(struct slots *s, uint64_t id)
{
    struct slot *slot = slots_find(s, id);
    if (!slot) {
        return;
    }
    slot->thing = NULL;
    s->used--;
    /* A slot whose generations are used up is retired rather than reused. */
    if (++slot->generation != 0) {
        slot->next_free = s->free_head;
        s->free_head = (uint32_t)id;
    }
}

void *slots_next(const struct slots *s, uint32_t *pos)
{
    while (*pos < s->cap) {
        void *thing = s->all[(*pos)++].thing;
        if (thing) {
            return thing;
        }
    }
    return NULL;
}
