/* Ids for live objects that other code must not point at: `generation << 32 | slot`. An id is never
 * reused; looking up a deleted one returns NULL. Doubles as it grows; never shrinks. */
#ifndef BASE_CONTAINER_SLOTS_H
#define BASE_CONTAINER_SLOTS_H

#include <stddef.h>
#include <stdint.h>

struct slot;

struct slots {
    struct slot *all; /* owned */
    uint32_t cap, used, free_head;
};

void slots_init(struct slots *s);
void slots_clear(struct slots *s);
/* Never 0. */
uint64_t slots_add(struct slots *s, void *thing);
void *slots_get(const struct slots *s, uint64_t id);
void slots_del(struct slots *s, uint64_t id);
/* Iterates over all live objects: start with *pos = 0; NULL at the end. slots_del() may be called in
 * between. */
void *slots_next(const struct slots *s, uint32_t *pos);

#endif
