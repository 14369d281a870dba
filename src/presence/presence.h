/* Who is there: members of topics, counted by their open streams.
 *
 * A member is a topic: "room/5/members/ann". Its first stream has an event with the member's data published
 * there, the end of its last one, after a grace, an event without data. As the newest event of such a topic is
 * kept (store.latest), a snapshot of "room/5/members/" and '*' is the list of who is there.
 *
 * This counts the streams of one process. Only when the count leaves 0, or has been 0 for the grace, is the
 * store told, which knows the processes that have the member: see struct store_presence. What comes up while
 * the store works on a batch is the next one. */
#ifndef PRESENCE_PRESENCE_H
#define PRESENCE_PRESENCE_H

#include "net/loop.h"
#include "presence/metrics.h"
#include "store/store.h"

struct presence_options {
    uint64_t grace_ms;
    uint64_t lease_ms;
    size_t members;          /* most of them */
    const char *const *kept; /* store.latest; borrowed */
    size_t kept_count;
};

struct presence;
struct presence_member;

/* Borrows everything. */
struct presence *presence_new(struct loop *loop, const struct presence_options *opt,
                              struct presence_metrics *metrics);
void presence_free(struct presence *p); /* all streams and the store are closed */
void presence_set_store(struct presence *p, struct store *store);

/* May a stream be for that member? 0; UV_ENOTSUP: no pattern of store.latest matches the topic; UV_ENOBUFS: there
 * are as many as there may be. Counts and logs what it refuses. */
int presence_may_join(struct presence *p, struct slice topic);
/* One more stream for a member that may join, which may end before it opens: nothing is announced. The member lives
 * until presence_leave() has been called as often. */
struct presence_member *presence_join(struct presence *p, struct slice topic);
/* One of these streams is open. `data`: of the event, never empty; where it is not what was announced before it is
 * announced. */
void presence_open(struct presence_member *m, struct slice data);
void presence_leave(struct presence_member *m, bool opened);
struct slice presence_topic(const struct presence_member *m);

/* What the store knows may be of a state that is gone: tells it all again. */
void presence_renew(struct presence *p);
/* The store is about to be closed: it is told nothing more. */
void presence_stop(struct presence *p);
/* This process is about to end: its members leave after the grace, unless they are elsewhere by then. */
void presence_drain(struct presence *p);

#endif
