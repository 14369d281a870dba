/* A hash table from bytes to structs: uthash with one rule for memory that is short. Entries are
 * embedded in the caller's structs, which own the bytes of the key; these must not move or change
 * while the entry is in the map. The caller computes the hash, so that it can use one hash for many
 * look-ups; for keys that clients choose use hash_bytes() with a random key.
 *
 * The rule: map_add() returns false, and the entry is not in. Nothing else allocates. */
#ifndef BASE_CONTAINER_MAP_H
#define BASE_CONTAINER_MAP_H

#include "base/slice.h"

#include <stdbool.h>

/* by default uthash calls exit() when memory is short; `added` is a variable of map_add()
 */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) (added = false)
#include <uthash.h>

struct map_entry {
    UT_hash_handle hh;
};

/* Begins as zeros. Empty again, it owns nothing. */
struct map {
    struct map_entry *first; /* in the order they were added */
};

static inline struct map_entry *map_find(const struct map *m, struct slice key, unsigned hash)
{
    struct map_entry *found = NULL;
    HASH_FIND_BYHASHVALUE(hh, m->first, key.p, key.n, hash, found);
    return found;
}

/* The key must not be in. */
__attribute__((warn_unused_result)) bool map_add(struct map *m, struct map_entry *e,
                                                 struct slice key, unsigned hash);
/* The entry must be in. */
void map_del(struct map *m, struct map_entry *e);
size_t map_count(const struct map *m);

static inline bool map_empty(const struct map *m)
{
    return m->first == NULL;
}

/* The one added next; NULL: `e` is the last. */
static inline struct map_entry *map_next(const struct map_entry *e)
{
    return e->hh.next;
}

#endif
