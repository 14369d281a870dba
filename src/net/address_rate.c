/* See address_rate.h. A bucket is kept as what it lacks, in thousandths of a token: `per_s` a second is as many
 * thousandths a millisecond. */
#include "net/address_rate.h"

#include "base/alloc.h"
#include "base/container/list.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"

#include <stdlib.h>

enum {
    TOKEN = 1000,
    FORGET_AT_ONCE = 2, /* for each take: more than one, so that old ones become fewer */
};

struct rate_entry {
    struct peer_address addr;
    uint64_t lacks;              /* thousandths, at `at_ms` */
    uint64_t at_ms;              /* when it was last asked */
    struct map_entry by_address; /* in address_rate.entries */
    struct list node;            /* in address_rate.by_age */
};

struct address_rate {
    struct hash_key key;
    struct map entries; /* owned */
    struct list by_age; /* the one that was longest quiet first */
    size_t most;
    uint64_t per_s, full; /* full: thousandths */
};

static void address_rate_drop(struct address_rate *r, struct rate_entry *e)
{
    map_del(&r->entries, &e->by_address);
    list_del(&e->node);
    free(e);
}

static struct rate_entry *address_rate_oldest(const struct address_rate *r)
{
    return list_empty(&r->by_age) ? NULL : list_first(&r->by_age, struct rate_entry, node);
}

struct address_rate *address_rate_new(unsigned per_s, unsigned burst, size_t most)
{
    struct address_rate *r = xcalloc(1, sizeof *r);
    *r = (struct address_rate){.most = most, .per_s = per_s, .full = (uint64_t)burst * TOKEN};
    hash_key_init(&r->key);
    list_init(&r->by_age);
    return r;
}

void address_rate_free(struct address_rate *r)
{
    struct rate_entry *e;
    while (r && (e = address_rate_oldest(r)) != NULL) {
        address_rate_drop(r, e);
    }
    free(r);
}

static uint64_t address_rate_lack(const struct address_rate *r, const struct rate_entry *e,
                                  uint64_t now_ms)
{
    uint64_t ms = now_ms - e->at_ms;
    return ms > e->lacks / r->per_s ? 0 : e->lacks - ms * r->per_s;
}

static void address_rate_forget(struct address_rate *r, uint64_t now_ms)
{
    struct rate_entry *e;
    for (int i = 0; i < FORGET_AT_ONCE && (e = address_rate_oldest(r)) != NULL &&
                    address_rate_lack(r, e, now_ms) == 0;
         i++) {
        address_rate_drop(r, e);
    }
}

static struct rate_entry *address_rate_add(struct address_rate *r, const struct peer_address *addr,
                                           unsigned hash)
{
    struct rate_entry *oldest = address_rate_oldest(r);
    if (oldest && map_count(&r->entries) >= r->most) {
        address_rate_drop(r, oldest);
    }
    struct rate_entry *e = calloc(1, sizeof *e);
    if (!e) {
        return NULL;
    }
    e->addr = *addr;
    list_init(&e->node);
    if (!map_add(&r->entries, &e->by_address, slice_of((const char *)&e->addr, sizeof e->addr),
                 hash)) {
        free(e);
        return NULL;
    }
    return e;
}

bool address_rate_take(struct address_rate *r, const struct peer_address *addr, uint64_t now_ms)
{
    struct peer_address holder = peer_address_holder(addr);
    struct slice key = slice_of((const char *)&holder, sizeof holder);
    unsigned hash = (unsigned)hash_bytes(&r->key, key.p, key.n);
    address_rate_forget(r, now_ms);
    struct map_entry *found = map_find(&r->entries, key, hash);
    struct rate_entry *e = found ? container_of(found, struct rate_entry, by_address)
                                 : address_rate_add(r, &holder, hash);
    if (!e) {
        return false;
    }
    e->lacks = address_rate_lack(r, e, now_ms);
    e->at_ms = now_ms;
    list_del(&e->node);
    list_add_tail(&r->by_age, &e->node);
    if (e->lacks + TOKEN > r->full) {
        return false;
    }
    e->lacks += TOKEN;
    return true;
}

size_t address_rate_addresses(const struct address_rate *r)
{
    return map_count(&r->entries);
}
