/* `limits.every_s`: of each interval an audience is sent the newest event of each topic.
 *
 * Where no interval is open, what comes is sent at once, and opens one. Until that ends, what comes waits in `pending`
 * of the audience, and its members have considered everything up to the edge: the head as the interval began. At the end
 * it is sent, in the order of ids, the newest of each topic, and the next interval begins. So ids rise for each member;
 * one that is cut resumes behind the last id it was told, which is never above the edge. Members that are behind read
 * the log up to the edge, those who are beyond it wait for the end of the interval.
 *
 * An event takes the place of an older one when the audience would be given it: filter and format let it pass. One that
 * ends a stream (`ends`) is never replaced, nor is one by another that expires before it: that may happen before it is
 * written to a socket, whose member has passed the older one by then. An interval ends early where there are too many
 * topics, or where the event log is too small for what it has collected: so that is all the memory it takes. */
#ifndef AUDIENCE_CONFLATION_H
#define AUDIENCE_CONFLATION_H

#include "audience/audience.h"
#include "audience/render.h"
#include "base/container_of.h"
#include "base/hash.h"
#include "net/loop.h"

enum {
    CONFLATION_TOPICS_MAX = 10000, /* collected by one audience */
    CONFLATION_EDGES = 32,         /* remembered, for explain */
};

struct conflater;

/* Of one audience. */
struct conflation {
    struct audience audience; /* first */
    struct conflater *all;
    struct deadline end;
    struct list collecting; /* in `all` while events wait for the end of the interval */
    uint64_t first_id;      /* of what was collected, replaced or not */
    uint64_t edge, edge_ordinal;
    uint64_t due_ms;                  /* when the interval ends: loop time, */
    int64_t due_unix_ms;              /* and for tests that set the clock */
    uint64_t edges[CONFLATION_EDGES]; /* of the last intervals, a ring */
    size_t edge_count;                /* ever */
    size_t asked;                     /* of `pending`: whether they end streams */
    size_t compact_at;                /* events in `pending` */
    bool open, over;                  /* over: what was collected is to be sent in this turn */
};

/* What audiences with intervals share; `dirty` is where those go whose interval has ended, both borrowed. */
struct conflater *conflater_new(struct loop *loop, struct renderer *renderer, struct list *dirty);
void conflater_free(struct conflater *all); /* no audience has an interval */

/* Of an audience that was made with the size of a struct conflation. */
void conflation_init(struct conflater *all, struct conflation *c);
void conflation_clear(struct conflation *c);

/* NULL: the audience is sent everything at once. */
static inline struct conflation *conflation_of(struct audience *a)
{
    return a->every_ms ? container_of(a, struct conflation, audience) : NULL;
}
/* May `newer` take the place of `ev`? */
static inline bool conflation_lasts(const struct event *newer, const struct event *ev)
{
    return newer->expires_ms == 0 || (ev->expires_ms && ev->expires_ms <= newer->expires_ms);
}
/* The id up to which its members go now, where `head` is the log's. */
static inline uint64_t conflation_head(struct audience *a, uint64_t head)
{
    const struct conflation *c = conflation_of(a);
    return c && c->open ? c->edge : head;
}

/* `pending` has grown, or the interval is over. True: send it, reduced to the newest of each topic, and then
 * conflation_sent(). False: it waits. */
bool conflation_due(struct conflation *c);
/* What was due was sent to whoever is there: `head` and `end` are the log's. `any`: it was something, so an interval
 * begins. */
void conflation_sent(struct conflation *c, bool any, uint64_t head, uint64_t end);
/* What was collected is forgotten, and the interval is over: members are to read the log again, from where they are. */
void conflation_drop(struct conflation *c);
/* Events up to `floor` have left the log: intervals that have collected them are over. */
void conflater_log_trimmed(struct conflater *all, uint64_t floor);
/* The first of those that have collected something; NULL: none has. */
struct conflation *conflater_first(struct conflater *all);
struct conflation *conflater_next(struct conflation *c);
bool conflation_has(const struct conflation *c, uint64_t id);
/* The wall clock was set. */
void conflation_clock_moved(struct conflation *c);
/* The edge of the interval that the event of that id was in; 0: that is not remembered, or it has not ended. */
uint64_t conflation_edge_of(const struct conflation *c, uint64_t id);

/* Of a run of events of the past, what the audience is sent: the newest of each topic in each interval, by the time of
 * the events. NULL: one that is not for it. conflater_skips() counts: it is asked once of each. */
void conflater_begin(struct conflater *all);
void conflater_add(struct conflater *all,
                   struct event *ev); /* borrowed until conflater_skips() was asked */
void conflater_decide(struct conflater *all, const struct audience *a);
bool conflater_skips(const struct conflater *all, size_t i);

#endif
