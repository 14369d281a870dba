#include "lua/vm/format_classes.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"
#include "base/text/json_text.h"

#include <stdlib.h>

/* Smaller keys belong to formats that read nothing. */
enum { FIRST_ID = 1 << 20 };

struct format_class {
    struct map_entry by_bytes; /* in format_classes.all */
    uint64_t id;               /* never used again */
    uint32_t refs;
    size_t n;
    char bytes[]; /* format, set of names, and the values */
};

struct format_shapes {
    struct param_reads seen; /* by all calls so far */
    struct param_reads v[FORMAT_SHAPES_MAX];
    size_t n;
};

struct format_classes {
    struct format_shapes *formats; /* owned, one per format */
    struct param_reads by_filters;
    size_t count;
    struct map all; /* classes, by bytes */
    struct hash_key key;
    uint64_t last_id;
};

static bool next_name(const struct param_reads *r, size_t *at, struct slice *name)
{
    uint16_t n;
    if (*at == r->used) {
        return false;
    }
    memcpy(&n, r->names + *at, sizeof n);
    *name = slice_of(r->names + *at + sizeof n, n);
    *at += sizeof n + n;
    return true;
}

static bool has_name(const struct param_reads *r, struct slice name)
{
    struct slice one;
    for (size_t at = 0; next_name(r, &at, &one);) {
        if (slice_eq(one, name)) {
            return true;
        }
    }
    return false;
}

void param_reads_add(struct param_reads *r, struct slice name)
{
    uint16_t n = (uint16_t)name.n;
    if (r->all || has_name(r, name)) {
        return;
    }
    if (name.n > sizeof r->names || r->used + sizeof n + name.n > sizeof r->names) {
        r->all = true;
        return;
    }
    memcpy(r->names + r->used, &n, sizeof n);
    memcpy(r->names + r->used + sizeof n, name.p, name.n);
    r->used = (uint16_t)(r->used + sizeof n + name.n);
}

static void param_reads_merge(struct param_reads *r, const struct param_reads *more)
{
    struct slice name;
    r->all = r->all || more->all;
    for (size_t at = 0; !r->all && next_name(more, &at, &name);) {
        param_reads_add(r, name);
    }
}

static bool same_reads(const struct param_reads *a, const struct param_reads *b)
{
    struct slice name;
    if (a->all || b->all) {
        return a->all && b->all;
    }
    if (a->used != b->used) {
        return false;
    }
    for (size_t at = 0; next_name(a, &at, &name);) {
        if (!has_name(b, name)) {
            return false;
        }
    }
    return true;
}

struct format_classes *format_classes_new(size_t formats)
{
    struct format_classes *c = xcalloc(1, sizeof *c);
    c->formats = xcalloc(formats + 1, sizeof *c->formats);
    c->count = formats;
    c->last_id = FIRST_ID;
    hash_key_init(&c->key);
    return c;
}

void format_classes_free(struct format_classes *c)
{
    if (c) {
        REQUIRE(map_empty(&c->all));
        free(c->formats);
        free(c);
    }
}

struct param_reads *format_classes_filter_reads(struct format_classes *c)
{
    return &c->by_filters;
}

/* ---- classes */

static struct format_class *class_find(const struct format_classes *c, const char *bytes, size_t n,
                                       unsigned hash)
{
    struct map_entry *found = map_find(&c->all, slice_of(bytes, n), hash);
    return found ? container_of(found, struct format_class, by_bytes) : NULL;
}

static int format_classes_put_value(struct strbuf *out, struct slice value)
{
    uint32_t n = value.p ? (uint32_t)value.n : UINT32_MAX;
    int rc = strbuf_append(out, (const char *)&n, sizeof n);
    return rc || !value.p ? rc : strbuf_append(out, value.p, value.n);
}

