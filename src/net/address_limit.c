/* Connections by address, for the listener (take) and the connection's end (release). */
#include "net/address_limit.h"

#include "base/hash.h"
#include "base/xalloc.h"

#include <limits.h>
#include <stdlib.h>

/* uthash calls exit() when memory is short unless told otherwise: the entry is left out instead */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->connections = 0)
#include <uthash.h>

struct address_entry {
    struct peer_address addr;
    unsigned connections; /* 0: could not be added */
    UT_hash_handle hh;
};

struct address_limit {
    struct hash_key key;
    struct address_entry *entries; /* owned, uthash */
};

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
    struct address_entry *e, *next;
    HASH_ITER (hh, l->entries, e, next) {
        HASH_DEL(l->entries, e);
        free(e);
    }
    free(l);
}

static unsigned hash_of(const struct address_limit *l, const struct peer_address *addr)
{
    return (unsigned)hash_bytes(&l->key, addr, sizeof *addr);
}

static struct address_entry *find(const struct address_limit *l, const struct peer_address *addr,
                                  unsigned hash)
{
    struct address_entry *e = NULL;
    HASH_FIND_BYHASHVALUE(hh, l->entries, addr, sizeof *addr, hash, e);
    return e;
}

bool address_limit_take(struct address_limit *l, const struct peer_address *addr, unsigned max)
{
    unsigned hash = hash_of(l, addr);
    struct address_entry *e = find(l, addr, hash);
    if (e) {
        if ((max && e->connections >= max) || e->connections == UINT_MAX) {
            return false;
        }
        e->connections++;
        return true;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        return false;
    }
    e->addr = *addr;
    e->connections = 1;
    HASH_ADD_BYHASHVALUE(hh, l->entries, addr, sizeof e->addr, hash, e);
    if (e->connections == 0) {
        free(e);
        return false;
    }
    return true;
}

void address_limit_release(struct address_limit *l, const struct peer_address *addr)
{
    struct address_entry *e = find(l, addr, hash_of(l, addr));
    REQUIRE(e != NULL);
    if (--e->connections == 0) {
        HASH_DEL(l->entries, e);
        free(e);
    }
}

size_t address_limit_addresses(const struct address_limit *l)
{
    return HASH_COUNT(l->entries);
}
