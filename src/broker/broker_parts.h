/* Private to broker/: what its modules share. Everyone else sees broker.h. It knows the contracts
 * around the broker, and none of the parts: broker.c puts them together. */
#ifndef BROKER_BROKER_PARTS_H
#define BROKER_BROKER_PARTS_H

#include "base/container/id_set.h"
#include "base/container/list.h"
#include "base/jitter.h"
#include "base/log_pace.h"
#include "broker/broker_types.h"
#include "broker/metrics.h"
#include "event/eventlog.h"
#include "event/position.h"
#include "net/frame_cache.h"
#include "net/http/http_server.h"
#include "net/loop.h"
#include "policy/policy.h"
#include "store/store.h"

/* The last events that observe failed on: ids, a ring. */
enum { REACH_FAILURES = 64 };
struct reach_failures {
    uint64_t ids[REACH_FAILURES]; /* 0: none */
    unsigned next;
};

/* A wait that ends early where another policy takes over, or the broker drains. */
struct broker_wait {
    struct list node;
    void (*end)(struct broker_wait *w); /* takes it out of the list */
};

struct broker {
    struct loop *loop;
    struct broker_options opt;
    struct broker_metrics *metrics;
    struct store *store;
    struct policy *policy; /* in force */
    uint32_t policy_epoch; /* grows when another takes its place */
    struct http_server *server;

    struct eventlog *log;           /* made when the store is set */
    struct eraser *eraser;          /* takes events out of the store by order of operators */
    struct id_set erased_ahead;     /* ids that were erased, and have yet to come */
    struct log_pace erased_pace;    /* of lines about those that were too many */
    struct history *history;        /* pages of the store, for those behind the log */
    struct audience_set *audiences; /* who wants what */
    struct tag_index *tags;         /* which streams a policy can reach by what name */
    struct reach_failures observe_failed;
    struct log_pace observe_pace; /* of lines about that */
    struct renderer *renderer;    /* of the policy in force */
    struct write_batch *batch;    /* scratch: the bytes being delivered */
    struct gzip_pool *gzip;       /* NULL: streams are not compressed */
    struct refusals *refusals;
    struct resubscribes *resubscribes;
    struct stream_quotas *quotas;
    struct presence *presence; /* who is there */
    struct explains *explains;
    struct dry_run_recents *recents;
    struct frame *heartbeat;
    struct position_frames positions;
    struct frame_cache firsts; /* what streams begin with */
    struct jitter jitter;

    struct list subscribers;     /* all of them */
    struct list runnable;        /* those behind the head that may be written to */
    unsigned event_pages;        /* being made: see http/event_page.h */
    struct list waits;           /* struct broker_wait */
    unsigned lag_rules;          /* those to be closed when they lag */
    struct log_pace latest_pace; /* of lines about newest events that are wanted and not kept */
    struct log_pace clear_pace;  /* of lines about publishes that came without TLS and should not */
    bool draining;
    /* Holding a delivery back for the running commit: see delivery.c */
    unsigned appends; /* publishes whose commit has not been heard of */
    bool holding;
    uint64_t live_cost_us;    /* of the last delivery to live members */
    struct deadline hold_end; /* should the commit take long */
    struct deadline sweep;    /* once a second: lag rule, quotas */
};

struct saved_request;
/* The path of a request that was kept, and what it says: *params borrows from `k`; http_query_clear() it. */
struct slice broker_saved_path(const struct broker_options *opt, const struct saved_request *k,
                               struct http_query *params);

/* The fields that every event stream's head has. */
#define BROKER_STREAM_FIELDS                                                                       \
    "Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\nVary: Accept, "             \
    "Accept-Encoding\r\n"
#define BROKER_GZIP_FIELDS BROKER_STREAM_FIELDS "Content-Encoding: gzip\r\n"

#endif
