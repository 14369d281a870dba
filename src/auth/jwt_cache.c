#include "auth/jwt_cache.h"

#include "base/list.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

/* no memory: the entry is not kept */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->kept = false)
#include <uthash.h>

enum { TABLE_BYTES = 64 }; /* about what the hash table takes for an entry */

struct entry {
    unsigned char digest[JWT_DIGEST_BYTES];
    UT_hash_handle hh;
    struct list recent;
    int64_t from_s, till_s;
    size_t bytes, claims_n;
    bool kept;
    char claims[];
};

struct jwt_cache {
    struct entry *all;  /* uthash */
    struct list recent; /* least recently used first */
    size_t bytes, max_bytes;
};

struct jwt_cache *jwt_cache_new(size_t max_bytes)
{
    struct jwt_cache *c = xcalloc(1, sizeof *c);
    c->max_bytes = max_bytes;
    list_init(&c->recent);
    return c;
}

static void drop(struct jwt_cache *c, struct entry *x)
{
    REQUIRE(c->all != NULL);
    HASH_DEL(c->all, x);
    list_del(&x->recent);
    c->bytes -= x->bytes;
    free(x);
}

void jwt_cache_free(struct jwt_cache *c)
{
    if (c) {
        while (!list_empty(&c->recent)) {
            drop(c, list_first(&c->recent, struct entry, recent));
        }
        free(c);
    }
}

/* A digest needs no hashing. */
static unsigned hash_of(const unsigned char *digest)
{
    unsigned hash;
    memcpy(&hash, digest, sizeof hash);
    return hash;
}

static struct entry *find(struct jwt_cache *c, const unsigned char *digest)
{
    struct entry *x = NULL;
    HASH_FIND_BYHASHVALUE(hh, c->all, digest, JWT_DIGEST_BYTES, hash_of(digest), x);
    return x;
}

struct slice jwt_cache_get(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                           int64_t now_s)
{
    struct entry *x = find(c, digest);
    if (x && now_s >= x->till_s) {
        drop(c, x);
        x = NULL;
    }
    if (!x || now_s < x->from_s) {
        return slice_of(NULL, 0);
    }
    list_del(&x->recent);
    list_add_tail(&c->recent, &x->recent);
    return slice_of(x->claims, x->claims_n);
}

void jwt_cache_put(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                   struct slice claims, int64_t from_s, int64_t till_s)
{
    size_t bytes = sizeof(struct entry) + TABLE_BYTES + claims.n;
    struct entry *old = find(c, digest);
    if (old) {
        drop(c, old);
    }
    if (bytes > c->max_bytes) {
        return;
    }
    while (c->bytes + bytes > c->max_bytes) {
        drop(c, list_first(&c->recent, struct entry, recent));
    }
    struct entry *x = malloc(sizeof *x + claims.n);
    if (!x) {
        return;
    }
    *x = (struct entry){
        .from_s = from_s, .till_s = till_s, .bytes = bytes, .claims_n = claims.n, .kept = true};
    memcpy(x->digest, digest, JWT_DIGEST_BYTES);
    memcpy(x->claims, claims.p, claims.n);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, c->all, x->digest, JWT_DIGEST_BYTES, hash_of(digest), x);
    if (!x->kept) {
        free(x);
        return;
    }
    c->bytes += bytes;
    list_add_tail(&c->recent, &x->recent);
}

size_t jwt_cache_bytes(const struct jwt_cache *c)
{
    return c->bytes;
}
