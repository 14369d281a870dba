/* All subscribers with an equal subscription: topics, filter, format and params. Filter and format
 * run once per event for all of them. Interned: equal subscriptions give the same audience. */
#ifndef BROKER_AUDIENCE_H
#define BROKER_AUDIENCE_H

#include "base/list.h"
#include "base/map.h"
#include "broker/policy.h"
#include "event/event.h"

#include <stdint.h>

struct audience_entry;
struct broker;

enum { AUDIENCE_NAMES_MAX = 16 };

struct audience {
    struct map_entry by_key; /* in broker->audiences */
    uint32_t refs;           /* one per subscriber, plus who works with it */
    uint32_t members;
    uint64_t id;
    char *key; /* owned: canonical bytes of the subscription; the slices point into it */
    size_t key_len;
    struct slice *topics; /* owned array */
    size_t topic_count;
    struct slice names; /* the topics as one run of bytes, for audience_names_split(); absent where
                           there is a pattern among them, or more than AUDIENCE_NAMES_MAX */
    struct slice filter, format, params;
    struct policy_binding binding;
    bool unbound; /* the policy in force has no such filter or format: nobody gets anything */
    struct audience_entry *entries; /* owned: where it stands in the index */

    struct list live;   /* subscribers that have considered everything before `pending` */
    struct list parked; /* rate-limited subscribers with nothing to send, woken by events */

    struct event_list pending; /* matching events that became visible this turn */
    uint64_t pending_from;     /* ordinal of the first of them */
    bool judged;               /* they have passed the filter: it is text, asked on arrival */
    uint64_t seen;             /* ordinal + 1 of the last event added: an event is added once */
    struct list dirty;         /* in broker->dirty while pending is not empty */
};

/* Returns a new reference; NULL when the policy cannot bind the subscription (logged). */
struct audience *audience_intern(struct broker *b, const struct subscription *s);
/* Another policy is in force: every audience is bound to it. Members of those that cannot be are
 * held until the policy says what they may have instead. */
void audience_rebind_all(struct broker *b, struct policy *old);
/* Its subscription; borrowed. */
struct subscription audience_subscription(const struct audience *a);
/* Is it what audience_intern() would answer? */
bool audience_is_for(const struct audience *a, const struct subscription *s);
struct audience *audience_ref(struct audience *a);
void audience_unref(struct broker *b, struct audience *a);
/* The topics that `names` is made of, pointing into it; returns how many. */
size_t audience_names_split(struct slice names, struct slice out[AUDIENCE_NAMES_MAX]);
/* Is an event of that topic for this audience, before its filter? */
bool audience_wants(const struct audience *a, struct slice topic);
/* Files a newly visible event with every audience it is for; `ordinal` is its place in the log. */
void audience_route(struct broker *b, struct event *ev, uint64_t ordinal);

/* Events that are not delivered yet no longer are to be. */
void audience_forget_pending(struct broker *b);

#endif
