/* The topic index leads to one node per pattern. In it are the audiences that any event may be for,
 * and, for each attribute that tells others apart, those others by the value they want. Nodes and
 * what is in them vanish with their last audience. */
#include "audience/audience_index.h"

#include "audience/audience.h"
#include "audience/topic_index.h"
#include "base/alloc.h"
#include "base/container/list.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"
#include "base/text/json_text.h"
#include "filter/filter.h"

#include <stdlib.h>

struct attr_index;
struct pattern_node;

/* Audiences that want one value of an attribute; or, those of the pattern itself, any event. */
struct value_bucket {
    struct attr_index *attr; /* NULL: of the pattern */
    struct pattern_node *pattern;
    struct list entries;
    struct map_entry by_key; /* in attr->buckets */
    size_t key_n;
    char key[]; /* tag and bytes of filter_value_key() */
};

/* One attribute: its name, and a bucket for each value. */
struct attr_index {
    struct list link; /* in pattern->attrs */
    struct pattern_node *pattern;
    struct map buckets;
    size_t name_n;
    char name[];
};

struct pattern_node {
    struct topic_slot *slot;    /* whose value it is */
    struct value_bucket *plain; /* owned */
    struct list attrs;
};

/* One audience in one bucket. */
struct audience_entry {
    struct list link; /* in bucket->entries */
    struct audience *audience;
    struct value_bucket *bucket;
    struct audience_entry *next; /* of the same audience */
};

struct audience_index {
    struct topic_index *topics; /* pattern -> struct pattern_node */
    struct hash_key key;
    size_t patterns;
};

struct audience_index *audience_index_new(void)
{
    struct audience_index *ix = xcalloc(1, sizeof *ix);
    ix->topics = topic_index_new();
    hash_key_init(&ix->key);
    return ix;
}

void audience_index_free(struct audience_index *ix)
{
    if (ix) {
        REQUIRE(ix->patterns == 0);
        topic_index_free(ix->topics);
        free(ix);
    }
}

static struct value_bucket *bucket_find(const struct attr_index *attr, struct slice key,
                                        unsigned hash)
{
    struct map_entry *found = map_find(&attr->buckets, key, hash);
    return found ? container_of(found, struct value_bucket, by_key) : NULL;
}

/* ---- putting on */

/* Sizes are those of a topic, an attribute's name, and a value of params: a few KiB at most. */
static void *with_bytes(size_t size, const char *p, size_t n)
{
    char *out = xcalloc(1, size + n);
    if (n) {
        memcpy(out + size, p, n);
    }
    return out;
}

static struct value_bucket *bucket_new(struct pattern_node *pattern, struct attr_index *attr,
                                       struct slice key)
{
    struct value_bucket *bucket = with_bytes(sizeof *bucket, key.p, key.n);
    bucket->pattern = pattern;
    bucket->attr = attr;
    bucket->key_n = key.n;
    list_init(&bucket->entries);
    return bucket;
}

static struct pattern_node *pattern_for(struct audience_index *ix, struct slice pattern)
{
    struct topic_slot *slot = topic_index_slot(ix->topics, pattern);
    if (!slot->value) {
        struct pattern_node *node = xcalloc(1, sizeof *node);
        node->slot = slot;
        node->plain = bucket_new(node, NULL, slice_of(NULL, 0));
        list_init(&node->attrs);
        slot->value = node;
        ix->patterns++;
    }
    return slot->value;
}

static struct attr_index *attr_for(struct pattern_node *pattern, struct slice attr)
{
    list_for_each (it, &pattern->attrs) {
        struct attr_index *s = container_of(it, struct attr_index, link);
        if (slice_eq(slice_of(s->name, s->name_n), attr)) {
            return s;
        }
    }
    struct attr_index *s = with_bytes(sizeof *s, attr.p, attr.n);
    s->pattern = pattern;
    s->name_n = attr.n;
    list_add_tail(&pattern->attrs, &s->link);
    return s;
}

static void put_into(struct audience *a, struct value_bucket *bucket)
{
    struct audience_entry *entry = xcalloc(1, sizeof *entry);
    entry->audience = a;
    entry->bucket = bucket;
    entry->next = a->entries;
    a->entries = entry;
    list_add_tail(&bucket->entries, &entry->link);
}

/* The key of a value is its tag and its bytes; `room` keeps them together. False: longer than any
 * attribute, so that no event has it. */
static bool audience_index_key_of(const struct filter_value *v,
                                  char room[EVENT_ATTRS_MAX_BYTES + 1], struct slice *out)
{
    struct filter_key key;
    filter_value_key(v, &key);
    if (key.bytes.n > EVENT_ATTRS_MAX_BYTES) {
        return false;
    }
    room[0] = key.tag;
    if (key.bytes.n) {
        memcpy(room + 1, key.bytes.p, key.bytes.n);
    }
    *out = slice_of(room, key.bytes.n + 1);
    return true;
}

