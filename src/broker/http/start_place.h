/* Where a stream, or a page of history, begins and ends: what was asked for, within what the policy grants. Asks the
 * store where only that knows it:
 *
 *   sync   the client is ahead of us: it has seen our newest event at another broker of the same store, or knows a
 *          store that is gone
 *   seek   times: since=, until=, and how old the policy lets what is seen be
 *   read   the policy grants the newest events only: which those are */
#ifndef BROKER_HTTP_START_PLACE_H
#define BROKER_HTTP_START_PLACE_H

#include "broker/broker_parts.h"
#include "event/last_event_id.h"
#include "event/window.h"

struct audience;

/* Events looked at to find the newest ones that are for an audience: those behind them are not found. */
enum { START_PLACE_LOOK_EVENTS = 10000 };
/* For how long one turn of the loop looks at events, here and for pages; it looks at the clock now and then. */
enum { LOOK_TURN_US = 500, LOOK_TURN_EVENTS = 16 };

struct start_place {
    /* filled by the caller, who owns it; texts are borrowed */
    struct broker *b;
    struct last_event_id asked;
    struct window window;
    struct replay_rules replay;
    /* Where those begin that want what is new; 0: at the head. A stream with `first` begins where it was asked for: what
     * was published while the policy looked up the state that it begins with comes behind that state. */
    uint64_t now;
    struct audience *audience; /* borrowed: its newest events */
    uint64_t token;            /* the id of its stream */
    /* Once; also from within start_place_find(). rc: the store cannot say. */
    void (*done)(struct start_place *p, int rc);
    /* found */
    uint64_t at;            /* it begins behind that id */
    const char *gap;        /* why not where it was asked to; NULL: it does */
    struct slice requested; /* of a gap */
    uint64_t until;         /* it ends with that id; UINT64_MAX: nothing says so */
    /* private */
    bool synced;
    unsigned steps;   /* taken */
    uint64_t *newest; /* a ring of ids, owned */
    unsigned newest_n;
    uint64_t newest_seen, look_at, look_upto;
    unsigned look_left;
    struct event_list held; /* of a page of the store: to be looked at from held_at on */
    size_t held_at;
    struct task task; /* looks on in the next turn */
};

void start_place_find(struct start_place *p);
/* The end of the leap that `id` was lost in; 0: none. */
uint64_t start_place_leap_over(const struct store_bounds *bounds, uint64_t id);

#endif
