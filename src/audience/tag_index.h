/* Which streams carry a tag, and which tags were touched lately.
 *
 * A tag is a name that a policy gives to some of its streams, to reach them later: "user:ann". A
 * stream has few of them and owns their nodes; a tag that no stream carries is not kept.
 *
 * To touch a tag says that what was known before about its streams no longer holds. A policy that
 * began to decide before, and decides later, has not known: tag_index_touched_since(). */
#ifndef AUDIENCE_TAG_INDEX_H
#define AUDIENCE_TAG_INDEX_H

#include "base/container/list.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tag_index;
struct tag;

/* One stream under one tag; its owner's storage. */
struct tag_node {
    struct list node; /* in the tag's */
    struct tag *tag;
    uint64_t stream;
};

struct tag_index *tag_index_new(void);
void tag_index_free(struct tag_index *ix); /* no node is in it */

/* False: no memory; the node is not in. */
__attribute__((warn_unused_result)) bool tag_index_join(struct tag_index *ix, struct tag_node *n,
                                                        struct slice tag, uint64_t stream);
void tag_index_leave(struct tag_index *ix, struct tag_node *n);
/* Its text, while the node is in. */
struct slice tag_node_text(const struct tag_node *n);
/* The streams of a tag, by id: `*ids` is the caller's to free. Returns how many. */
size_t tag_index_streams(const struct tag_index *ix, struct slice tag, uint64_t **ids);

/* A moment, to be compared with later. */
uint64_t tag_index_now(const struct tag_index *ix);
void tag_index_touch(struct tag_index *ix, struct slice tag);
void tag_index_touch_all(struct tag_index *ix);
/* Was one of the tags touched after that moment? True, too, where that is not known any more. */
bool tag_index_touched_since(const struct tag_index *ix, uint64_t moment, const struct slice *tags,
                             size_t n);

#endif
