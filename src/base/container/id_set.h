/* Some ids ahead of a place that only moves on: sorted when they are asked for, bounded. */
#ifndef BASE_CONTAINER_ID_SET_H
#define BASE_CONTAINER_ID_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: empty. */
struct id_set {
    uint64_t *v; /* owned */
    size_t from, n, cap;
    bool unsorted;
};

enum { ID_SET_MAX = 1 << 20 }; /* 8 MiB */

/* False: there are ID_SET_MAX. */
bool id_set_add(struct id_set *s, uint64_t id);
bool id_set_has(struct id_set *s, uint64_t id);
/* Drops those up to `id`. */
void id_set_pass(struct id_set *s, uint64_t id);
size_t id_set_count(const struct id_set *s);
void id_set_clear(struct id_set *s);

#endif
