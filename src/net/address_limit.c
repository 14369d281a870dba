#include "net/address_limit.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"

#include <stdint.h>
#include <stdlib.h>

struct address_entry {
    struct peer_address addr;
    size_t count;
    struct map_entry by_address; /* in address_limit.entries */
};

struct address_limit {
    struct hash_key key;
    struct map entries; /* owned */
};

static void address_limit_drop(struct address_limit *l, struct address_entry *e)
{
    map_del(&l->entries, &e->by_address);
    free(e);
}

struct address_limit *address_limit_new(void)
{
    struct address_limit *l = xcalloc(1, sizeof *l);
    hash_key_init(&l->key);
    return l;
}

void address_limit_free(struct address_limit *l)
{
    if (!l) {
        return;
    }
    while (!map_empty(&l->entries)) {
        address_limit_drop(l, container_of(l->entries.first, struct address_entry, by_address));
    }
    free(l);
}

static unsigned address_limit_hash_of(const struct address_limit *l,
                                      const struct peer_address *addr)
{
    return (unsigned)hash_bytes(&l->key, addr, sizeof *addr);
}

static struct address_entry *address_limit_find(const struct address_limit *l,
                                                const struct peer_address *addr, unsigned hash)
{
    struct map_entry *e = map_find(&l->entries, slice_of((const char *)addr, sizeof *addr), hash);
    return e ? container_of(e, struct address_entry, by_address) : NULL;
}

bool address_limit_take(struct address_limit *l, const struct peer_address *addr, size_t n,
                        size_t max)
{
    struct peer_address holder = peer_address_holder(addr);
    unsigned hash = address_limit_hash_of(l, &holder);
    struct address_entry *e = address_limit_find(l, &holder, hash);
    size_t held = e ? e->count : 0;
    if (n > SIZE_MAX - held || (max && held + n > max)) {
        return false;
    }
    if (e) {
        e->count += n;
        return true;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        return false;
    }
    e->addr = holder;
    e->count = n;
    if (!map_add(&l->entries, &e->by_address, slice_of((const char *)&e->addr, sizeof e->addr),
                 hash)) {
        free(e);
        return false;
    }
    return true;
}

void address_limit_release(struct address_limit *l, const struct peer_address *addr, size_t n)
{
    struct peer_address holder = peer_address_holder(addr);
    struct address_entry *e = address_limit_find(l, &holder, address_limit_hash_of(l, &holder));
    REQUIRE(e != NULL && e->count >= n);
    e->count -= n;
    if (e->count == 0) {
        address_limit_drop(l, e);
    }
}

size_t address_limit_addresses(const struct address_limit *l)
{
    return map_count(&l->entries);
}
