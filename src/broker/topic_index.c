/* The trie: one node per pattern segment. Children are found by a keyed hash of their segment, each
 * segment of a topic is hashed once per lookup, and a lookup visits a node at most once. Nodes
 * vanish with their last entry. */
#include "broker/topic_index.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/xalloc.h"
#include "event/event.h"
#include "event/topic.h"

#include <stdlib.h>

#define uthash_fatal(msg) require_failed(msg, __FILE__, __LINE__)
#include <uthash.h>

/* Segments of the longest topic: one byte each and the '/' between them. */
enum { SEGMENTS_MAX = (EVENT_TOPIC_MAX_BYTES + 1) / 2 };

/* One member under one pattern: found by both, so that removal does not search. */
struct entry {
    struct entry_key {
        struct list *home; /* of the node: `exact` or `rest` */
        void *member;
    } key;
    struct list link; /* in key.home */
    UT_hash_handle hh;
};

struct node {
    struct node *parent;
    struct node *children; /* uthash by segment */
    struct node *star;     /* the child for '*' */
    struct list exact;     /* entries whose pattern ends here */
    struct list rest;      /* entries whose pattern is this node and a last '**' */
    UT_hash_handle hh;
    size_t segment_n;
    char segment[];
};

struct topic_index {
    struct hash_key key;
    struct node *root;
    struct entry *entries; /* uthash by entry_key */
};

struct hashed_segment {
    struct slice text;
    unsigned hash;
};

struct lookup {
    void (*visit)(void *ctx, void *member);
    void *ctx;
    size_t nodes; /* followed so far */
    size_t n;
    struct hashed_segment segments[SEGMENTS_MAX];
};

static unsigned hash_of(const struct topic_index *ix, const void *p, size_t n)
{
    return (unsigned)hash_bytes(&ix->key, p, n); /* uthash takes 32 bits */
}

static struct node *node_new(struct node *parent, struct slice segment)
{
    struct node *node = xcalloc(1, sizeof *node + segment.n);
    node->parent = parent;
    list_init(&node->exact);
    list_init(&node->rest);
    node->segment_n = segment.n;
    if (segment.n) {
        memcpy(node->segment, segment.p, segment.n);
    }
    return node;
}

struct topic_index *topic_index_new(void)
{
    struct topic_index *ix = xcalloc(1, sizeof *ix);
    hash_key_init(&ix->key);
    ix->root = node_new(NULL, slice_of("", 0));
    return ix;
}

/* The macros of uthash, one a function: each is longer than a function may be. */

static struct node *child_find(const struct node *node, const struct hashed_segment *s)
{
    struct node *child = NULL;
    HASH_FIND_BYHASHVALUE(hh, node->children, s->text.p, s->text.n, s->hash, child);
    return child;
}

/* NOLINTNEXTLINE(readability-function-size) */
static void child_add(struct node *node, struct node *child, unsigned hash)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, node->children, child->segment, child->segment_n, hash, child);
}

static void child_del(struct node *node, struct node *child)
{
    HASH_DEL(node->children, child);
}

static struct entry *entry_find(const struct topic_index *ix, const struct entry_key *key)
{
    struct entry *entry = NULL;
    HASH_FIND_BYHASHVALUE(hh, ix->entries, key, sizeof *key, hash_of(ix, key, sizeof *key), entry);
    return entry;
}

/* NOLINTNEXTLINE(readability-function-size) */
static void entry_add(struct topic_index *ix, struct entry *entry)
{
    HASH_ADD_BYHASHVALUE(hh, ix->entries, key, sizeof entry->key,
                         hash_of(ix, &entry->key, sizeof entry->key), entry);
}

static void entry_del(struct topic_index *ix, struct entry *entry)
{
    HASH_DEL(ix->entries, entry);
}

static struct node *child_make(struct node *node, const struct hashed_segment *s, bool star)
{
    struct node *child = node_new(node, s->text);
    if (star) {
        node->star = child;
    } else {
        child_add(node, child, s->hash);
    }
    return child;
}

