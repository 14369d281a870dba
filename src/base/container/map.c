#include "base/container/map.h"

#include "base/require.h"

/* The macros of uthash, one a function. */

/* NOLINTNEXTLINE(readability-function-size) */
bool map_add(struct map *m, struct map_entry *e, struct slice key, unsigned hash)
{
    bool added = true;
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, m->first, key.p, key.n, hash, e);
    return added;
}

void map_del(struct map *m, struct map_entry *e)
{
    REQUIRE(m->first != NULL);
    HASH_DEL(m->first, e);
}

size_t map_count(const struct map *m)
{
    return HASH_COUNT(m->first);
}
