/* Which subscriptions may want an event of this topic: a trie over segments with '*' and '**'
 * branches. Under each pattern there is one slot, in which the caller keeps what it likes. Cost of a
 * look-up: the segments of the topic times the branches that exist, whatever the number of topics
 * held. */
#ifndef AUDIENCE_TOPIC_INDEX_H
#define AUDIENCE_TOPIC_INDEX_H

#include "base/slice.h"

#include <stddef.h>

struct topic_index;
struct topic_node;

/* One pattern. Does not move. */
struct topic_slot {
    void *value;             /* the caller's; NULL: the pattern is not in use */
    struct topic_node *node; /* private */
};

struct topic_index *topic_index_new(void);
/* NULL is fine. Values are the caller's. */
void topic_index_free(struct topic_index *ix);
/* The slot of a valid pattern, made where there is none. A caller that finds no value in it puts one in,
 * or gives it to topic_index_prune(). */
struct topic_slot *topic_index_slot(struct topic_index *ix, struct slice pattern);
/* Frees what an empty slot held up; without effect while it has a value. */
void topic_index_prune(struct topic_slot *slot);
/* Calls `visit` for the value of each pattern that matches. The index must not change meanwhile.
 * Returns what it cost: the branches of the trie that were followed. */
size_t topic_index_match(const struct topic_index *ix, struct slice topic,
                         void (*visit)(void *ctx, void *value), void *ctx);

#endif