/* Where the entries of `pattern` are: NULL when there is no such node and `create` is false. */
static struct list *home_of(struct topic_index *ix, struct slice pattern, bool create,
                            struct node **owner)
{
    struct node *node = ix->root;
    struct slice segment;
    while (topic_next_segment(&pattern, &segment)) {
        *owner = node;
        if (slice_is(segment, "**")) {
            return &node->rest;
        }
        struct hashed_segment s = {segment, hash_of(ix, segment.p, segment.n)};
        bool star = slice_is(segment, "*");
        struct node *child = star ? node->star : child_find(node, &s);
        if (!child && !create) {
            return NULL;
        }
        if (!child) {
            child = child_make(node, &s, star);
        }
        node = child;
    }
    *owner = node;
    return &node->exact;
}

void topic_index_add(struct topic_index *ix, struct slice pattern, void *member)
{
    struct node *node;
    struct entry *entry = xcalloc(1, sizeof *entry);
    entry->key = (struct entry_key){home_of(ix, pattern, true, &node), member};
    REQUIRE(!entry_find(ix, &entry->key));
    list_add_tail(entry->key.home, &entry->link);
    entry_add(ix, entry);
}

/* Removes the node, and those above it, while nothing is left in them. */
static void prune(struct node *node)
{
    while (node->parent && !node->children && !node->star && list_empty(&node->exact) &&
           list_empty(&node->rest)) {
        struct node *parent = node->parent;
        if (parent->star == node) {
            parent->star = NULL;
        } else {
            child_del(parent, node);
        }
        free(node);
        node = parent;
    }
}

void topic_index_del(struct topic_index *ix, struct slice pattern, void *member)
{
    struct node *node = NULL;
    struct entry_key key = {home_of(ix, pattern, false, &node), member};
    struct entry *entry = key.home ? entry_find(ix, &key) : NULL;
    REQUIRE(entry != NULL);
    entry_del(ix, entry);
    list_del(&entry->link);
    free(entry);
    prune(node);
}

static void entries_free(struct list *home)
{
    list_for_each_safe (it, next, home) {
        free(container_of(it, struct entry, link));
    }
}

/* Recursion as deep as the longest pattern has segments. NOLINTNEXTLINE(misc-no-recursion) */
static void node_free(struct node *node)
{
    struct node *child = node->children;
    HASH_CLEAR(hh, node->children); /* frees the table; its nodes stay linked */
    while (child) {
        struct node *next = child->hh.next;
        node_free(child);
        child = next;
    }
    if (node->star) {
        node_free(node->star);
    }
    entries_free(&node->exact);
    entries_free(&node->rest);
    free(node);
}

void topic_index_free(struct topic_index *ix)
{
    if (!ix) {
        return;
    }
    HASH_CLEAR(hh, ix->entries);
    node_free(ix->root);
    free(ix);
}

static void visit_all(struct lookup *l, const struct list *home)
{
    list_for_each (it, home) {
        l->visit(l->ctx, container_of(it, struct entry, link)->key.member);
    }
}

/* Follows the branches for segment `i`; recursion as deep as the topic has segments.
 * NOLINTNEXTLINE(misc-no-recursion) */
static void descend(struct lookup *l, const struct node *node, size_t i)
{
    l->nodes++;
    if (i == l->n) {
        visit_all(l, &node->exact);
        return;
    }
    visit_all(l, &node->rest);
    const struct node *child = child_find(node, &l->segments[i]);
    if (child) {
        descend(l, child, i + 1);
    }
    if (node->star) {
        descend(l, node->star, i + 1);
    }
}

size_t topic_index_match(const struct topic_index *ix, struct slice topic,
                         void (*visit)(void *ctx, void *member), void *ctx)
{
    struct lookup l;
    struct slice segment;
    l.visit = visit;
    l.ctx = ctx;
    l.nodes = l.n = 0;
    while (topic_next_segment(&topic, &segment)) {
        REQUIRE(l.n < SEGMENTS_MAX);
        l.segments[l.n++] = (struct hashed_segment){segment, hash_of(ix, segment.p, segment.n)};
    }
    descend(&l, ix->root, 0);
    return l.nodes;
}

size_t topic_index_size(const struct topic_index *ix)
{
    return HASH_COUNT(ix->entries);
}
