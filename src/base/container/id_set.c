#include "base/container/id_set.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 64 };

size_t id_set_count(const struct id_set *s)
{
    return s->n - s->from;
}

void id_set_clear(struct id_set *s)
{
    free(s->v);
    *s = (struct id_set){.v = NULL};
}

bool id_set_add(struct id_set *s, uint64_t id)
{
    if (s->n == s->cap && s->from > 0) {
        memmove(s->v, s->v + s->from, id_set_count(s) * sizeof *s->v);
        s->n -= s->from;
        s->from = 0;
    }
    if (s->n == ID_SET_MAX) {
        return false;
    }
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : LEAST;
        s->v = xrealloc(s->v, s->cap * sizeof *s->v);
    }
    s->unsorted = s->unsorted || (id_set_count(s) && id < s->v[s->n - 1]);
    s->v[s->n++] = id;
    return true;
}

static int id_set_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void id_set_sort(struct id_set *s)
{
    if (s->unsorted) {
        qsort(s->v + s->from, id_set_count(s), sizeof *s->v, id_set_compare);
        s->unsorted = false;
    }
}

bool id_set_has(struct id_set *s, uint64_t id)
{
    id_set_sort(s);
    return id_set_count(s) &&
           bsearch(&id, s->v + s->from, id_set_count(s), sizeof *s->v, id_set_compare);
}

void id_set_pass(struct id_set *s, uint64_t id)
{
    id_set_sort(s);
    while (s->from < s->n && s->v[s->from] <= id) {
        s->from++;
    }
    if (s->from == s->n) {
        id_set_clear(s);
    }
}
