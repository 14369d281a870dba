#include "base/container/value_cache.h"

#include "base/alloc.h"
#include "base/container/list.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { TABLE_BYTES = 64 }; /* about what the hash table takes for an entry */

struct entry {
    struct list used; /* in value_cache.by_use */
    size_t key_len, text_len;
    uint64_t fresh_until, expired_at;
    struct map_entry by_key; /* in value_cache.entries */
    char bytes[];            /* key, text */
};

struct value_cache {
    struct hash_key key;
    struct map entries; /* owned */
    struct list by_use; /* the least recently used first */
    size_t bytes, max_bytes;
    uint64_t evictions;
};

static unsigned value_cache_hash_of(const struct value_cache *c, struct slice key)
{
    return (unsigned)hash_bytes(&c->key, key.p, key.n);
}

static size_t size_of(const struct entry *e)
{
    return sizeof *e + TABLE_BYTES + e->key_len + e->text_len;
}

static struct entry *value_cache_find(const struct value_cache *c, struct slice key)
{
    struct map_entry *e = map_find(&c->entries, key, value_cache_hash_of(c, key));
    return e ? container_of(e, struct entry, by_key) : NULL;
}

static void value_cache_drop(struct value_cache *c, struct entry *e)
{
    map_del(&c->entries, &e->by_key);
    list_del(&e->used);
    c->bytes -= size_of(e);
    free(e);
}

struct value_cache *value_cache_new(size_t max_bytes)
{
    struct value_cache *c = xcalloc(1, sizeof *c);
    hash_key_init(&c->key);
    list_init(&c->by_use);
    c->max_bytes = max_bytes;
    return c;
}

void value_cache_free(struct value_cache *c)
{
    if (!c) {
        return;
    }
    while (!list_empty(&c->by_use)) {
        value_cache_drop(c, list_first(&c->by_use, struct entry, used));
    }
    free(c);
}

bool value_cache_get(struct value_cache *c, struct slice key, struct cached_value *out)
{
    struct entry *e = value_cache_find(c, key);
    if (!e) {
        return false;
    }
    list_del(&e->used);
    list_add_tail(&c->by_use, &e->used);
    out->text = slice_of(e->bytes + e->key_len, e->text_len);
    out->fresh_until = e->fresh_until;
    out->expired_at = e->expired_at;
    return true;
}

void value_cache_put(struct value_cache *c, struct slice key, struct slice text,
                     uint64_t fresh_until)
{
    struct entry *e = value_cache_find(c, key);
    size_t size = sizeof *e + TABLE_BYTES + key.n + text.n;
    if (e) {
        value_cache_drop(c, e);
    }
    if (size > c->max_bytes) {
        return;
    }
    while (c->bytes + size > c->max_bytes) {
        value_cache_drop(c, list_first(&c->by_use, struct entry, used));
        c->evictions++;
    }
    e = calloc(1, size - TABLE_BYTES);
    if (!e) {
        return;
    }
    e->key_len = key.n;
    e->text_len = text.n;
    memcpy(e->bytes, key.p, key.n);
    memcpy(e->bytes + key.n, text.p, text.n);
    e->fresh_until = e->expired_at = fresh_until;
    if (!map_add(&c->entries, &e->by_key, slice_of(e->bytes, key.n), value_cache_hash_of(c, key))) {
        free(e);
        return;
    }
    c->bytes += size;
    list_add_tail(&c->by_use, &e->used);
}

void value_cache_del(struct value_cache *c, struct slice key)
{
    struct entry *e = value_cache_find(c, key);
    if (e) {
        value_cache_drop(c, e);
    }
}

void value_cache_extend(struct value_cache *c, struct slice key, uint64_t fresh_until)
{
    struct entry *e = value_cache_find(c, key);
    if (e) {
        e->fresh_until = fresh_until;
    }
}

struct value_cache_figures value_cache_figures(const struct value_cache *c)
{
    return (struct value_cache_figures){
        .bytes = c->bytes, .entries = map_count(&c->entries), .evictions = c->evictions};
}