/* What the class consists of: texts of values, so that 1 and 1.0 differ. */
static int format_classes_describe(const struct param_reads *shape, size_t format, size_t index,
                                   struct slice params, struct strbuf *out)
{
    uint32_t head[2] = {(uint32_t)format, (uint32_t)index};
    int rc = strbuf_append(out, (const char *)head, sizeof head);
    struct slice name;
    if (shape->all) {
        return rc ? rc : format_classes_put_value(out, params);
    }
    for (size_t at = 0; rc == 0 && next_name(shape, &at, &name);) {
        struct slice value = {NULL, 0};
        json_text_member(params, name, &value);
        rc = format_classes_put_value(out, value);
    }
    return rc;
}

static struct format_class *class_new(struct format_classes *c, const struct strbuf *bytes,
                                      unsigned hash)
{
    struct format_class *one = calloc(1, sizeof *one + bytes->len);
    if (one) {
        one->id = ++c->last_id;
        one->n = bytes->len;
        memcpy(one->bytes, bytes->data, bytes->len);
        REQUIRE(map_add(&c->all, &one->by_bytes, slice_of(one->bytes, one->n), hash));
    }
    return one;
}

/* The class by set `index`, kept in the cache. NULL: memory is short. */
static struct format_class *class_of(struct format_classes *c, size_t format, size_t index,
                                     struct slice params, struct format_class_cache *cache)
{
    struct strbuf bytes;
    struct format_class *one = cache->v[index];
    if (one) {
        return one;
    }
    strbuf_init(&bytes, params.n + 8192);
    if (format_classes_describe(&c->formats[format].v[index], format, index, params, &bytes) == 0) {
        unsigned hash = (unsigned)hash_bytes(&c->key, bytes.data, bytes.len);
        one = class_find(c, bytes.data, bytes.len, hash);
        one = one ? one : class_new(c, &bytes, hash);
    }
    strbuf_clear(&bytes);
    if (one) {
        one->refs++;
        cache->v[index] = one;
    }
    return one;
}

size_t format_classes_keys(struct format_classes *c, size_t format, struct slice params,
                           struct format_class_cache *cache, uint64_t keys[POLICY_FORMAT_KEYS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < c->formats[format].n; i++) {
        const struct format_class *one = class_of(c, format, i, params, cache);
        if (one) {
            keys[n++] = one->id;
        }
    }
    return n;
}

/* The set of names, remembered; the last place is for those that read everything. */
static size_t shape_of(struct format_shapes *shapes, const struct param_reads *reads)
{
    for (size_t i = 0; i < shapes->n; i++) {
        if (same_reads(&shapes->v[i], reads)) {
            return i;
        }
    }
    if (shapes->n == FORMAT_SHAPES_MAX) {
        return FORMAT_SHAPES_MAX - 1;
    }
    shapes->v[shapes->n] = *reads;
    if (shapes->n == FORMAT_SHAPES_MAX - 1) {
        shapes->v[shapes->n].all = true; /* too many: by all of the params */
    }
    return shapes->n++;
}

uint64_t format_classes_key(struct format_classes *c, size_t format, struct slice params,
                            struct format_class_cache *cache, const struct param_reads *reads)
{
    /* A call may have found by the identity of its params what an earlier one had made of them: it
     * depends on what that one read. So the set only grows. */
    struct format_shapes *shapes = &c->formats[format];
    param_reads_merge(&shapes->seen, reads);
    param_reads_merge(&shapes->seen, &c->by_filters);
    size_t index = shape_of(shapes, &shapes->seen);
    const struct format_class *one = class_of(c, format, index, params, cache);
    return one ? one->id : 0;
}

void format_class_cache_clear(struct format_classes *c, struct format_class_cache *cache)
{
    for (size_t i = 0; i < FORMAT_SHAPES_MAX; i++) {
        struct format_class *one = cache->v[i];
        cache->v[i] = NULL;
        if (one && --one->refs == 0) {
            map_del(&c->all, &one->by_bytes);
            free(one);
        }
    }
}
