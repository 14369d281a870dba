/* Private to broker/: what its modules share. Everyone else sees broker.h. */
#ifndef BROKER_BROKER_STATE_H
#define BROKER_BROKER_STATE_H

#include "base/hash.h"
#include "base/jitter.h"
#include "base/list.h"
#include "broker/audience.h"
#include "broker/audience_index.h"
#include "broker/broker.h"
#include "broker/explain.h"
#include "broker/history.h"
#include "broker/render.h"
#include "broker/review.h"
#include "broker/segment.h"
#include "broker/trial.h"
#include "event/eventlog.h"

struct broker {
    struct loop *loop;
    struct broker_options opt;
    struct broker_metrics *metrics;
    struct store *store;
    struct policy *policy; /* in force */
    uint32_t policy_epoch; /* grows when another takes its place */
    struct reviews reviews;
    struct explains explains;
    struct trial_recent recent[TRIAL_CONNECTS]; /* a ring */
    unsigned recent_next;
    struct http_server *server;

    struct eventlog *log;         /* made when the store is set */
    struct history *history;      /* pages of the store, for whoever is behind the log */
    struct audience_index *index; /* topics and attributes -> audiences */
    struct map audiences;         /* by key */
    struct hash_key key;          /* of `audiences` */
    struct list dirty;            /* audiences with pending events */
    struct list runnable;         /* subscribers behind the head that may be written to */
    struct list subscribers;      /* all of them */
    struct list held_refusals;    /* streams, oldest first: see refusal.c */
    struct renderer renderer;     /* of the policy in force */
    struct segment segment;       /* scratch: the bytes being delivered */
    struct frame *heartbeat;
    struct position_frames positions;
    /* Holding a delivery back for the commit that is under way: see delivery.c */
    unsigned appends; /* publishes whose commit has not been heard of */
    bool holding;
    uint64_t live_cost_us;    /* of the last delivery to live members */
    struct deadline hold_end; /* should the commit take long */
    struct deadline sweep;    /* once a second: lag rule */
    struct jitter jitter;     /* of broker_jitter() */
    uint64_t last_audience_id;
    unsigned lag_rules; /* subscribers to be closed when they lag */
    bool draining;
};

/* `ms` spread over half to one and a half of it, so that clients do not come back together. */
unsigned broker_jitter(struct broker *b, unsigned ms);
/* The fields that every event stream's head has. */
#define BROKER_STREAM_FIELDS "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n"

#endif
