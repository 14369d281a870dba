/* Which subscriptions may want an event of this topic: a trie over segments with '*' and '**'
 * branches. Cost of a lookup: the segments of the topic times the branches that exist, whatever the
 * number of topics held. */
#ifndef BROKER_TOPIC_INDEX_H
#define BROKER_TOPIC_INDEX_H

#include "base/slice.h"

#include <stddef.h>

struct topic_index;

struct topic_index *topic_index_new(void);
void topic_index_free(struct topic_index *ix);
/* Adds `member` under a valid pattern; a member may be added under several patterns, once each. */
void topic_index_add(struct topic_index *ix, struct slice pattern, void *member);
void topic_index_del(struct topic_index *ix, struct slice pattern, void *member);
/* Calls `visit` for each entry whose pattern matches: a member under two matching patterns is
 * visited twice, the caller tells them apart. The index must not change meanwhile. Returns what it
 * cost: the branches of the trie that were followed. */
size_t topic_index_match(const struct topic_index *ix, struct slice topic,
                         void (*visit)(void *ctx, void *member), void *ctx);
size_t topic_index_size(const struct topic_index *ix); /* entries */

#endif
