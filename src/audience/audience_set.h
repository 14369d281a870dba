/* All audiences, each bound to the policy in force, and which of them an event is for. Knows no
 * subscribers: what a change means for them is for the caller to do. */
#ifndef AUDIENCE_AUDIENCE_SET_H
#define AUDIENCE_AUDIENCE_SET_H

#include "audience/audience.h"
#include "audience/conflation.h"
#include "audience/render.h"
#include "base/container/list.h"
#include "base/container/map.h"
#include "base/container_of.h"
#include "base/hash.h"

struct audience_index;

struct audience_set {
    struct renderer *renderer;    /* borrowed: its policy is what they are bound to */
    struct audience_index *index; /* topics and attributes -> audiences */
    struct map by_key;
    struct hash_key key;
    struct list
        dirty; /* audiences with pending events, but for those that wait for the end of an interval */
    struct conflater *conflater;
    uint64_t last_id;
};

struct audience_set *audience_set_new(struct loop *loop, struct renderer *renderer);
void audience_set_free(struct audience_set *set); /* empty */

/* Returns a new reference; NULL when the policy cannot bind the subscription (logged). *rebound: it
 * was there, and is bound again: members that were held may go on. */
struct audience *audience_set_intern(struct audience_set *set, const struct subscription *s,
                                     bool *rebound);
void audience_set_unref(struct audience_set *set, struct audience *a);
/* The renderer has another policy: every audience is bound to it. Those that cannot be are
 * `unbound` (logged): members are to be held until the policy says what they may have instead. */
void audience_set_rebind(struct audience_set *set, struct policy *old);

/* Files a newly visible event with every audience it is for; `ordinal` is its place in the log. */
void audience_set_route(struct audience_set *set, struct event *ev, uint64_t ordinal);
/* Events that are not delivered yet no longer are to be. */
void audience_set_forget_pending(struct audience_set *set);

/* One after the other; NULL: no more. */
static inline struct audience *audience_set_first(const struct audience_set *set)
{
    return set->by_key.first ? container_of(set->by_key.first, struct audience, by_key) : NULL;
}
static inline struct audience *audience_set_next(const struct audience *a)
{
    struct map_entry *e = map_next(&a->by_key);
    return e ? container_of(e, struct audience, by_key) : NULL;
}

#endif
