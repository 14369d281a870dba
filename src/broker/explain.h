/* Why an open stream did, did not or would not get an event, found out for people: where the
 * stream stands, and what the rules in force say, run once more and without any effect on delivery.
 * Nothing is kept per event, so "delivered" means: the stream has passed it, and the rules that it
 * passed it under let it through. */
#ifndef BROKER_EXPLAIN_H
#define BROKER_EXPLAIN_H

#include "broker/broker_types.h"

struct broker;
struct explains;
struct subscriber;

enum {
    EXPLAIN_UNDER_WAY_MAX = 16,
    EXPLAIN_LINES_MAX_BYTES = 64 * 1024, /* of a filter text's conditions */
    EXPLAIN_WHY_MAX_BYTES = 4096,
};

enum explain_outcome {
    EXPLAIN_DELIVERED,     /* given to the connection: written, or in its queue */
    EXPLAIN_NOT_DELIVERED, /* and it will not be */
    EXPLAIN_WOULD,         /* what the rules in force say, where the event has not come yet, was */
    EXPLAIN_WOULD_NOT,     /* passed under others, or was never stored */
};

enum explain_reason {
    EXPLAIN_NONE,
    EXPLAIN_TOPIC, /* no topic of the stream matches */
    EXPLAIN_FILTERED,
    EXPLAIN_FILTER_ERROR,
    EXPLAIN_FORMAT_NIL,
    EXPLAIN_FORMAT_ERROR,
    EXPLAIN_HELD,           /* the policy has no such filter or format any more */
    EXPLAIN_BEFORE_CONNECT, /* the client asked for what came later */
    EXPLAIN_NO_REPLAY,      /* it asked for it, the policy grants no history */
    EXPLAIN_EXPIRED,        /* older than retention, or the policy's max_age, lets it have */
    EXPLAIN_LAG_SKIPPED,    /* too far behind, and moved to the head */
    EXPLAIN_SUPERSEDED, /* a newer one of its topic was sent instead: of a snapshot, or of an interval (limits.every_s) */
    EXPLAIN_EVENT_EXPIRED, /* its own time had passed */
};

/* Where the event is, seen from the stream. */
enum explain_place {
    EXPLAIN_NOT_STORED,    /* given with the question */
    EXPLAIN_AHEAD,         /* not come to yet */
    EXPLAIN_PASSED,        /* under the rules in force */
    EXPLAIN_PASSED_BEFORE, /* under others, or it is not remembered how */
    EXPLAIN_BEFORE_START,
    EXPLAIN_SKIPPED,
};

enum explain_failure {
    EXPLAIN_OK,
    EXPLAIN_NO_STREAM,
    EXPLAIN_NO_EVENT,
    EXPLAIN_GONE,        /* retention has removed it, and nothing is known of it any more */
    EXPLAIN_STORE_FAILED /* it cannot be read now */
};

/* Everything is borrowed for the call. */
struct explanation {
    enum explain_failure failure; /* then only `text` is set: why */
    struct broker_connection connection;
    const char *state;         /* "live", "blocked", ... */
    bool resubscribing;        /* the policy is to be asked about the stream again */
    uint64_t start;            /* the last id that the stream began behind */
    uint64_t event_id;         /* 0: given */
    const struct event *event; /* NULL: removed; then no rule was asked */
    struct slice pattern;      /* the topic that matches; absent: none does */
    bool held;                 /* rules could not be asked */
    struct policy_account filter, format, ends;
    bool ends_stream;   /* with it the stream ends */
    size_t frame_bytes; /* of what goes to the client; 0: nothing would */
    enum explain_place place;
    enum explain_outcome outcome;
    enum explain_reason reason;
    bool past;      /* the event has expired, */
    bool expired;   /* and before the stream could be given it */
    char text[512]; /* about the place, or the failure: a sentence */
};

typedef void (*explain_cb)(void *ctx, uint64_t token, const struct explanation *x);

struct explain_question {
    uint64_t stream;     /* id */
    uint64_t event;      /* id, from 1 */
    struct event *given; /* instead; NULL: none. The reference is taken. */
};

struct explains *explains_new(void);
/* The store is closed; what is left is not answered. */
void explains_free(struct explains *all);
/* Answered once, later. False: too many are in progress. */
bool explain_ask(struct broker *b, const struct explain_question *q, explain_cb cb, void *ctx,
                 uint64_t token);
/* The one event of a request body, as for a publish. 0, or the HTTP status to refuse with. */
int explain_parse(struct broker *b, const struct http_request *rq, struct event **out,
                  struct err *e);

/* explain_place.c: where the event of `x` is; sets place, reason (of the place alone), and text. `newest`: of its
 * topic, as the store has it now; asked where explain_snapshot() says so. */
void explain_locate(const struct subscriber *sub, bool newest, struct explanation *x);
/* The stream was, or is being, sent the newest events up to that id, instead of all up to `id` and beyond; 0: not so. */
uint64_t explain_snapshot(const struct subscriber *sub, uint64_t id);
/* The rules let the event of `x` through: was another one of its interval sent instead? Sets the same. */
void explain_replace(const struct subscriber *sub, struct explanation *x);

#endif
