#include "audience/tag_index.h"

#include "base/alloc.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "base/require.h"

#include <stdlib.h>
#include <string.h>

/* Touches that are remembered one by one: as many as may happen while a hook waits for its
 * database. Of what is older it is only known that there was something. */
enum { TOUCHES = 512 };

struct tag {
    struct map_entry by_text;
    struct list streams; /* struct tag_node */
    size_t count, n;
    char text[];
};

struct tag_index {
    struct map tags;
    struct hash_key key;
    uint64_t now;              /* touches so far */
    uint64_t all;              /* the last one of all tags at once */
    uint64_t touched[TOUCHES]; /* a ring: the hash of the tag of touch i at (i - 1) % TOUCHES */
};

struct tag_index *tag_index_new(void)
{
    struct tag_index *ix = xcalloc(1, sizeof *ix);
    hash_key_init(&ix->key);
    return ix;
}

void tag_index_free(struct tag_index *ix)
{
    REQUIRE(map_empty(&ix->tags));
    free(ix);
}

static uint64_t tag_index_hash(const struct tag_index *ix, struct slice tag)
{
    return hash_bytes(&ix->key, tag.p, tag.n);
}

static struct tag *tag_index_find(const struct tag_index *ix, struct slice tag)
{
    struct map_entry *e = map_find(&ix->tags, tag, (unsigned)tag_index_hash(ix, tag));
    return e ? container_of(e, struct tag, by_text) : NULL;
}

bool tag_index_join(struct tag_index *ix, struct tag_node *n, struct slice tag, uint64_t stream)
{
    struct tag *t = tag_index_find(ix, tag);
    if (!t) {
        t = xcalloc(1, sizeof *t + tag.n);
        t->n = tag.n;
        memcpy(t->text, tag.p, tag.n);
        list_init(&t->streams);
        if (!map_add(&ix->tags, &t->by_text, slice_of(t->text, t->n),
                     (unsigned)tag_index_hash(ix, tag))) {
            free(t);
            return false;
        }
    }
    n->tag = t;
    n->stream = stream;
    list_init(&n->node);
    list_add_tail(&t->streams, &n->node);
    t->count++;
    return true;
}

void tag_index_leave(struct tag_index *ix, struct tag_node *n)
{
    struct tag *t = n->tag;
    list_del(&n->node);
    n->tag = NULL;
    if (--t->count == 0) {
        map_del(&ix->tags, &t->by_text);
        free(t);
    }
}

struct slice tag_node_text(const struct tag_node *n)
{
    return slice_of(n->tag->text, n->tag->n);
}

size_t tag_index_streams(const struct tag_index *ix, struct slice tag, uint64_t **ids)
{
    const struct tag *t = tag_index_find(ix, tag);
    size_t n = 0;
    *ids = t ? xmalloc(t->count * sizeof **ids) : NULL;
    if (t) {
        list_for_each (it, &t->streams) {
            (*ids)[n++] = container_of(it, struct tag_node, node)->stream;
        }
    }
    return n;
}

uint64_t tag_index_now(const struct tag_index *ix)
{
    return ix->now;
}

void tag_index_touch(struct tag_index *ix, struct slice tag)
{
    ix->touched[ix->now++ % TOUCHES] = tag_index_hash(ix, tag);
}

void tag_index_touch_all(struct tag_index *ix)
{
    ix->touched[ix->now++ % TOUCHES] = 0;
    ix->all = ix->now;
}

bool tag_index_touched_since(const struct tag_index *ix, uint64_t moment, const struct slice *tags,
                             size_t n)
{
    if (n == 0 || moment == ix->now) {
        return false;
    }
    if (ix->all > moment || ix->now - moment > TOUCHES) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = tag_index_hash(ix, tags[i]);
        for (uint64_t at = moment; at < ix->now; at++) {
            if (ix->touched[at % TOUCHES] == hash) {
                return true;
            }
        }
    }
    return false;
}
