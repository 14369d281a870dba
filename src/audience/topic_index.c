/* The trie: one node per pattern segment. Children are found by a keyed hash of their segment, each
 * segment of a topic is hashed once per look-up, and a look-up visits a node at most once. Nodes
 * vanish with their last value. */
#include "audience/topic_index.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"
#include "event/event.h"
#include "event/topic.h"

#include <stdlib.h>

/* Segments of the longest topic: one byte each and the '/' between them. */
enum { SEGMENTS_MAX = (EVENT_TOPIC_MAX_BYTES + 1) / 2 };

struct topic_node {
    struct topic_node *parent;
    struct map children;     /* by segment */
    struct topic_node *star; /* the child for '*' */
    struct topic_slot exact; /* of the pattern that ends here */
    struct topic_slot rest;  /* of the pattern that is this node and a last '**' */
    struct map_entry by_segment;
    size_t segment_n;
    char segment[];
};

struct topic_index {
    struct hash_key key;
    struct topic_node *root;
};

struct hashed_segment {
    struct slice text;
    unsigned hash;
};

struct lookup {
    void (*visit)(void *ctx, void *value);
    void *ctx;
    size_t nodes; /* followed so far */
    size_t n;
    struct hashed_segment segments[SEGMENTS_MAX];
};

static struct hashed_segment hashed(const struct topic_index *ix, struct slice segment)
{
    /* uthash takes 32 bits */
    return (struct hashed_segment){segment, (unsigned)hash_bytes(&ix->key, segment.p, segment.n)};
}

static struct topic_node *node_new(struct topic_node *parent, struct slice segment)
{
    struct topic_node *node = xcalloc(1, sizeof *node + segment.n);
    node->parent = parent;
    node->exact.node = node->rest.node = node;
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

static struct topic_node *child_find(const struct topic_node *node, const struct hashed_segment *s)
{
    struct map_entry *found = map_find(&node->children, s->text, s->hash);
    return found ? container_of(found, struct topic_node, by_segment) : NULL;
}

static struct topic_node *child_make(struct topic_node *node, const struct hashed_segment *s)
{
    struct topic_node *child = child_find(node, s);
    if (!child) {
        child = node_new(node, s->text);
        REQUIRE(map_add(&node->children, &child->by_segment,
                        slice_of(child->segment, child->segment_n), s->hash));
    }
    return child;
}

struct topic_slot *topic_index_slot(struct topic_index *ix, struct slice pattern)
{
    struct topic_node *node = ix->root;
    struct slice segment;
    while (topic_next_segment(&pattern, &segment)) {
        if (slice_is(segment, "**")) {
            return &node->rest;
        }
        if (slice_is(segment, "*")) {
            node->star = node->star ? node->star : node_new(node, segment);
            node = node->star;
        } else {
            struct hashed_segment s = hashed(ix, segment);
            node = child_make(node, &s);
        }
    }
    return &node->exact;
}

/* Removes the node, and those above it, while nothing is left in them. */
void topic_index_prune(struct topic_slot *slot)
{
    struct topic_node *node = slot->node;
    while (node->parent && map_empty(&node->children) && !node->star && !node->exact.value &&
           !node->rest.value) {
        struct topic_node *parent = node->parent;
        if (parent->star == node) {
            parent->star = NULL;
        } else {
            map_del(&parent->children, &node->by_segment);
        }
        free(node);
        node = parent;
    }
}

/* Recursion as deep as the longest pattern has segments. NOLINTNEXTLINE(misc-no-recursion) */
static void node_free(struct topic_node *node)
{
    while (!map_empty(&node->children)) {
        struct map_entry *first = node->children.first;
        map_del(&node->children, first);
        node_free(container_of(first, struct topic_node, by_segment));
    }
    if (node->star) {
        node_free(node->star);
    }
    free(node);
}

void topic_index_free(struct topic_index *ix)
{
    if (ix) {
        node_free(ix->root);
        free(ix);
    }
}

static void visit_slot(struct lookup *l, const struct topic_slot *slot)
{
    if (slot->value) {
        l->visit(l->ctx, slot->value);
    }
}

/* Follows the branches for segment `i`; recursion as deep as the topic has segments.
 * NOLINTNEXTLINE(misc-no-recursion) */
static void descend(struct lookup *l, const struct topic_node *node, size_t i)
{
    l->nodes++;
    if (i == l->n) {
        visit_slot(l, &node->exact);
        return;
    }
    visit_slot(l, &node->rest);
    const struct topic_node *child = child_find(node, &l->segments[i]);
    if (child) {
        descend(l, child, i + 1);
    }
    if (node->star) {
        descend(l, node->star, i + 1);
    }
}

size_t topic_index_match(const struct topic_index *ix, struct slice topic,
                         void (*visit)(void *ctx, void *value), void *ctx)
{
    struct lookup l;
    struct slice segment;
    l.visit = visit;
    l.ctx = ctx;
    l.nodes = l.n = 0;
    while (topic_next_segment(&topic, &segment)) {
        REQUIRE(l.n < SEGMENTS_MAX);
        l.segments[l.n++] = hashed(ix, segment);
    }
    descend(&l, ix->root, 0);
    return l.nodes;
}
