/* All subscribers with an equal subscription: topics, filter, format, params, the event that ends it, and its mark.
 * Filter and format run once per event for all of them. audience_set.h: equal subscriptions give the same audience. */
#ifndef AUDIENCE_AUDIENCE_H
#define AUDIENCE_AUDIENCE_H

#include "audience/gzip.h"
#include "base/container/list.h"
#include "base/container/map.h"
#include "event/event.h"
#include "policy/policy.h"

#include <stdint.h>

struct audience_entry;

enum {
    AUDIENCE_NAMES_MAX = 16,
    AUDIENCE_KEY_MAX_BYTES = 16 << 20 /* far above what policy_limits let through */
};

struct audience {
    struct map_entry by_key; /* in the set */
    uint32_t refs;           /* one per subscriber, and per caller that works with it */
    uint32_t every_ms;       /* it is a struct conflation, see there; 0: sent everything at once */
    uint64_t id;
    char *key; /* owned: canonical bytes of the subscription; the slices point into it */
    size_t key_len;
    struct slice *topics; /* owned array */
    size_t topic_count;
    struct slice run;   /* all topics as one run of bytes, for audience_topics_split() */
    struct slice names; /* the topics as one run of bytes, for audience_names_split(); absent where
                           there is a pattern among them, or more than AUDIENCE_NAMES_MAX */
    struct slice filter, format, params, ends, mark;
    bool envelope;
    struct policy_binding binding;
    bool unbound; /* the policy in force has no such filter or format: nothing is delivered */
    struct audience_entry *entries; /* owned: where it stands in the index */

    struct gzip_encoder *gzip; /* owned; NULL: none yet, or none to be had */
    struct list live;          /* subscribers that have considered everything before `pending` */
    struct list parked;        /* rate-limited subscribers with nothing to send, woken by events */

    struct event_list pending; /* matching events that became visible this turn */
    uint64_t pending_from;     /* ordinal of the first of them */
    bool judged;               /* they have passed the filter: it is text, asked on arrival */
    uint64_t seen;             /* ordinal + 1 of the last event added: an event is added once */
    struct list dirty;         /* in set->dirty while pending is not empty */
};

/* Canonical bytes of a subscription, appended. 0, or negative as strbuf_append(). */
__attribute__((warn_unused_result)) int audience_key(struct strbuf *key,
                                                     const struct subscription *s);
/* One reference, in no set. Takes the bytes of `key`, which is of `topic_count` topics. `size`: of the struct that begins
 * with the audience; the rest is zeroed. */
struct audience *audience_new(size_t size, uint64_t id, struct strbuf *key, size_t topic_count);
void audience_free(struct audience *a);
struct audience *audience_ref(struct audience *a); /* given back by audience_set_unref() */
/* Its subscription; borrowed. */
struct subscription audience_subscription(const struct audience *a);
/* Is it what audience_set_intern() would answer? */
bool audience_is_for(const struct audience *a, const struct subscription *s);
/* The topics that `names` is made of, pointing into it; returns how many. */
size_t audience_names_split(struct slice names, struct slice out[AUDIENCE_NAMES_MAX]);
/* The same for `run`; of more than `most` the first. */
size_t audience_topics_split(struct slice run, struct slice *out, size_t most);
/* Is an event of that topic for this audience, before its filter? */
bool audience_wants(const struct audience *a, struct slice topic);

#endif
