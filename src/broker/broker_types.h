/* Options of the broker, and what it reports about a stream: types only. */
#ifndef BROKER_BROKER_TYPES_H
#define BROKER_BROKER_TYPES_H

#include "event/position.h"
#include "event/publish/publish_body.h"
#include "net/address.h"
#include "net/message/http_cors.h"
#include "policy/identity.h"
#include "policy/policy.h"
#include "presence/presence.h"

struct broker_options {
    const char *events_path;     /* "/events" */
    struct public_routes routes; /* other paths; borrowed */
    unsigned https_port;         /* where listeners that redirect send clients */
    const char *acme_webroot;    /* has the challenges of an ACME client; NULL: none */
    const char *content_type;    /* of event streams */
    bool page;                   /* GET / serves the try-out page to clients of this machine, */
    bool page_public;            /* and to others */
    const char *health_path;     /* says whether the worker is ready; NULL: there is none */
    bool (*ready)(void *ctx);    /* asked for that */
    void *ready_ctx;
    struct http_cors cors;
    char *const *webhook_origins; /* senders of web hooks that may send; or "*" */
    size_t webhook_origin_count;
    unsigned webhook_per_min; /* what they are told to be allowed; 0: no bound */
    bool cross_site_publish;  /* whatever page sends it: the policy alone judges */
    unsigned heartbeat_s, retry_ms;
    size_t turn_bytes; /* most bytes one stream is given per loop turn */
    uint64_t max_lag;  /* events; 0: no bound */
    enum on_lag on_lag;
    /* names of the in-band signals */
    const char *gap_event, *revoked_event, *position_event, *end_event, *live_event;
    bool latest;      /* the store keeps the newest events of some topics */
    enum prime prime; /* not PRIME_DEFAULT */
    enum sse_topic topic;
    const char *cloudevents_source; /* of those that the format makes */
    unsigned position_s;            /* least between two positions of a quiet stream; 0: never */
    char *const *credential_params; /* of the query: never kept */
    size_t credential_param_count;
    char *const *query_params; /* names in the query that the policy reads */
    size_t query_param_count;
    bool show_policy;                /* streams begin with a comment that names it */
    unsigned resubscribe_per_s;      /* streams asked about again after a reload */
    unsigned ask_again_per_s;        /* when their time has come; 0: no bound */
    uint64_t resubscribe_timeout_ms; /* of one of them */
    size_t log_events, log_bytes;    /* the in-memory event log */
    size_t page_events, page_bytes, page_cache_bytes; /* pages of history */
    unsigned snapshot_ms;     /* snapshots that begin within that time are one */
    unsigned pages_at_once;   /* pages as JSON that are being made */
    size_t unread_page_bytes; /* most of pages as JSON that clients have not taken */
    struct publish_limits publish;
    unsigned drain_retry_ms;
    bool gzip;                 /* streams may be compressed */
    unsigned gzip_min_members; /* of an audience, for that */
    size_t gzip_bytes;         /* most memory of encoders */
    struct presence_options presence;
    unsigned refusal_hold_ms;             /* 0: a stream that is refused for now ends at once */
    struct identity_shown identity_shown; /* in log lines */
};

/* One open stream, for operators. Borrowed for the call. */
struct broker_connection {
    uint64_t id;
    char client[ADDRESS_TEXT_MAX];
    const char *protocol;       /* "HTTP/1.1", "HTTP/2" */
    uint64_t audience;          /* id: equal for connections that share their policy work */
    const struct slice *topics; /* granted */
    size_t topic_count;
    struct slice filter, format, params, ends; /* absent: none */
    bool envelope;
    uint32_t every_ms;     /* of limits.every_s; 0: none */
    struct slice identity; /* as granted, all of it: see identity_shown */
    struct slice tags[POLICY_TAGS_MAX];
    size_t tag_count;
    int64_t expires_ms; /* Unix time at which the grant ends; 0: never */
    uint64_t cursor;    /* last id considered */
    uint64_t lag;       /* events behind the head, as far as the event log knows */
    bool behind;
    bool asked_again;   /* the policy is being asked about it, or is going to be */
    double seconds;     /* since it was opened */
    uint64_t delivered; /* events */
    struct quota_want quotas[QUOTAS_PER_STREAM]; /* what it counts for */
    size_t quota_count;
    struct slice presence; /* the topic of its member; absent: none */
};

#endif
