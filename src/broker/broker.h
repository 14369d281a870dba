/* The heart of a worker: what routes, publisher, subscribers, audiences and the event log share.
 *
 * events come in through broker_tail() (from the store, in id order) and leave through the streams
 * of subscribers in the flush step. Nothing here touches a socket. */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "base/strbuf.h"
#include "broker/metrics.h"
#include "broker/policy.h"
#include "broker/store.h"
#include "event/envelope.h"
#include "net/http/http_cors.h"
#include "net/http/http_server.h"
#include "net/loop.h"

struct broker_options {
    const char *events_path;  /* "/events" */
    const char *content_type; /* of event streams */
    bool page;                /* GET / serves the try-out page */
    struct http_cors cors;
    unsigned heartbeat_s, retry_ms;
    size_t turn_bytes; /* most bytes one stream is given per loop turn */
    uint64_t max_lag;  /* events; 0: no bound */
    enum on_lag on_lag;
    const char *gap_event, *revoked_event, *position_event; /* names of the in-band signals */
    enum prime prime;                                       /* not PRIME_DEFAULT */
    unsigned position_s;            /* least between two positions of a quiet stream; 0: never */
    char *const *credential_params; /* of the query: never kept */
    size_t credential_param_count;
    bool show_policy;             /* streams begin with a comment that names it */
    unsigned review_per_s;        /* streams asked about again after a reload */
    uint64_t review_timeout_ms;   /* of one of them */
    size_t log_events, log_bytes; /* the in-memory event log */
    size_t page_events, page_bytes, page_cache_bytes; /* pages of history */
    struct envelope_limits publish;
    unsigned drain_retry_ms;
    unsigned refusal_hold_ms; /* 0: a stream that is refused for now ends at once */
};

struct broker;

/* `policy` and `store` may come later (broker_set_*), before the first request. Borrows everything.
 */
struct broker *broker_new(struct loop *loop, const struct broker_options *opt,
                          struct broker_metrics *metrics);
void broker_free(struct broker *b); /* all streams closed, the store closed */
void broker_set_store(struct broker *b, struct store *store);
void broker_set_policy(struct broker *b, struct policy *policy); /* the first one */
/* Another policy takes over, at once, for new questions, live delivery and replay. The old one has
 * no binding left and may be closed when it is not busy. `mode` is for the streams that are open;
 * those whose filter or format is gone are asked about in any case. */
void broker_swap_policy(struct broker *b, struct policy *policy, enum reload_mode mode);
/* Asks the policy again about one open stream, or all. False: no such stream. */
bool broker_review(struct broker *b, uint64_t id);
void broker_review_all(struct broker *b);
void broker_set_server(struct broker *b, struct http_server *server);

/* http_handler of the public server; ctx is the broker. */
void broker_request(void *ctx, struct stream *s, const struct http_request *rq,
                    const struct peer_address *client);
/* store_tail_cb; ctx is the broker. */
void broker_tail(void *ctx, struct event *const *events, size_t n);

/* store_leap_cb; ctx is the broker. */
void broker_leap(void *ctx, const struct store_leap *leap);

/* Refuses new streams and publishes from now on and ends every stream with a jittered retry:. */
void broker_drain(struct broker *b);
unsigned broker_stream_count(const struct broker *b);

/* One open stream, for operators. Borrowed for the call. */
struct broker_connection {
    uint64_t id;
    char client[ADDRESS_TEXT_MAX];
    uint64_t audience;          /* id: equal for connections that share their policy work */
    const struct slice *topics; /* granted */
    size_t topic_count;
    struct slice filter, format, params; /* absent: none */
    uint64_t cursor;                     /* last id considered */
    uint64_t lag;                        /* events behind the head, as far as the event log knows */
    bool behind;
    double seconds;     /* since it was opened */
    uint64_t delivered; /* events */
};
void broker_each_connection(const struct broker *b,
                            void (*each)(void *ctx, const struct broker_connection *c), void *ctx);
/* loop_set_unix_ms() was called: ends what has expired by that clock, has the policy asked again
 * where a grant says so. */
void broker_clock_moved(struct broker *b);
/* Is the policy being asked about streams that are open, or about to be? */
bool broker_reviewing(const struct broker *b);
/* false: no such stream. */
bool broker_disconnect(struct broker *b, uint64_t id);

#endif
