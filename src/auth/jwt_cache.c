#include "auth/jwt_cache.h"

#include "base/alloc.h"
#include "base/container/value_cache.h"

#include <stdlib.h>
#include <string.h>

/* What is kept with the claims stands before them. */
struct head {
    int64_t from_s, till_s;
};

struct jwt_cache {
    struct value_cache *values; /* digest -> head, claims; owned */
};

struct jwt_cache *jwt_cache_new(size_t max_bytes)
{
    struct jwt_cache *c = xcalloc(1, sizeof *c);
    c->values = value_cache_new(max_bytes);
    return c;
}

void jwt_cache_free(struct jwt_cache *c)
{
    if (c) {
        value_cache_free(c->values);
        free(c);
    }
}

static struct slice jwt_cache_key_of(const unsigned char digest[JWT_DIGEST_BYTES])
{
    return slice_of((const char *)digest, JWT_DIGEST_BYTES);
}

struct slice jwt_cache_get(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                           int64_t now_s)
{
    struct cached_value v;
    struct head head;
    if (!value_cache_get(c->values, jwt_cache_key_of(digest), &v)) {
        return slice_of(NULL, 0);
    }
    memcpy(&head, v.text.p, sizeof head);
    if (now_s >= head.till_s) {
        value_cache_del(c->values, jwt_cache_key_of(digest));
        return slice_of(NULL, 0);
    }
    return now_s < head.from_s ? slice_of(NULL, 0)
                               : slice_of(v.text.p + sizeof head, v.text.n - sizeof head);
}

void jwt_cache_put(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                   struct slice claims, int64_t from_s, int64_t till_s)
{
    const struct head head = {from_s, till_s};
    char *text = malloc(sizeof head + claims.n);
    if (!text) {
        value_cache_del(c->values, jwt_cache_key_of(digest));
        return;
    }
    memcpy(text, &head, sizeof head);
    memcpy(text + sizeof head, claims.p, claims.n);
    value_cache_put(c->values, jwt_cache_key_of(digest), slice_of(text, sizeof head + claims.n), 0);
    free(text);
}

size_t jwt_cache_bytes(const struct jwt_cache *c)
{
    return value_cache_figures(c->values).bytes;
}