static void put_by_value(struct audience_index *ix, struct audience *a, struct slice pattern,
                         const struct filter_discriminator *d)
{
    char room[EVENT_ATTRS_MAX_BYTES + 1];
    for (size_t i = 0; i < d->count; i++) {
        struct slice key;
        if (!audience_index_key_of(&d->values[i], room, &key)) {
            continue;
        }
        struct attr_index *attr = attr_for(pattern_for(ix, pattern), d->attr);
        unsigned hash = (unsigned)hash_bytes(&ix->key, key.p, key.n);
        struct value_bucket *bucket = bucket_find(attr, key, hash);
        if (!bucket) {
            bucket = bucket_new(attr->pattern, attr, key);
            REQUIRE(map_add(&attr->buckets, &bucket->by_key, slice_of(bucket->key, bucket->key_n),
                            hash));
        }
        put_into(a, bucket);
    }
}

void audience_index_add(struct audience_index *ix, struct audience *a)
{
    struct filter_discriminator d = {{NULL, 0}, NULL, 0};
    REQUIRE(!a->entries);
    if (a->binding.text) {
        d = filter_discriminator(a->binding.text);
    }
    for (size_t i = 0; i < a->topic_count; i++) {
        if (d.attr.p) {
            put_by_value(ix, a, a->topics[i], &d);
        } else {
            put_into(a, pattern_for(ix, a->topics[i])->plain);
        }
    }
}

/* ---- taking off */

static void pattern_tidy(struct audience_index *ix, struct pattern_node *pattern)
{
    if (list_empty(&pattern->plain->entries) && list_empty(&pattern->attrs)) {
        pattern->slot->value = NULL;
        topic_index_prune(pattern->slot);
        ix->patterns--;
        free(pattern->plain);
        free(pattern);
    }
}

static void bucket_tidy(struct audience_index *ix, struct value_bucket *bucket)
{
    struct pattern_node *pattern = bucket->pattern;
    struct attr_index *attr = bucket->attr;
    if (!list_empty(&bucket->entries)) {
        return;
    }
    if (attr) {
        map_del(&attr->buckets, &bucket->by_key);
        free(bucket);
        if (map_empty(&attr->buckets)) {
            list_del(&attr->link);
            free(attr);
        }
    }
    pattern_tidy(ix, pattern);
}

void audience_index_del(struct audience_index *ix, struct audience *a)
{
    while (a->entries) {
        struct audience_entry *entry = a->entries;
        struct value_bucket *bucket = entry->bucket;
        a->entries = entry->next;
        list_del(&entry->link);
        free(entry);
        bucket_tidy(ix, bucket);
    }
}

/* ---- looking up */

struct lookup {
    const struct audience_index *ix;
    const struct event *ev;
    void (*visit)(void *ctx, struct audience *a);
    void *ctx;
    size_t probes;
};

static void visit_bucket(struct lookup *l, const struct value_bucket *bucket)
{
    list_for_each (it, &bucket->entries) {
        l->visit(l->ctx, container_of(it, struct audience_entry, link)->audience);
    }
}

/* The event's attribute of that name; FILTER_MISSING: it has none. `room` takes a decoded string.
 */
static struct filter_value attr_of(const struct event *ev, struct slice name, char *room)
{
    struct slice value;
    return json_text_member(event_attrs(ev), name, &value)
               ? filter_value_of_json(value, &room)
               : (struct filter_value){.type = FILTER_MISSING};
}

static void visit_pattern(void *ctx, void *value)
{
    struct lookup *l = ctx;
    const struct pattern_node *pattern = value;
    visit_bucket(l, pattern->plain);
    list_for_each (it, &pattern->attrs) {
        const struct attr_index *attr = container_of(it, struct attr_index, link);
        char text[EVENT_ATTRS_MAX_BYTES], room[EVENT_ATTRS_MAX_BYTES + 1];
        struct slice key;
        struct filter_value v = attr_of(l->ev, slice_of(attr->name, attr->name_n), text);
        l->probes++;
        if (v.type != FILTER_MISSING && audience_index_key_of(&v, room, &key)) {
            const struct value_bucket *bucket =
                bucket_find(attr, key, (unsigned)hash_bytes(&l->ix->key, key.p, key.n));
            if (bucket) {
                visit_bucket(l, bucket);
            }
        }
    }
}

size_t audience_index_match(const struct audience_index *ix, const struct event *ev,
                            void (*visit)(void *ctx, struct audience *a), void *ctx)
{
    struct lookup l = {ix, ev, visit, ctx, 0};
    topic_index_match(ix->topics, event_topic(ev), visit_pattern, &l);
    return l.probes;
}
